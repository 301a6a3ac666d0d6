//! Owns every metric, once: name, help, labels; and typed handles to them.
//! Must never let a label grow without bound: topics beyond the cap count as `_other`.

mod client;
mod transactions;

pub use self::{
    client::ClientMetrics,
    transactions::{TransactionEnd, TransactionMetrics},
};

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::Registry,
};

use crate::{failure::Reason, record::Topic};

/// The bounds of the duration histogram's buckets, in milliseconds.
const DURATION_BUCKETS_MS: [f64; 15] = [
    0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 2_000.0, 5_000.0, 10_000.0, 30_000.0,
];
/// The label of all topics beyond the cap, and of those that Kafka does not know.
const OTHER_TOPICS: &str = "_other";

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
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct LetterLabel {
    outcome: &'static str,
}

/// The metrics of the process.
pub struct Metrics {
    registry: Registry,
    sent: Family<SentLabels, Counter>,
    duration: Family<TopicLabel, Histogram, fn() -> Histogram>,
    failures: Family<ReasonLabel, Counter>,
    duplicates: Counter,
    dead_letters: Family<LetterLabel, Counter>,
    outstanding_records: Gauge,
    outstanding_bytes: Gauge,
    transactions: TransactionMetrics,
    client: ClientMetrics,
    ends: Arc<Ends>,
    topics: Mutex<HashMap<Topic, TopicMetrics>>,
    topics_max: usize,
    other: TopicMetrics,
}

/// The metrics of one topic; cheap to clone.
#[derive(Clone)]
pub struct TopicMetrics {
    success: Counter,
    error: Counter,
    duration: Histogram,
    ends: Arc<Ends>,
}

/// How the accepted records of all topics ended.
#[derive(Debug, Default)]
struct Ends {
    delivered: AtomicU64,
    undelivered: AtomicU64,
}

// === impl Metrics ===

impl Metrics {
    /// Makes the metrics; at most so many topics get labels of their own.
    #[must_use]
    pub fn new(topics_max: usize) -> Arc<Self> {
        let mut registry = Registry::default();
        let sent = Family::default();
        let duration =
            Family::new_with_constructor((|| Histogram::new(DURATION_BUCKETS_MS)) as fn() -> Histogram);
        let ends = Arc::default();
        let other = topic_metrics(&sent, &duration, &ends, OTHER_TOPICS);
        let failures: Family<ReasonLabel, Counter> = Family::default();
        registry.register(
            "kafka_messages_sent",
            "Records whose outcome is known: success once in Kafka",
            sent.clone(),
        );
        registry.register(
            "kafka_send_duration_ms",
            "Milliseconds from a call's arrival to its answer",
            duration.clone(),
        );
        registry.register("producer_failures", "Failures answered, by reason", failures.clone());
        let duplicates = Counter::default();
        registry.register(
            "producer_duplicates",
            "Records answered by an earlier one with the same message id",
            duplicates.clone(),
        );
        let dead_letters: Family<LetterLabel, Counter> = Family::default();
        registry.register(
            "producer_dead_letters",
            "Records that failed for good, by what became of their dead letters: written, cut (written without what made it too large), failed",
            dead_letters.clone(),
        );
        let version = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("producer_build", "The build of this process", version);
        let mut gauge = |name: &str, help: &str| {
            let gauge: Gauge<i64, AtomicI64> = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let outstanding_records =
            gauge("producer_outstanding_records", "Records accepted and without outcome");
        let outstanding_bytes = gauge("producer_outstanding_bytes", "Their bytes, with the overhead of each");
        let transactions = TransactionMetrics::register(&mut registry);
        let client = ClientMetrics::register(&mut registry);
        Arc::new(Self {
            registry,
            sent,
            duration,
            failures,
            duplicates,
            dead_letters,
            outstanding_records,
            outstanding_bytes,
            transactions,
            client,
            ends,
            topics: Mutex::default(),
            topics_max,
            other,
        })
    }

    /// Returns the handles of a topic that Kafka knows.
    #[must_use]
    pub fn topic(&self, topic: &Topic) -> TopicMetrics {
        let mut topics = self.topics.lock();
        if let Some(known) = topics.get(topic) {
            return known.clone();
        }
        if topics.len() >= self.topics_max {
            return self.other.clone();
        }
        let made = topic_metrics(&self.sent, &self.duration, &self.ends, topic.as_str());
        topics.insert(topic.clone(), made.clone());
        made
    }

    /// Returns the handles of all topics without labels of their own.
    #[must_use]
    pub fn other_topics(&self) -> TopicMetrics {
        self.other.clone()
    }

    /// Counts a failure that was answered.
    pub fn failure(&self, reason: Reason) {
        self.failures.get_or_create_owned(&ReasonLabel { reason: reason.name() }).inc();
    }

    /// Counts a record that an earlier one with the same message id answers.
    pub fn duplicate(&self) {
        self.duplicates.inc();
    }

    /// Counts a dead letter.
    pub fn dead_letter(&self, is_written: bool, is_cut: bool) {
        let outcome = match (is_written, is_cut) {
            (true, false) => "written",
            (true, true) => "cut",
            (false, _) => "failed",
        };
        self.dead_letters.get_or_create_owned(&LetterLabel { outcome }).inc();
    }

    /// Sets what is accepted and without outcome.
    pub fn outstanding(&self, (records, bytes): (usize, usize)) {
        self.outstanding_records.set(gauge_value(records));
        self.outstanding_bytes.set(gauge_value(bytes));
    }

    /// Returns the metrics of transactions.
    #[must_use]
    pub const fn transactions(&self) -> &TransactionMetrics {
        &self.transactions
    }

    /// Returns the metrics of Kafka's client.
    #[must_use]
    pub const fn client(&self) -> &ClientMetrics {
        &self.client
    }

    /// Returns how many records were delivered since the start.
    #[must_use]
    pub fn delivered(&self) -> u64 {
        self.ends.delivered.load(Ordering::Acquire)
    }

    /// Returns how many accepted records ended undelivered since the start, through no fault of their own.
    #[must_use]
    pub fn undelivered(&self) -> u64 {
        self.ends.undelivered.load(Ordering::Acquire)
    }

    /// Renders all metrics in the `OpenMetrics` text format.
    ///
    /// # Errors
    /// Where the formatter fails, which a `String` never does.
    pub fn render(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Metrics").finish_non_exhaustive()
    }
}

// === impl TopicMetrics ===

impl TopicMetrics {
    /// Counts a record that is in Kafka.
    pub fn success(&self) {
        self.success.inc();
        self.ends.delivered.fetch_add(1, Ordering::AcqRel);
    }

