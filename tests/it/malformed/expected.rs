//! Owns what the contract says of a well-formed request, written down a second time and from its text alone.

use std::collections::BTreeSet;

use producer_sidecar::grpc::proto::{
    ProducerRecord, SendRequest, header, producer_record::Payload, producer_record::RecordKey,
};
use prost_types::{Value, value::Kind};

const RECORD_BYTES_MAX: usize = 1_000_000;
const HEADERS_MAX: usize = 100;
const MESSAGE_ID_BYTES_MAX: usize = 256;
const VIOLATIONS_MAX: usize = 20;
/// The last second of the year 9999.
const SECONDS_MAX: i64 = 253_402_300_799;
/// The deepest nesting of arrays and objects.
const NESTING_MAX: usize = 32;

/// What must be answered.
#[derive(Debug)]
pub enum Expected {
    Written,
    /// One reason.
    Refused(&'static str),
    /// INVALID_RECORD for these fields; `all` of them where no limit keeps some from being seen.
    Invalid {
        fields: BTreeSet<String>,
        all: bool,
    },
}

pub fn expected(topic: &str, partitions: i32, request: &SendRequest) -> Expected {
    let mut wrong = Wrong::default();
    if !(0..=2).contains(&request.durability) {
        wrong.field("durability");
    }
    let Some(record) = &request.record else {
        wrong.field("record");
        return wrong.invalid();
    };
    wrong.record(record);
    if wrong.count > 0 {
        return wrong.invalid();
    }
    let partition_is_there = record.partition.is_none_or(|partition| partition < partitions);
    match () {
        () if request.durability == 2 => Expected::Refused("SPOOL_NOT_CONFIGURED"),
        () if bytes(record) > RECORD_BYTES_MAX => Expected::Refused("RECORD_TOO_LARGE"),
        () if record.topic != topic => Expected::Refused("TOPIC_NOT_FOUND"),
        () if partition_is_there => Expected::Written,
        () => {
            wrong.field("record.partition");
            wrong.invalid()
        }
    }
}

/// The wrong fields of a request.
#[derive(Default)]
struct Wrong {
    fields: BTreeSet<String>,
    count: usize,
    is_too_deep: bool,
}

impl Wrong {
    fn field(&mut self, name: &str) {
        self.fields.insert(name.to_owned());
        self.count += 1;
    }

    /// Of too many only the first are named; what is too deep may end the reading before the rest was looked at.
    fn invalid(self) -> Expected {
        Expected::Invalid { fields: self.fields, all: self.count <= VIOLATIONS_MAX && !self.is_too_deep }
    }

    fn record(&mut self, record: &ProducerRecord) {
        if !is_topic(&record.topic) {
            self.field("record.topic");
        }
        match &record.payload {
            None => self.field("record.payload"),
            Some(Payload::Json(json)) => self.json(json, 0),
            Some(Payload::Value(_) | Payload::ValueText(_) | Payload::Tombstone(_)) => {}
        }
        if record.headers.len() > HEADERS_MAX {
            self.field("record.headers");
        }
        let tenants = record.headers.iter().filter(|header| header.name == "tenant-id").count();
        let nameless = record.headers.iter().filter(|header| header.name.is_empty()).count();
        for _ in 0..nameless + tenants.saturating_sub(1) {
            self.field("record.headers");
        }
        if record.partition.is_some_and(|partition| partition < 0) {
            self.field("record.partition");
        }
        if let Some(time) = &record.timestamp {
            let in_order = (0..1_000_000_000).contains(&time.nanos);
            let after_epoch = time.seconds > 0 || (time.seconds == 0 && time.nanos >= 1_000_000);
            if !(in_order && after_epoch && time.seconds <= SECONDS_MAX) {
                self.field("record.timestamp");
            }
        }
        if record.message_id.len() > MESSAGE_ID_BYTES_MAX {
            self.field("record.message_id");
        }
    }

    fn json(&mut self, value: &Value, depth: usize) {
        match &value.kind {
            None => self.field("record.json"),
            Some(Kind::ListValue(_) | Kind::StructValue(_)) if depth == NESTING_MAX => {
                self.is_too_deep = true;
                self.field("record.json");
            }
            Some(Kind::ListValue(list)) => {
                list.values.iter().for_each(|value| self.json(value, depth + 1));
            }
            Some(Kind::StructValue(object)) => {
                object.fields.values().for_each(|value| self.json(value, depth + 1));
            }
            Some(Kind::NumberValue(number)) => {
                // 2^53 - 1; what is no number is within nothing.
                if !(-9_007_199_254_740_991.0..=9_007_199_254_740_991.0).contains(number) {
                    self.field("record.json");
                }
            }
            Some(Kind::NullValue(_) | Kind::BoolValue(_) | Kind::StringValue(_)) => {}
        }
    }
}

fn is_topic(name: &str) -> bool {
    let allowed = |character: char| character.is_ascii_alphanumeric() || ['.', '_', '-'].contains(&character);
    (1..=249).contains(&name.chars().count())
        && name.chars().all(allowed)
        && ![".", ".."].contains(&name)
        && !name.starts_with("__")
}

/// The size that the limit is about; JSON is made far smaller than it.
fn bytes(record: &ProducerRecord) -> usize {
    let key = match &record.record_key {
        Some(RecordKey::Key(bytes)) => bytes.len(),
        Some(RecordKey::KeyText(text)) => text.len(),
        None => 0,
    };
    let value = match &record.payload {
        Some(Payload::Value(bytes)) => bytes.len(),
        Some(Payload::ValueText(text)) => text.len(),
        Some(Payload::Json(_) | Payload::Tombstone(_)) | None => 0,
    };
    let header = |header: &producer_sidecar::grpc::proto::Header| {
        let content = match &header.content {
            Some(header::Content::Value(bytes)) => bytes.len(),
            Some(header::Content::ValueText(text)) => text.len(),
            None => 0,
        };
        header.name.len() + content
    };
    key + value + record.headers.iter().map(header).sum::<usize>()
}
