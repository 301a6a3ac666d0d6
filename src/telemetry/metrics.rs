//! Owns every metric, once: its row in the table, and typed handles to it.
//! Must never let a label grow without bound: topics and brokers beyond their caps count as `_other`.

mod build;
mod calls;
mod client;
mod connections;
pub mod exposition;
mod log;
mod process;
pub mod table;
mod topics;
mod transactions;

pub use self::{
    build::Libraries,
    calls::CallMetrics,
    client::{BrokerReport, ClientMetrics},
    connections::{Closed, ConnectionMetrics, Refused},
    topics::TopicMetrics,
    transactions::{TransactionEnd, TransactionMetrics},
};

use std::{
    fmt,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use self::{build::Build, exposition::Exposition, log::LogLines, process::Process, topics::Topics};
use crate::{failure::Reason, record::Topic};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct LetterLabel {
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct TaskLabel {
    task: &'static str,
}

/// The metrics of the process.
pub struct Metrics {
    registry: Registry,
    topics: Topics,
    failures: Family<ReasonLabel, Counter>,
    duplicates: Counter,
    dead_letters: Family<LetterLabel, Counter>,
    task_panics: Family<TaskLabel, Counter>,
    outstanding_records: Gauge,
    outstanding_bytes: Gauge,
    waiting_records: Gauge,
    waiting_oldest_age: Gauge<f64, AtomicU64>,
    transactions: TransactionMetrics,
    client: ClientMetrics,
    calls: CallMetrics,
    connections: ConnectionMetrics,
    build: Build,
}

impl Metrics {
    /// Makes the metrics; at most so many topics get labels of their own.
    #[must_use]
    pub fn new(topics_max: usize) -> Arc<Self> {
        let mut registry = Registry::default();
        let topics = Topics::register(&mut registry, topics_max);
        let transactions = TransactionMetrics::register(&mut registry);
        let client = ClientMetrics::register(&mut registry);
        let calls = CallMetrics::register(&mut registry);
        let connections = ConnectionMetrics::register(&mut registry);
        let mut metrics = Self {
            registry,
            topics,
            failures: Family::default(),
            duplicates: Counter::default(),
            dead_letters: Family::default(),
            task_panics: Family::default(),
            outstanding_records: Gauge::default(),
            outstanding_bytes: Gauge::default(),
            waiting_records: Gauge::default(),
            waiting_oldest_age: Gauge::default(),
            transactions,
            client,
            calls,
            connections,
            build: Build::default(),
        };
        let registry = &mut metrics.registry;
        table::FAILURES.register(registry, metrics.failures.clone());
        table::DUPLICATES.register(registry, metrics.duplicates.clone());
        table::DEAD_LETTERS.register(registry, metrics.dead_letters.clone());
        table::TASK_PANICS.register(registry, metrics.task_panics.clone());
        table::OUTSTANDING_RECORDS.register(registry, metrics.outstanding_records.clone());
        table::OUTSTANDING_BYTES.register(registry, metrics.outstanding_bytes.clone());
        table::WAITING_RECORDS.register(registry, metrics.waiting_records.clone());
        table::WAITING_OLDEST_AGE.register(registry, metrics.waiting_oldest_age.clone());
        table::BUILD.register(registry, metrics.build.clone());
        registry.register_collector(Box::new(Process::new()));
        registry.register_collector(Box::new(LogLines));
        Arc::new(metrics)
    }

    /// Returns the handles of a topic that Kafka knows.
    #[must_use]
    pub fn topic(&self, topic: &Topic) -> TopicMetrics {
        self.topics.get(topic)
    }

    /// Returns the handles of all topics without labels of their own.
    #[must_use]
    pub fn other_topics(&self) -> TopicMetrics {
        self.topics.other()
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

    /// Counts a task that panicked.
    pub fn task_panicked(&self, task: &'static str) {
        self.task_panics.get_or_create_owned(&TaskLabel { task }).inc();
    }

    /// Sets what is accepted and without outcome.
    pub fn outstanding(&self, (records, bytes): (usize, usize)) {
        self.outstanding_records.set(gauge_value(records));
        self.outstanding_bytes.set(gauge_value(bytes));
    }

    /// Sets how many records wait to be handed over to Kafka's client, and how old the oldest of them is.
    pub fn waiting(&self, (records, oldest_age): (usize, Duration)) {
        self.waiting_records.set(gauge_value(records));
        self.waiting_oldest_age.set(oldest_age.as_secs_f64());
    }

    /// Says the versions of the libraries that run, once.
    pub fn libraries(&self, libraries: Libraries) {
        self.build.libraries(libraries);
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

    /// Returns the metrics of gRPC calls.
    #[must_use]
    pub const fn calls(&self) -> &CallMetrics {
        &self.calls
    }

    /// Returns the metrics of the ports' connections.
    #[must_use]
    pub const fn connections(&self) -> &ConnectionMetrics {
        &self.connections
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

    /// Renders all metrics in a text format.
    ///
    /// # Errors
    /// If the formatter fails, which a `String` never does.
    pub fn render_as(&self, exposition: Exposition) -> Result<String, fmt::Error> {
        Ok(exposition.of(self.render()?))
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Metrics").finish_non_exhaustive()
    }
}

fn gauge_value(value: impl TryInto<i64>) -> i64 {
    value.try_into().unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
