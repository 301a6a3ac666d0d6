//! Owns what Kafka says of topics, their partition counts and rules: cached, one question at a time, for those who ask.
//! Must never create a topic, nor ask twice at once for what several callers wait for.

mod asker;
mod learnt;
mod patience;
mod rules;
mod size;
mod turns;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::Duration,
};

use parking_lot::{Mutex, RwLock};
use smallvec::{SmallVec, smallvec};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use self::asker::Asker;
pub use self::{
    learnt::{Learnt, Verdict},
    rules::{Breach, Rules},
};
use super::handle::Handle;
use crate::{
    connections::caller::Caller,
    failure::{Failure, Reason},
    record::Topic,
    tasks::Tasks,
};

/// How long the answer about a topic's rules is waited for, in milliseconds.
const RULES_MS_MAX: u64 = 1_000;
/// For so long a question for rules that was in vain is not asked anew on a record's account, in milliseconds; shorter than what was
/// told is believed, so that it does not hide a part that is told each time.
const RULES_VAIN_MS: u64 = 900;
/// In the turns of so many callers a question is asked at most; those who come later wait for one of theirs.
const ASKED_BY_MAX: usize = 64;
const _: () = assert!(RULES_VAIN_MS < learnt::FRESH_MS);

/// How topics are asked for, and how much of that is kept.
#[derive(Debug, Clone, Copy)]
pub struct TopicsSettings {
    /// How often a known topic is asked for again.
    pub refresh: Duration,
    /// How long an unknown or forbidden topic is remembered as such.
    pub unknown: Duration,
    /// How many topics are kept.
    pub max: usize,
    /// Whether batches are compressed, so that no record's size in Kafka is known before.
    pub is_compressing: bool,
    /// Whether topics come into being by being asked for, as on the embedded cluster.
    pub are_made_by_asking: bool,
}

type Answer = Result<u32, Failure>;

/// What is known of a topic that is there.
#[derive(Debug, Clone, Copy)]
pub struct Found {
    /// How many partitions it has.
    pub partitions: u32,
    /// What it takes; none where that is not known, or not to be known.
    pub rules: Option<Rules>,
}

struct Known {
    answer: Answer,
    fetched: Instant,
    /// What it takes; none where nothing was learnt yet.
    rules: Option<Learnt>,
    /// When its rules were asked for the last time, where that was in vain.
    vain: Option<Instant>,
}

/// What the thread is asked for, and by whom.
#[derive(Debug)]
enum Question {
    Partitions(Caller, Topic),
    Rules(Caller, Topic),
}

/// Those who wait for an answer.
#[derive(Debug)]
struct Waiting<A> {
    answer: watch::Sender<A>,
    /// Whose turn has the question among theirs: a caller does not wait for the turn of another who asked first.
    asked_by: SmallVec<[Caller; 1]>,
}

/// What is known of topics.
pub struct Topics {
    settings: TopicsSettings,
    known: RwLock<HashMap<Topic, Known>>,
    /// Whoever waits for a topic holds a receiver; the thread answers all and removes the entry.
    pending: Mutex<HashMap<Topic, Waiting<Option<Answer>>>>,
    /// The same for whoever waits for a topic's rules, which may stay unknown; all are dropped when they were asked for.
    rules_pending: Mutex<HashMap<Topic, Waiting<()>>>,
    /// The thread holds the other end; when it is gone the sidecar is stopping.
    requests: mpsc::Sender<Question>,
    stop: Arc<AtomicBool>,
}

impl Topics {
    /// Starts the metadata thread of whichever producer is in use.
    ///
    /// # Errors
    /// Where the thread cannot be started.
    pub fn start(handle: Arc<Handle>, settings: TopicsSettings, tasks: &Tasks) -> std::io::Result<Arc<Self>> {
        let (requests, requested) = mpsc::channel();
        let topics = Arc::new(Self {
            settings,
            known: RwLock::default(),
            pending: Mutex::default(),
            rules_pending: Mutex::default(),
            requests,
            stop: Arc::default(),
        });
        let asker = Asker::new(handle, Arc::clone(&topics), requested);
        tasks.spawn_vital_thread("kafka-metadata", move || asker.run())?;
        Ok(topics)
    }

