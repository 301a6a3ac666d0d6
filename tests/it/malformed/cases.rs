//! Owns the making of requests: right in most fields, so that what is wrong is met one by one and together.

use bytes::Bytes;
use producer_sidecar::grpc::proto::{
    Header, ProducerRecord, SendRequest, Tombstone, header::Content, producer_record::Payload,
    producer_record::RecordKey,
};
use proptest::{collection::vec, num, option, prelude::*, sample::select, strategy::Union};
use prost::Message as _;
use prost_types::{ListValue, Struct, Timestamp, Value, value::Kind};

use super::{
    PARTITIONS,
    wire::{Framed, frame},
};

/// A request, and the topic that was made for it.
#[derive(Debug, Clone)]
pub struct Case {
    pub topic: String,
    pub sent: Sent,
}

/// What goes over the wire.
#[derive(Debug, Clone)]
pub enum Sent {
    /// Protobuf of the right type.
    Request(Box<SendRequest>),
    /// Any bytes, framed well.
    Message(Vec<u8>),
    /// Any bytes.
    Frames(Framed),
}

/// Makes cases; where everything is right, records go to `topic`.
pub fn case(topic: String) -> impl Strategy<Value = Case> {
    let request = request(topic.clone());
    let sent = prop_oneof![
        12 => request.clone().prop_map(|request| Sent::Request(Box::new(request))),
        3 => (request.clone(), damage()).prop_map(|(request, damage)| Sent::Message(damage.applied(request))),
        1 => vec(any::<u8>(), 0..200).prop_map(Sent::Message),
        2 => frames(request.clone()).prop_map(Sent::Frames),
    ];
    sent.prop_map(move |sent| Case { topic: topic.clone(), sent })
}

fn request(topic: String) -> BoxedStrategy<SendRequest> {
    let durability = prop_oneof![20 => 0..2, 1 => Just(2), 1 => any::<i32>()];
    let record = prop_oneof![40 => record(topic).prop_map(Some), 1 => Just(None)];
    (record, durability).prop_map(|(record, durability)| SendRequest { record, durability }).boxed()
}

fn record(topic: String) -> impl Strategy<Value = ProducerRecord> {
    let partition =
        prop_oneof![8 => Just(None), 4 => (0..PARTITIONS).prop_map(Some), 1 => any::<i32>().prop_map(Some)];
    // No two the same by chance: the second would be MESSAGE_ID_REUSED.
    let message_id = prop_oneof![
        8 => Just(String::new()),
        2 => ".{8,20}",
        1 => "[a-z☃]{80,100}",
        1 => (select(vec![256, 257]), any::<u64>()).prop_map(|(bytes, own)| format!("{own:i>bytes$}")),
    ];
    let fields = (topic_name(topic), key(), payload(), headers(), partition, timestamp(), message_id);
    fields.prop_map(|(topic, record_key, payload, headers, partition, timestamp, message_id)| {
        ProducerRecord { topic, record_key, payload, headers, partition, timestamp, message_id }
    })
}

fn topic_name(topic: String) -> impl Strategy<Value = String> {
    prop_oneof![
        20 => Just(topic),
        1 => any::<String>(),
        1 => select(vec!["", ".", "..", "a b", "__consumer_offsets", "a\0", "ünï", "a/b", "\u{202e}"]).prop_map(str::to_owned),
        1 => "unknown-[a-zA-Z0-9._-]{0,20}",
        1 => select(vec![249, 250, 5_000]).prop_map(|length: usize| "t".repeat(length)),
    ]
}

fn bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

fn key() -> impl Strategy<Value = Option<RecordKey>> {
    let key = prop_oneof![bytes().prop_map(RecordKey::Key), any::<String>().prop_map(RecordKey::KeyText)];
    option::of(key)
}

fn payload() -> impl Strategy<Value = Option<Payload>> {
    prop_oneof![
        1 => Just(None),
        4 => bytes().prop_map(|bytes| Some(Payload::Value(bytes))),
        4 => any::<String>().prop_map(|text| Some(Payload::ValueText(text))),
        10 => json().prop_map(|json| Some(Payload::Json(json))),
        2 => Just(Some(Payload::Tombstone(Tombstone {}))),
        // Just within, and beyond, the sidecar's limit.
        1 => select(vec![900_000, 1_000_001, 2_000_000]).prop_map(|length| Some(Payload::Value(vec![0; length].into()))),
    ]
}

fn headers() -> impl Strategy<Value = Vec<Header>> {
    let name = prop_oneof![
        10 => any::<String>(),
        10 => "[a-z-]{1,12}",
        4 => Just("tenant-id".to_owned()),
        1 => Just(String::new()),
        2 => select(vec!["traceparent", "content-type", "timestamp", "message-id", "a\0b"]).prop_map(str::to_owned),
    ];
    let content = prop_oneof![bytes().prop_map(Content::Value), any::<String>().prop_map(Content::ValueText)];
    let header = (name, option::of(content)).prop_map(|(name, content)| Header { name, content });
    let plain = Header { name: "n".to_owned(), content: None };
    prop_oneof![
        20 => vec(header, 0..5),
        1 => select(vec![100_usize, 101, 300]).prop_map(move |count| vec![plain.clone(); count]),
    ]
}

