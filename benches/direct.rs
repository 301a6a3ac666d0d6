//! Owns what both benchmarks move and the plain librdkafka producer that they move it through: the sidecar's own properties.

use producer_sidecar::{
    config::{
        Purpose, librdkafka,
        source::{self, Environment, Inputs},
    },
    grpc::proto::{
        Header, ProducerRecord, header,
        producer_record::{Payload, RecordKey},
    },
};
use rdkafka::{
    ClientConfig, ClientContext,
    message::{DeliveryResult, OwnedHeaders},
    producer::{BaseRecord, ProducerContext, ThreadedProducer},
};
use testkit::Cluster;

/// How many partitions the topics have.
pub const PARTITIONS: i32 = 6;
/// The value of every record.
pub const VALUE: &str =
    "a value of one hundred bytes, as an event of a gateway might be, with some more text to fill it up..";
/// The headers that the sidecar would add: given by the caller, so that all sides carry the same.
const HEADERS: [(&str, &str); 3] = [
    ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    ("trace-id", "4bf92f3577b34da6a3ce929d0e0e4736"),
    ("timestamp", "1700000000000"),
];

/// Makes a record for the sidecar.
pub fn record(topic: &str, key: &str) -> ProducerRecord {
    let header = |(name, value): (&str, &str)| Header {
        name: name.to_owned(),
        content: Some(header::Content::ValueText(value.to_owned())),
    };
    ProducerRecord {
        topic: topic.to_owned(),
        record_key: Some(RecordKey::KeyText(key.to_owned())),
        payload: Some(Payload::ValueText(VALUE.to_owned())),
        headers: HEADERS.into_iter().map(header).collect(),
        ..ProducerRecord::default()
    }
}

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
    let ca_file = cluster.ca_file().display().to_string();
    let brokers = cluster.bootstrap_tls();
    let environment = Environment::of([
        ("KAFKA_BROKERS", brokers.as_str()),
        ("KAFKA_USER", cluster.user()),
        ("KAFKA_PASSWORD", cluster.password()),
        ("KAFKA_CA_FILE", &ca_file),
        ("HOSTNAME", "bench"),
    ]);
    let inputs = Inputs { config: None, flags: &[], environment: &environment };
    let loaded = source::load(inputs, Purpose::Serve).expect("the settings are right");
    let mut config = ClientConfig::new();
    for property in librdkafka::producer_properties(&loaded.config) {
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
