//! Owns the metrics of Kafka's client: its connection, its queues, and the producers that take another's place.
//! Must never have a label that a caller chooses.

use std::sync::atomic::AtomicI64;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

use super::gauge_value;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct BrokerLabel {
    broker: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CauseLabel {
    cause: &'static str,
}

/// The metrics of Kafka's client.
#[derive(Debug)]
pub struct ClientMetrics {
    connected: Gauge,
    queue_records: Gauge,
    queue_bytes: Gauge,
    round_trip: Family<BrokerLabel, Gauge>,
    replaced: Family<CauseLabel, Counter>,
    secrets_refused: Gauge,
}

impl ClientMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let mut gauge = |name: &str, help: &str| {
            let gauge: Gauge<i64, AtomicI64> = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let connected = gauge("kafka_producer_connected", "1 while a broker lets the sidecar in, else 0");
        let queue_records = gauge("kafka_queue_records", "Records in librdkafka's queues and on the way");
        let queue_bytes = gauge("kafka_queue_bytes", "Their bytes");
        let secrets_refused = gauge(
            "kafka_secrets_refused",
            "1 while the files hold secrets or certificates that are not in use because they do not work, else 0",
        );
        let (round_trip, replaced) = (Family::default(), Family::default());
        registry.register_with_unit(
            "kafka_broker_round_trip",
            "Mean round trip of a broker",
            Unit::Other("microseconds".to_owned()),
            round_trip.clone(),
        );
        registry.register(
            "kafka_producer_replaced",
            "Times that another producer took the place of the one in use, by cause: fatal, stuck, secrets",
            replaced.clone(),
        );
        Self { connected, queue_records, queue_bytes, round_trip, replaced, secrets_refused }
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

    /// Sets the mean round trip of a broker, in microseconds.
    pub fn round_trip(&self, broker: &str, round_trip_us: i64) {
        self.round_trip.get_or_create_owned(&BrokerLabel { broker: broker.to_owned() }).set(round_trip_us);
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
