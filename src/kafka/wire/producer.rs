//! The producer: partitions with their records, the brokers that lead them, and who hears how records end.
//! Must never lose a record: each that was pushed ends once, also if a task panics.
//!
//! ```text
//! push --> PartitionLog --(ready)--> broker's queue --> broker's task (`broker`) --> response --> on_end
//!                ^                                            |
//!                +---- leader, producer id ---- cluster's task (`cluster`)
//! ```
//! Locks: a partition's state may be held while a broker's queue or the producer ids are taken, never the other way round.

mod batches;
mod broker;
mod cluster;
mod produce;

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, mpsc, oneshot};

use self::broker::BrokerTask;
use super::{
    batch::{ProducerId, record_bytes_max},
    connection::Connection,
    error::WireError,
    message::Response,
    metadata::ClusterView,
    partition::{BatchLimits, Ended, Partition, Place},
    settings::WireSettings,
};
use crate::{
    config::{Compression, Config},
    kafka::code::ErrorCode,
    record::{Record, Topic},
    tasks::Tasks,
};

/// How many questions wait for a broker's task at most.
const QUESTIONS_MAX: usize = 64;
/// How many requests a connection has without an answer at most.
const REQUESTS_MAX: usize = 5;
/// How many batches of a partition are on the wire at most: a broker remembers five.
const BATCHES_MAX: usize = 5;

/// How records are sent.
#[derive(Debug, Clone)]
pub struct ProducerSettings {
    /// What bounds a batch.
    pub batch: BatchLimits,
    /// The most bytes of a request's batches; a larger batch goes alone.
    pub request_bytes_max: usize,
    /// The codec.
    pub compression: Compression,
    /// How long a record is tried.
    pub message_timeout: Duration,
    /// How long brokers wait for replicas.
    pub acks_timeout: Duration,
    /// The first pause before a batch is sent again.
    pub retry_backoff: Duration,
    /// The longest such pause.
    pub retry_backoff_max: Duration,
}

/// Hears how records of a partition ended, in the order of their answers.
pub type OnEnd<T> = Box<dyn Fn(&PartitionLog<T>, Vec<Ended<T>>) + Send + Sync>;

/// Sends records to the leaders of their partitions.
pub struct WireProducer<T> {
    core: Arc<Core<T>>,
}

/// One partition: its records, and who leads it.
pub struct PartitionLog<T> {
    topic: Topic,
    index: i32,
    state: Mutex<LogState<T>>,
}

struct LogState<T> {
    records: Partition<T>,
    /// Written by the cluster's task.
    leader: Option<Arc<BrokerQueue<T>>>,
    /// It is in its leader's queue.
    is_ready: bool,
    /// The last request that has a batch of it: the connection's number, and its own.
    request: Option<(u64, u64)>,
}

/// What waits for one broker.
struct BrokerQueue<T> {
    id: i32,
    ready: Mutex<VecDeque<Arc<PartitionLog<T>>>>,
    wake: Notify,
    questions: mpsc::Sender<Question>,
}

/// A request that is not about records, and who awaits its answer.
struct Question {
    body: QuestionBody,
    answer: oneshot::Sender<Result<Response, WireError>>,
}

#[derive(Clone)]
enum QuestionBody {
    Topics(Vec<Topic>),
    ProducerId,
}

/// The producer ids that are there, and the partitions that wait for one.
struct ProducerIds<T> {
    spare: Vec<ProducerId>,
    waiting: Vec<Arc<PartitionLog<T>>>,
}

/// What all tasks of a producer share.
struct Core<T> {
    settings: ProducerSettings,
    /// What connections are opened with; the cluster's task writes it.
    wire: RwLock<Arc<WireSettings>>,
    /// The cluster's task writes it; brokers' tasks write what responses say of leaders.
    view: RwLock<ClusterView>,
    logs: RwLock<HashMap<Topic, Vec<Arc<PartitionLog<T>>>>>,
    brokers: Mutex<HashMap<i32, Arc<BrokerQueue<T>>>>,
    ids: Mutex<ProducerIds<T>>,
    /// Something is to be asked of the cluster: leaders, topics, producer ids.
    ask: Notify,
    on_end: OnEnd<T>,
    tasks: Tasks,
}

// === impl ProducerSettings ===

