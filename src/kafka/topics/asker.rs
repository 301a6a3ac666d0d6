//! Owns the thread that asks Kafka for topics: whoever waits first, refreshes after them.
//! Must never ask for two topics at once: a broker in trouble is not hammered.
//! It also knocks at the cluster while it is away, so that the sidecar is ready as soon as Kafka is.

use std::{
    collections::{HashSet, VecDeque},
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{self, RecvTimeoutError},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{Answer, Learnt, Question, Topics, learnt::is_told_now, patience::Patience, turns::Turns};
use crate::{
    connections::caller::Caller,
    failure::{Failure, Reason},
    kafka::{classify, ffi, handle::Handle, reachability::Reachability},
    record::Topic,
};

/// How long one request may take, in milliseconds.
const FETCH_MS_MAX: u64 = 1_000;
/// The same of the questions for a topic's rules; shorter than anybody waits for them, so that who is told only a part hears of it.
const RULES_FETCH_MS_MAX: u64 = 800;
/// For how long topics are counted before the rules that somebody waits for are asked for, in milliseconds: where those get no answer
/// they take the longest.
const COUNTING_MS: u64 = 200;
/// Of so many turns one is a refresh's, whoever waits.
const TURNS_PER_REFRESH: u64 = 16;
/// How long the thread rests after a fetch that settled nothing, and between knocks at an absent cluster, in milliseconds.
const REST_MS: u64 = 100;

/// What was answered of a topic.
enum Told {
    /// Its rules; none where nothing was learnt.
    Rules(Option<Learnt>),
    /// That there is none.
    Failed(Failure),
}

/// The metadata thread.
pub(super) struct Asker {
    handle: Arc<Handle>,
    reachability: Arc<Reachability>,
    topics: Arc<Topics>,
    requested: mpsc::Receiver<Question>,
    /// Topics that somebody waits for: they go ahead of refreshes. Callers take turns.
    asked: Turns<Caller, Topic>,
    /// Topics to be asked for again.
    queue: VecDeque<Topic>,
    /// Topics whose rules somebody waits for. Callers take turns here too.
    rules_asked: Turns<Caller, Topic>,
    /// Topics whose rules are to be asked for when nothing else is: they are those whose count was learnt since.
    rules: VecDeque<Topic>,
    /// The same topics, each once.
    rules_queued: HashSet<Topic>,
    /// How long new topics wait for theirs.
    patience: Patience,
    refreshed: Instant,
    turns: u64,
}

impl Asker {
    /// Makes the thread of whichever producer is in use.
    pub(super) fn new(handle: Arc<Handle>, topics: Arc<Topics>, requested: mpsc::Receiver<Question>) -> Self {
        let reachability = Arc::clone(&handle.observer().reachability);
        let patience = Patience::new(topics.settings.max);
        let (queue, rules, rules_queued) = Default::default();
        let refreshed = Instant::now();
        Self {
            handle,
            reachability,
            topics,
            requested,
            asked: Turns::new(),
            queue,
            rules_asked: Turns::new(),
            rules,
            rules_queued,
            patience,
            refreshed,
            turns: 0,
        }
    }

    /// Answers until the sidecar stops.
    pub(super) fn run(mut self) {
        while !self.is_stopping() {
            if !self.reachability.is_connected() {
                self.knock();
                continue;
            }
            self.queue_refreshes();
            let is_awaited = !self.asked.is_empty() || !self.rules_asked.is_empty();
            let idle = !is_awaited && self.queue.is_empty() && self.rules.is_empty();
            self.collect(Duration::from_millis(if idle { REST_MS } else { 0 }));
            let is_awaited = !self.asked.is_empty() || !self.rules_asked.is_empty();
            // Both, so that neither waits for as long as the other one gets no answer.
            self.count_awaited();
            if self.is_stopping() {
                break;
            }
            if let Some((_, topic)) = self.rules_asked.pop() {
                self.fetch_rules(&topic);
            }
            self.turns += 1;
            if is_awaited && !self.turns.is_multiple_of(TURNS_PER_REFRESH) {
                continue;
            }
            if let Some(topic) = self.queue.pop_front() {
                self.count(Caller::SIDECAR, topic);
            } else if let Some(topic) = self.rules.pop_front() {
                self.rules_queued.remove(&topic);
                self.fetch_rules(&topic);
            }
        }
        self.topics.settle_all();
    }

    fn is_stopping(&self) -> bool {
        self.topics.stop.load(Ordering::Acquire)
    }

    /// Counts topics that somebody waits for, each once, until one is not settled or for a while.
    fn count_awaited(&mut self) {
        let begun = Instant::now();
        for _ in 0..self.asked.len() {
            let Some((caller, topic)) = self.next_awaited() else { return };
            if !self.count(caller, topic) || begun.elapsed() >= Duration::from_millis(COUNTING_MS) {
                return;
            }
            // Who has come meanwhile may be next.
            self.collect(Duration::ZERO);
        }
    }

    /// Returns the next topic that somebody waits for; the others are forgotten.
    fn next_awaited(&mut self) -> Option<(Caller, Topic)> {
        std::iter::from_fn(|| self.asked.pop()).find(|(_, topic)| self.topics.is_awaited(topic))
    }

    /// Asks for a topic's partition count, and for its rules: before it where the topic is new, so that its first record is held
    /// against them, else when nothing else is to be asked. Returns whether the topic is settled.
    fn count(&mut self, caller: Caller, topic: Topic) -> bool {
        let begun = Instant::now();
        let is_new = !self.topics.is_there(&topic) && !self.topics.settings.are_made_by_asking;
        let has_asked = is_new && self.patience.is_left(begun);
        let mut learnt = None;
        if has_asked {
            match self.ask_rules(&topic) {
                Told::Rules(told) => learnt = told,
                // The count of what is not there is not asked for: librdkafka keeps for good whatever name that is asked of.
                Told::Failed(failure) => {
                    self.topics.settle(&topic, &Err(failure), None);
                    return true;
                }
            }
        }
        if self.is_stopping() {
            return false;
        }
        let is_told = is_told_now(learnt);
        let is_silence = begun.elapsed() >= Duration::from_millis(RULES_FETCH_MS_MAX / 2);
        let Some(answer) = self.fetch(&topic) else { return self.again(caller, topic) };
        let is_there = answer.is_ok();
        // Silence counts whatever name was asked for.
        let is_in_vain = has_asked && !is_told && (is_there || is_silence);
        if is_in_vain && self.patience.untold(&topic, is_silence, begun) && is_there {
            return self.again(caller, topic);
        }
        self.topics.settle(&topic, &answer, learnt);
        if is_there && !is_told && self.rules_queued.insert(topic.clone()) {
            self.rules.push_back(topic);
        }
        true
    }

    /// Asks for a topic once more where it is still waited for, after the others; a broker in trouble is not hammered. It is not settled.
    fn again(&mut self, caller: Caller, topic: Topic) -> bool {
        if self.topics.is_awaited(&topic) {
            self.asked.push(caller, topic);
        }
        self.collect(Duration::from_millis(REST_MS));
        false
    }

    fn knock(&mut self) {
        self.patience.renew();
        if self.handle.current().is_answered(Duration::from_millis(FETCH_MS_MAX)) {
            self.reachability.broker_answered();
        } else {
            self.collect(Duration::from_millis(REST_MS));
        }
    }

    /// Takes in new requests, waiting up to `rest` for the first.
    fn collect(&mut self, rest: Duration) {
        match self.requested.recv_timeout(rest) {
            Ok(question) => self.take_in(question),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
        }
        while let Ok(question) = self.requested.try_recv() {
            self.take_in(question);
        }
    }

    fn take_in(&mut self, question: Question) {
        match question {
            Question::Partitions(caller, topic) => {
                self.asked.push(caller, topic);
                self.asked.sweep(|topic| self.topics.is_awaited(topic));
            }
            Question::Rules(caller, topic) => self.rules_asked.push(caller, topic),
        }
    }

    fn queue_refreshes(&mut self) {
        if self.refreshed.elapsed() < self.topics.settings.refresh {
            return;
        }
        self.refreshed = Instant::now();
        // A round that outlasts its interval is begun anew, so that the queue stays within the cache's bound.
        self.queue.clear();
        let unknown = self.topics.settings.unknown;
        let mut known = self.topics.known.write();
        known.retain(|_, entry| entry.answer.is_ok() || entry.fetched.elapsed() < unknown);
        let stale = known.iter().filter(|(_, entry)| entry.answer.is_ok());
        self.queue.extend(stale.map(|(topic, _)| topic.clone()));
    }

    /// Asks for one topic; none where nothing was learnt.
    fn fetch(&self, topic: &Topic) -> Option<Answer> {
        let wait = Duration::from_millis(FETCH_MS_MAX);
        let found = match ffi::topic_partitions(&self.handle.current().client(), topic, wait) {
            Ok(found) => found?,
            Err(code) => {
                tracing::debug!(%topic, %code, "metadata could not be had");
                return None;
            }
        };
        match classify::topic(found.code, topic) {
            Some(failure) if failure.reason() == Reason::BrokersUnavailable => None,
            Some(failure) => Some(Err(failure)),
            None => u32::try_from(found.count).ok().filter(|count| *count > 0).map(Ok),
        }
    }

    /// Asks what a topic takes, on behalf of whoever waits for it; a failure is not tried again before somebody asks, or the
    /// topic is refreshed.
    fn fetch_rules(&mut self, topic: &Topic) {
        let asked = Instant::now();
        let told = self.topics.is_there(topic).then(|| self.ask_rules(topic));
        if let Some(Told::Failed(_)) = told {
            self.topics.forget(topic);
        }
        let learnt = if let Some(Told::Rules(learnt)) = told { learnt } else { None };
        self.topics.settle_rules(topic, learnt, asked);
    }

    /// Asks what a topic takes.
    fn ask_rules(&mut self, topic: &Topic) -> Told {
        let known = self.topics.learnt(topic);
        let producer = self.handle.current();
        let (names, wait) =
            (Learnt::asked_for(known, Instant::now()), Duration::from_millis(RULES_FETCH_MS_MAX));
        let answers = ffi::topic_answers(&producer.client(), topic, names, wait);
        let of_right = answers.may_write.as_ref().err();
        let failed = [answers.settings.as_ref().err(), of_right];
        for code in failed.into_iter().flatten() {
            tracing::debug!(%topic, %code, "the topic's rules could not be had");
        }
        // Of a topic that is new settings may be told later than that it is there. One that may not be described cannot be written to;
        // where that is taken away from one that is there, it is by the rules.
        let ends = if self.topics.is_there(topic) {
            failed.into_iter().flatten().find(|code| classify::is_gone(**code))
        } else {
            of_right.filter(|code| classify::is_of_topic(**code))
        };
        if let Some(failure) = ends.and_then(|code| classify::topic(*code, topic)) {
            return Told::Failed(failure);
        }
        let learnt = Learnt::taught(known, &answers, self.topics.settings.is_compressing);
        if is_told_now(learnt) {
            self.patience.told(topic);
        }
        Told::Rules(learnt)
    }
}
