//! Tests of decoding: each rule, then arbitrary input.

use proptest::prelude::*;
use prost::Message as _;
use prost_types::{Timestamp, Value, value::Kind};

use super::*;
use crate::grpc::proto::{
    ProducerRecord, SendRequest, Tombstone,
    header::Content,
    producer_record::{Payload, RecordKey},
};

const LIMITS: RecordLimits = RecordLimits { record_bytes_max: 1_000, record_headers_max: 4 };
const NOW_MS: i64 = 1_700_000_000_000;

fn input() -> ProducerRecord {
    ProducerRecord {
        topic: "orders".to_owned(),
        payload: Some(Payload::ValueText("value".to_owned())),
        ..ProducerRecord::default()
    }
}

fn header(name: &str, content: Option<Content>) -> proto::Header {
    proto::Header { name: name.to_owned(), content }
}

fn send(input: ProducerRecord) -> Result<Record, Failure> {
    let request = SendRequest { record: Some(input), durability: 0 };
    send_request(request, &LIMITS, NOW_MS)
}

/// Returns the fields that are refused, each with why.
fn refused(input: ProducerRecord) -> Vec<(String, String)> {
    let failure = send(input).unwrap_err();
    assert_eq!(failure.reason(), Reason::InvalidRecord);
    let pair = |violation: &Violation| (violation.field.clone(), violation.description.clone());
    failure.violations().0.iter().map(pair).collect()
}

fn refused_fields(input: ProducerRecord) -> Vec<String> {
    refused(input).into_iter().map(|(field, _)| field).collect()
}

fn number(number: f64) -> Value {
    Value { kind: Some(Kind::NumberValue(number)) }
}

fn content_types(record: &Record) -> Vec<Option<&[u8]>> {
    let headers = record.headers.iter().filter(|header| header.name == CONTENT_TYPE_HEADER);
    headers.map(|header| header.value.as_deref()).collect()
}

#[test]
fn a_plain_record_is_taken_as_it_is() {
    let full = ProducerRecord {
        record_key: Some(RecordKey::Key(Bytes::from_static(b"\xff\0"))),
        headers: vec![
            header("a", Some(Content::Value(Bytes::from_static(b"\xfe")))),
            header("a", Some(Content::ValueText("text".to_owned()))),
            header("empty", Some(Content::Value(Bytes::new()))),
            header("null", None),
        ],
        partition: Some(0),
        timestamp: Some(Timestamp { seconds: 0, nanos: 1_999_999 }),
        message_id: "m".repeat(MESSAGE_ID_BYTES_MAX),
        ..input()
    };
    let record = send(full).unwrap();
    assert_eq!(record.topic.as_str(), "orders");
    assert_eq!(record.key.as_deref(), Some(&b"\xff\0"[..]));
    assert_eq!(record.value.as_deref(), Some(&b"value"[..]));
    let headers: Vec<_> =
        record.headers.iter().map(|header| (header.name.as_str(), header.value.as_deref())).collect();
    let expected: [(&str, Option<&[u8]>); 4] =
        [("a", Some(b"\xfe")), ("a", Some(b"text")), ("empty", Some(b"")), ("null", None)];
    assert_eq!(headers, expected);
    assert_eq!(record.partition, Some(0));
    assert_eq!(record.timestamp_ms, 1);
    assert_eq!(record.message_id.as_deref().map(str::len), Some(MESSAGE_ID_BYTES_MAX));
}

#[test]
fn what_is_not_set_has_its_default() {
    let record = send(input()).unwrap();
    assert_eq!((record.key, record.partition, record.message_id), (None, None, None));
    assert_eq!(record.timestamp_ms, NOW_MS);
    assert!(record.headers.is_empty());
}

