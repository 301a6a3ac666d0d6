//! Owns the reading of a topic of dead letters: its partitions, how far a group has dealt with each, its records.
//! Must never join a group, nor commit anything: what was dealt with is committed together with what came of it.

use std::{
    fmt,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
};

use super::{
    classify,
    code::ErrorCode,
    ffi::{self, Event},
    producer,
};
use crate::{
    failure::{Failure, Reason},
    record::{Record, Topic},
};

/// How long one look for a record lasts at most, in milliseconds.
const POLL_MS: u64 = 100;

pub use super::ffi::CommittedOffset as Noted;

/// Reads one topic, partition by partition.
pub struct LettersReader {
    consumer: BaseConsumer,
    topic: Topic,
    group: String,
}

impl LettersReader {
    /// Starts the consumer; returns before any broker has been reached.
    ///
    /// # Errors
    /// Where librdkafka refuses the properties.
    pub fn start(
        properties: &[(String, String)],
        group: &str,
        topic: Topic,
    ) -> Result<Self, producer::ConnectError> {
        let mut config = ClientConfig::new();
        config.set_log_level(RDKafkaLogLevel::Warning);
        for (name, value) in properties {
            config.set(name, value);
        }
        for (name, value) in [
            ("group.id", group),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("enable.partition.eof", "true"),
            ("isolation.level", "read_committed"),
            ("auto.offset.reset", "earliest"),
        ] {
            config.set(name, value);
        }
        let consumer = config.create().map_err(|error| producer::without_value(&error, properties))?;
        Ok(Self { consumer, topic, group: group.to_owned() })
    }

    /// Returns how many partitions a topic has. Blocks.
    ///
    /// # Errors
    /// Where there is no such topic, or it cannot be known in time.
    pub fn partition_count(&self, topic: &Topic, wait: Duration) -> Result<u32, Failure> {
        let unknown = || Failure::new(Reason::TopicNotFound, format!("Kafka knows no topic {topic}"));
        let found = ffi::topic_partitions(self.consumer.client(), topic, wait);
        let found = found.map_err(|code| unreachable(topic, code))?.ok_or_else(unknown)?;
        if let Some(failure) = classify::topic(found.code, topic) {
            return Err(failure);
        }
        u32::try_from(found.count).ok().filter(|count| *count > 0).ok_or_else(unknown)
    }

    /// Returns what the group has committed, in the order of the partitions; no open transaction's. Blocks.
    ///
    /// # Errors
    /// Where it cannot be known in time, or Kafka does not let us.
    pub fn noted(&self, partitions: u32, wait: Duration) -> Result<Vec<Noted>, Failure> {
        let count = i32::try_from(partitions).unwrap_or(i32::MAX);
        let asked: Vec<_> = (0..count).map(|partition| (&self.topic, partition)).collect();
        let committed = ffi::committed_with_text(&self.consumer, &asked, wait);
        committed.map_err(|code| classify::offsets(code, &self.group))
    }

    /// Goes to an offset of a partition, or to its beginning; [`LettersReader::next`] reads from there.
    ///
    /// # Errors
    /// Where librdkafka refuses.
    pub fn go_to(&self, partition: i32, offset: Option<i64>) -> Result<(), Failure> {
        let mut assigned = TopicPartitionList::new();
        let offset = offset.map_or(Offset::Beginning, Offset::Offset);
        let added = assigned.add_partition_offset(self.topic.as_str(), partition, offset);
        added.and_then(|()| self.consumer.assign(&assigned)).map_err(|error| self.refused(&error))
    }

    /// Returns the next record and its offset; none at the partition's end. Blocks.
    ///
    /// # Errors
    /// Where neither comes within the wait, or Kafka does not let us read.
    pub fn next(&self, wait: Duration) -> Result<Option<(i64, Record)>, Failure> {
        let by = Instant::now() + wait;
        while Instant::now() < by {
            let mut found = None;
            let told = |event: Event<'_>| match event {
                Event::Read(read) => found = Some(Ok(Some((read.offset(), read.record(self.topic.clone()))))),
                Event::Error(ErrorCode::LOCAL_PARTITION_EOF, _) => found = Some(Ok(None)),
                Event::Error(code, sentence) if classify::is_of_topic(code) => {
                    tracing::debug!(%code, "{sentence}");
                    let failure = classify::topic(code, &self.topic);
                    found = Some(Err(failure.unwrap_or_else(|| unreachable(&self.topic, code))));
                }
                Event::Error(code, sentence) => tracing::debug!(%code, "reading goes on: {sentence}"),
                Event::Log(_, facility, line) => tracing::debug!(target: "librdkafka", %facility, "{line}"),
                Event::Report(_) | Event::Statistics(_) => {}
            };
            ffi::poll_consumer(&self.consumer, Duration::from_millis(POLL_MS), told);
            if let Some(found) = found {
                return found;
            }
        }
        let sentence = format!("topic {} could not be read in time", self.topic);
        Err(Failure::new(Reason::BrokersUnavailable, sentence))
    }

    /// Says that librdkafka itself refuses; its enum has all of its own codes.
    fn refused(&self, error: &KafkaError) -> Failure {
        unreachable(&self.topic, error.rdkafka_error_code().map_or(ErrorCode::UNKNOWN, producer::local_code))
    }
}

impl fmt::Debug for LettersReader {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("LettersReader").field("topic", &self.topic).finish_non_exhaustive()
    }
}

fn unreachable(topic: &Topic, code: ErrorCode) -> Failure {
    let sentence = format!("Kafka does not answer for topic {topic}: {code}");
    Failure::new(Reason::BrokersUnavailable, sentence).kafka_error(code.name())
}
