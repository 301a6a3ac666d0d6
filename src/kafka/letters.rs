//! Owns the reading of a topic of dead letters: its partitions, how far a group has dealt with each, its records.
//! Must never join a group, nor commit anything: what was dealt with is committed together with what came of it.

use std::{
    fmt,
    time::{Duration, Instant},
};

use bytes::Bytes;
use rdkafka::{
    ClientConfig, ClientContext, Message as _, Offset, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer as _, ConsumerContext},
    error::{KafkaError, RDKafkaErrorCode},
    message::BorrowedMessage,
};

use super::{classify, producer};
use crate::{
    failure::{Failure, Reason},
    record::{Record, Topic},
};

/// How long one look for a record lasts at most, in milliseconds.
const POLL_MS: u64 = 100;

/// What a group has committed for a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Noted {
    /// The offset; none where nothing is committed.
    pub offset: Option<i64>,
    /// The text beside it.
    pub text: String,
}

/// What librdkafka tells besides: a partition's end is no error here.
struct Quiet;

impl ClientContext for Quiet {
    fn error(&self, error: KafkaError, sentence: &str) {
        if let Some(code) = error.rdkafka_error_code() {
            tracing::debug!(code = classify::name(code), "{sentence}");
        }
    }
}

impl ConsumerContext for Quiet {}

/// Reads one topic, partition by partition.
pub struct LettersReader {
    consumer: BaseConsumer<Quiet>,
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
        let consumer = config.create_with_context(Quiet);
        let consumer = consumer.map_err(|error| producer::without_value(&error, properties))?;
        Ok(Self { consumer, topic, group: group.to_owned() })
    }

    /// Returns how many partitions a topic has. Blocks.
    ///
    /// # Errors
    /// Where there is no such topic, or it cannot be known in time.
    pub fn partition_count(&self, topic: &Topic, wait: Duration) -> Result<u32, Failure> {
        let metadata = self.consumer.fetch_metadata(Some(topic.as_str()), wait);
        let metadata = metadata.map_err(|error| unreachable(topic, &error))?;
        let Some(found) = metadata.topics().iter().find(|found| found.name() == topic.as_str()) else {
            return Err(Failure::new(Reason::TopicNotFound, format!("Kafka knows no topic {topic}")));
        };
        if let Some(failure) = found.error().and_then(|error| classify::topic_metadata(error, topic)) {
            return Err(failure);
        }
        match u32::try_from(found.partitions().len()) {
            Ok(count) if count > 0 => Ok(count),
            Ok(_) | Err(_) => {
                Err(Failure::new(Reason::TopicNotFound, format!("Kafka knows no topic {topic}")))
            }
        }
    }

    /// Returns what the group has committed, in the order of the partitions; no open transaction's. Blocks.
    ///
    /// # Errors
    /// Where it cannot be known in time, or Kafka does not let us.
    pub fn noted(&self, partitions: u32, wait: Duration) -> Result<Vec<Noted>, Failure> {
        let count = i32::try_from(partitions).unwrap_or(i32::MAX);
        let mut asked = TopicPartitionList::new();
        asked.add_partition_range(self.topic.as_str(), 0, count - 1);
        let failed = |error: &KafkaError| {
            classify::offsets(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown), &self.group)
        };
        let committed = self.consumer.committed_offsets(asked, wait).map_err(|error| failed(&error))?;
        let of = |partition: i32| {
            let Some(found) = committed.find_partition(self.topic.as_str(), partition) else {
                return Err(classify::offsets(RDKafkaErrorCode::UnknownPartition, &self.group));
            };
            found.error().map_err(|error| failed(&error))?;
            let offset = match found.offset() {
                Offset::Offset(offset) => Some(offset),
                Offset::Beginning
                | Offset::End
                | Offset::Stored
                | Offset::Invalid
                | Offset::OffsetTail(_) => None,
            };
            Ok(Noted { offset, text: found.metadata().to_owned() })
        };
        (0..count).map(of).collect()
    }

    /// Goes to an offset of a partition, or to its beginning; [`LettersReader::next`] reads from there.
    ///
    /// # Errors
    /// Where librdkafka refuses.
    pub fn go_to(&self, partition: i32, offset: Option<i64>) -> Result<(), Failure> {
        let mut assigned = TopicPartitionList::new();
        let offset = offset.map_or(Offset::Beginning, Offset::Offset);
        let added = assigned.add_partition_offset(self.topic.as_str(), partition, offset);
        added.and_then(|()| self.consumer.assign(&assigned)).map_err(|error| unreachable(&self.topic, &error))
    }

    /// Returns the next record and its offset; none at the partition's end. Blocks.
    ///
    /// # Errors
    /// Where neither comes within the wait, or Kafka does not let us read.
    pub fn next(&self, wait: Duration) -> Result<Option<(i64, Record)>, Failure> {
        let by = Instant::now() + wait;
        while Instant::now() < by {
            match self.consumer.poll(Duration::from_millis(POLL_MS)) {
                None => {}
                Some(Ok(message)) => return Ok(Some((message.offset(), self.record(&message)))),
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok(None),
                Some(Err(error)) => {
                    let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
                    if classify::is_of_topic(code) {
                        return Err(classify::topic(code, &self.topic)
                            .unwrap_or_else(|| unreachable(&self.topic, &error)));
                    }
                    tracing::debug!(code = classify::name(code), "reading goes on");
                }
            }
        }
        let sentence = format!("topic {} could not be read in time", self.topic);
        Err(Failure::new(Reason::BrokersUnavailable, sentence))
    }

    fn record(&self, message: &BorrowedMessage<'_>) -> Record {
        Record {
            topic: self.topic.clone(),
            key: message.key().map(Bytes::copy_from_slice),
            value: message.payload().map(Bytes::copy_from_slice),
            headers: message.headers().map(producer::read_headers).unwrap_or_default(),
            partition: None,
            timestamp_ms: message.timestamp().to_millis().unwrap_or_default().max(1),
            message_id: None,
        }
    }
}

impl fmt::Debug for LettersReader {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("LettersReader").field("topic", &self.topic).finish_non_exhaustive()
    }
}

fn unreachable(topic: &Topic, error: &KafkaError) -> Failure {
    let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
    let sentence = format!("Kafka does not answer for topic {topic}: {}", classify::name(code));
    Failure::new(Reason::BrokersUnavailable, sentence).kafka_error(classify::name(code))
}