#[test]
fn empty_is_not_null() {
    let empty = ProducerRecord {
        record_key: Some(RecordKey::KeyText(String::new())),
        payload: Some(Payload::Value(Bytes::new())),
        ..input()
    };
    let record = send(empty).unwrap();
    assert_eq!((record.key, record.value), (Some(Bytes::new()), Some(Bytes::new())));
    let deleted = ProducerRecord { payload: Some(Payload::Tombstone(Tombstone {})), ..input() };
    assert_eq!(send(deleted).unwrap().value, None);
}

#[test]
fn json_is_written_and_named_where_the_caller_did_not() {
    let json = ProducerRecord { payload: Some(Payload::Json(number(7.0))), ..input() };
    let record = send(json.clone()).unwrap();
    assert_eq!(record.value.as_deref(), Some(&b"7"[..]));
    assert_eq!(content_types(&record), [Some(&b"application/json"[..])]);
    let own = ProducerRecord { headers: vec![header("content-type", None)], ..json.clone() };
    assert_eq!(content_types(&send(own).unwrap()), [None]);
    let other = ProducerRecord { headers: vec![header("Content-Type", None)], ..json };
    assert_eq!(content_types(&send(other).unwrap()).len(), 1);
    assert!(content_types(&send(input()).unwrap()).is_empty());
}

#[test]
fn every_wrong_field_is_named_at_once() {
    let wrong = ProducerRecord {
        topic: "a b".to_owned(),
        headers: vec![header("", None), header("tenant-id", None), header("tenant-id", None)],
        partition: Some(-1),
        timestamp: Some(Timestamp { seconds: 1, nanos: -1 }),
        message_id: "m".repeat(MESSAGE_ID_BYTES_MAX + 1),
        record_key: None,
        payload: None,
    };
    let expected = [
        "record.topic",
        "record.payload",
        "record.headers[0].name",
        "record.headers[2].name",
        "record.partition",
        "record.timestamp.nanos",
        "record.message_id",
    ];
    assert_eq!(refused_fields(wrong), expected);
}

#[test]
fn kafkas_own_topics_and_empty_names_are_refused() {
    for topic in ["", "__consumer_offsets", "__", "."] {
        let wrong = ProducerRecord { topic: topic.to_owned(), ..input() };
        assert_eq!(refused_fields(wrong), ["record.topic"], "{topic:?}");
    }
    assert!(send(ProducerRecord { topic: "_x".to_owned(), ..input() }).is_ok());
}

#[test]
fn timestamps_have_bounds() {
    let at = |seconds, nanos| ProducerRecord { timestamp: Some(Timestamp { seconds, nanos }), ..input() };
    for (seconds, nanos) in
        [(0, 0), (0, 999_999), (-1, 0), (i64::MIN, 0), (TIMESTAMP_SECONDS_MAX + 1, 0), (i64::MAX, 0)]
    {
        assert_eq!(refused_fields(at(seconds, nanos)), ["record.timestamp"], "{seconds}s {nanos}ns");
    }
    assert_eq!(refused_fields(at(1, 1_000_000_000)), ["record.timestamp.nanos"]);
    assert_eq!(send(at(TIMESTAMP_SECONDS_MAX, 999_999_999)).unwrap().timestamp_ms, 253_402_300_799_999);
}

#[test]
fn a_record_has_so_many_headers_and_no_more() {
    let with = |count: usize| ProducerRecord { headers: vec![header("n", None); count], ..input() };
    assert!(send(with(4)).is_ok());
    assert_eq!(refused(with(5)), [("record.headers".to_owned(), "must be at most 4".to_owned())]);
}

#[test]
fn json_faults_carry_their_path() {
    let list = Kind::ListValue(prost_types::ListValue { values: vec![number(1.0), number(f64::NAN)] });
    let wrong = ProducerRecord { payload: Some(Payload::Json(Value { kind: Some(list) })), ..input() };
    assert_eq!(refused_fields(wrong), ["record.json[1]"]);
}

