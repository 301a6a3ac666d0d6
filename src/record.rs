//! Owns the record as the inside of the program knows it: parsed, bounded, free of protobuf and of librdkafka.
//! Must never hold a value that has not been checked; what does not fit is refused where it enters.

use std::{fmt, sync::Arc};

use bytes::Bytes;

/// The longest topic name that Kafka takes, in characters (Kafka's `Topic.MAX_NAME_LENGTH`).
pub const TOPIC_CHARACTERS_MAX: usize = 249;
/// How the names of Kafka's own topics begin.
pub const KAFKAS_TOPIC_PREFIX: &str = "__";
/// The last millisecond of the year 9999, the greatest time that a record may have. It is below 2^53, so that a JSON number
/// holds it.
pub const TIMESTAMP_MS_MAX: i64 = 253_402_300_799_999;
/// The longest `message_id`, in bytes of UTF-8.
pub const MESSAGE_ID_BYTES_MAX: usize = 256;
/// The header whose text decides the partition under `tenant-md5`.
pub const TENANT_HEADER: &str = "tenant-id";
/// So many headers are within what every record costs.
const HEADERS_FEW: usize = 8;
/// What a header costs beside its text, in bytes: ours, and librdkafka's copy.
const HEADER_OVERHEAD_BYTES: usize = 160;

/// A topic name that Kafka accepts: 1 to 249 of `a-z A-Z 0-9 . _ -`, neither `.` nor `..`; cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Topic(Arc<str>);

/// Says why a text is no topic name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// The text is empty.
    #[error("must not be empty")]
    Empty,
    /// The text has more than 249 characters.
    #[error("must have at most {TOPIC_CHARACTERS_MAX} characters")]
    TooLong,
    /// The text has a character outside of `a-z A-Z 0-9 . _ -`.
    #[error("may hold only letters and digits of ASCII, '.', '_' and '-'")]
    Character,
    /// The text is `.` or `..`.
    #[error("must not be '.' or '..'")]
    Dots,
}

/// One header of a record; a null value is told apart from an empty one.
#[derive(Clone, PartialEq, Eq)]
pub struct Header {
    /// The name, not empty; names may repeat and keep their order.
    pub name: String,
    /// The value; `None` is Kafka's null.
    pub value: Option<Bytes>,
}

/// A record that may be handed to Kafka once its partition is chosen.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// Where it goes.
    pub topic: Topic,
    /// The key; `None` is Kafka's null, which is not an empty key.
    pub key: Option<Bytes>,
    /// The value; `None` is a tombstone, which is not an empty value.
    pub value: Option<Bytes>,
    /// The headers in order, those that the sidecar added last.
    pub headers: Vec<Header>,
    /// The partition that the caller asked for; zero or more.
    pub partition: Option<i32>,
    /// Milliseconds since the epoch, at least 1 (librdkafka reads 0 as now).
    pub timestamp_ms: i64,
    /// The caller's id for deduplication, 1 to 256 bytes.
    pub message_id: Option<Arc<str>>,
}

/// Where a record went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The topic.
    pub topic: Topic,
    /// The partition.
    pub partition: i32,
    /// The offset; unset where the broker recognised a repeated batch and did not say it.
    pub offset: Option<i64>,
    /// Milliseconds since the epoch; the broker's where the topic keeps the time of appending.
    pub timestamp_ms: i64,
    /// Whether an earlier record with the same message id went there, and nothing was written now.
    pub duplicate: bool,
}

// === impl Receipt ===

impl Receipt {
    /// Makes the receipt of one who brought the same record again.
    #[must_use]
    pub fn of_duplicate(self) -> Self {
        Self { duplicate: true, ..self }
    }
}

// === impl Topic ===

