//! Owns the metrics of records, which topics have labels in.
//! Must never let their labels grow without bound: topics beyond the cap count as `_other`.

use std::{
    collections::HashMap,
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{counter::Counter, exemplar::HistogramWithExemplars, family::Family},
    registry::Registry,
};

use super::table;
use crate::record::Topic;

/// The bounds of the duration histogram's buckets, in milliseconds.
const DURATION_BUCKETS_MS: [f64; 15] = [
    0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 2_000.0, 5_000.0, 10_000.0, 30_000.0,
];
/// The label of all topics beyond the cap, and of those that Kafka does not know.
const OTHER_TOPICS: &str = "_other";

type Durations = HistogramWithExemplars<TraceLabel>;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct TopicLabel {
    topic: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct SentLabels {
    topic: String,
    status: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct TraceLabel {
    trace_id: TraceId,
}

/// A trace's id, which is rendered only when it is asked for.
#[derive(Clone, Debug, Hash, PartialEq, Eq)]
struct TraceId(u128);

/// The topics' metrics.
pub(super) struct Topics {
    sent: Family<SentLabels, Counter>,
    duration: Family<TopicLabel, Durations, fn() -> Durations>,
    retries: Counter,
    known: Mutex<HashMap<Topic, TopicMetrics>>,
    max: usize,
    other: TopicMetrics,
}

/// The metrics of one topic; cheap to clone.
#[derive(Clone)]
pub struct TopicMetrics {
    success: Counter,
    error: Counter,
    duration: Durations,
    /// Of all topics together.
    retries: Counter,
}

// === impl Topics ===

impl Topics {
    pub(super) fn register(registry: &mut Registry, max: usize) -> Self {
        let sent = Family::default();
        let durations = || Durations::new(DURATION_BUCKETS_MS.into_iter());
        let duration = Family::new_with_constructor(durations as fn() -> Durations);
        let retries = Counter::default();
        table::SENT.register(registry, sent.clone());
        table::SEND_DURATION.register(registry, duration.clone());
        table::RETRIES.register(registry, retries.clone());
        let other = topic_metrics(&sent, &duration, &retries, OTHER_TOPICS);
        Self { sent, duration, retries, known: Mutex::default(), max, other }
    }

    pub(super) fn get(&self, topic: &Topic) -> TopicMetrics {
        let mut known = self.known.lock();
        if let Some(known) = known.get(topic) {
            return known.clone();
        }
        if known.len() >= self.max {
            return self.other.clone();
        }
        let made = topic_metrics(&self.sent, &self.duration, &self.retries, topic.as_str());
        known.insert(topic.clone(), made.clone());
        made
    }

    pub(super) fn other(&self) -> TopicMetrics {
        self.other.clone()
    }
}

// === impl TopicMetrics ===

impl TopicMetrics {
    /// Counts a record that is in Kafka.
    pub fn success(&self) {
        self.success.inc();
    }

    /// Counts a record that is not.
    pub fn error(&self) {
        self.error.inc();
    }

    /// Counts a record that is handed over again.
    pub fn retry(&self) {
        self.retries.inc();
    }

    /// Observes how long a call took; `trace_id` is that of the record's trace where it is sampled, which its bucket then shows.
    pub fn duration(&self, took: Duration, trace_id: Option<u128>) {
        let exemplar = trace_id.map(|id| TraceLabel { trace_id: TraceId(id) });
        // The encoder panics at times before the epoch.
        let at = exemplar.as_ref().map(|_| SystemTime::now()).filter(|now| *now >= UNIX_EPOCH);
        self.duration.observe(took.as_secs_f64() * 1_000.0, exemplar, at);
    }
}

impl fmt::Debug for TopicMetrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("TopicMetrics").finish_non_exhaustive()
    }
}

impl EncodeLabelValue for TraceId {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        fmt::Write::write_fmt(encoder, format_args!("{:032x}", self.0))
    }
}

fn topic_metrics(
    sent: &Family<SentLabels, Counter>,
    duration: &Family<TopicLabel, Durations, fn() -> Durations>,
    retries: &Counter,
    topic: &str,
) -> TopicMetrics {
    let counter = |status| sent.get_or_create_owned(&SentLabels { topic: topic.to_owned(), status });
    TopicMetrics {
        success: counter("success"),
        error: counter("error"),
        duration: duration.get_or_create_owned(&TopicLabel { topic: topic.to_owned() }),
        retries: retries.clone(),
    }
}
