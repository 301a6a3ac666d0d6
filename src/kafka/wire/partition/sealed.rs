//! The records of a partition as they wait, and as they are sealed into a batch.
//! Must never change the records of a sealed batch but by taking it apart.

use std::time::Instant;

use bytes::Bytes;

use super::{Cause, End, Ended, Place};
use crate::kafka::code::ErrorCode;

/// A record that waits.
#[derive(Debug)]
pub(super) struct Queued<T> {
    pub place: Place,
    pub bytes: usize,
    /// The most records that its next batch may have: less than the one that was refused with it.
    pub batch_max: usize,
    pub attempts: u32,
    pub last_error: Option<ErrorCode>,
    /// When it is given up.
    pub by: Instant,
    pub item: T,
}

/// A batch whose bytes and sequence no longer change.
#[derive(Debug)]
pub(super) struct Sealed<T> {
    pub number: u64,
    pub bytes: Bytes,
    pub base_sequence: i32,
    pub records: Vec<Queued<T>>,
    pub is_on_wire: bool,
    pub is_in_doubt: bool,
    pub last_error: Option<ErrorCode>,
    /// Why its content cannot stay as it is.
    pub refusal: Option<Refusal>,
}

#[derive(Debug)]
pub(super) enum Refusal {
    TooLarge,
    /// The places of those at fault, as far as they were named.
    Records(Vec<usize>),
    ForGood,
}

// === impl Sealed ===

impl<T> Sealed<T> {
    pub(super) fn go(&mut self) {
        self.is_on_wire = true;
        for queued in &mut self.records {
            queued.attempts = queued.attempts.saturating_add(1);
        }
    }

    /// Returns the places of records that a response names, as far as they are there.
    pub(super) fn named(&self, places: &[i32]) -> Vec<usize> {
        let places = places.iter().filter_map(|place| usize::try_from(*place).ok());
        let mut named: Vec<_> = places.filter(|place| *place < self.records.len()).collect();
        named.sort_unstable();
        named.dedup();
        named
    }

    /// Splits a batch that was refused for its content: those at fault end, the others go back.
    pub(super) fn refused(self, refusal: &Refusal, back: &mut Vec<Queued<T>>, ended: &mut Vec<Ended<T>>) {
        let count = self.records.len();
        match refusal {
            Refusal::Records(named) if !named.is_empty() => {
                let end = End::NotWritten(self.cause());
                for (place, queued) in self.into_records().enumerate() {
                    if named.binary_search(&place).is_ok() {
                        ended.push(queued.end(end));
                    } else {
                        back.push(queued);
                    }
                }
            }
            // One of several is too large, or at fault, and which is not said.
            Refusal::TooLarge | Refusal::Records(_) if count > 1 => {
                back.extend(self.into_records().map(|queued| Queued { batch_max: count / 2, ..queued }));
            }
            Refusal::TooLarge | Refusal::Records(_) | Refusal::ForGood => {
                ended.extend(self.end_all(End::NotWritten));
            }
        }
    }

    pub(super) fn end_all(self, end: impl Fn(Cause) -> End) -> impl Iterator<Item = Ended<T>> {
        let end = end(self.cause());
        self.records.into_iter().map(move |queued| queued.end(end))
    }

    pub(super) fn cause(&self) -> Cause {
        self.last_error.map_or(Cause::TimedOut(None), Cause::Code)
    }

    pub(super) fn into_records(self) -> impl Iterator<Item = Queued<T>> {
        let last_error = self.last_error;
        self.records
            .into_iter()
            .map(move |queued| Queued { last_error: last_error.or(queued.last_error), ..queued })
    }

    /// Returns whether the time of all its records is over.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        !self.is_on_wire && self.last_by().is_none_or(|by| by <= now)
    }

    pub(super) fn last_by(&self) -> Option<Instant> {
        self.records.iter().map(|queued| queued.by).max()
    }
}

// === impl Queued ===

impl<T> Queued<T> {
    pub(super) fn end(self, end: End) -> Ended<T> {
        Ended { item: self.item, attempts: self.attempts, end }
    }
}
