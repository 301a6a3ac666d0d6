//! Owns one transactional id: the producer that carries it, on a thread of its own, one transaction after the other.
//! Must never begin a transaction on a producer in doubt: a request without an answer may be carried out later, within the
//! next transaction, and commit or abort that. A new producer under the same id fences the old one and all that is its.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use rdkafka::error::RDKafkaErrorCode;
use tokio::sync::{oneshot, watch};

use super::{
    classify,
    context::Delivered,
    ffi::Transactional,
    producer,
    transaction::{self, CallClass, CallError, GroupOffsets, OffsetToCommit, Transaction},
};
use crate::{
    offsets::Group,
    record::{Record, Topic},
};

/// How often an idle lane looks at its producer's queue, where log lines and errors come in.
const IDLE_MS: u64 = 500;
/// The pause between attempts to initialise the id.
const INIT_PAUSE_MS: u64 = 100;

/// What a lane is told once.
#[derive(Clone)]
pub struct LaneSettings {
    /// librdkafka's properties, `transactional.id` and `transaction.timeout.ms` among them.
    pub properties: Vec<(String, String)>,
    /// How long one attempt to initialise the id may take.
    pub init_wait: Duration,
    /// How long adding a group's offsets, and the delivery of all records, may take.
    pub step_wait: Duration,
    /// After how long the coordinator ends a transaction by itself (`transaction.timeout.ms`).
    pub transaction_timeout: Duration,
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
    /// now never will be. Should it be, its records lie there.
    Unknown(CallError, Vec<Delivered>),
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
    /// librdkafka refuses the properties.
    Broken(String),
}

/// A lane, as those who use it see it; its thread ends when this is dropped and the transaction in progress has ended.
pub struct Lane {
    jobs: mpsc::Sender<Job>,
    state: watch::Receiver<LaneState>,
    thread: thread::JoinHandle<()>,
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
        let runner = Runner { settings, tell, doubt: Arc::default(), serial: 0, unsettled: None };
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || runner.run(&received))?;
        Ok(Self { jobs, state, thread })
    }

    /// Ends the lane once its transaction in progress has; the thread is returned to be waited for.
    #[must_use]
    pub fn end(self) -> thread::JoinHandle<()> {
        self.thread
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

/// The lane's thread.
struct Runner {
    settings: LaneSettings,
    tell: watch::Sender<LaneState>,
    /// Set by the interceptor of the producer in use.
    doubt: Arc<AtomicBool>,
    serial: u32,
    /// Who is told once the next producer is initialised.
    unsettled: Option<(Option<Ended>, Job)>,
}

/// What becomes of the producer after a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    Keep,
    Replace,
    /// It is fenced: to initialise the id again would fence the other one, and so on without end.
    Stop,
}

impl Runner {
    fn run(mut self, jobs: &mpsc::Receiver<Job>) {
        while let Some(producer) = self.initialised() {
            if let Some((ended, job)) = self.unsettled.take() {
                settle(job, ended);
            }
            match self.serve(&producer, jobs) {
                After::Keep => return,
                After::Replace => {
                    self.tell.send_replace(LaneState::Initialising(None));
                }
                After::Stop => {
                    self.tell.send_replace(LaneState::Fenced);
                    return;
                }
            }
        }
    }

    /// Makes producers until one has the id; `None` where that is in vain or nobody uses the lane any more.
    fn initialised(&mut self) -> Option<Transactional> {
        while !self.tell.is_closed() {
            self.doubt = Arc::default();
            let started = match Transactional::start(&self.settings.properties, &self.doubt) {
                Ok(started) => started,
                Err(words) => {
                    let words = producer::redacted(&words, &self.settings.properties);
                    self.tell.send_replace(LaneState::Broken(words));
                    return None;
                }
            };
            while !self.tell.is_closed() {
                let Err(error) = started.init(self.settings.init_wait) else {
                    self.tell.send_replace(LaneState::Ready);
                    return Some(started);
                };
                started.poll(Duration::ZERO).iter().for_each(transaction::tell);
                let may_ask_again = error.class == CallClass::Retriable;
                self.tell.send_replace(LaneState::Initialising(Some(error)));
                thread::sleep(Duration::from_millis(INIT_PAUSE_MS));
                if !may_ask_again {
                    break;
                }
            }
        }
        None
    }

    /// Runs transactions for as long as the producer is good; `Keep` where nobody uses the lane any more.
    fn serve(&mut self, producer: &Transactional, jobs: &mpsc::Receiver<Job>) -> After {
        loop {
            let job = match jobs.recv_timeout(Duration::from_millis(IDLE_MS)) {
                Ok(job) => job,
                Err(RecvTimeoutError::Disconnected) => return After::Keep,
                Err(RecvTimeoutError::Timeout) => {
                    producer.poll(Duration::ZERO).iter().for_each(transaction::tell);
                    if self.is_in_doubt() {
                        return After::Replace;
                    }
                    continue;
                }
            };
            let (ended, after) = self.transact(producer, &job.work);
            let after = if after == After::Keep && self.is_in_doubt() { After::Replace } else { after };
            match after {
                After::Keep | After::Stop => settle(job, Some(ended)),
                After::Replace => self.unsettled = Some(tell_if_known(job, ended)),
            }
            if after != After::Keep {
                return after;
            }
        }
    }

    fn is_in_doubt(&self) -> bool {
        self.doubt.load(Ordering::Acquire)
    }

