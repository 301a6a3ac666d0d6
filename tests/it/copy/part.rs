//! Owns what a consumer knows of one partition that it is assigned: where its group is, what was read, which unit is under way.

use std::{collections::VecDeque, time::Instant};

/// One assigned partition.
#[derive(Default)]
pub struct Part {
    /// What the group has committed; `None` where it has to be asked.
    pub committed: Option<i64>,
    /// Whether the consumer has to go back to what is committed, once that is known.
    pub goes_back: bool,
    /// Whether fetching is paused, because a unit is sent again.
    pub is_paused: bool,
    /// What was read and is in no unit yet: offset and value.
    pub read: VecDeque<(i64, String)>,
    pub unit: Option<Unit>,
}

/// A unit of work of one partition, unchanged however often it is sent.
pub struct Unit {
    /// What answers are recognised by.
    pub serial: u64,
    pub expected: i64,
    pub next: i64,
    pub values: Vec<String>,
    pub state: UnitState,
}

pub enum UnitState {
    Due(Option<Instant>),
    Called,
}

impl Part {
    /// Takes a record in.
    pub fn push(&mut self, offset: i64, value: String) {
        // Until the consumer has gone back, what it reads is from where it was.
        if !self.goes_back {
            self.read.push_back((offset, value));
        }
    }

    /// Notes what the group has committed. Returns how many records had been read that were committed already.
    pub fn found(&mut self, committed: i64) -> usize {
        self.committed = Some(committed);
        let before = self.read.len();
        self.read.retain(|(offset, _)| *offset >= committed);
        before - self.read.len()
    }

    /// Drops unit and records; the consumer has to go back to what its group has committed.
    pub fn give_up(&mut self) {
        self.committed = None;
        self.goes_back = true;
        self.unit = None;
        self.read.clear();
    }

    /// The unit was committed: the next one goes on from there.
    pub fn advance(&mut self) {
        if let Some(unit) = self.unit.take() {
            self.committed = Some(unit.next);
        }
    }

    /// Makes a unit of at most `records` records, if there is none under way and anything was read.
    pub fn make_unit(&mut self, serial: u64, records: usize) {
        let (Some(expected), None, false) = (self.committed, &self.unit, self.goes_back) else { return };
        let taken = self.read.drain(..records.min(self.read.len()));
        let (offsets, values): (Vec<_>, Vec<_>) = taken.unzip();
        let Some(last) = offsets.last() else { return };
        self.unit = Some(Unit { serial, expected, next: last + 1, values, state: UnitState::Due(None) });
    }

    /// The unit, if it is to be sent now.
    pub fn due(&mut self) -> Option<&mut Unit> {
        self.unit.as_mut().filter(|unit| match unit.state {
            UnitState::Due(at) => at.is_none_or(|at| at <= Instant::now()),
            UnitState::Called => false,
        })
    }
}