#[test]
fn a_request_without_a_record_or_with_an_unknown_durability_is_invalid() {
    let failure = send_request(SendRequest { record: None, durability: 99 }, &LIMITS, NOW_MS).unwrap_err();
    let fields: Vec<_> = failure.violations().0.iter().map(|violation| violation.field.as_str()).collect();
    assert_eq!(fields, ["durability", "record"]);
}

#[test]
fn spooled_is_refused_only_once_the_fields_are_right() {
    let spooled =
        |record| SendRequest { record: Some(record), durability: proto::Durability::Spooled.into() };
    let failure = send_request(spooled(input()), &LIMITS, NOW_MS).unwrap_err();
    assert_eq!(failure.reason(), Reason::SpoolNotConfigured);
    let failure = send_request(spooled(ProducerRecord::default()), &LIMITS, NOW_MS).unwrap_err();
    assert_eq!(failure.reason(), Reason::InvalidRecord);
    for durability in [proto::Durability::Unspecified, proto::Durability::Replicated] {
        let request = SendRequest { record: Some(input()), durability: durability.into() };
        assert!(send_request(request, &LIMITS, NOW_MS).is_ok());
    }
}

#[test]
fn size_counts_what_the_caller_gave() {
    let sized = |value: usize| ProducerRecord {
        record_key: Some(RecordKey::KeyText("key".to_owned())),
        payload: Some(Payload::Value(vec![0; value].into())),
        headers: vec![header("ab", Some(Content::ValueText("c".to_owned())))],
        ..input()
    };
    assert!(send(sized(994)).is_ok());
    let failure = send(sized(995)).unwrap_err();
    assert_eq!(failure.reason(), Reason::RecordTooLarge);
    assert!(failure.message().contains("1001 bytes") && failure.message().ends_with("the limit is 1000"));
    let invalid = ProducerRecord { topic: String::new(), ..sized(995) };
    assert_eq!(refused_fields(invalid), ["record.topic"]);
    // The content-type that the sidecar adds does not count.
    let text = Kind::StringValue("j".repeat(998));
    assert!(
        send(ProducerRecord { payload: Some(Payload::Json(Value { kind: Some(text) })), ..input() }).is_ok()
    );
}

#[test]
fn what_is_too_much_to_name_is_counted() {
    let values = vec![number(f64::NAN); 1_000];
    let list = Kind::ListValue(prost_types::ListValue { values });
    let wrong = ProducerRecord { payload: Some(Payload::Json(Value { kind: Some(list) })), ..input() };
    let failure = send(wrong).unwrap_err();
    assert_eq!((failure.violations().0.len(), failure.violations().1), (VIOLATIONS_MAX, 1_000));
}

#[test]
fn the_place_of_a_record_begins_its_paths() {
    for (place, expected) in
        [(Place::Records(3), "records[3].topic"), (Place::Outputs(17), "outputs[17].topic")]
    {
        let mut violations = Violations::default();
        let wrong = ProducerRecord { topic: String::new(), ..input() };
        assert!(record(wrong, place, &LIMITS, NOW_MS, &mut violations).is_none());
        assert_eq!(violations.into_failure().violations().0[0].field, expected);
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value { kind: None }),
        any::<i32>().prop_map(|number| Value { kind: Some(Kind::NullValue(number)) }),
        any::<f64>().prop_map(number),
        any::<String>().prop_map(|text| Value { kind: Some(Kind::StringValue(text)) }),
        any::<bool>().prop_map(|boolean| Value { kind: Some(Kind::BoolValue(boolean)) }),
    ];
    leaf.prop_recursive(6, 40, 5, |inner| {
        let list = prop::collection::vec(inner.clone(), 0..5)
            .prop_map(|values| Kind::ListValue(prost_types::ListValue { values }));
        let object = prop::collection::btree_map(any::<String>(), inner, 0..5)
            .prop_map(|fields| Kind::StructValue(prost_types::Struct { fields }));
        prop_oneof![list, object].prop_map(|kind| Value { kind: Some(kind) })
    })
}

