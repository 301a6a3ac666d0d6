//! Committed offsets: they never go back, and nothing unprocessed lies before them (I8).

use std::collections::BTreeMap;

use super::{Kind, Place, Violation};

/// A group's committed offset of a partition, as it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The topic that is read.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// The next offset to read.
    pub next: i64,
}

/// A record that a group had to process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// Where it lies.
    pub place: Place,
    /// How often its output is found.
    pub outputs: usize,
}

pub(super) fn violations(committed: &[Committed], inputs: &[Input]) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut last: BTreeMap<(&str, i32), i64> = BTreeMap::new();
    for Committed { topic, partition, next } in committed {
        let before = last.insert((topic, *partition), *next).unwrap_or(0);
        if *next < before {
            let what = format!("{topic}/{partition}: committed {before}, and then {next}");
            violations.push(Violation::new(Kind::Offsets, what));
        }
    }
    for Input { place, outputs } in inputs {
        let next = last.get(&(place.topic.as_str(), place.partition)).copied().unwrap_or(0);
        let is_read = place.offset < next;
        if *outputs != usize::from(is_read) {
            let what = format!("{place:?} has {outputs} outputs, and the group has committed {next}");
            violations.push(Violation::new(Kind::Offsets, what));
        }
    }
    violations
}
