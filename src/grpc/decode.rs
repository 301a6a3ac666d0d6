//! Owns the way from protobuf to [`Record`]: every rule of the contract on fields, all violations of a call found at once.
//! Must never read a clock, and never echo a key, a payload or a header's value.

mod unit;

pub use self::unit::process_request;

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;

use super::{json, proto, stamp};
use crate::{
    failure::{Failure, Reason, VIOLATIONS_MAX, Violation},
    record::{Header, MESSAGE_ID_BYTES_MAX, Record, TENANT_HEADER, Topic},
};

/// The header that says how to read the value.
pub const CONTENT_TYPE_HEADER: &str = "content-type";
/// What `content-type` says of a payload given as `json`.
pub const CONTENT_TYPE_JSON: &str = "application/json";

/// The last second of the year 9999, the greatest that a `google.protobuf.Timestamp` may hold.
const TIMESTAMP_SECONDS_MAX: i64 = 253_402_300_799;
const NANOS_PER_MS: i64 = 1_000_000;
const MS_PER_SECOND: i64 = 1_000;

/// What bounds a record; settings.
#[derive(Debug, Clone, Copy)]
pub struct RecordLimits {
    /// The most bytes of key, value, header names and header values together, as [`Record::bytes`] counts them.
    pub record_bytes_max: usize,
    /// The most headers that a caller may give; those that the sidecar adds are not counted.
    pub record_headers_max: usize,
}

/// Where a record or an input stands in its request; paths of violations begin with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// `record` of a `SendRequest`.
    Record,
    /// `records[i]` of a `SendBatchRequest`.
    Records(usize),
    /// `inputs[i]` of a `ProcessAndForwardRequest`.
    Inputs(usize),
    /// `outputs[i]` of a `ProcessAndForwardRequest`.
    Outputs(usize),
}

/// The wrong fields of one request: the first [`VIOLATIONS_MAX`] in words, the others only counted.
#[derive(Debug, Default)]
pub struct Violations {
    kept: Vec<Violation>,
    total: usize,
}

/// A record without violations, whose size is still to be judged.
#[derive(Debug)]
pub struct DecodedRecord {
    record: Record,
    /// The size of what the caller gave, without the `content-type` that was added.
    content_bytes: usize,
}

/// Reads a `SendRequest`. Violations win over the durability, and that over the size.
///
/// # Errors
/// `INVALID_RECORD` with all violations, `SPOOL_NOT_CONFIGURED` or `RECORD_TOO_LARGE`.
pub fn send_request(
    request: proto::SendRequest,
    limits: &RecordLimits,
    now_ms: i64,
) -> Result<Record, Failure> {
    let mut violations = Violations::default();
    let durability = durability(request.durability, &mut violations);
    let decoded = match request.record {
        Some(input) => record(input, Place::Record, limits, now_ms, &mut violations),
        None => {
            violations.add(Place::Record, "must be set");
            None
        }
    };
    match (decoded, durability) {
        (Some(decoded), Some(durability)) => {
            spool_is_not_asked(durability)?;
            decoded.fit(Place::Record, limits).map(apart)
        }
        (None, _) | (_, None) => Err(violations.into_failure()),
    }
}

/// Takes a record off the message that it was read from, all of which would stay for as long as it does. What it holds then is
/// what the pipeline counts. The records of a frame share theirs, which is counted until the last of them has ended.
fn apart(record: Record) -> Record {
    let apart = |bytes: Bytes| if bytes.is_empty() { Bytes::new() } else { Bytes::copy_from_slice(&bytes) };
    let headers = record.headers.into_iter();
    let headers = headers.map(|Header { name, value }| Header { name, value: value.map(apart) }).collect();
    Record { key: record.key.map(apart), value: record.value.map(apart), headers, ..record }
}

