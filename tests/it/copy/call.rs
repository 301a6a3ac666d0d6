//! Owns one call of a copy job: how it is sent, and what its answer means to the consumer, as docs/exactly-once.md has it.

use std::{collections::BTreeMap, time::Duration};

use producer_sidecar::grpc::proto::{ProcessAndForwardRequest, ProcessAndForwardResponse};
use rand::{RngExt as _, rngs::StdRng};
use tonic::Request;

use crate::client::{Client, Refusal};

/// The call's deadline: below the consumers' session time-out.
const DEADLINE: Duration = Duration::from_secs(8);
/// The pause before a unit is sent again where the answer names none, and the longest one.
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// After how long a caller cancels, at most.
const CANCEL_MS_MAX: u64 = 60;

/// How often a caller does something odd, 0 to 1.
#[derive(Clone, Copy, Default)]
pub struct Manner {
    /// It drops the call after a moment and sends the unit again.
    pub cancels: f64,
    /// It sends the unit twice at the same time.
    pub twice: f64,
    /// It sends the unit once more after it was answered OK.
    pub once_more: f64,
}

/// What becomes of a unit.
#[derive(Debug)]
pub enum Verdict {
    /// It is committed.
    Committed,
    /// The same unit is to be sent again after a while.
    Again(Duration),
    /// The unit is to be dropped; the consumer goes back to what its group has committed.
    Drop,
    /// Nothing that a caller could do helps: the job has failed.
    Hopeless(String),
}

/// How one call is to go.
#[derive(Clone, Copy)]
pub struct Way {
    cancel_after: Option<Duration>,
    is_twice: bool,
    is_once_more: bool,
}

impl Manner {
    pub fn draw(self, random: &mut StdRng) -> Way {
        let cancels = random.random_bool(self.cancels);
        let after = Duration::from_millis(random.random_range(0..=CANCEL_MS_MAX));
        Way {
            cancel_after: cancels.then_some(after),
            is_twice: random.random_bool(self.twice),
            is_once_more: random.random_bool(self.once_more),
        }
    }
}

/// What was answered how often.
pub type Counts = BTreeMap<String, usize>;

/// Sends a unit and says what is to become of it; counts every answer.
pub async fn call(client: Client, unit: ProcessAndForwardRequest, way: Way, counts: &mut Counts) -> Verdict {
    if let Some(after) = way.cancel_after {
        let Ok(answer) = tokio::time::timeout(after, one(&client, &unit)).await else {
            count(counts, "cancelled");
            return Verdict::Again(Duration::ZERO);
        };
        return judge(&answer, counts);
    }
    let verdict = if way.is_twice {
        let (first, second) = tokio::join!(one(&client, &unit), one(&client, &unit));
        both(&first, &second, counts)
    } else {
        judge(&one(&client, &unit).await, counts)
    };
    if !(way.is_once_more && matches!(verdict, Verdict::Committed)) {
        return verdict;
    }
    match one(&client, &unit).await {
        Ok(answer) if !answer.already_committed => {
            Verdict::Hopeless("a committed unit was written again".to_owned())
        }
        // It is committed, whatever the second answer is.
        again => match judge(&again, counts) {
            Verdict::Hopeless(what) => Verdict::Hopeless(what),
            Verdict::Committed | Verdict::Again(_) | Verdict::Drop => Verdict::Committed,
        },
    }
}

type Answer = Result<ProcessAndForwardResponse, Refusal>;

/// Sends a unit once.
pub async fn one(client: &Client, unit: &ProcessAndForwardRequest) -> Answer {
    let mut request = Request::new(unit.clone());
    request.set_timeout(DEADLINE);
    let answer = client.clone().process_and_forward(request).await;
    answer.map(tonic::Response::into_inner).map_err(|status| Refusal::of(&status))
}

fn both(first: &Answer, second: &Answer, counts: &mut Counts) -> Verdict {
    let verdicts = [judge(first, counts), judge(second, counts)];
    let has_written = |answer: &&Answer| answer.as_ref().is_ok_and(|answer| !answer.already_committed);
    if [first, second].into_iter().filter(has_written).count() > 1 {
        return Verdict::Hopeless("a unit that was sent twice was written twice".to_owned());
    }
    let [first, second] = verdicts;
    let rank = |verdict: &Verdict| match verdict {
        Verdict::Hopeless(_) => 0,
        Verdict::Committed => 1,
        Verdict::Again(_) => 2,
        Verdict::Drop => 3,
    };
    if rank(&first) <= rank(&second) { first } else { second }
}

fn judge(answer: &Answer, counts: &mut Counts) -> Verdict {
    let refusal = match answer {
        Ok(answer) => {
            count(counts, if answer.already_committed { "already_committed" } else { "OK" });
            return Verdict::Committed;
        }
        Err(refusal) => refusal,
    };
    let after = refusal.pushback_ms.and_then(|pause| u64::try_from(pause).ok()).map(Duration::from_millis);
    let after = after.unwrap_or(PAUSE).min(PAUSE_MAX);
    let (name, verdict) = match refusal.reason.as_str() {
        "TRANSACTION_ABORTED"
        | "COMMIT_UNKNOWN"
        | "BROKERS_UNAVAILABLE"
        | "DRAINING"
        | "QUEUE_FULL"
        | "DEADLINE_NOT_WRITTEN" => (refusal.reason.clone(), Verdict::Again(after)),
        // The connection was lost, or the client's own clock ran out.
        "" => (format!("{:?} without details", refusal.code), Verdict::Again(after)),
        "CONSUMER_FENCED" | "OFFSET_MISMATCH" => (refusal.reason.clone(), Verdict::Drop),
        _ => (refusal.reason.clone(), Verdict::Hopeless(format!("{refusal:?}"))),
    };
    count(counts, &name);
    verdict
}

pub fn count(counts: &mut Counts, name: &str) {
    *counts.entry(name.to_owned()).or_default() += 1;
}