impl Topic {
    /// Parses a topic name.
    ///
    /// # Errors
    /// Says which of Kafka's rules the text breaks.
    pub fn parse(text: &str) -> Result<Self, TopicError> {
        if text.is_empty() {
            return Err(TopicError::Empty);
        }
        if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')) {
            return Err(TopicError::Character);
        }
        if text.len() > TOPIC_CHARACTERS_MAX {
            return Err(TopicError::TooLong);
        }
        if matches!(text, "." | "..") {
            return Err(TopicError::Dots);
        }
        Ok(Self(text.into()))
    }

    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Tells whether the name is one of Kafka's own topics, which the sidecar does not write to.
    #[must_use]
    pub fn is_kafkas_own(&self) -> bool {
        self.0.starts_with(KAFKAS_TOPIC_PREFIX)
    }

    /// Returns the name, shared.
    #[must_use]
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, formatter)
    }
}

// === impl Header ===

impl Header {
    /// Returns the bytes of name and value.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.name.len() + self.value.as_ref().map_or(0, Bytes::len)
    }
}

impl fmt::Debug for Header {
    /// Prints the name and the length: values are the tenants' data.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = self.value.as_ref().map(Bytes::len);
        write!(formatter, "{}: {length:?} bytes", self.name)
    }
}

// === impl Record ===

impl Record {
    /// Returns the bytes that count against the limits: key, value, header names and header values.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.key.as_ref().map_or(0, Bytes::len)
            + self.value.as_ref().map_or(0, Bytes::len)
            + self.headers.iter().map(Header::bytes).sum::<usize>()
    }

    /// Returns what the record takes of the queue's bytes: those that count against the limits, and what many headers cost
    /// beside their texts.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.bytes() + self.headers.len().saturating_sub(HEADERS_FEW) * HEADER_OVERHEAD_BYTES
    }

    /// Returns the value of the first header of that name; the inner `None` is a null value.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<Option<&Bytes>> {
        let found = self.headers.iter().find(|header| header.name == name)?;
        Some(found.value.as_ref())
    }
}

impl fmt::Debug for Record {
    /// Prints shapes, never contents: keys and payloads are the tenants' data.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Record")
            .field("topic", &self.topic)
            .field("key_bytes", &self.key.as_ref().map(Bytes::len))
            .field("value_bytes", &self.value.as_ref().map(Bytes::len))
            .field("headers", &self.headers)
            .field("partition", &self.partition)
            .field("timestamp_ms", &self.timestamp_ms)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_names_follow_kafkas_rules() {
        for good in ["a", "orders.v1_x-2", &"t".repeat(TOPIC_CHARACTERS_MAX), "..."] {
            assert_eq!(Topic::parse(good).map(|topic| topic.to_string()), Ok(good.to_owned()));
        }
        let cases = [
            ("", TopicError::Empty),
            (".", TopicError::Dots),
            ("..", TopicError::Dots),
            ("a b", TopicError::Character),
            ("ä", TopicError::Character),
            ("a\0", TopicError::Character),
        ];
        for (bad, reason) in cases {
            assert_eq!(Topic::parse(bad), Err(reason), "{bad:?}");
        }
        assert_eq!(Topic::parse(&"t".repeat(250)), Err(TopicError::TooLong));
    }

    #[test]
    fn many_small_headers_count_in_the_queue() {
        let header = Header { name: "n".into(), value: None };
        let record = Record {
            topic: Topic::parse("orders").unwrap(),
            key: None,
            value: None,
            headers: vec![header; HEADERS_FEW + 100],
            partition: None,
            timestamp_ms: 1,
            message_id: None,
        };
        assert_eq!(record.queued_bytes(), record.bytes() + 100 * HEADER_OVERHEAD_BYTES);
    }

    #[test]
    fn debug_prints_hold_no_contents() {
        let record = Record {
            topic: Topic::parse("orders").unwrap(),
            key: Some(Bytes::from_static(b"secret-key")),
            value: Some(Bytes::from_static(b"secret-value")),
            headers: vec![Header { name: "n".into(), value: Some(Bytes::from_static(b"secret-header")) }],
            partition: None,
            timestamp_ms: 1,
            message_id: None,
        };
        assert_eq!(record.bytes(), 10 + 12 + 1 + 13);
        assert_eq!(record.queued_bytes(), record.bytes());
        assert!(!format!("{record:?}").contains("secret"));
    }
}
