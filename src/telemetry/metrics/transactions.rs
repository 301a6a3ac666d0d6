//! Owns the metrics of transactions and of the producers that run them.
//! Must never have a label that a caller chooses.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use super::table;

/// The bounds of the buckets of units in a transaction.
const UNIT_BUCKETS: [f64; 10] = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0];

/// How a transaction ended, as it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionEnd {
    /// It is committed.
    Committed,
    /// It is not, and never will be.
    Aborted,
    /// Another producer has the lane's id.
    Fenced,
    /// Its commit was not answered, or its lane was given up; the committed offsets tell.
    Unknown,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct EndLabel {
    outcome: &'static str,
}

/// The metrics of transactions.
#[derive(Debug)]
pub struct TransactionMetrics {
    ends: Family<EndLabel, Counter>,
    units: Histogram,
    lanes_ready: Gauge,
    replaced: Counter,
    abandoned: Counter,
}

impl TransactionMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            ends: Family::default(),
            units: Histogram::new(UNIT_BUCKETS),
            lanes_ready: Gauge::default(),
            replaced: Counter::default(),
            abandoned: Counter::default(),
        };
        table::TRANSACTIONS.register(registry, metrics.ends.clone());
        table::TRANSACTION_UNITS.register(registry, metrics.units.clone());
        table::LANES_READY.register(registry, metrics.lanes_ready.clone());
        table::LANES_REPLACED.register(registry, metrics.replaced.clone());
        table::LANES_ABANDONED.register(registry, metrics.abandoned.clone());
        metrics
    }

    /// Counts a transaction that ended, and its units.
    pub fn ended(&self, end: TransactionEnd, units: usize) {
        let outcome = match end {
            TransactionEnd::Committed => "committed",
            TransactionEnd::Aborted => "aborted",
            TransactionEnd::Fenced => "fenced",
            TransactionEnd::Unknown => "unknown",
        };
        self.ends.get_or_create_owned(&EndLabel { outcome }).inc();
        self.units.observe(f64::from(u32::try_from(units).unwrap_or(u32::MAX)));
    }

    /// Sets how many lanes take a transaction.
    pub fn lanes_ready(&self, count: usize) {
        self.lanes_ready.set(super::gauge_value(count));
    }

    /// Counts a producer that was given up for a new one under the same id.
    pub fn replaced(&self) {
        self.replaced.inc();
    }

    /// Counts a lane whose thread was left behind.
    pub fn abandoned(&self) {
        self.abandoned.inc();
    }
}
