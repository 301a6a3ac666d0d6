//! Owns what a dead letter is: which failures make one, to which topic it goes, and what it says of itself.
//! Must stay pure: no clock, no Kafka; and never make a dead letter of a dead letter.

mod aside;
mod found;
mod handled;

pub use self::{
    found::{Filter, Letter},
    handled::Handled,
};

use std::{collections::HashMap, fmt};

use bytes::Bytes;
use md5::{Digest as _, Md5};

use crate::{
    failure::{Failure, Persisted, Reason},
    record::{Header, Record, Topic, TopicError},
};

/// How every header begins that a dead letter has beside those of its record; the caller's own of that name are set aside.
pub const HEADER_PREFIX: &str = "dlq-";
/// What stands for the record's topic in the name of a dead-letter topic.
pub const PLACEHOLDER: &str = "{topic}";
/// The word that turns dead letters off.
pub const OFF: &str = "off";
/// What a cut dead letter keeps of its record's key and of its headers, each in bytes; the value is always cut.
pub const KEPT_BYTES_MAX: usize = 1024;

/// Where the dead letters of a topic go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// Nowhere: there are none.
    Off,
    /// To the topic whose name is made of theirs.
    Beside {
        /// What comes before it.
        before: String,
        /// What comes behind it.
        behind: String,
    },
    /// To that topic.
    Topic(Topic),
}

/// Where the dead letters of all topics go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destinations {
    /// For topics that are not named.
    pub default: Destination,
    /// For single topics.
    pub topics: HashMap<Topic, Destination>,
}

/// Says that no topic can have the name that the settings make for the dead letters of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the name of its dead-letter topic {0}")]
pub struct Unnameable(TopicError);

/// How a record came to be dead.
#[derive(Debug, Clone, Copy)]
pub struct Death<'a> {
    /// Why.
    pub failure: &'a Failure,
    /// The partition, where it was chosen.
    pub partition: Option<i32>,
    /// When the sidecar accepted the record, in milliseconds since the epoch.
    pub first_ms: i64,
    /// When it failed for good, in milliseconds since the epoch.
    pub last_ms: i64,
}

/// Tells whether a record that failed so gets a dead letter: sending it again cannot help, or it was tried for as long as the
/// sidecar tries. What the caller got wrong by itself, and what it may send again at once, gets none.
#[must_use]
pub fn is_for(failure: &Failure, is_out_of_retries: bool) -> bool {
    match failure.reason() {
        Reason::RecordTooLarge | Reason::RecordRejected | Reason::TopicNotFound | Reason::NotAuthorized => {
            true
        }
        Reason::BrokersUnavailable | Reason::DeliveryUnknown => is_out_of_retries,
        Reason::InvalidRecord
        | Reason::MessageIdReused
        | Reason::CallerNotAllowed
        | Reason::KafkaAuthenticationFailed
        | Reason::QueueFull
        | Reason::SpoolFull
        | Reason::SpoolNotConfigured
        | Reason::ResponsesNotRead
        | Reason::Draining
        | Reason::DeadlineNotWritten
        | Reason::DeliveryUnknownAtDeadline
        | Reason::CancelledByCaller
        | Reason::TransactionAborted
        | Reason::ConsumerFenced
        | Reason::OffsetMismatch
        | Reason::ProducerFenced
        | Reason::CommitUnknown
        | Reason::Internal => false,
    }
}

/// Makes the dead letter of a record: key, value and headers as they are, save that headers of the caller's which look like a
/// letter's own are set aside, and how it died. Its own time is that of the death: the record's may be the one that Kafka
/// refuses, or so old that Kafka would soon delete the letter.
#[must_use]
pub fn letter(record: &Record, to: Topic, death: &Death<'_>) -> Record {
    let mut headers: Vec<_> = record.headers.iter().map(aside::set_aside).collect();
    headers.extend(told(record, death));
    Record {
        topic: to,
        key: record.key.clone(),
        value: record.value.clone(),
        headers,
        // The caller's partition may not be there, and the key says the rest.
        partition: None,
        timestamp_ms: death.last_ms.max(1),
        message_id: None,
    }
}

