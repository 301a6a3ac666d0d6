//! Owns the table of all metrics: each name is written here once, with what it says and what to do about it.
//! Must never hold a value: the handles do.

mod entries;
pub mod markdown;

use prometheus_client::{
    metrics::MetricType,
    registry::{Metric, Registry, Unit},
};

pub(super) use self::entries::*;

/// What a metric is, as `OpenMetrics` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only grows, until the process starts anew.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Observations in buckets, with their sum and count.
    Histogram,
    /// Always 1; its labels are what it says.
    Info,
}

/// One metric.
#[derive(Debug, Clone, Copy)]
pub struct Definition {
    /// The family's name, without the suffix that its kind adds to a sample.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// What its values are in; empty where they are plain numbers. Said to scrapers where the name ends in it.
    pub unit: &'static str,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it says, in a sentence without its stop.
    pub help: &'static str,
    /// What to do with it.
    pub advice: &'static str,
}

/// The chapters of the documentation, each with its metrics; together they are all there are.
pub const SECTIONS: &[(&str, &[Definition])] = &[
    (
        "Records",
        &[
            SENT,
            SEND_DURATION,
            FAILURES,
            DUPLICATES,
            DEAD_LETTERS,
            OUTSTANDING_RECORDS,
            OUTSTANDING_BYTES,
            WAITING_RECORDS,
            WAITING_OLDEST_AGE,
            RETRIES,
        ],
    ),
    (
        "Kafka",
        &[
            CONNECTED,
            QUEUE_RECORDS,
            QUEUE_BYTES,
            ROUND_TRIP,
            REQUEST_RETRIES,
            PRODUCER_REPLACED,
            SECRETS_REFUSED,
        ],
    ),
    ("Transactions", &[TRANSACTIONS, TRANSACTION_UNITS, LANES_READY, LANES_REPLACED, LANES_ABANDONED]),
    ("gRPC", &[CALL_DURATION]),
    ("Connections", &[CONNECTIONS, CONNECTIONS_CLOSED, CONNECTIONS_REFUSED]),
    (
        "Process",
        &[
            PROCESS_CPU,
            PROCESS_RESIDENT_MEMORY,
            PROCESS_VIRTUAL_MEMORY,
            PROCESS_OPEN_FDS,
            PROCESS_MAX_FDS,
            PROCESS_THREADS,
            PROCESS_START_TIME,
            LOG_LINES_LOST,
            TASK_PANICS,
            BUILD,
        ],
    ),
];

impl Kind {
    /// Returns its name in documentation and exposition.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Info => "info",
        }
    }

    pub(super) const fn metric_type(self) -> MetricType {
        match self {
            Self::Counter => MetricType::Counter,
            Self::Gauge => MetricType::Gauge,
            Self::Histogram => MetricType::Histogram,
            Self::Info => MetricType::Info,
        }
    }
}

impl Definition {
    /// Returns the name under which its samples are found; a histogram's have `_bucket`, `_sum` and `_count` behind it.
    #[must_use]
    pub fn sample_name(&self) -> String {
        let suffix = match self.kind {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::Histogram => "",
        };
        format!("{}{suffix}", self.name)
    }

    /// Registers its handle.
    pub(super) fn register(&self, registry: &mut Registry, handle: impl Metric) {
        match self.parts() {
            (name, Some(unit)) => registry.register_with_unit(name, self.help, unit, handle),
            (name, None) => registry.register(name, self.help, handle),
        }
    }

    /// Returns the name as a registry takes it, which adds the unit by itself.
    pub(super) fn parts(&self) -> (&'static str, Option<Unit>) {
        let stem = self.name.strip_suffix(self.unit).and_then(|name| name.strip_suffix('_'));
        match stem {
            Some(stem) if !self.unit.is_empty() => (stem, Some(Unit::Other(self.unit.to_owned()))),
            Some(_) | None => (self.name, None),
        }
    }
}

/// Returns all metrics, in the order of their documentation.
pub fn all() -> impl Iterator<Item = &'static Definition> {
    SECTIONS.iter().flat_map(|(_, metrics)| metrics.iter())
}
