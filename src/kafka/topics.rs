//! Owns what Kafka says of topics, their partition counts and limits: cached, refreshed off the hot path, one question at a time;
//! and the thread that asks.
//! Must never create a topic and never let a caller wait on a fetch that another caller has begun already.
//! The same thread knocks at the cluster while it is away, so that the sidecar is ready as soon as Kafka is.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use parking_lot::{Mutex, RwLock};
use rdkafka::{error::RDKafkaErrorCode, producer::Producer as _};
use tokio::{sync::watch, time::Instant};

use super::{classify, ffi, handle::Handle, reachability::Reachability};
use crate::{
    failure::{Failure, Reason},
    record::Topic,
};

/// How long one metadata request may take.
const FETCH_MS_MAX: u64 = 1_000;
/// How long the thread rests after a fetch that settled nothing, and between knocks at an absent cluster.
const REST_MS: u64 = 100;

/// The bounds of the cache.
#[derive(Debug, Clone, Copy)]
pub struct TopicsBounds {
    /// How often a known topic is asked for again.
    pub refresh: Duration,
    /// How long an unknown or forbidden topic is remembered as such.
    pub unknown: Duration,
    /// How many topics are kept.
    pub max: usize,
}

type Answer = Result<u32, Failure>;

struct Known {
    answer: Answer,
    fetched: Instant,
    limit: Limit,
}

/// How large a batch of a topic may be (`max.message.bytes`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Limit {
    Unknown,
    /// The principal may not ask (DescribeConfigs); it is asked once.
    Hidden,
    Bytes(usize),
}

/// What is known of topics.
pub struct Topics {
    bounds: TopicsBounds,
    known: RwLock<HashMap<Topic, Known>>,
    /// Whoever waits for a topic holds a receiver; the thread answers all and removes the entry.
    pending: Mutex<HashMap<Topic, watch::Sender<Option<Answer>>>>,
    /// The thread holds the other end; when it is gone the sidecar is stopping.
    requests: mpsc::Sender<Topic>,
    stop: Arc<AtomicBool>,
}

impl Topics {
    /// Starts the metadata thread of whichever producer is in use.
    ///
    /// # Errors
    /// Where the thread cannot be started.
    pub fn start(handle: Arc<Handle>, bounds: TopicsBounds) -> std::io::Result<Arc<Self>> {
        let (requests, requested) = mpsc::channel();
        let topics = Arc::new(Self {
            bounds,
            known: RwLock::default(),
            pending: Mutex::default(),
            requests,
            stop: Arc::default(),
        });
        let asker = Asker {
            reachability: Arc::clone(&handle.observer().reachability),
            handle,
            topics: Arc::clone(&topics),
            requested,
            asked: VecDeque::new(),
            queue: VecDeque::new(),
            limits: VecDeque::new(),
            refreshed: Instant::now(),
        };
        thread::Builder::new().name("kafka-metadata".to_owned()).spawn(move || asker.run())?;
        Ok(topics)
    }

    /// Returns what is known of the topic now, without waiting; `None` sends the caller to [`Self::lookup`].
    #[must_use]
    pub fn partitions(&self, topic: &Topic) -> Option<Answer> {
        let known = self.known.read();
        let known = known.get(topic)?;
        let fresh = known.answer.is_ok() || known.fetched.elapsed() < self.bounds.unknown;
        fresh.then(|| known.answer.clone())
    }

    /// Returns the most bytes of a batch that the topic takes; none where that is not known, or not to be known.
    #[must_use]
    pub fn batch_bytes_max(&self, topic: &Topic) -> Option<usize> {
        match self.known.read().get(topic)?.limit {
            Limit::Bytes(most) => Some(most),
            Limit::Unknown | Limit::Hidden => None,
        }
    }

    /// Waits for the topic's partition count; may be dropped at any time. Waits on while no broker answers.
    ///
    /// # Errors
    /// `TopicNotFound`, `NotAuthorized`, or `Draining` where the sidecar stops.
    pub async fn lookup(&self, topic: &Topic) -> Answer {
        if let Some(answer) = self.partitions(topic) {
            return answer;
        }
        let mut answer = {
            let mut pending = self.pending.lock();
            if let Some(asked) = pending.get(topic) {
                asked.subscribe()
            } else {
                let (asked, answer) = watch::channel(None);
                pending.insert(topic.clone(), asked);
                if self.requests.send(topic.clone()).is_err() {
                    pending.remove(topic);
                    return Err(stopping());
                }
                answer
            }
        };
        match answer.wait_for(Option::is_some).await {
            Ok(answer) => answer.clone().unwrap_or_else(|| Err(stopping())),
            Err(_) => Err(stopping()),
        }
    }

    /// Forgets what is known of a topic, because Kafka answered otherwise.
    pub fn forget(&self, topic: &Topic) {
        self.known.write().remove(topic);
    }

