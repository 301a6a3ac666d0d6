use proptest::{collection::vec, prelude::*, sample::Index};
use prost::Message as _;
use prost_types::{ListValue, Struct, value::Kind};

use super::*;
use crate::grpc::proto::{
    InputOffset, ProcessAndForwardRequest, ProducerRecord, SendBatchRequest, SendRequest, header::Content,
    producer_record::Payload,
};

/// Nothing is beyond this.
const ALL: (usize, usize) = (usize::MAX, usize::MAX);

/// What prost built, counted and weighed.
#[derive(Debug, Default, PartialEq)]
struct Built {
    records: usize,
    inputs: usize,
    headers: usize,
    values: usize,
    bytes: usize,
}

impl Built {
    fn record(&mut self, record: &ProducerRecord) {
        self.records += 1;
        self.headers += record.headers.len();
        self.bytes += size_of::<ProducerRecord>() + record.topic.capacity() + record.message_id.capacity();
        self.bytes += record.headers.capacity() * size_of::<proto::Header>();
        for header in &record.headers {
            self.bytes += header.name.capacity();
            if let Some(Content::ValueText(text)) = &header.content {
                self.bytes += text.capacity();
            }
        }
        match &record.payload {
            Some(Payload::Json(value)) => self.value(value),
            Some(Payload::ValueText(text)) => self.bytes += text.capacity(),
            Some(Payload::Value(_) | Payload::Tombstone(_)) | None => {}
        }
    }

    fn value(&mut self, value: &Value) {
        self.values += 1;
        self.bytes += size_of::<Value>();
        match &value.kind {
            Some(Kind::StringValue(text)) => self.bytes += text.capacity(),
            Some(Kind::ListValue(list)) => {
                self.bytes += (list.values.capacity() - list.values.len()) * size_of::<Value>();
                list.values.iter().for_each(|value| self.value(value));
            }
            Some(Kind::StructValue(object)) => {
                self.bytes += usize::from(!object.fields.is_empty()) * NODE_BYTES;
                for (name, value) in &object.fields {
                    self.bytes += name.capacity();
                    self.value(value);
                }
            }
            Some(Kind::NullValue(_) | Kind::NumberValue(_) | Kind::BoolValue(_)) | None => {}
        }
    }
}

fn json() -> impl Strategy<Value = Value> {
    let value = |kind| Value { kind: Some(kind) };
    let leaf = prop_oneof![
        any::<f64>().prop_map(move |number| value(Kind::NumberValue(number))),
        ".{0,20}".prop_map(move |text| value(Kind::StringValue(text))),
        Just(Value { kind: None }),
    ];
    leaf.prop_recursive(4, 60, 8, move |inner| {
        let list =
            vec(inner.clone(), 0..8).prop_map(move |values| value(Kind::ListValue(ListValue { values })));
        let object = vec((".{0,5}", inner), 0..8).prop_map(move |fields| {
            value(Kind::StructValue(Struct { fields: fields.into_iter().collect() }))
        });
        prop_oneof![list, object]
    })
}

fn record() -> impl Strategy<Value = ProducerRecord> {
    let header = (".{0,8}", proptest::option::of(".{0,8}"))
        .prop_map(|(name, text)| proto::Header { name, content: text.map(Content::ValueText) });
    let payload = prop_oneof![json().prop_map(Payload::Json), ".{0,30}".prop_map(Payload::ValueText)];
    (".{0,20}", vec(header, 0..6), proptest::option::of(payload)).prop_map(|(topic, headers, payload)| {
        ProducerRecord { topic, headers, payload, ..ProducerRecord::default() }
    })
}

