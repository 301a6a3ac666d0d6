//! Owns a lane's thread: initialising the id, running transactions, replacing the producer.
//! Must never keep a producer of which a request of a transaction got no answer.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::sync::{oneshot, watch};

use super::{
    Culprit, Ended, Job, LaneSettings, LaneState, Work,
    blame::{cause, largest_refused, rejected},
    spare::Fresh,
    steps::Steps,
};
use crate::{
    kafka::{
        classify,
        code::ErrorCode,
        context::Delivered,
        ffi::Transactional,
        producer,
        transaction::{self, CallClass, CallError, GroupOffsets, OffsetToCommit, Transaction},
    },
    telemetry::repeats::Repeats,
};

/// How often an idle lane looks at its producer's queue, where log lines and errors come in.
const IDLE_MS: u64 = 500;
/// The pause before offsets are added again.
const AGAIN_MS: u64 = 10;
/// The first pause between attempts to make a producer or to initialise the id, in milliseconds; it doubles.
const INIT_PAUSE_MS: u64 = 100;
/// The longest.
const INIT_PAUSE_MS_MAX: u64 = 5_000;
/// How often the same trouble with making producers is said.
const SAID_MS: u64 = 60_000;

/// The lane's thread.
pub(super) struct Runner {
    settings: LaneSettings,
    tell: watch::Sender<LaneState>,
    /// Set by the interceptor of the producer in use.
    doubt: Arc<AtomicBool>,
    serial: u32,
    steps: Arc<Steps>,
    /// Takes over when the producer in use is given up; made while the lane is idle.
    spare: Option<Fresh>,
    /// How often one could not be made in a row, and when it is tried next.
    spare_tries: (u32, Instant),
    /// What was said lately of producers that could not be made.
    said: Repeats<&'static str>,
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
    pub(super) fn new(settings: LaneSettings, tell: watch::Sender<LaneState>, steps: Arc<Steps>) -> Self {
        let said = Repeats::new(Duration::from_millis(SAID_MS));
        Self {
            settings,
            tell,
            doubt: Arc::default(),
            serial: 0,
            steps,
            spare: None,
            spare_tries: (0, Instant::now()),
            said,
            unsettled: None,
        }
    }

    pub(super) fn run(mut self, jobs: &mpsc::Receiver<Job>) {
        let mut given_up = None;
        while let Some(producer) = self.initialised() {
            if let Some((ended, job)) = self.unsettled.take() {
                settle(job, ended);
            }
            self.steps.begin();
            // The id is another's now: nothing hurries its end.
            drop(given_up.take());
            match self.serve(&producer, jobs) {
                After::Keep => return,
                After::Replace => {
                    self.settings.metrics.transactions().replaced();
                    self.tell.send_replace(LaneState::Initialising(None));
                }
                After::Stop => {
                    self.tell.send_replace(LaneState::Fenced);
                    return;
                }
            }
            given_up = Some(producer);
        }
    }

    /// Makes producers until one has the id, however long that takes; `None` if nobody uses the lane any more.
    fn initialised(&mut self) -> Option<Transactional> {
        let mut tries = 0;
        while !self.tell.is_closed() {
            self.steps.begin();
            // One that was made with other secrets is of no use.
            let spare = self.spare.take().filter(|_| !self.settings.access.has_changed());
            self.settings.access.note();
            let properties = self.settings.access.lane(&self.settings.id);
            let made = spare.map_or_else(|| Fresh::make(&properties), Ok);
            let Ok(mut fresh) = made.map_err(|words| self.is_unmade(producer::redacted(&words, &properties)))
            else {
                self.pause(&mut tries);
                continue;
            };
            fresh.connect_first();
            self.doubt = Arc::clone(&fresh.doubt);
            while !self.tell.is_closed() {
                self.steps.begin();
                let Err(error) = fresh.producer.init(self.settings.init_wait) else {
                    self.tell.send_replace(LaneState::Ready);
                    return Some(fresh.producer);
                };
                fresh.producer.poll(Duration::ZERO).iter().for_each(transaction::tell);
                let may_ask_again = error.class == CallClass::Retriable;
                self.tell.send_replace(LaneState::Initialising(Some(error)));
                self.pause(&mut tries);
                if !may_ask_again || self.settings.access.has_changed() {
                    break;
                }
            }
        }
        None
    }

    /// Lets others know that no producer can be made, as while a file is being renewed, and says so now and then.
    fn is_unmade(&mut self, words: String) {
        if let Some(untold) = self.said.one("lane", Instant::now()) {
            tracing::warn!(
                id = self.settings.id,
                untold,
                "a transactional producer could not be made, its lane takes no units, and it is tried again: {words}"
            );
        }
        self.tell.send_replace(LaneState::Broken(words));
    }

    /// Waits before the next attempt, each time longer; not for longer than until the settings change or the lane is given up.
    fn pause(&self, tries: &mut u32) {
        let until = Instant::now() + pause_after(*tries);
        *tries = tries.saturating_add(1);
        while !self.tell.is_closed() && !self.settings.access.has_changed() {
            self.steps.begin();
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            thread::sleep(left.min(Duration::from_millis(INIT_PAUSE_MS)));
        }
    }

    /// Has a spare ready, made and connected in small steps while the lane is idle.
    fn keep_spare(&mut self) {
        if let Some(spare) = &mut self.spare {
            spare.connect_idly();
            spare.producer.poll(Duration::ZERO).iter().for_each(transaction::tell);
            return;
        }
        let (tries, next) = self.spare_tries;
        if Instant::now() < next {
            return;
        }
        let properties = self.settings.access.lane(&self.settings.id);
        match Fresh::make(&properties) {
            Ok(spare) => {
                self.spare = Some(spare);
                self.spare_tries = (0, Instant::now());
            }
            Err(words) => {
                self.spare_tries = (tries.saturating_add(1), Instant::now() + pause_after(tries));
                if let Some(untold) = self.said.one("spare", Instant::now()) {
                    let words = producer::redacted(&words, &properties);
                    tracing::warn!(
                        id = self.settings.id,
                        untold,
                        "no spare transactional producer could be made, the one in use goes on, and it is tried again: {words}"
                    );
                }
            }
        }
    }

