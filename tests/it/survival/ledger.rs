//! Owns what all callers of a run share: the clock, where the sidecar is, what they were told, and whether all goes well.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use testkit::history::{Attempt, Outcome, Place, Refusal as Told, ToldLetter};
use tokio::time::timeout;

use super::drawn::Drawn;
use crate::client::Refusal;

/// Where the sidecar is, and which of the run's it is.
#[derive(Clone)]
pub struct Target {
    pub life: usize,
    pub address: String,
}

/// A try that has begun.
pub struct Begun {
    pub drawn: Drawn,
    pub source: usize,
    pub position: u64,
    pub life: usize,
    pub begun_ms: u64,
}

/// What the callers of a run share.
pub struct Ledger {
    begun: Instant,
    target: Mutex<Target>,
    attempts: Mutex<Vec<Attempt>>,
    /// When each caller last brought one that succeeded.
    succeeded_ms: Mutex<HashMap<usize, u64>>,
    failed_ms: Mutex<u64>,
    errors: Mutex<BTreeSet<String>>,
    sources: AtomicUsize,
    is_over: AtomicBool,
}

impl Ledger {
    pub fn new(target: Target) -> Self {
        Self {
            begun: Instant::now(),
            target: Mutex::new(target),
            attempts: Mutex::default(),
            succeeded_ms: Mutex::default(),
            failed_ms: Mutex::default(),
            errors: Mutex::default(),
            sources: AtomicUsize::new(0),
            is_over: AtomicBool::new(false),
        }
    }

    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap()
    }

    pub fn target(&self) -> Target {
        self.target.lock().unwrap().clone()
    }

    pub fn turn_to(&self, target: Target) {
        *self.target.lock().unwrap() = target;
    }

    pub fn source(&self) -> usize {
        self.sources.fetch_add(1, Ordering::Relaxed)
    }

    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    pub fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// Notes what a caller was told.
    pub fn note(&self, caller: usize, begun: &Begun, outcome: Outcome) {
        let Begun { drawn, source, position, life, begun_ms } = begun;
        if outcome.is_ok() {
            let mut succeeded = self.succeeded_ms.lock().unwrap();
            let last = succeeded.entry(caller).or_default();
            *last = (*last).max(*begun_ms);
        } else if !drawn.is_doomed {
            let mut failed = self.failed_ms.lock().unwrap();
            *failed = (*failed).max(*begun_ms);
        }
        let attempt = Attempt {
            value: drawn.value.clone(),
            topic: drawn.topic.clone(),
            key: drawn.key.clone(),
            message_id: drawn.message_id.clone(),
            source: *source,
            position: *position,
            life: *life,
            begun_ms: *begun_ms,
            ended_ms: self.now_ms(),
            outcome,
            is_doomed: drawn.is_doomed,
        };
        self.attempts.lock().unwrap().push(attempt);
    }

    /// Notes an error's words.
    pub fn note_error(&self, words: String) {
        self.errors.lock().unwrap().insert(words);
    }

    pub fn errors(&self) -> String {
        let errors = self.errors.lock().unwrap();
        errors.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }

    /// Whether every one of so many callers has brought one that succeeded since then, and none that failed within `calm_ms`.
    pub fn is_well(&self, callers: usize, since_ms: u64, calm_ms: u64) -> bool {
        let now_ms = self.now_ms();
        let is_calm = |at_ms: u64| at_ms + calm_ms <= now_ms;
        is_calm(since_ms)
            && is_calm(*self.failed_ms.lock().unwrap())
            && self.served_since(since_ms) == callers
    }

    /// How many callers have brought one that succeeded since then.
    pub fn served_since(&self, since_ms: u64) -> usize {
        self.succeeded_ms.lock().unwrap().values().filter(|at_ms| **at_ms >= since_ms).count()
    }

    pub fn take(&self) -> Vec<Attempt> {
        std::mem::take(&mut *self.attempts.lock().unwrap())
    }
}

/// What a caller was told, as the judgement has it.
pub fn told(refusal: &Refusal) -> Outcome {
    let told =
        Told { reason: refusal.reason.clone(), letter: letter(|name| refusal.metadata.get(name).cloned()) };
    if refusal.persisted() == "NO" { Outcome::No(told) } else { Outcome::Maybe(told) }
}

/// What an error's metadata says of a dead letter.
pub fn letter(said: impl Fn(&str) -> Option<String>) -> ToldLetter {
    let Some(topic) = said("deadLetterTopic") else { return ToldLetter::None };
    if let Some(reason) = said("deadLetterError") {
        return ToldLetter::Failed(reason);
    }
    let (Some(partition), Some(offset)) = (said("deadLetterPartition"), said("deadLetterOffset")) else {
        return ToldLetter::Open;
    };
    ToldLetter::At(Place { topic, partition: partition.parse().unwrap(), offset: offset.parse().unwrap() })
}

/// Lets that long pass.
pub async fn pass(period: Duration) {
    timeout(period, std::future::pending::<()>()).await.unwrap_err();
}

/// How many attempts ended how.
pub fn counted(attempts: &[Attempt]) -> BTreeMap<String, usize> {
    let mut counted = BTreeMap::new();
    for attempt in attempts {
        let how = match &attempt.outcome {
            Outcome::Ok { duplicate: false, .. } => "OK".to_owned(),
            Outcome::Ok { duplicate: true, .. } => "OK, duplicate".to_owned(),
            Outcome::No(refusal) => format!("NO {}", refusal.reason),
            Outcome::Maybe(refusal) => format!("MAYBE {}", refusal.reason),
        };
        *counted.entry(how).or_default() += 1;
    }
    counted
}