    /// Returns what is known of the topic now, without waiting; `None` sends the caller to [`Self::lookup`].
    #[must_use]
    pub fn found(&self, topic: &Topic) -> Option<Result<Found, Failure>> {
        let known = self.known.read();
        let known = known.get(topic)?;
        let fresh = known.answer.is_ok() || known.fetched.elapsed() < self.settings.unknown;
        let found = |partitions| Found { partitions, rules: known.rules.map(|learnt| learnt.rules()) };
        fresh.then(|| known.answer.clone().map(found))
    }

    /// Returns what the topic takes; none where nothing is known of that.
    #[must_use]
    pub fn rules(&self, topic: &Topic) -> Option<Rules> {
        self.learnt(topic).map(|learnt| learnt.rules())
    }

    fn learnt(&self, topic: &Topic) -> Option<Learnt> {
        self.known.read().get(topic)?.rules
    }

    /// Notes that Kafka refused a record that nothing spoke against: it is asked what is in force now, so that the next one is judged
    /// by that.
    pub fn refused(&self, topic: &Topic) {
        if !learnt::is_told_now(self.learnt(topic)) && !self.was_in_vain(topic) {
            drop(self.want_rules(topic));
        }
    }

    /// Returns what is known of the topic's rules once Kafka was asked for them, a second at most, where that is some time ago;
    /// not where it was asked in vain a moment ago. None where nothing is known. May be dropped at any time.
    pub async fn asked_rules(&self, topic: &Topic) -> Option<Learnt> {
        let known = self.learnt(topic);
        if learnt::is_told_now(known) || self.was_in_vain(topic) {
            return known;
        }
        if let Some(mut asked) = self.want_rules(topic) {
            // The answer is the end of the channel.
            if timeout(Duration::from_millis(RULES_MS_MAX), asked.changed()).await.is_err() {
                self.note_vain(topic);
            }
        }
        self.learnt(topic)
    }

    /// Has the topic's rules asked for; whoever waits for that holds the receiver. None if the sidecar is stopping.
    fn want_rules(&self, topic: &Topic) -> Option<watch::Receiver<()>> {
        self.want(&self.rules_pending, topic, (), Question::Rules)
    }

    /// Has a question asked on the current caller's behalf, unless it is one of theirs already; whoever waits for the answer holds
    /// the receiver. None if the sidecar is stopping.
    fn want<A>(
        &self,
        pending: &Mutex<HashMap<Topic, Waiting<A>>>,
        topic: &Topic,
        unanswered: A,
        question: fn(Caller, Topic) -> Question,
    ) -> Option<watch::Receiver<A>> {
        let caller = Caller::current();
        let mut pending = pending.lock();
        if let Some(waiting) = pending.get_mut(topic) {
            if waiting.asked_by.len() < ASKED_BY_MAX && !waiting.asked_by.contains(&caller) {
                self.requests.send(question(caller, topic.clone())).ok()?;
                waiting.asked_by.push(caller);
            }
            return Some(waiting.answer.subscribe());
        }
        self.requests.send(question(caller, topic.clone())).ok()?;
        let (answer, waits) = watch::channel(unanswered);
        pending.insert(topic.clone(), Waiting { answer, asked_by: smallvec![caller] });
        Some(waits)
    }

    fn was_in_vain(&self, topic: &Topic) -> bool {
        let vain = self.known.read().get(topic).and_then(|known| known.vain);
        vain.is_some_and(|vain| vain.elapsed() < Duration::from_millis(RULES_VAIN_MS))
    }

    fn note_vain(&self, topic: &Topic) {
        if let Some(known) = self.known.write().get_mut(topic) {
            known.vain = Some(Instant::now());
        }
    }

    /// Waits for the topic's partition count; may be dropped at any time. Waits on while no broker answers.
    ///
    /// # Errors
    /// `TopicNotFound`, `NotAuthorized`, or `Draining` where the sidecar stops.
    pub async fn lookup(&self, topic: &Topic) -> Answer {
        match self.found(topic) {
            Some(found) => found.map(|found| found.partitions),
            None => self.ask(topic).await,
        }
    }