fn any_record() -> impl Strategy<Value = ProducerRecord> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from);
    let topic = prop_oneof![any::<String>(), "[a-z._]{0,5}", "[a-z]{248,251}"];
    let key = prop_oneof![bytes().prop_map(RecordKey::Key), any::<String>().prop_map(RecordKey::KeyText),];
    let payload = prop_oneof![
        bytes().prop_map(Payload::Value),
        any::<String>().prop_map(Payload::ValueText),
        any_value().prop_map(Payload::Json),
        Just(Payload::Tombstone(Tombstone {})),
    ];
    let content =
        prop_oneof![bytes().prop_map(Content::Value), any::<String>().prop_map(Content::ValueText),];
    let name = prop_oneof![any::<String>(), Just(TENANT_HEADER.to_owned()), Just(String::new())];
    let header =
        (name, prop::option::of(content)).prop_map(|(name, content)| proto::Header { name, content });
    let timestamp = (any::<i64>(), any::<i32>()).prop_map(|(seconds, nanos)| Timestamp { seconds, nanos });
    (
        topic,
        prop::option::of(key),
        prop::option::of(payload),
        prop::collection::vec(header, 0..7),
        prop::option::of(any::<i32>()),
        prop::option::of(timestamp),
        prop_oneof![any::<String>(), ".{250,260}"],
    )
        .prop_map(|(topic, record_key, payload, headers, partition, timestamp, message_id)| {
            ProducerRecord { topic, record_key, payload, headers, partition, timestamp, message_id }
        })
}

proptest! {
    #[test]
    fn what_is_refused_is_named_and_what_is_taken_keeps_the_rules(input in any_record(), now_ms: i64) {
        let mut violations = Violations::default();
        let decoded = record(input, Place::Outputs(2), &LIMITS, now_ms, &mut violations);
        prop_assert_eq!(decoded.is_some(), violations.is_empty());
        for violation in &violations.kept {
            prop_assert!(violation.field.starts_with("outputs[2]."), "{:?}", violation.field);
            prop_assert!(!violation.description.is_empty());
        }
        if let Some(decoded) = decoded {
            let taken = decoded.record;
            prop_assert!(taken.timestamp_ms >= 1);
            prop_assert!(taken.partition.is_none_or(|partition| partition >= 0));
            prop_assert!(taken.headers.len() <= LIMITS.record_headers_max + 1);
            prop_assert!(taken.headers.iter().all(|header| !header.name.is_empty()));
        }
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(request) = SendRequest::decode(bytes.as_slice()) {
            let _refused_or_not = send_request(request, &LIMITS, NOW_MS).is_ok();
        }
    }

    #[test]
    fn no_damage_on_the_wire_panics(input in any_record(), place: prop::sample::Index, byte: u8) {
        let mut bytes = SendRequest { record: Some(input), durability: 0 }.encode_to_vec();
        let place = place.index(bytes.len());
        bytes[place] = byte;
        if let Ok(request) = SendRequest::decode(bytes.as_slice()) {
            let _refused_or_not = send_request(request, &LIMITS, NOW_MS).is_ok();
        }
    }
}

#[test]
fn a_calls_record_does_not_keep_what_it_was_read_from() {
    let buffer = Bytes::from(vec![7; 8_192]);
    let header = proto::Header { name: "n".to_owned(), content: Some(Content::Value(buffer.slice(..5))) };
    let record = send(ProducerRecord {
        record_key: Some(RecordKey::Key(buffer.slice(..3))),
        payload: Some(Payload::Value(buffer.slice(..900))),
        headers: vec![header],
        ..input()
    })
    .unwrap();
    assert!(buffer.is_unique());
    assert_eq!((record.key.as_deref(), record.value.as_deref()), (Some(&[7; 3][..]), Some(&[7; 900][..])));
    assert_eq!(record.header("n"), Some(Some(&Bytes::from_static(&[7; 5]))));
}