proptest! {
    #[test]
    fn frames_are_counted_as_prost_builds_them(records in vec(record(), 0..6)) {
        let frame = SendBatchRequest { sequence: 7, records, durability: 1, timeout: None };
        let counted = parts(Shape::Frame, &frame.encode_to_vec(), ALL);
        let mut built = Built::default();
        frame.records.iter().for_each(|record| built.record(record));
        prop_assert_eq!(counted.records, built.records);
        let of_one = |bytes: &ProducerRecord| {
            let mut counted = Parts::default();
            counted.record(&bytes.encode_to_vec(), usize::MAX);
            counted
        };
        for record in &frame.records {
            let mut built = Built::default();
            built.record(record);
            let heaviest = of_one(record).heaviest;
            if heaviest.count > 0 {
                prop_assert_eq!(heaviest.count, if heaviest.is_json { built.values } else { built.headers });
            }
        }
        prop_assert!(counted.bytes >= built.bytes, "{} of {}", counted.bytes, built.bytes);
    }

    /// Damaged bytes may repeat fields that are there once, which prost merges: what it builds is never more than was counted.
    #[test]
    fn what_prost_makes_of_damaged_bytes_is_never_more(
        records in vec(record(), 1..4),
        flips in vec((any::<Index>(), any::<u8>()), 0..6),
        twice in any::<bool>(),
    ) {
        let [first, ..] = &records[..] else { return Ok(()) };
        let mut bytes = SendRequest { record: Some(first.clone()), durability: 0 }.encode_to_vec();
        if twice {
            for record in &records {
                SendRequest { record: Some(record.clone()), durability: 0 }.encode(&mut bytes).unwrap();
            }
        }
        for (at, mask) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= mask;
        }
        let counted = parts(Shape::Send, &bytes, ALL);
        if let Ok(SendRequest { record: Some(record), .. }) = SendRequest::decode(&bytes[..]) {
            let mut built = Built::default();
            built.record(&record);
            prop_assert!(counted.bytes >= built.bytes, "{} of {}", counted.bytes, built.bytes);
        }
    }

    #[test]
    fn no_bytes_keep_it_from_ending(bytes in vec(any::<u8>(), 0..400)) {
        for shape in [Shape::Send, Shape::Frame, Shape::Unit] {
            prop_assert!(parts(shape, &bytes, ALL).records <= bytes.len());
        }
    }
}

#[test]
fn nesting_without_end_is_counted_without_depth() {
    let mut bytes = Vec::new();
    for _ in 0..5_000 {
        let list = [&[0x0a][..], &length(bytes.len()), &bytes].concat();
        bytes = [&[0x32][..], &length(list.len()), &list].concat();
    }
    let record = [&[0x32][..], &length(bytes.len()), &bytes].concat();
    let request = [&[0x0a][..], &length(record.len()), &record].concat();
    assert!(parts(Shape::Send, &request, ALL).heaviest.count <= DEPTH_MAX);
}

fn length(length: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    prost::encoding::encode_varint(length as u64, &mut bytes);
    bytes
}

/// A message whose list, named by its tag, has that element so many times.
fn repeated(tag: u8, element: &[u8], count: usize) -> Vec<u8> {
    [&[tag << 3 | 2, u8::try_from(element.len()).unwrap()], element].concat().repeat(count)
}

#[test]
fn what_takes_most_is_named() {
    const MANY: usize = 200_000;
    let in_record = |tag: u8, record: Vec<u8>| [&[tag << 3 | 2][..], &length(record.len()), &record].concat();
    let values = repeated(1, &[0x20, 1], MANY);
    let value = [&[0x32][..], &length(values.len()), &values].concat();
    let json = [&[0x32][..], &length(value.len()), &value].concat();
    let cases = [
        (Shape::Send, in_record(1, repeated(8, &[], MANY)), "record.headers"),
        (Shape::Send, in_record(1, json.clone()), "record.json"),
        (Shape::Frame, repeated(2, &[], MANY), "records"),
        (Shape::Frame, [repeated(2, &[], 2), in_record(2, json.clone())].concat(), "records[2].json"),
        (Shape::Unit, repeated(3, &[], MANY), "outputs"),
        (Shape::Unit, repeated(2, &[], MANY), "inputs"),
        (Shape::Unit, in_record(3, repeated(8, &[], MANY)), "outputs[0].headers"),
    ];
    for (shape, message, field) in cases {
        let counted = parts(shape, &message, ALL);
        assert_eq!(counted.fit(shape, counted.bytes), Ok(()));
        // No more is counted than shows that it is too much.
        let limit = 16 << 20;
        let counted = parts(shape, &message, (usize::MAX, limit));
        assert!(counted.bytes < limit + limit / 8, "{} bytes", counted.bytes);
        let failure = counted.fit(shape, limit).unwrap_err();
        assert_eq!(failure.violations().0[0].field, field);
    }
    assert_eq!(parts(Shape::Frame, &repeated(2, &[], MANY), (10, usize::MAX)).records, 11);
}

#[test]
fn an_honest_message_is_within_its_limits() {
    let input = InputOffset { topic: "orders".to_owned(), ..InputOffset::default() };
    let record = ProducerRecord {
        topic: "orders".to_owned(),
        headers: vec![proto::Header { name: "n".to_owned(), content: None }; 100],
        ..ProducerRecord::default()
    };
    let frame = SendBatchRequest { records: vec![record.clone(); 1_000], ..SendBatchRequest::default() };
    let most = parts(Shape::Frame, &frame.encode_to_vec(), ALL);
    assert!(most.bytes < 26 << 20, "{} bytes for a thousand records of a hundred headers", most.bytes);
    let unit = ProcessAndForwardRequest { inputs: vec![input], outputs: vec![record], group: None };
    assert_eq!(parts(Shape::Unit, &unit.encode_to_vec(), ALL).inputs, 1);
}
