//! Owns one transactional id: the producer that carries it, on a thread of its own, one transaction after the other.
//! Must never begin a transaction on a producer in doubt: a request without an answer may be carried out later, within the
//! next transaction, and commit or abort that. A new producer under the same id fences the old one and all that is its.

mod blame;
mod runner;
mod spare;
mod steps;

use std::{
    fmt,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use tokio::sync::{oneshot, watch};

use self::{runner::Runner, steps::Steps};
use super::{access::Access, context::Delivered, transaction::CallError};
use crate::{
    offsets::Group,
    record::{Record, Topic},
    telemetry::metrics::Metrics,
};

/// What a lane is told once.
#[derive(Clone)]
pub struct LaneSettings {
    /// How its producers reach the cluster.
    pub access: Access,
    /// The id (`transactional.id`).
    pub id: String,
    /// How long one attempt to initialise the id may take.
    pub init_wait: Duration,
    /// How long adding a group's offsets, and the delivery of all records, may take.
    pub step_wait: Duration,
    /// After how long the coordinator ends a transaction by itself (`transaction.timeout.ms`).
    pub transaction_timeout: Duration,
    /// Where replaced producers are counted.
    pub metrics: Arc<Metrics>,
}

/// A group's offsets, as a transaction commits them.
#[derive(Debug, Clone)]
pub struct WorkOffsets {
    /// The group, with the consumer that commits.
    pub group: Group,
    /// Topic, partition, next offset, text beside it; each partition once.
    pub offsets: Vec<(Topic, i32, i64, String)>,
}

/// What one transaction carries.
#[derive(Debug, Default)]
pub struct Work {
    /// The offsets, one entry for each group and consumer.
    pub offsets: Vec<WorkOffsets>,
    /// The records, each with its partition.
    pub records: Vec<(Record, i32)>,
}

/// What in the work ended the transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Culprit {
    /// The offsets at that place.
    Offsets(usize),
    /// The record at that place.
    Record(usize),
    /// Nothing that was named.
    Nobody,
    /// Nothing that was named, and probably the record at that place.
    Suspect(usize),
}

/// How a transaction ended.
#[derive(Debug)]
pub enum Ended {
    /// It is committed; where its records lie, in their order.
    Committed(Vec<Delivered>),
    /// It is not, and never will be.
    Aborted(Culprit, CallError),
    /// The coordinator fenced the producer: another one has its id.
    Fenced(CallError),
    /// The commit was asked for and its outcome is not known here. The id has been initialised since: what is not committed by
    /// now never will be.
    Unknown(CallError),
}

/// One transaction for a lane.
struct Job {
    work: Arc<Work>,
    /// Told as soon as the end is known.
    ended: oneshot::Sender<Ended>,
    /// Told when nothing of the transaction can happen any more.
    settled: oneshot::Sender<()>,
}

/// What a lane can do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LaneState {
    /// The id is being initialised; the sentence says what stood in the way last.
    Initialising(Option<CallError>),
    /// It takes transactions.
    Ready,
    /// Another producer has the id.
    Fenced,
    /// No producer can be made of the properties as they are now, and it is tried again; the words are librdkafka's.
    Broken(String),
}

/// A lane, as those who use it see it; its thread ends when this is dropped and the transaction in progress has ended.
pub struct Lane {
    jobs: mpsc::Sender<Job>,
    state: watch::Receiver<LaneState>,
    thread: thread::JoinHandle<()>,
    steps: Arc<Steps>,
}

/// A transaction in progress.
#[derive(Debug)]
pub struct InProgress {
    /// How it ended.
    pub ended: oneshot::Receiver<Ended>,
    /// That nothing of it can happen any more; its keys are free then.
    pub settled: oneshot::Receiver<()>,
}

// === impl Lane ===

impl Lane {
    /// Starts a lane, which initialises its id at once and until it succeeds.
    ///
    /// # Errors
    /// Where the thread cannot be started.
    pub fn start(name: &str, settings: LaneSettings) -> std::io::Result<Self> {
        let (jobs, received) = mpsc::channel();
        let (tell, state) = watch::channel(LaneState::Initialising(None));
        let steps = Arc::default();
        let runner = Runner::new(settings, tell, Arc::clone(&steps));
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || runner.run(&received))?;
        Ok(Self { jobs, state, thread, steps })
    }

    /// Ends the lane once its transaction in progress has; the thread is returned to be waited for.
    #[must_use]
    pub fn end(self) -> thread::JoinHandle<()> {
        self.thread
    }

    /// Returns for how long the lane has been within one step, such as a call of librdkafka; none while it waits for work.
    #[must_use]
    pub fn in_step_for(&self) -> Option<Duration> {
        self.steps.taken()
    }

    /// Returns a receiver of what the lane can do.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<LaneState> {
        self.state.clone()
    }

    /// Gives the lane a transaction; one at a time, or later ones wait. Where the lane is gone, both receivers say so.
    #[must_use]
    pub fn run(&self, work: Arc<Work>) -> InProgress {
        let (tell_ended, ended) = oneshot::channel();
        let (tell_settled, settled) = oneshot::channel();
        // A lane that is gone drops the job, and with it the senders.
        drop(self.jobs.send(Job { work, ended: tell_ended, settled: tell_settled }));
        InProgress { ended, settled }
    }
}

impl fmt::Debug for Lane {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Lane").field("state", &*self.state.borrow()).finish_non_exhaustive()
    }
}
