//! Owns one transaction as a value: begun, given offsets and records, then committed or aborted, once.
//! Must never be forgotten while it is open: its producer is then of no more use, and says so.
//!
//! Offsets go first: the group's coordinator fences a stale consumer before anything is written, and a lone caller is
//! answered sooner than in any other order (facts in `docs/decisions/0009-transactions.md`).

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use super::{code::ErrorCode, context::Delivered, ffi::Transactional};
use crate::{
    offsets::Group,
    record::{Record, Topic},
};

/// The pause before a commit is asked for again.
const COMMIT_AGAIN_MS: u64 = 10;
/// How long one look at a producer's queue lasts at most, in milliseconds.
const POLL_MS: u64 = 50;

/// Syslog's level of what is critical; smaller is worse.
const LEVEL_CRITICAL: i32 = 2;

/// What librdkafka asks for after a failed call (`rd_kafka_error_is_fatal` and its neighbours, rdkafka.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallClass {
    /// The producer cannot go on.
    Fatal,
    /// The transaction has to be aborted.
    Abortable,
    /// The same call may be made again.
    Retriable,
    /// None of these, which is to be treated as fatal.
    Other,
}

/// A call of the transactional producer failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {sentence}")]
pub struct CallError {
    /// librdkafka's or Kafka's code.
    pub code: ErrorCode,
    /// What librdkafka asks for.
    pub class: CallClass,
    /// librdkafka's own words; they name ids, topics and brokers, never contents.
    pub sentence: String,
}

/// An offset to commit.
#[derive(Debug, Clone, Copy)]
pub struct OffsetToCommit<'a> {
    /// The topic that was read.
    pub topic: &'a Topic,
    /// The partition that was read.
    pub partition: i32,
    /// The offset of the next record to read.
    pub next: i64,
    /// The text beside it; holds no NUL.
    pub metadata: &'a str,
}

/// Which offsets of a group a transaction commits, and which consumer does it.
#[derive(Debug)]
pub struct GroupOffsets<'a> {
    /// The group, with the consumer that commits.
    pub group: &'a Group,
    /// Each partition once.
    pub offsets: Vec<OffsetToCommit<'a>>,
}

/// What became of a record, under the number that it was sent with.
#[derive(Debug)]
pub struct Report {
    /// The number.
    pub number: u64,
    /// Where it lies, or why it was not delivered.
    pub outcome: Result<Delivered, ErrorCode>,
}

/// What came off a producer's queue.
#[derive(Debug)]
pub enum Polled {
    /// A delivery report.
    Report(Report),
    /// A client-wide error and librdkafka's sentence for it.
    Error(ErrorCode, String),
    /// A log line: syslog's level, facility, text.
    Log(i32, String, String),
}

/// A record that ended its transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undelivered {
    /// Its place in the order of sending.
    pub place: u64,
    /// Why.
    pub code: ErrorCode,
}

/// An open transaction.
#[must_use = "an open transaction has to be committed or aborted"]
pub struct Transaction<'a> {
    producer: &'a Transactional,
    /// The number of its first record: reports of an earlier transaction may still come, and are told apart by theirs.
    first: u64,
    sent: u64,
    reports: HashMap<u64, Delivered>,
    undelivered: Vec<Undelivered>,
}

impl<'a> Transaction<'a> {
    /// Begins a transaction on an initialised producer; `serial` is another for each transaction of it.
    ///
    /// # Errors
    /// Where the producer is in no state for it.
    pub fn begin(producer: &'a Transactional, serial: u32) -> Result<Self, CallError> {
        producer.begin()?;
        let first = u64::from(serial) << u32::BITS;
        Ok(Self { producer, first, sent: 0, reports: HashMap::new(), undelivered: Vec::new() })
    }

    /// Adds a group's offsets.
    ///
    /// # Errors
    /// Why not; the transaction has to be aborted then. Later calls repeat the first error: blame the first alone.
    pub fn offsets(&mut self, offsets: &GroupOffsets<'_>, wait: Duration) -> Result<(), CallError> {
        self.producer.send_offsets(offsets, wait)
    }

    /// Sends a record.
    ///
    /// # Errors
    /// Why librdkafka does not take it.
    pub fn send(&mut self, record: &Record, partition: i32) -> Result<(), Undelivered> {
        let place = self.sent;
        let taken = self.producer.produce(record, partition, self.first + place);
        taken.map_err(|code| Undelivered { place, code })?;
        self.sent += 1;
        Ok(())
    }

    /// Waits for the reports of all records that were sent; returns where they lie, in the order of sending.
    ///
    /// # Errors
    /// Those that were not delivered, or where time ran out, with the code `_TIMED_OUT`; abort then.
    pub fn delivered(&mut self, wait: Duration) -> Result<Vec<Delivered>, Vec<Undelivered>> {
        let by = Instant::now() + wait;
        while self.open() > 0 && Instant::now() < by {
            for polled in self.producer.poll(Duration::from_millis(POLL_MS)) {
                match polled {
                    Polled::Report(report) => self.note(report),
                    other @ (Polled::Error(..) | Polled::Log(..)) => tell(&other),
                }
            }
        }
        if self.open() > 0 {
            let missing = (0..self.sent).find(|place| !self.reports.contains_key(place));
            let code = ErrorCode::LOCAL_TIMED_OUT;
            self.undelivered.extend(missing.map(|place| Undelivered { place, code }));
        }
        if !self.undelivered.is_empty() {
            return Err(std::mem::take(&mut self.undelivered));
        }
        Ok((0..self.sent).filter_map(|place| self.reports.get(&place).copied()).collect())
    }

    fn note(&mut self, report: Report) {
        let Some(place) = report.number.checked_sub(self.first).filter(|place| *place < self.sent) else {
            return;
        };
        match report.outcome {
            Ok(delivered) => drop(self.reports.insert(place, delivered)),
            Err(code) => self.undelivered.push(Undelivered { place, code }),
        }
    }

    /// Commits it, however long that takes; asks again where librdkafka says that it may.
    ///
    /// # Errors
    /// Why not. A fatal error may come after the broker has committed: only the committed offsets tell.
    pub fn commit(self) -> Result<(), Box<(CallError, Self)>> {
        loop {
            match self.producer.commit() {
                Ok(()) => return Ok(()),
                Err(error) if error.class == CallClass::Retriable => {
                    std::thread::sleep(Duration::from_millis(COMMIT_AGAIN_MS));
                }
                Err(error) => return Err(Box::new((error, self))),
            }
        }
    }

    /// Aborts it, however long that takes; what was sent is purged.
    ///
    /// # Errors
    /// Why not; the producer has to be replaced then, which ends the transaction.
    pub fn abort(self) -> Result<(), CallError> {
        self.producer.abort()
    }

    fn open(&self) -> u64 {
        let told = self.reports.len() + self.undelivered.len();
        self.sent.saturating_sub(u64::try_from(told).unwrap_or(u64::MAX))
    }
}

/// Logs what is no report.
pub(super) fn tell(polled: &Polled) {
    match polled {
        Polled::Report(_) => {}
        Polled::Error(code, sentence) => tracing::debug!(%code, "{sentence}"),
        // The plain producer tells of lost connections; each lane would tell the same again.
        Polled::Log(level, facility, line) if *level <= LEVEL_CRITICAL => {
            tracing::warn!(target: "librdkafka", %facility, "{line}");
        }
        Polled::Log(_, facility, line) => tracing::debug!(target: "librdkafka", %facility, "{line}"),
    }
}
