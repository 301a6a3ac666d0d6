//! Owns the bound on what the sidecar holds: records and bytes from their acceptance to their outcome.
//! Must never make anybody wait: what does not fit is refused at once.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use crate::failure::{Failure, Reason};

/// What one record costs beside its own bytes, in bytes: our entry, librdkafka's message, its headers.
const RECORD_OVERHEAD_BYTES: usize = 512;

/// The bound, and how much of it is taken.
#[derive(Debug)]
pub struct Budget {
    records_max: usize,
    bytes_max: usize,
    records: AtomicUsize,
    bytes: AtomicUsize,
}

/// One record's part of the budget, given back when dropped.
#[derive(Debug)]
pub struct Share {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Budget {
    /// Makes a budget of so many records and bytes.
    #[must_use]
    pub fn new(records_max: usize, bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { records_max, bytes_max, records: AtomicUsize::new(0), bytes: AtomicUsize::new(0) })
    }

    /// Takes the part of one record.
    ///
    /// # Errors
    /// `QueueFull` where the records or the bytes do not fit; nothing is taken then.
    pub fn take(self: &Arc<Self>, record_bytes: usize) -> Result<Share, Failure> {
        let bytes = record_bytes.saturating_add(RECORD_OVERHEAD_BYTES);
        let records_before = self.records.fetch_add(1, Ordering::AcqRel);
        let bytes_before = self.bytes.fetch_add(bytes, Ordering::AcqRel);
        // Made first, so that a refusal gives both back when it drops.
        let share = Share { budget: Arc::clone(self), bytes };
        if records_before >= self.records_max {
            return Err(full(format!("{} records are waiting already", self.records_max)));
        }
        // One record always fits an empty budget, however large the overhead makes it.
        if records_before > 0 && bytes_before.saturating_add(bytes) > self.bytes_max {
            return Err(full(format!("records of {} bytes are waiting already", self.bytes_max)));
        }
        Ok(share)
    }

    /// Returns how many records are accepted and without outcome.
    #[must_use]
    pub fn records(&self) -> usize {
        self.records.load(Ordering::Acquire)
    }

    /// Returns their bytes, overhead included.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Acquire)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.records.fetch_sub(1, Ordering::AcqRel);
        self.budget.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

fn full(what: String) -> Failure {
    Failure::new(Reason::QueueFull, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_and_takes_nothing() {
        let budget = Budget::new(2, 10_000);
        let first = budget.take(100).unwrap();
        let _second = budget.take(100).unwrap();
        assert_eq!(budget.take(1).unwrap_err().reason(), Reason::QueueFull);
        assert_eq!(budget.records(), 2);
        drop(first);
        assert_eq!(budget.take(20_000).unwrap_err().reason(), Reason::QueueFull);
        assert_eq!((budget.records(), budget.bytes()), (1, 612));
        assert!(budget.take(1).is_ok());
    }

    #[test]
    fn one_record_always_fits_an_empty_budget() {
        let budget = Budget::new(10, 1_000);
        assert!(budget.take(5_000).is_ok());
        assert_eq!((budget.records(), budget.bytes()), (0, 0));
    }
}
