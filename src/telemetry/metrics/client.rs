//! Owns the metrics of Kafka's client: its connection, its queues, and the producers that take another's place.
//! Must never have a label that a caller chooses, nor more brokers than the cap.

mod brokers;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use self::brokers::Brokers;
use super::{gauge_value, table};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CauseLabel {
    cause: &'static str,
}

/// What librdkafka's statistics say of one broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerReport {
    /// Its node id.
    pub broker: String,
    /// Its mean round trip, in microseconds.
    pub round_trip_us: i64,
    /// Requests sent again, since its client began.
    pub retries: u64,
}

/// The metrics of Kafka's client.
#[derive(Debug)]
pub struct ClientMetrics {
    connected: Gauge,
    queue_records: Gauge,
    queue_bytes: Gauge,
    brokers: Brokers,
    replaced: Family<CauseLabel, Counter>,
    secrets_refused: Gauge,
}

impl ClientMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            connected: Gauge::default(),
            queue_records: Gauge::default(),
            queue_bytes: Gauge::default(),
            brokers: Brokers::register(registry),
            replaced: Family::default(),
            secrets_refused: Gauge::default(),
        };
        table::CONNECTED.register(registry, metrics.connected.clone());
        table::QUEUE_RECORDS.register(registry, metrics.queue_records.clone());
        table::QUEUE_BYTES.register(registry, metrics.queue_bytes.clone());
        table::PRODUCER_REPLACED.register(registry, metrics.replaced.clone());
        table::SECRETS_REFUSED.register(registry, metrics.secrets_refused.clone());
        metrics
    }

    /// Sets whether the cluster is connected.
    pub fn connected(&self, connected: bool) {
        self.connected.set(i64::from(connected));
    }

    /// Sets what lies in librdkafka's queues.
    pub fn queue(&self, records: u64, bytes: u64) {
        self.queue_records.set(gauge_value(records));
        self.queue_bytes.set(gauge_value(bytes));
    }

    /// Takes in what librdkafka says of the brokers that it knows.
    pub fn brokers(&self, reports: &[BrokerReport]) {
        self.brokers.take_in(reports);
    }

    /// Counts a producer that took another's place.
    pub fn replaced(&self, cause: &'static str) {
        self.replaced.get_or_create_owned(&CauseLabel { cause }).inc();
    }

    /// Sets whether what the files hold does not work.
    pub fn secrets_refused(&self, refused: bool) {
        self.secrets_refused.set(i64::from(refused));
    }
}
