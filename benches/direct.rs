//! Owns the plain librdkafka producer that two benchmarks move their records through: the sidecar's own properties.

use producer_sidecar::config::librdkafka;
use rdkafka::{
    ClientConfig, ClientContext,
    message::{DeliveryResult, OwnedHeaders},
    producer::{BaseRecord, ProducerContext, ThreadedProducer},
};
use testkit::Cluster;

use crate::{
    settings::settings,
    workload::{HEADERS, VALUE},
};

/// How many partitions the topics have.
pub const PARTITIONS: i32 = 6;

/// What is done with each delivery report.
pub struct Reports<T> {
    on_report: fn(bool, T),
}

impl<T: Send + Sync> ClientContext for Reports<T> {
    fn stats_raw(&self, _: &[u8]) {}
}

impl<T: Send + Sync> ProducerContext for Reports<T> {
    type DeliveryOpaque = Box<T>;

    fn delivery(&self, result: &DeliveryResult<'_>, companion: Box<T>) {
        (self.on_report)(result.is_ok(), *companion);
    }
}

/// A producer whose records carry a `T`.
pub type Direct<T> = ThreadedProducer<Reports<T>>;

/// Makes a producer with the sidecar's own properties; `on_report` is told whether a record was delivered.
pub fn producer<T: Send + Sync + 'static>(cluster: &Cluster, on_report: fn(bool, T)) -> Direct<T> {
    let mut config = ClientConfig::new();
    for property in librdkafka::producer_properties(&settings(cluster)) {
        config.set(property.name.clone(), property.expose());
    }
    config.create_with_context(Reports { on_report }).expect("librdkafka takes the sidecar's properties")
}

/// Hands one record to librdkafka.
pub fn produce<T: Send + Sync + 'static>(producer: &Direct<T>, topic: &str, key: &str, companion: T) {
    let partition = i32::try_from(crc32fast::hash(key.as_bytes()) % PARTITIONS.unsigned_abs()).unwrap_or(0);
    let headers =
        HEADERS.iter().fold(OwnedHeaders::new_with_capacity(HEADERS.len()), |headers, (key, value)| {
            headers.insert(rdkafka::message::Header { key, value: Some(*value) })
        });
    let outgoing = BaseRecord::with_opaque_to(topic, Box::new(companion));
    let outgoing = outgoing.partition(partition).key(key).payload(VALUE).headers(headers);
    producer.send(outgoing).map_err(|(error, _)| error).expect("the queue has room");
}