    /// The same where what is known was told longer ago than that; meanwhile others go by what is known.
    ///
    /// # Errors
    /// As of [`Self::lookup`].
    pub async fn lookup_again(&self, topic: &Topic, age: Duration) -> Answer {
        let known = self
            .known
            .read()
            .get(topic)
            .filter(|known| known.fetched.elapsed() <= age)
            .map(|known| known.answer.clone());
        match known {
            Some(answer) => answer,
            None => self.ask(topic).await,
        }
    }

    async fn ask(&self, topic: &Topic) -> Answer {
        let waits = self.want(&self.pending, topic, None, Question::Partitions);
        let mut answer = waits.ok_or_else(stopping)?;
        match answer.wait_for(Option::is_some).await {
            Ok(answer) => answer.clone().unwrap_or_else(|| Err(stopping())),
            Err(_) => Err(stopping()),
        }
    }

    /// Forgets what is known of a topic, because Kafka answered otherwise.
    pub fn forget(&self, topic: &Topic) {
        self.known.write().remove(topic);
    }

    /// Ends the thread; those who wait are answered.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    fn settle(&self, topic: &Topic, answer: &Answer, learnt: Option<Learnt>) {
        {
            let mut known = self.known.write();
            if known.len() >= self.settings.max && !known.contains_key(topic) {
                make_room(&mut known, self.settings);
            }
            let (rules, vain) = known.get(topic).map_or((None, None), |known| (known.rules, known.vain));
            let rules = learnt.or(rules);
            let fetched = Instant::now();
            known.insert(topic.clone(), Known { answer: answer.clone(), fetched, rules, vain });
        }
        if let Some(asked) = self.pending.lock().remove(topic) {
            asked.answer.send_replace(Some(answer.clone()));
        }
    }

    /// Returns whether the topic is there, as far as is known.
    fn is_there(&self, topic: &Topic) -> bool {
        self.known.read().get(topic).is_some_and(|known| known.answer.is_ok())
    }

    /// Notes what was learnt of the topic's rules, and wakes whoever waits for them; none where nothing was.
    fn settle_rules(&self, topic: &Topic, learnt: Option<Learnt>, asked: Instant) {
        if let Some(known) = self.known.write().get_mut(topic) {
            known.vain = (!learnt::is_told_now(learnt)).then_some(asked);
            known.rules = learnt.or(known.rules);
        }
        self.rules_pending.lock().remove(topic);
    }

    /// Answers all who wait, at the end.
    fn settle_all(&self) {
        for (_, asked) in self.pending.lock().drain() {
            asked.answer.send_replace(Some(Err(stopping())));
        }
        self.rules_pending.lock().clear();
    }

    /// Returns whether anybody still waits for the topic; forgets the request otherwise.
    fn is_awaited(&self, topic: &Topic) -> bool {
        let mut pending = self.pending.lock();
        match pending.get(topic) {
            Some(asked) if asked.answer.receiver_count() > 0 => true,
            Some(_) => {
                pending.remove(topic);
                false
            }
            None => false,
        }
    }
}

impl std::fmt::Debug for Topics {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Topics").field("settings", &self.settings).finish_non_exhaustive()
    }
}

fn stopping() -> Failure {
    Failure::new(Reason::Draining, "the sidecar is stopping")
}

/// Makes room for one more topic: what is not there goes first, then what was asked for longest ago.
fn make_room(known: &mut HashMap<Topic, Known>, settings: TopicsSettings) {
    known.retain(|_, entry| entry.answer.is_ok() || entry.fetched.elapsed() < settings.unknown);
    if known.len() >= settings.max {
        let first = known.iter().min_by_key(|(_, entry)| (entry.answer.is_ok(), entry.fetched));
        let oldest = first.map(|(topic, _)| topic.clone());
        if let Some(oldest) = oldest {
            known.remove(&oldest);
        }
    }
}
