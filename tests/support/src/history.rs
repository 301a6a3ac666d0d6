//! A run as its callers, Kafka and the operator saw it, and which promises it breaks.
//!
//! Owns the model of a run, which is plain data, and the judgement over it, which is pure: it starts nothing, asks nobody and
//! has no clock. Times are milliseconds since the run's begin.
//!
//! Each promise has a file of its own and a [`Kind`]; a broken one is told with the records that show it, and never twice
//! under two kinds: what is found too often is not also told as out of order.

mod bounds;
mod letters;
mod offsets;
mod order;
mod progress;
mod secrets;
mod stop;
#[cfg(test)]
mod tests;
mod written;

use std::fmt;

pub use self::{
    bounds::{Bounds, Sample},
    letters::{Letter, ToldLetter},
    offsets::{Committed, Input},
    progress::Healing,
    secrets::Output,
    stop::{Life, LifeEnd},
};

/// How many characters of a value are shown.
const SHOWN: usize = 40;

/// A place in Kafka.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
}

/// One try of a record: a call, or its part of a frame.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// What was sent. All tries of a record have the same value, and no other record has it.
    pub value: String,
    /// Where it was to go.
    pub topic: String,
    /// Its key.
    pub key: Option<String>,
    /// The caller's id of the record.
    pub message_id: Option<String>,
    /// The caller or stream that brought it. Its tries of one life of the sidecar are in order by `position`.
    pub source: usize,
    /// Its place among those that the source brought.
    pub position: u64,
    /// Which of [`History::lives`] it was brought to.
    pub life: usize,
    /// When it was brought.
    pub begun_ms: u64,
    /// When its answer, or the end of its connection, was there.
    pub ended_ms: u64,
    /// What the caller was told.
    pub outcome: Outcome,
    /// Whether it is its own fault that it fails: its topic is unknown, or too small for it.
    pub is_doomed: bool,
}

/// What a caller was told of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is in Kafka.
    Ok {
        /// The partition.
        partition: i32,
        /// The offset; none where the broker did not say it.
        offset: Option<i64>,
        /// Whether an earlier record of the same id was meant.
        duplicate: bool,
    },
    /// It is not in Kafka and never will be.
    No(Refusal),
    /// It may be in Kafka.
    Maybe(Refusal),
}

/// Why a record failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The sidecar's reason; empty where the answer is not the sidecar's own, as where the connection was lost.
    pub reason: String,
    /// What was told of its dead letter.
    pub letter: ToldLetter,
}

/// A record that a consumer finds.
#[derive(Clone, Debug)]
pub struct Found {
    /// Where.
    pub place: Place,
    /// Its value.
    pub value: String,
    /// Its key.
    pub key: Option<String>,
}

/// A topic that was deleted with all that it held, and made again.
#[derive(Clone, Debug)]
pub struct Deletion {
    /// Its name.
    pub topic: String,
    /// When the new one was there. What was acknowledged by a try that began before may have gone with the old one.
    pub made_again_ms: u64,
}

/// A run.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Every try of every record.
    pub attempts: Vec<Attempt>,
    /// What the topics hold at the end.
    pub found: Vec<Found>,
    /// What the topics of dead letters hold at the end.
    pub letters: Vec<Letter>,
    /// The reasons of failures that have a dead letter, or a word of why not.
    pub buried: Vec<String>,
    /// The topics that were deleted meanwhile.
    pub deletions: Vec<Deletion>,
    /// How long a message id is remembered, from the end of its record.
    pub message_id_window_ms: u64,
    /// The sidecar's processes, one after the other.
    pub lives: Vec<Life>,
    /// The cures of what was broken.
    pub healings: Vec<Healing>,
    /// The process, looked at again and again.
    pub samples: Vec<Sample>,
    /// What the process may take.
    pub bounds: Bounds,
    /// What came out of the process.
    pub outputs: Vec<Output>,
    /// What must be in none of that.
    pub secrets: Vec<String>,
    /// A group's committed offsets, in the order in which they were seen.
    pub committed: Vec<Committed>,
    /// What that group read.
    pub inputs: Vec<Input>,
}

/// The promises, by their numbers in the list of invariants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// I1: what was acknowledged is there, where the answer says.
    LostAck,
    /// I2: what is there was sent so, and nobody was told that it is not.
    Phantom,
    /// I3: what may be there is there once at most, unless its caller sent it again without an id.
    DishonestUnknown,
    /// I4: one call, or one id in one life of the sidecar, is there once at most.
    Duplicate,
    /// I5: a source's records lie in each partition as they were brought.
    Disorder,
    /// I8: committed offsets never go back, and pass over nothing unprocessed.
    Offsets,
    /// I10: memory, threads and file descriptors have a bound.
    Unbounded,
    /// I11: soon after the cure all goes well, without a restart, and readiness says so.
    NoProgress,
    /// I12: no secret comes out.
    SecretTold,
    /// I14: a dead letter is where the answer says, with the record and the reason, and belongs to one that failed.
    DeadLetter,
    /// I15: a stop in time, and an answer to everybody.
    Stop,
}

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub kind: Kind,
    /// What shows it.
    pub what: String,
}

impl Violation {
    fn new(kind: Kind, what: String) -> Self {
        Self { kind, what }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}: {}", self.kind, self.what)
    }
}

impl Outcome {
    /// Whether the record may have been written by this try.
    pub fn may_have_written(&self) -> bool {
        !matches!(self, Self::No(_) | Self::Ok { duplicate: true, .. })
    }

    /// Whether it was acknowledged.
    pub fn is_ok(&self) -> bool {
        matches!(self, Self::Ok { .. })
    }

    /// Why it failed; none where it did not.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Ok { .. } => None,
            Self::No(refusal) | Self::Maybe(refusal) => Some(refusal),
        }
    }
}

impl History {
    /// Every broken promise, by kind.
    pub fn violations(&self) -> Vec<Violation> {
        let mut violations = written::violations(self);
        violations.extend(order::violations(self));
        violations.extend(offsets::violations(&self.committed, &self.inputs));
        violations.extend(bounds::violations(&self.bounds, &self.samples));
        violations.extend(progress::violations(self));
        violations.extend(secrets::violations(&self.secrets, &self.outputs));
        violations.extend(letters::violations(self));
        violations.extend(stop::violations(self));
        violations
    }

    /// For each cure, how long after it the last record was brought that failed.
    pub fn recoveries_ms(&self) -> Vec<u64> {
        self.healings.iter().map(|healing| progress::recovery_ms(self, healing)).collect()
    }
}

/// The begin of a value, which names the record.
fn shown(value: &str) -> &str {
    value.char_indices().nth(SHOWN).map_or(value, |(end, _)| &value[..end])
}