fn timestamp() -> impl Strategy<Value = Option<Timestamp>> {
    let edges = vec![
        (0, 0),
        (0, 999_999),
        (0, 1_000_000),
        (-1, 999_999_999),
        (253_402_300_799, 999_999_999),
        (253_402_300_800, 0),
    ];
    let any = prop_oneof![
        6 => (1..4_000_000_000_i64, 0..1_000_000_000_i32),
        1 => (any::<i64>(), any::<i32>()),
        1 => select(edges),
    ];
    let timestamp = any.prop_map(|(seconds, nanos)| Timestamp { seconds, nanos });
    prop_oneof![2 => Just(None), 1 => timestamp.prop_map(Some)]
}

fn value(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}

fn json() -> impl Strategy<Value = Value> {
    let number = prop_oneof![
        8 => (-9_007_199_254_740_991_i64..=9_007_199_254_740_991).prop_map(|number| number.to_string().parse().unwrap()),
        8 => -1e15..1e15_f64,
        1 => num::f64::ANY,
        1 => select(vec![f64::NAN, f64::INFINITY, 9_007_199_254_740_992.0, -0.0, 5e-324, f64::MAX]),
    ];
    let leaf = prop_oneof![
        8 => number.prop_map(|number| value(Kind::NumberValue(number))),
        4 => any::<String>().prop_map(|text| value(Kind::StringValue(text))),
        2 => any::<bool>().prop_map(|truth| value(Kind::BoolValue(truth))),
        2 => any::<i32>().prop_map(|null| value(Kind::NullValue(null))),
    ];
    let tree = leaf.prop_recursive(5, 20, 4, |inner| {
        let list = vec(inner.clone(), 0..4).prop_map(|values| value(Kind::ListValue(ListValue { values })));
        let fields = vec((any::<String>(), inner), 0..4);
        let object = fields
            .prop_map(|fields| value(Kind::StructValue(Struct { fields: fields.into_iter().collect() })));
        Union::new([list.boxed(), object.boxed()])
    });
    // Within the limit, at it, beyond it, and beyond what protobuf itself takes.
    let depth = select(vec![1_usize, 31, 32, 33, 40, 60, 90]);
    let deep = (depth, any::<bool>()).prop_map(|(depth, objects)| {
        (0..depth).fold(value(Kind::NullValue(0)), |inner, _| nested(inner, objects))
    });
    prop_oneof![20 => tree, 1 => Just(Value { kind: None }), 2 => deep]
}

fn nested(inner: Value, in_object: bool) -> Value {
    if in_object {
        value(Kind::StructValue(Struct { fields: [("a".to_owned(), inner)].into() }))
    } else {
        value(Kind::ListValue(ListValue { values: vec![inner] }))
    }
}

/// What is done to the bytes of a message.
#[derive(Debug, Clone)]
enum Damage {
    CutTo(prop::sample::Index),
    Flip(Vec<(prop::sample::Index, u8)>),
    Insert(prop::sample::Index, Vec<u8>),
}

fn damage() -> impl Strategy<Value = Damage> {
    let place = any::<prop::sample::Index>;
    prop_oneof![
        place().prop_map(Damage::CutTo),
        vec((place(), 1..=u8::MAX), 1..6).prop_map(Damage::Flip),
        (place(), vec(any::<u8>(), 1..20)).prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
    ]
}

impl Damage {
    fn applied(self, request: SendRequest) -> Vec<u8> {
        let mut bytes = request.encode_to_vec();
        match self {
            Self::CutTo(length) => bytes.truncate(length.index(bytes.len() + 1)),
            Self::Flip(flips) if !bytes.is_empty() => {
                for (at, mask) in flips {
                    let at = at.index(bytes.len());
                    bytes[at] ^= mask;
                }
            }
            Self::Flip(_) => {}
            Self::Insert(at, more) => {
                let at = at.index(bytes.len() + 1);
                bytes.splice(at..at, more);
            }
        }
        bytes
    }
}

/// Makes bodies that are no, or not one, well-formed frame.
fn frames(request: BoxedStrategy<SendRequest>) -> impl Strategy<Value = Framed> {
    let message = request.prop_map(|request| request.encode_to_vec());
    let flag = select(vec![0_u8, 1, 2, 255]);
    let lie = select(vec![0_i64, -1, 1, 100, 5_000_000, i64::from(u32::MAX)]);
    let lying = (flag, lie, message.clone()).prop_map(|(flag, lie, message)| {
        let length = i64::try_from(message.len()).unwrap() + lie;
        frame(flag, u32::try_from(length.clamp(0, i64::from(u32::MAX))).unwrap(), &message)
    });
    let noise = vec(any::<u8>(), 0..30).prop_map(Bytes::from);
    let body = prop_oneof![4 => lying, 1 => noise, 1 => Just(Bytes::new())];
    let encoding = select(vec![None, None, Some("gzip"), Some("identity")]);
    (body, encoding).prop_map(|(body, encoding)| Framed { body, encoding })
}