impl ProducerSettings {
    /// Takes what is needed from the settings.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let kafka = &config.kafka;
        Self {
            batch: BatchLimits {
                records_max: kafka.batch_records,
                bytes_max: kafka.batch_bytes,
                in_flight_max: BATCHES_MAX,
            },
            request_bytes_max: kafka.batch_bytes.max(1 << 20),
            compression: kafka.compression,
            message_timeout: kafka.message_timeout,
            acks_timeout: kafka.socket_timeout / 2,
            retry_backoff: kafka.retry_backoff,
            retry_backoff_max: kafka.retry_backoff_max,
        }
    }
}

// === impl WireProducer ===

impl<T: AsRef<Record> + Send + 'static> WireProducer<T> {
    /// Starts a producer, which finds the cluster by itself.
    #[must_use]
    pub fn start(
        settings: ProducerSettings,
        wire: Arc<WireSettings>,
        tasks: &Tasks,
        on_end: OnEnd<T>,
    ) -> Self {
        let core = Arc::new(Core {
            settings,
            wire: RwLock::new(wire),
            view: RwLock::default(),
            logs: RwLock::default(),
            brokers: Mutex::default(),
            ids: Mutex::new(ProducerIds { spare: Vec::new(), waiting: Vec::new() }),
            ask: Notify::new(),
            on_end,
            tasks: tasks.clone(),
        });
        tasks.spawn_vital("kafka cluster", cluster::run(Arc::clone(&core)));
        Self { core }
    }

    /// Returns the log of a partition. The cluster is asked for its topic, unless it was before.
    #[must_use]
    pub fn log(&self, topic: &Topic, index: i32) -> Arc<PartitionLog<T>> {
        self.core.log(topic, index)
    }

    /// Returns how many partitions a topic has, once the cluster has said it.
    #[must_use]
    pub fn partitions(&self, topic: &Topic) -> Option<usize> {
        self.core.view.read().topic(topic).map(|view| view.partitions.len())
    }

    /// Takes a record in behind all others of its partition; it is sent as soon as its leader's connection can take it.
    pub fn push(&self, log: &Arc<PartitionLog<T>>, item: T) -> Place {
        let bytes = record_bytes_max(item.as_ref());
        let by = Instant::now() + self.core.settings.message_timeout;
        let mut state = log.state.lock();
        let place = state.records.push(item, bytes, by);
        log.schedule(&mut state);
        place
    }
}

impl<T> fmt::Debug for WireProducer<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("WireProducer").finish_non_exhaustive()
    }
}

// === impl PartitionLog ===

impl<T> PartitionLog<T> {
    /// Returns the topic.
    #[must_use]
    pub const fn topic(&self) -> &Topic {
        &self.topic
    }

    /// Returns the partition's number in its topic.
    #[must_use]
    pub const fn index(&self) -> i32 {
        self.index
    }

    /// Returns how many records can be taken out.
    #[must_use]
    pub fn waiting_count(&self) -> usize {
        self.state.lock().records.waiting_count()
    }

    /// Takes a record out if no byte of it is on its way, and it is surely not in the log.
    pub fn withdraw(&self, place: Place) -> Option<T> {
        self.state.lock().records.withdraw(place)
    }

    /// Puts it into its leader's queue, if it has something to send.
    fn schedule(self: &Arc<Self>, state: &mut LogState<T>) {
        if state.is_ready || !state.records.has_something_to_send() {
            return;
        }
        if let Some(leader) = &state.leader {
            state.is_ready = true;
            leader.push(Arc::clone(self));
        }
    }
}

impl<T> fmt::Debug for PartitionLog<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}", self.topic, self.index)
    }
}

// === impl BrokerQueue ===

impl<T> BrokerQueue<T> {
    fn push(&self, log: Arc<PartitionLog<T>>) {
        self.ready.lock().push_back(log);
        self.wake.notify_one();
    }

    fn pop(&self) -> Option<Arc<PartitionLog<T>>> {
        self.ready.lock().pop_front()
    }

    fn len(&self) -> usize {
        self.ready.lock().len()
    }
}

// === impl Core ===