    /// Counts a record that is not.
    pub fn error(&self, reason: Reason) {
        self.error.inc();
        if is_undelivered(reason) {
            self.ends.undelivered.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Observes how long a call took.
    pub fn duration(&self, took: Duration) {
        self.duration.observe(took.as_secs_f64() * 1_000.0);
    }
}

impl fmt::Debug for TopicMetrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("TopicMetrics").finish_non_exhaustive()
    }
}

fn topic_metrics(
    sent: &Family<SentLabels, Counter>,
    duration: &Family<TopicLabel, Histogram, fn() -> Histogram>,
    ends: &Arc<Ends>,
    topic: &str,
) -> TopicMetrics {
    let counter = |status| sent.get_or_create_owned(&SentLabels { topic: topic.to_owned(), status });
    TopicMetrics {
        success: counter("success"),
        error: counter("error"),
        duration: duration.get_or_create_owned(&TopicLabel { topic: topic.to_owned() }),
        ends: Arc::clone(ends),
    }
}

/// Returns whether a record that failed so might have been delivered at a better time.
const fn is_undelivered(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::BrokersUnavailable
            | Reason::Draining
            | Reason::DeadlineNotWritten
            | Reason::DeliveryUnknown
            | Reason::KafkaAuthenticationFailed
            | Reason::Internal
    )
}

fn gauge_value(value: impl TryInto<i64>) -> i64 {
    value.try_into().unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_beyond_the_cap_count_as_other() {
        let metrics = Metrics::new(1);
        let topic = |name| Topic::parse(name).unwrap();
        metrics.topic(&topic("a")).success();
        metrics.topic(&topic("b")).success();
        metrics.topic(&topic("a")).error(Reason::RecordTooLarge);
        let text = metrics.render().unwrap();
        for line in [
            r#"kafka_messages_sent_total{topic="a",status="success"} 1"#,
            r#"kafka_messages_sent_total{topic="a",status="error"} 1"#,
            r#"kafka_messages_sent_total{topic="_other",status="success"} 1"#,
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        metrics.other_topics().error(Reason::Draining);
        assert_eq!((metrics.delivered(), metrics.undelivered()), (2, 1));
    }

    #[test]
    fn the_names_of_the_source_document_are_exported() {
        let metrics = Metrics::new(10);
        metrics.client().connected(true);
        metrics.failure(Reason::QueueFull);
        metrics.other_topics().duration(Duration::from_millis(3));
        let text = metrics.render().unwrap();
        assert!(text.contains("kafka_producer_connected 1"));
        assert!(text.contains(r#"producer_failures_total{reason="QUEUE_FULL"} 1"#));
        assert!(text.contains(r#"kafka_send_duration_ms_bucket{le="5.0",topic="_other"} 1"#), "{text}");
    }
}
