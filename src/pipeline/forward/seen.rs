//! Owns what groups have committed as a look at their units sees it: which offsets are asked for, and what came back.
//! Must never take a failed question for "nothing committed".

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use tokio::task::JoinHandle;

use super::{Forwarder, Placed, lanes::Started};
use crate::{
    failure::Failure,
    offsets::{Committed, Group, Input},
    record::Topic,
};

/// The longest that committed offsets are asked for, in milliseconds.
pub(super) const OFFSETS_MS_MAX: u64 = 30_000;

/// A question for a group's committed offsets, under way.
pub(super) type Reading = JoinHandle<Result<Vec<Committed>, Failure>>;

/// A group that was asked, the partitions in their order, and the question.
pub(super) type Question = (String, Vec<(Topic, i32)>, Reading);

/// The partitions of groups that are to be asked for.
#[derive(Debug, Default)]
pub(super) struct Asked(HashMap<String, HashSet<(Topic, i32)>>);

/// What groups have committed.
#[derive(Debug, Default)]
pub(super) struct Seen {
    committed: HashMap<(String, Topic, i32), Committed>,
    failed: HashMap<String, Failure>,
}

impl Asked {
    /// Collects those of all units that are compared, save where `is_asked` says no.
    pub fn of<'a>(
        units: impl IntoIterator<Item = &'a Started>,
        mut is_asked: impl FnMut(&Group, &Input) -> bool,
    ) -> Self {
        let mut asked = Self::default();
        for placed in units.into_iter().map(|unit| &unit.item.placed) {
            let Some(group) = placed.unit.group.as_ref().filter(|_| placed.compared_group().is_some()) else {
                continue;
            };
            for input in placed.unit.inputs.iter().filter(|input| is_asked(group, input)) {
                asked.0.entry(group.id.clone()).or_default().insert((input.topic.clone(), input.partition));
            }
        }
        asked
    }

    /// Asks for them all at the same time, each group for as long as `wait` says.
    pub fn read(self, forwarder: &Forwarder, wait: impl Fn(&str) -> Duration) -> Vec<Question> {
        let ask = |(group, partitions): (String, HashSet<(Topic, i32)>)| {
            let partitions: Vec<_> = partitions.into_iter().collect();
            let wait = wait(&group).min(Duration::from_millis(OFFSETS_MS_MAX));
            let reading = forwarder.read(group.clone(), partitions.clone(), wait);
            (group, partitions, reading)
        };
        self.0.into_iter().map(ask).collect()
    }
}

impl Seen {
    /// Notes the answer for a group's partitions, in their order.
    pub fn note(
        &mut self,
        group: String,
        partitions: Vec<(Topic, i32)>,
        read: Result<Vec<Committed>, Failure>,
    ) {
        match read {
            Ok(read) => {
                for ((topic, partition), committed) in partitions.into_iter().zip(read) {
                    self.committed.insert((group.clone(), topic, partition), committed);
                }
            }
            Err(failure) => drop(self.failed.insert(group, failure)),
        }
    }

    /// Notes what is known without asking.
    pub fn note_known(&mut self, group: &Group, input: &Input, committed: Committed) {
        self.committed.insert((group.id.clone(), input.topic.clone(), input.partition), committed);
    }

    /// Notes what a unit of the same transaction will have committed.
    pub fn goes_on(&mut self, group: &Group, inputs: &[Input]) {
        for input in inputs {
            self.note_known(group, input, Committed::At(input.next));
        }
    }

    /// Returns what a unit's group has committed for its inputs, in their order; none where that is not compared.
    ///
    /// # Errors
    /// Why it is not known.
    pub fn committed_of(&self, placed: &Placed) -> Result<Option<Vec<Committed>>, Failure> {
        let Some(group) = placed.compared_group() else { return Ok(None) };
        let of = |input: &Input| {
            self.committed.get(&(group.to_owned(), input.topic.clone(), input.partition)).copied()
        };
        let all: Option<Vec<_>> = placed.unit.inputs.iter().map(of).collect();
        all.map(Some).ok_or_else(|| self.failed.get(group).cloned().unwrap_or_else(super::lost))
    }
}