    /// Runs transactions for as long as the producer is good; `Keep` where nobody uses the lane any more.
    fn serve(&mut self, producer: &Transactional, jobs: &mpsc::Receiver<Job>) -> After {
        loop {
            self.steps.end();
            let job = jobs.recv_timeout(Duration::from_millis(IDLE_MS));
            self.steps.begin();
            let job = match job {
                Ok(job) => job,
                Err(RecvTimeoutError::Disconnected) => return After::Keep,
                Err(RecvTimeoutError::Timeout) => {
                    producer.poll(Duration::ZERO).iter().for_each(transaction::tell);
                    if self.is_in_doubt() || self.settings.access.has_changed() {
                        return After::Replace;
                    }
                    self.keep_spare();
                    continue;
                }
            };
            let (ended, after) = self.transact(producer, &job.work);
            let is_outdated = self.is_in_doubt() || self.settings.access.has_changed();
            let after = if after == After::Keep && is_outdated { After::Replace } else { after };
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
                self.steps.begin();
                let (culprit, error) = cause(producer, culprit, error);
                // It is not about what was refused with it.
                let culprit = if classify::is_of_producer(error.code) { Culprit::Nobody } else { culprit };
                let abort = open.abort();
                let (ended, after) = self.not_committed(culprit, error, begun);
                // After a failed delivery the next transaction would arrive out of sequence.
                let is_clean =
                    abort.is_ok() && matches!(culprit, Culprit::Offsets(_)) && after == After::Keep;
                return (ended, if is_clean || after == After::Stop { after } else { After::Replace });
            }
        };
        self.steps.begin();
        let Err(failed) = open.commit() else { return (Ended::Committed(delivered), After::Keep) };
        let (error, open) = *failed;
        match error.class {
            CallClass::Abortable if !self.is_in_doubt() => {
                self.steps.begin();
                let is_of_producer = classify::is_of_producer(error.code);
                match open.abort() {
                    // The coordinator refused to commit: nothing is, whatever it says to the abort.
                    Ok(()) | Err(_) if is_of_producer => {
                        (Ended::Aborted(Culprit::Nobody, error), After::Replace)
                    }
                    Ok(()) => (Ended::Aborted(Culprit::Nobody, error), After::Keep),
                    Err(_) => (Ended::Unknown(error), After::Replace),
                }
            }
            // The commit may have been taken before; whoever has the id now has ended what was open.
            CallClass::Fatal if self.is_fenced(&error, begun) => (Ended::Unknown(error), After::Stop),
            CallClass::Fatal | CallClass::Other | CallClass::Abortable | CallClass::Retriable => {
                (Ended::Unknown(error), After::Replace)
            }
        }
    }

    /// Says how a transaction ended whose commit was never asked for.
    fn not_committed(&self, culprit: Culprit, error: CallError, begun: Instant) -> (Ended, After) {
        if self.is_fenced(&error, begun) {
            return (Ended::Fenced(error), After::Stop);
        }
        let after = match error.class {
            _ if classify::is_of_producer(error.code) => After::Replace,
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
            self.steps.begin();
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
        self.steps.begin();
        open.delivered(self.settings.step_wait).map_err(|undelivered| {
            if work.records.len() > 1
                && let Some((largest, code)) = largest_refused(work, &undelivered)
            {
                let (_, error) = named(u64::MAX, code);
                return (Culprit::Suspect(largest), error);
            }
            if let Some((culprit, code)) = rejected(work, &undelivered) {
                let (_, error) = named(u64::MAX, code);
                return (culprit, error);
            }
            // The first is the culprit; what failed behind it was purged with it, or came out of sequence.
            let first = undelivered.into_iter().min_by_key(|undelivered| undelivered.place);
            let (place, code) =
                first.map_or((u64::MAX, ErrorCode::UNKNOWN), |first| (first.place, first.code));
            named(place, code)
        })
    }

    fn send_offsets(&self, open: &mut Transaction<'_>, offsets: &GroupOffsets<'_>) -> Result<(), CallError> {
        let by = Instant::now() + self.settings.step_wait;
        loop {
            let left = by.saturating_duration_since(Instant::now());
            match open.offsets(offsets, left) {
                // Retriable, and to be asked again with the same arguments (rdkafka.h).
                Err(error) if error.class == CallClass::Retriable && !left.is_zero() => {
                    thread::sleep(Duration::from_millis(AGAIN_MS));
                }
                other => return other,
            }
        }
    }

    /// Returns whether another producer has the id. A transaction's own time-out looks the same, and is told by its age.
    fn is_fenced(&self, error: &CallError, begun: Instant) -> bool {
        classify::is_fenced(error.code) && begun.elapsed() < self.settings.transaction_timeout
    }
}

/// Returns the pause after so many attempts in a row, a little longer or shorter, so that lanes do not go in step.
fn pause_after(tries: u32) -> Duration {
    let doubled = INIT_PAUSE_MS.saturating_mul(1 << tries.min(10)).min(INIT_PAUSE_MS_MAX);
    Duration::from_millis(doubled * rand::random_range(80..=120) / 100)
}

/// Tells what is known already; the rest is told once nothing of the transaction can happen any more.
fn tell_if_known(job: Job, ended: Ended) -> (Option<Ended>, Job) {
    if matches!(ended, Ended::Unknown(_)) {
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