/// Reads the records of a frame: each is a record or its own failure. What is wrong with the frame fails each of its records.
pub fn frame(
    request: proto::SendBatchRequest,
    limits: &RecordLimits,
    now_ms: i64,
) -> Vec<Result<Record, Failure>> {
    let mut of_frame = Violations::default();
    let durability = durability(request.durability, &mut of_frame);
    if request
        .timeout
        .is_some_and(|timeout| Duration::try_from(timeout).map_or(true, |timeout| timeout.is_zero()))
    {
        of_frame.add("timeout", "must be more than zero and a valid duration");
    }
    let refused = match durability {
        Some(durability) if of_frame.is_empty() => spool_is_not_asked(durability).err(),
        Some(_) | None => Some(of_frame.into_failure()),
    };
    let records = request.records.into_iter().enumerate();
    let decoded = records.map(|(index, input)| match &refused {
        Some(failure) => Err(failure.clone()),
        None => {
            let (place, mut violations) = (Place::Records(index), Violations::default());
            match record(input, place, limits, now_ms, &mut violations) {
                Some(decoded) => decoded.fit(place, limits),
                None => Err(violations.into_failure()),
            }
        }
    });
    decoded.collect()
}

/// Reads one record; `None` where it added a violation. `now_ms` is the timestamp of a record that has none.
pub fn record(
    input: proto::ProducerRecord,
    place: Place,
    limits: &RecordLimits,
    now_ms: i64,
    violations: &mut Violations,
) -> Option<DecodedRecord> {
    let before = violations.total;
    let mut check = Check { place, violations };
    let is_json = matches!(input.payload, Some(proto::producer_record::Payload::Json(_)));
    let topic = check.topic(&input.topic);
    let value = check.payload(input.payload);
    let headers = check.headers(input.headers, limits.record_headers_max);
    let partition = check.partition(input.partition);
    let timestamp_ms = check.timestamp(input.timestamp).unwrap_or_else(|| now_ms.max(1));
    let message_id = check.message_id(input.message_id);
    if check.violations.total > before {
        return None;
    }
    let key = input.record_key.map(|key| match key {
        proto::producer_record::RecordKey::Key(bytes) => bytes,
        proto::producer_record::RecordKey::KeyText(text) => text.into(),
    });
    let mut record = Record { topic: topic?, key, value, headers, partition, timestamp_ms, message_id };
    let content_bytes = record.bytes();
    if is_json && record.header(CONTENT_TYPE_HEADER).is_none() {
        let value = Some(Bytes::from_static(CONTENT_TYPE_JSON.as_bytes()));
        record.headers.push(Header { name: CONTENT_TYPE_HEADER.to_owned(), value });
    }
    Some(DecodedRecord { record, content_bytes })
}

/// Reads a `durability`; `None` where it added a violation.
pub fn durability(number: i32, violations: &mut Violations) -> Option<proto::Durability> {
    let known = proto::Durability::try_from(number).ok();
    if known.is_none() {
        violations.add("durability", "must be a Durability that this version knows");
    }
    known
}

/// Refuses SPOOLED, because this version has no spool.
fn spool_is_not_asked(durability: proto::Durability) -> Result<(), Failure> {
    match durability {
        proto::Durability::Unspecified | proto::Durability::Replicated => Ok(()),
        proto::Durability::Spooled => {
            let message = "DURABILITY_SPOOLED was asked for, and this sidecar has no spool";
            Err(Failure::new(Reason::SpoolNotConfigured, message).field("durability"))
        }
    }
}

// === impl DecodedRecord ===

impl DecodedRecord {
    /// Returns the record if it is within the limit.
    ///
    /// # Errors
    /// `RECORD_TOO_LARGE`, naming size and limit.
    pub fn fit(self, place: Place, limits: &RecordLimits) -> Result<Record, Failure> {
        let limit = limits.record_bytes_max;
        if self.content_bytes <= limit {
            return Ok(self.record);
        }
        let size = self.content_bytes;
        let message = format!("{place} has {size} bytes of key, value and headers, the limit is {limit}");
        Err(Failure::new(Reason::RecordTooLarge, message).topic(&self.record.topic).field(place.to_string()))
    }
}

// === impl Violations ===

impl Violations {
    /// Adds a violation; field and description are rendered only while there is room.
    pub fn add(&mut self, field: impl fmt::Display, description: impl fmt::Display) {
        self.total += 1;
        if self.kept.len() < VIOLATIONS_MAX {
            self.kept.push(Violation { field: field.to_string(), description: description.to_string() });
        }
    }

    /// Returns whether nothing was wrong.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// Makes the `INVALID_RECORD` that names them all.
    #[must_use]
    pub fn into_failure(self) -> Failure {
        Failure::invalid(self.kept, self.total)
    }
}

