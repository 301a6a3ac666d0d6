//! Owns the thread that asks Kafka for topics: whoever waits first, refreshes after them.
//! Must never have two questions open: a broker in trouble is not hammered.
//! It also knocks at the cluster while it is away, so that the sidecar is ready as soon as Kafka is.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{self, RecvTimeoutError},
    },
    time::Duration,
};

use rdkafka::{error::RDKafkaErrorCode, producer::Producer as _};
use tokio::time::Instant;

use super::{Asked, Question, Rules, Topics, rules};
use crate::{
    failure::Reason,
    kafka::{classify, ffi, handle::Handle, reachability::Reachability},
    record::Topic,
};

/// How long one request may take, in milliseconds.
const FETCH_MS_MAX: u64 = 1_000;
/// How long the thread rests after a fetch that settled nothing, and between knocks at an absent cluster, in milliseconds.
const REST_MS: u64 = 100;

/// The metadata thread.
pub(super) struct Asker {
    handle: Arc<Handle>,
    reachability: Arc<Reachability>,
    topics: Arc<Topics>,
    requested: mpsc::Receiver<Question>,
    /// Topics that somebody waits for: they go ahead of refreshes.
    asked: VecDeque<Topic>,
    /// Topics to be asked for again.
    queue: VecDeque<Topic>,
    /// Topics whose rules somebody waits for.
    rules_asked: VecDeque<Topic>,
    /// Topics whose rules are to be asked for when nothing else is: they are those whose count was learnt since.
    rules: VecDeque<Topic>,
    refreshed: Instant,
}

impl Asker {
    /// Makes the thread of whichever producer is in use.
    pub(super) fn new(handle: Arc<Handle>, topics: Arc<Topics>, requested: mpsc::Receiver<Question>) -> Self {
        let reachability = Arc::clone(&handle.observer().reachability);
        let (asked, queue, rules_asked, rules) = Default::default();
        let refreshed = Instant::now();
        Self { handle, reachability, topics, requested, asked, queue, rules_asked, rules, refreshed }
    }

    /// Answers until the sidecar stops.
    pub(super) fn run(mut self) {
        while !self.topics.stop.load(Ordering::Acquire) {
            if !self.reachability.is_connected() {
                self.knock();
                continue;
            }
            self.queue_refreshes();
            let idle =
                [&self.asked, &self.rules_asked, &self.queue, &self.rules].iter().all(|all| all.is_empty());
            self.collect(Duration::from_millis(if idle { REST_MS } else { 0 }));
            if let Some(topic) = self.asked.pop_front() {
                self.count(topic);
            } else if let Some(topic) = self.rules_asked.pop_front() {
                self.fetch_rules(&topic);
            } else if let Some(topic) = self.queue.pop_front() {
                self.count(topic);
            } else if let Some(topic) = self.rules.pop_front() {
                self.fetch_rules(&topic);
            }
        }
        self.topics.settle_all();
    }

    /// Asks for a topic's partition count, and for its rules after it.
    fn count(&mut self, topic: Topic) {
        if self.fetch(&topic) {
            if !self.rules.contains(&topic) {
                self.rules.push_back(topic);
            }
            return;
        }
        // Nothing was learnt: whoever waits is served after the others, and a broker in trouble is not hammered.
        if self.topics.is_awaited(&topic) {
            self.asked.push_back(topic);
        }
        self.collect(Duration::from_millis(REST_MS));
    }

    fn knock(&mut self) {
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
            Question::Partitions(topic) => self.asked.push_back(topic),
            Question::Rules(topic) => self.rules_asked.push_back(topic),
        }
    }

    fn queue_refreshes(&mut self) {
        if self.refreshed.elapsed() < self.topics.bounds.refresh {
            return;
        }
        self.refreshed = Instant::now();
        // A round that outlasts its interval is begun anew, so that the queue stays within the cache's bound.
        self.queue.clear();
        let unknown = self.topics.bounds.unknown;
        let mut known = self.topics.known.write();
        known.retain(|_, entry| entry.answer.is_ok() || entry.fetched.elapsed() < unknown);
        let stale = known.iter().filter(|(_, entry)| entry.answer.is_ok());
        self.queue.extend(stale.map(|(topic, _)| topic.clone()));
    }

    /// Asks for one topic; returns whether anything was learnt.
    fn fetch(&self, topic: &Topic) -> bool {
        let wait = Duration::from_millis(FETCH_MS_MAX);
        let metadata =
            match self.handle.current().client().client().fetch_metadata(Some(topic.as_str()), wait) {
                Ok(metadata) => metadata,
                Err(error) => {
                    let code = error.rdkafka_error_code().map_or("unknown", classify::name);
                    tracing::debug!(%topic, code, "metadata could not be had");
                    return false;
                }
            };
        let Some(found) = metadata.topics().iter().find(|found| found.name() == topic.as_str()) else {
            return false;
        };
        let refused = found.error().and_then(|code| classify::topic_metadata(code, topic));
        let answer = match refused {
            Some(failure) if failure.reason() == Reason::BrokersUnavailable => return false,
            Some(failure) => Err(failure),
            None => match u32::try_from(found.partitions().len()) {
                Ok(count) if count > 0 => Ok(count),
                Ok(_) | Err(_) => return false,
            },
        };
        self.topics.settle(topic, &answer);
        true
    }

    /// Asks what a topic takes; a failure is not tried again before somebody asks, or the topic is refreshed.
    fn fetch_rules(&self, topic: &Topic) {
        if !self.topics.may_ask_rules(topic) {
            self.topics.settle_rules(topic, None);
            return;
        }
        let (at, wait) = (Instant::now(), Duration::from_millis(FETCH_MS_MAX));
        let asked =
            ffi::topic_settings(self.handle.current().client().client(), topic, rules::SETTINGS, wait);
        let learnt = match asked {
            Ok(values) => Some(Asked::Answered { rules: Rules::read(&values), at }),
            Err(code) => {
                tracing::debug!(%topic, code = classify::name(code), "the topic's rules could not be had");
                (code == RDKafkaErrorCode::TopicAuthorizationFailed).then_some(Asked::Hidden)
            }
        };
        self.topics.settle_rules(topic, learnt);
    }
}