    /// Forgets what is known of a topic if it was asked for longer ago than that.
    pub fn forget_older(&self, topic: &Topic, age: Duration) {
        let mut known = self.known.write();
        if known.get(topic).is_some_and(|known| known.fetched.elapsed() > age) {
            known.remove(topic);
        }
    }

    /// Ends the thread; those who wait are answered.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    fn settle(&self, topic: &Topic, answer: &Answer) {
        {
            let mut known = self.known.write();
            if known.len() >= self.bounds.max && !known.contains_key(topic) {
                make_room(&mut known, self.bounds);
            }
            let limit = known.get(topic).map_or(Limit::Unknown, |known| known.limit);
            known.insert(topic.clone(), Known { answer: answer.clone(), fetched: Instant::now(), limit });
        }
        if let Some(asked) = self.pending.lock().remove(topic) {
            asked.send_replace(Some(answer.clone()));
        }
    }

    /// Returns whether the topic's limit may be asked for.
    fn may_ask_limit(&self, topic: &Topic) -> bool {
        let known = self.known.read();
        known.get(topic).is_some_and(|known| known.answer.is_ok() && known.limit != Limit::Hidden)
    }

    fn note_limit(&self, topic: &Topic, limit: Limit) {
        if let Some(known) = self.known.write().get_mut(topic) {
            known.limit = limit;
        }
    }

    /// Returns whether anybody still waits for the topic; forgets the request otherwise.
    fn is_awaited(&self, topic: &Topic) -> bool {
        let mut pending = self.pending.lock();
        match pending.get(topic) {
            Some(asked) if asked.receiver_count() > 0 => true,
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
        formatter.debug_struct("Topics").field("bounds", &self.bounds).finish_non_exhaustive()
    }
}

fn stopping() -> Failure {
    Failure::new(Reason::Draining, "the sidecar is stopping")
}

/// Makes room for one more topic: what is not there goes first, then what was asked for longest ago.
fn make_room(known: &mut HashMap<Topic, Known>, bounds: TopicsBounds) {
    known.retain(|_, entry| entry.answer.is_ok() || entry.fetched.elapsed() < bounds.unknown);
    if known.len() >= bounds.max {
        let oldest = known.iter().min_by_key(|(_, entry)| entry.fetched).map(|(topic, _)| topic.clone());
        if let Some(oldest) = oldest {
            known.remove(&oldest);
        }
    }
}

/// The metadata thread.
struct Asker {
    handle: Arc<Handle>,
    reachability: Arc<Reachability>,
    topics: Arc<Topics>,
    requested: mpsc::Receiver<Topic>,
    /// Topics that somebody waits for: they go ahead of refreshes.
    asked: VecDeque<Topic>,
    /// Topics to be asked for again.
    queue: VecDeque<Topic>,
    /// Topics whose limit is to be asked for when nothing else is: they are those whose count was learnt since.
    limits: VecDeque<Topic>,
    refreshed: Instant,
}

impl Asker {
    fn run(mut self) {
        while !self.topics.stop.load(Ordering::Acquire) {
            if !self.reachability.is_connected() {
                self.knock();
                continue;
            }
            self.queue_refreshes();
            let idle = self.queue.is_empty() && self.asked.is_empty() && self.limits.is_empty();
            self.collect(Duration::from_millis(if idle { REST_MS } else { 0 }));
            let Some(topic) = self.asked.pop_front().or_else(|| self.queue.pop_front()) else {
                if let Some(topic) = self.limits.pop_front() {
                    self.fetch_limit(&topic);
                }
                continue;
            };
            if self.fetch(&topic) {
                if !self.limits.contains(&topic) {
                    self.limits.push_back(topic);
                }
            } else {
                // Nothing was learnt: whoever waits is served after the others, and a broker in trouble is not hammered.
                if self.topics.is_awaited(&topic) {
                    self.asked.push_back(topic);
                }
                self.collect(Duration::from_millis(REST_MS));
            }
        }
        for (_, asked) in self.topics.pending.lock().drain() {
            asked.send_replace(Some(Err(stopping())));
        }
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
            Ok(topic) => {
                self.asked.push_back(topic);
                self.asked.extend(self.requested.try_iter());
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
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

    /// Asks how large a batch of the topic may be; a failure is not tried again before the topic is refreshed.
    fn fetch_limit(&self, topic: &Topic) {
        if !self.topics.may_ask_limit(topic) {
            return;
        }
        let wait = Duration::from_millis(FETCH_MS_MAX);
        let asked =
            ffi::topic_setting(self.handle.current().client().client(), topic, "max.message.bytes", wait);
        match asked {
            Ok(value) => {
                let bytes = value.and_then(|text| text.parse().ok());
                self.topics.note_limit(topic, bytes.map_or(Limit::Hidden, Limit::Bytes));
            }
            Err(code) => {
                tracing::debug!(%topic, code = classify::name(code), "the topic's limit could not be had");
                if code == RDKafkaErrorCode::TopicAuthorizationFailed {
                    self.topics.note_limit(topic, Limit::Hidden);
                }
            }
        }
    }
}