// === impl Place ===

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Record => formatter.write_str("record"),
            Self::Records(position) => write!(formatter, "records[{position}]"),
            Self::Inputs(position) => write!(formatter, "inputs[{position}]"),
            Self::Outputs(position) => write!(formatter, "outputs[{position}]"),
        }
    }
}

/// Checks the fields of one record or input.
struct Check<'a> {
    place: Place,
    violations: &'a mut Violations,
}

impl Check<'_> {
    fn refuse(&mut self, field: impl fmt::Display, description: impl fmt::Display) {
        self.violations.add(format_args!("{}.{field}", self.place), description);
    }

    fn topic(&mut self, name: &str) -> Option<Topic> {
        match Topic::parse(name) {
            Ok(topic) if topic.is_kafkas_own() => {
                self.refuse("topic", "must not start with '__', as Kafka's own topics do");
                None
            }
            Ok(topic) => Some(topic),
            Err(error) => {
                self.refuse("topic", error);
                None
            }
        }
    }

    fn payload(&mut self, payload: Option<proto::producer_record::Payload>) -> Option<Bytes> {
        match payload {
            Some(proto::producer_record::Payload::Value(bytes)) => Some(bytes),
            Some(proto::producer_record::Payload::ValueText(text)) => Some(text.into()),
            Some(proto::producer_record::Payload::Json(value)) => {
                let mut refuse =
                    |path: &json::JsonPath<'_>, fault| self.refuse(format_args!("json{path}"), fault);
                Some(json::text(&value, &mut refuse).into())
            }
            Some(proto::producer_record::Payload::Tombstone(proto::Tombstone {})) => None,
            None => {
                self.refuse("payload", "must be one of value, value_text, json and tombstone");
                None
            }
        }
    }

    /// Reads the headers; of too many only the first `count_max` are looked at.
    fn headers(&mut self, inputs: Vec<proto::Header>, count_max: usize) -> Vec<Header> {
        if inputs.len() > count_max {
            self.refuse("headers", format_args!("must be at most {count_max}"));
        }
        let mut headers = Vec::with_capacity(inputs.len().min(count_max) + stamp::HEADERS_ADDED_MAX);
        let mut has_tenant = false;
        for (position, input) in inputs.into_iter().take(count_max).enumerate() {
            let is_tenant = input.name == TENANT_HEADER;
            if input.name.is_empty() {
                self.refuse(format_args!("headers[{position}].name"), "must not be empty");
            } else if is_tenant && has_tenant {
                let description = "must not be a second 'tenant-id', which decides the partition";
                self.refuse(format_args!("headers[{position}].name"), description);
            }
            has_tenant |= is_tenant;
            let value = input.content.map(|content| match content {
                proto::header::Content::Value(bytes) => bytes,
                proto::header::Content::ValueText(text) => text.into(),
            });
            headers.push(Header { name: input.name, value });
        }
        headers
    }

    fn partition(&mut self, partition: Option<i32>) -> Option<i32> {
        if partition.is_some_and(|partition| partition < 0) {
            self.refuse("partition", "must not be negative");
        }
        partition
    }

    /// Reads a timestamp in milliseconds; what is finer is cut off.
    fn timestamp(&mut self, timestamp: Option<prost_types::Timestamp>) -> Option<i64> {
        let prost_types::Timestamp { seconds, nanos } = timestamp?;
        if !(0..=999_999_999).contains(&nanos) {
            self.refuse("timestamp.nanos", "must be 0 to 999999999");
        } else if seconds > TIMESTAMP_SECONDS_MAX {
            self.refuse("timestamp", "must not be after the year 9999");
        } else {
            let ms = seconds.saturating_mul(MS_PER_SECOND).saturating_add(i64::from(nanos) / NANOS_PER_MS);
            if ms < 1 {
                self.refuse("timestamp", "must be at least 1 ms after 1970-01-01T00:00:00Z");
            }
            return Some(ms);
        }
        None
    }

    fn message_id(&mut self, id: String) -> Option<Arc<str>> {
        if id.len() > MESSAGE_ID_BYTES_MAX {
            self.refuse("message_id", format_args!("must have at most {MESSAGE_ID_BYTES_MAX} bytes"));
            return None;
        }
        (!id.is_empty()).then(|| id.into())
    }
}

#[cfg(test)]
mod tests;
