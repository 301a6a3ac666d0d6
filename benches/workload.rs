//! Owns what all benchmarks move.

use producer_sidecar::grpc::proto::{
    Header, ProducerRecord, header,
    producer_record::{Payload, RecordKey},
};

/// The value of every record.
pub const VALUE: &str =
    "a value of one hundred bytes, as an event of a gateway might be, with some more text to fill it up..";
/// The headers that the sidecar would add: given by the caller, so that all sides carry the same.
pub const HEADERS: [(&str, &str); 3] = [
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