/// Makes the dead letter of a record that is too large to be one: its value is left out, and its key and its headers where
/// they are larger than [`KEPT_BYTES_MAX`]; their sizes and digests stand for them.
#[must_use]
pub fn cut(record: &Record, to: Topic, death: &Death<'_>) -> Record {
    let mut letter = letter(record, to, death);
    let mut parts = Vec::new();
    let digest = |part: &str, bytes: &Bytes| {
        [
            text(&format!("{part}-bytes"), bytes.len().to_string()),
            text(&format!("{part}-md5"), hexadecimal(&Md5::digest(bytes))),
        ]
    };
    let mut digests = Vec::new();
    if record.headers.iter().map(Header::bytes).sum::<usize>() > KEPT_BYTES_MAX {
        parts.push("headers");
        letter.headers = told(record, death);
    }
    if let Some(key) = record.key.as_ref().filter(|key| key.len() > KEPT_BYTES_MAX) {
        parts.push("key");
        digests.extend(digest("key", key));
        letter.key = Some(Bytes::new());
    }
    if let Some(value) = &record.value {
        parts.push("value");
        digests.extend(digest("value", value));
        letter.value = Some(Bytes::new());
    }
    letter.headers.push(text("cut", parts.join(",")));
    letter.headers.extend(digests);
    letter
}

/// The headers that say where the record was to go and how it died.
fn told(record: &Record, death: &Death<'_>) -> Vec<Header> {
    let failure = death.failure;
    let persisted = match failure.persisted() {
        Persisted::No => "NO",
        Persisted::Maybe => "MAYBE",
    };
    let mut headers = vec![
        text("topic", record.topic.as_str()),
        text("timestamp", record.timestamp_ms.to_string()),
        text("reason", failure.reason().name()),
        text("attempts", failure.tries().to_string()),
        text("first-time", death.first_ms.to_string()),
        text("last-time", death.last_ms.to_string()),
        text("persisted", persisted),
    ];
    headers.extend(death.partition.map(|partition| text("partition", partition.to_string())));
    headers.extend(record.partition.map(|asked| text("asked-partition", asked.to_string())));
    headers.extend(failure.kafkas_name().map(|name| text("kafka-error", name)));
    headers.extend(trace_id(record).map(|id| text("trace-id", id)));
    headers
}

/// Reads the trace id of a record's `traceparent`, whose form is checked where it enters.
fn trace_id(record: &Record) -> Option<String> {
    let parent = std::str::from_utf8(record.header("traceparent")??).ok()?;
    parent.split('-').nth(1).map(str::to_owned)
}

fn text(name: &str, value: impl Into<String>) -> Header {
    Header { name: format!("{HEADER_PREFIX}{name}"), value: Some(Bytes::from(value.into())) }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

// === impl Destination ===

impl Destination {
    /// Reads `off`, a topic's name, or one with `{topic}` in it.
    ///
    /// # Errors
    /// Says what is wrong with the text.
    pub fn parse(written: &str) -> Result<Self, String> {
        if written == OFF {
            return Ok(Self::Off);
        }
        let Some((before, behind)) = written.split_once(PLACEHOLDER) else {
            return Topic::parse(written).map(Self::Topic).map_err(|error| error.to_string());
        };
        if before.is_empty() && behind.is_empty() {
            return Err("must differ from the topic itself".to_owned());
        }
        Topic::parse(&format!("{before}t{behind}")).map_err(|error| error.to_string())?;
        Ok(Self::Beside { before: before.to_owned(), behind: behind.to_owned() })
    }

    /// Returns the topic for the dead letters of a topic; none if there are none.
    ///
    /// # Errors
    /// If the name would be too long for a topic.
    pub fn of(&self, topic: &Topic) -> Result<Option<Topic>, Unnameable> {
        match self {
            Self::Off => Ok(None),
            Self::Beside { before, behind } => {
                Topic::parse(&format!("{before}{topic}{behind}")).map(Some).map_err(Unnameable)
            }
            Self::Topic(own) => Ok(Some(own.clone()).filter(|own| own != topic)),
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => formatter.write_str(OFF),
            Self::Beside { before, behind } => write!(formatter, "{before}{PLACEHOLDER}{behind}"),
            Self::Topic(topic) => write!(formatter, "{topic}"),
        }
    }
}

// === impl Destinations ===

impl Destinations {
    /// Returns the topic for the dead letters of a topic; none if there are none.
    ///
    /// # Errors
    /// If the name would be too long for a topic.
    pub fn of(&self, topic: &Topic) -> Result<Option<Topic>, Unnameable> {
        self.topics.get(topic).unwrap_or(&self.default).of(topic)
    }

    /// Tells whether the dead letters of a topic go to `letters`: a letter is replayed into no other topic.
    #[must_use]
    pub fn go_to(&self, letters: &Topic, topic: &Topic) -> bool {
        self.of(topic).is_ok_and(|to| to.as_ref() == Some(letters))
    }
}

#[cfg(test)]
mod tests;