    fn transact(&mut self, producer: &Transactional, work: &Work) -> (Ended, After) {
        let begun = Instant::now();
        self.serial = self.serial.wrapping_add(1);
        let mut open = match Transaction::begin(producer, self.serial) {
            Ok(open) => open,
            Err(error) => return self.not_committed(Culprit::Nobody, error, begun),
        };
        let delivered = match self.fill(&mut open, work) {
            Ok(delivered) => delivered,
            Err((culprit, error)) => {
                // A fatal error purges what is queued: the deliveries that failed with it tell nothing.
                let error = producer.fatal_error().unwrap_or(error);
                let abort = open.abort();
                let (ended, after) = self.not_committed(culprit, error, begun);
                // After a failed delivery the next transaction would arrive out of sequence.
                let is_clean =
                    abort.is_ok() && matches!(culprit, Culprit::Offsets(_)) && after == After::Keep;
                return (ended, if is_clean || after == After::Stop { after } else { After::Replace });
            }
        };
        let Err(failed) = open.commit() else { return (Ended::Committed(delivered), After::Keep) };
        let (error, open) = *failed;
        match error.class {
            CallClass::Abortable if !self.is_in_doubt() => {
                let after = if open.abort().is_ok() { After::Keep } else { After::Replace };
                (Ended::Aborted(Culprit::Nobody, error), after)
            }
            CallClass::Fatal if self.is_fenced(&error, begun) && !self.is_in_doubt() => {
                (Ended::Fenced(error), After::Stop)
            }
            CallClass::Fatal | CallClass::Other | CallClass::Abortable | CallClass::Retriable => {
                (Ended::Unknown(error, delivered), After::Replace)
            }
        }
    }

    /// Says how a transaction ended whose commit was never asked for.
    fn not_committed(&self, culprit: Culprit, error: CallError, begun: Instant) -> (Ended, After) {
        if self.is_fenced(&error, begun) {
            return (Ended::Fenced(error), After::Stop);
        }
        let after = match error.class {
            CallClass::Abortable | CallClass::Retriable => After::Keep,
            CallClass::Fatal | CallClass::Other => After::Replace,
        };
        (Ended::Aborted(culprit, error), after)
    }

    /// Fills the transaction; returns where its records lie.
    fn fill(&self, open: &mut Transaction<'_>, work: &Work) -> Result<Vec<Delivered>, (Culprit, CallError)> {
        for (place, of_group) in work.offsets.iter().enumerate() {
            let offsets = of_group.offsets.iter().map(|(topic, partition, next, metadata)| OffsetToCommit {
                topic,
                partition: *partition,
                next: *next,
                metadata,
            });
            let offsets = GroupOffsets { group: &of_group.group, offsets: offsets.collect() };
            self.send_offsets(open, &offsets).map_err(|error| (Culprit::Offsets(place), error))?;
        }
        let named = |place: u64, code| {
            let sentence = "the record was not delivered".to_owned();
            let culprit = usize::try_from(place).map_or(Culprit::Nobody, Culprit::Record);
            (culprit, CallError { code, class: CallClass::Abortable, sentence })
        };
        for (record, partition) in &work.records {
            open.send(record, *partition).map_err(|refused| named(refused.place, refused.code))?;
        }
        open.delivered(self.settings.step_wait).map_err(|undelivered| {
            // The first is the culprit; what failed behind it was purged with it, or came out of sequence.
            let first = undelivered.into_iter().min_by_key(|undelivered| undelivered.place);
            let (place, code) =
                first.map_or((u64::MAX, RDKafkaErrorCode::Unknown), |first| (first.place, first.code));
            let (culprit, error) = named(place, code);
            // One record too large takes the others of its request with it.
            let is_named = work.records.len() == 1 || !classify::is_too_large(code);
            (if is_named { culprit } else { Culprit::Nobody }, error)
        })
    }

    fn send_offsets(&self, open: &mut Transaction<'_>, offsets: &GroupOffsets<'_>) -> Result<(), CallError> {
        let by = Instant::now() + self.settings.step_wait;
        loop {
            let left = by.saturating_duration_since(Instant::now());
            match open.offsets(offsets, left) {
                // Retriable, and to be asked again with the same arguments (rdkafka.h).
                Err(error) if error.class == CallClass::Retriable && !left.is_zero() => {}
                other => return other,
            }
        }
    }

    /// Returns whether another producer has the id. A transaction's own time-out looks the same, and is told by its age.
    fn is_fenced(&self, error: &CallError, begun: Instant) -> bool {
        classify::is_fenced(error.code) && begun.elapsed() < self.settings.transaction_timeout
    }
}

/// Tells what is known already; the rest is told once nothing of the transaction can happen any more.
fn tell_if_known(job: Job, ended: Ended) -> (Option<Ended>, Job) {
    if matches!(ended, Ended::Unknown(..)) {
        return (Some(ended), job);
    }
    let (never, _) = oneshot::channel();
    let Job { work, ended: told, settled } = job;
    // Whoever asked may have gone away; the transaction ended all the same.
    drop(told.send(ended));
    (None, Job { work, ended: never, settled })
}

fn settle(job: Job, ended: Option<Ended>) {
    if let Some(ended) = ended {
        drop(job.ended.send(ended));
    }
    if job.settled.send(()).is_err() {
        tracing::trace!("nobody waits for the end of this transaction any more");
    }
}