impl<T: AsRef<Record> + Send + 'static> Core<T> {
    fn log(self: &Arc<Self>, topic: &Topic, index: i32) -> Arc<PartitionLog<T>> {
        let place = usize::try_from(index).unwrap_or(0);
        if let Some(log) = self.logs.read().get(topic).and_then(|logs| logs.get(place)) {
            return Arc::clone(log);
        }
        let mut logs = self.logs.write();
        let logs = logs.entry(topic.clone()).or_default();
        while logs.len() <= place {
            let next = i32::try_from(logs.len()).unwrap_or(i32::MAX);
            let state = LogState {
                records: Partition::default(),
                leader: self.leader(topic, next),
                is_ready: false,
                request: None,
            };
            logs.push(Arc::new(PartitionLog { topic: topic.clone(), index: next, state: Mutex::new(state) }));
        }
        self.ask.notify_one();
        Arc::clone(&logs[place])
    }

    /// Returns the queue of the broker that leads a partition, as far as is known.
    fn leader(self: &Arc<Self>, topic: &Topic, index: i32) -> Option<Arc<BrokerQueue<T>>> {
        let (leader, _) = self.view.read().leader(topic, index).map(|(id, node)| (id, node.clone()))?;
        Some(self.broker(leader, None))
    }

    /// Returns a broker's queue; starts its task if it has none yet, with a connection that is open already.
    fn broker(self: &Arc<Self>, id: i32, connection: Option<Connection>) -> Arc<BrokerQueue<T>> {
        let mut brokers = self.brokers.lock();
        let queue = brokers.entry(id).or_insert_with(|| {
            let (questions, asked) = mpsc::channel(QUESTIONS_MAX);
            let (ready, wake) = Default::default();
            let queue = Arc::new(BrokerQueue { id, ready, wake, questions });
            let task = BrokerTask::new(Arc::clone(self), Arc::clone(&queue), asked);
            self.tasks.spawn_vital("kafka broker", task.run(connection));
            queue
        });
        Arc::clone(queue)
    }

    /// Gives each partition of a topic its leader, as it is known now.
    fn follow_leaders(self: &Arc<Self>, topic: &Topic) {
        let logs: Vec<_> = self.logs.read().get(topic).into_iter().flatten().cloned().collect();
        for log in logs {
            let leader = self.leader(topic, log.index);
            let mut state = log.state.lock();
            let is_same = match (&state.leader, &leader) {
                (Some(before), Some(now)) => before.id == now.id,
                (None, None) => true,
                _ => false,
            };
            if !is_same && leader.is_some() {
                // What it left in the former leader's queue is passed over there.
                (state.leader, state.is_ready) = (leader, false);
            }
            log.schedule(&mut state);
        }
    }

    /// Takes a producer id for a partition; without one it is scheduled again once there is one.
    fn producer_id(&self, log: &Arc<PartitionLog<T>>) -> Option<ProducerId> {
        let mut ids = self.ids.lock();
        let id = ids.spare.pop();
        if id.is_none() {
            ids.waiting.push(Arc::clone(log));
        }
        if ids.spare.len() < cluster::SPARE_IDS_MIN {
            self.ask.notify_one();
        }
        id
    }

    fn ended(&self, log: &PartitionLog<T>, ended: Vec<Ended<T>>) {
        if !ended.is_empty() {
            (self.on_end)(log, ended);
        }
    }

    /// Ends what was not written in its time.
    fn expire(&self, now: Instant) {
        let logs: Vec<_> = self.logs.read().values().flatten().cloned().collect();
        for log in logs {
            let mut ended = Vec::new();
            {
                let mut state = log.state.lock();
                if state.records.expires_at().is_some_and(|at| at <= now) {
                    state.records.expire(now, &mut ended);
                    log.schedule(&mut state);
                }
            }
            self.ended(&log, ended);
        }
    }

    /// Returns the pause before the next attempt, by chance up to a fifth shorter or longer.
    fn pause(&self, failures: u32) -> Duration {
        let doubled = self.settings.retry_backoff.saturating_mul(1_u32 << failures.saturating_sub(1).min(16));
        doubled.min(self.settings.retry_backoff_max).saturating_mul(rand::random_range(80..=120)) / 100
    }
}

/// Returns whether an error asks for the cluster's layout: the partition may be led by another broker.
const fn asks_for_leaders(code: ErrorCode) -> bool {
    // NOT_LEADER_OR_FOLLOWER, KAFKA_STORAGE_ERROR, INCONSISTENT_TOPIC_ID.
    matches!(
        code,
        ErrorCode::UNKNOWN_TOPIC_OR_PART | ErrorCode::LEADER_NOT_AVAILABLE | ErrorCode::UNKNOWN_TOPIC_ID
    ) || matches!(code.number(), 6 | 56 | 103)
}
