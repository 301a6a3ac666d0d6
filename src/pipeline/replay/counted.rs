//! Owns how many letters a run came across, what became of them, and the first that their topics refused again.
//! Must never grow with the number of letters.

use crate::{
    dead_letter::Letter,
    failure::{Failure, Reason},
    record::Topic,
};

/// How many refused letters are named.
const NAMED_MAX: usize = 20;

/// How many letters there were, and what became of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counted {
    /// Those that were asked for and could be dealt with.
    pub done: u64,
    /// Those that an earlier run dealt with.
    pub before: u64,
    /// Those that were not asked for.
    pub others: u64,
    /// Those that were asked for and lie elsewhere than the settings have the dead letters of their topics.
    pub misplaced: u64,
    /// Those that were asked for and cannot be sent: parts of them are missing.
    pub cut: u64,
    /// Those that were asked for, and whose records may be in their topics already.
    pub may_be_written: u64,
    /// Those that were asked for, and whose topics or partitions are not there.
    pub without_topic: u64,
    /// Those that were asked for, and that their topics refused again.
    pub refused: u64,
    /// The first of those.
    pub first_refused: Vec<Refused>,
    /// Records that are no dead letters.
    pub foreign: u64,
}

/// A letter that its topic refused again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Where it lies among the dead letters.
    pub partition: i32,
    /// Where it lies there.
    pub offset: i64,
    /// The topic that refused it.
    pub topic: Topic,
    /// Why.
    pub reason: Reason,
    /// Kafka's own name of the error.
    pub kafka_error: Option<String>,
}

/// A letter that was come across and asked for.
#[derive(Debug)]
pub struct Seen<'a> {
    /// Where it lies.
    pub partition: i32,
    /// Where it lies there.
    pub offset: i64,
    /// What it says of itself.
    pub letter: &'a Letter,
    /// Whether it lies elsewhere than the settings have the dead letters of its topic.
    pub is_misplaced: bool,
    /// The bytes of its key; none where it has none.
    pub key_bytes: Option<usize>,
    /// The bytes of its value; none where it has none.
    pub value_bytes: Option<usize>,
    /// Whether it was dealt with before.
    pub is_handled: bool,
}

impl Counted {
    /// Notes a letter that its topic refused again.
    pub(super) fn refuse(&mut self, (partition, offset): (i32, i64), topic: Topic, failure: &Failure) {
        self.refused += 1;
        if self.first_refused.len() < NAMED_MAX {
            let (reason, kafka_error) = (failure.reason(), failure.kafkas_name().map(str::to_owned));
            self.first_refused.push(Refused { partition, offset, topic, reason, kafka_error });
        }
    }
}
