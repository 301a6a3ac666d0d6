//! Reads topics back as a consumer sees them: committed records only, by librdkafka, over the harness's back door.
//!
//! It joins no group and commits nothing, so reading changes nothing.

use std::collections::HashSet;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::cluster::Cluster;
use crate::eventually::{eventually, try_eventually};

const SETTLE_BOUND: Duration = Duration::from_secs(10);
const READ_BOUND: Duration = Duration::from_secs(60);

/// One record as a consumer sees it. Null (`None`) and empty are kept apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadRecord {
    /// The partition it was read from.
    pub partition: i32,
    /// Its place in the partition.
    pub offset: i64,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value.
    pub value: Option<Vec<u8>>,
    /// Its headers in their order; names may repeat.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Milliseconds since 1970 in UTC.
    pub timestamp_ms: Option<i64>,
}

/// Reads all of a topic, by partition and offset, up to where its partitions end now.
///
/// Kafka finishes a transaction a moment after its commit is answered, so this waits until no transaction is open on
/// what is there at the call; one that stays open for 10 s is left out, with all that follows it on its partitions.
///
/// # Panics
///
/// When the topic does not exist, or reading takes more than a minute.
pub fn read_topic(cluster: &Cluster, topic: &str) -> Vec<ReadRecord> {
    for partition in partitions(cluster, topic) {
        let end = cluster.end_offsets(topic, partition).high_watermark;
        try_eventually(SETTLE_BOUND, || {
            (cluster.end_offsets(topic, partition).last_stable >= end).then_some(())
        });
    }
    read_committed_now(cluster, topic)
}

/// Reads what a consumer can see at this moment, and waits for no open transaction.
///
/// # Panics
///
/// When the topic does not exist, or reading takes more than a minute.
pub fn read_committed_now(cluster: &Cluster, topic: &str) -> Vec<ReadRecord> {
    let partitions = partitions(cluster, topic);
    let consumer = consumer(cluster);
    let mut assignment = TopicPartitionList::new();
    for partition in partitions.clone() {
        let added = assignment.add_partition_offset(topic, partition, Offset::Beginning);
        added.expect("the beginning is a valid offset");
    }
    // A consumer that knows the leaders before it is assigned partitions saves half a second of looking for them.
    consumer.fetch_metadata(Some(topic), READ_BOUND).expect("the topic's leaders can be looked up");
    consumer.assign(&assignment).expect("partitions can be assigned");
    let mut records = Vec::new();
    let mut unread: HashSet<i32> = partitions.collect();
    eventually(READ_BOUND, &format!("the end of every partition of {topic}"), || {
        // Leaves the closure often enough for the bound to hold, and rarely enough not to cost a step per record.
        for _ in 0..10_000 {
            if unread.is_empty() {
                return Some(());
            }
            match consumer.poll(Duration::from_millis(50)) {
                Some(Ok(message)) => records.push(read(&message)),
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    unread.remove(&partition);
                }
                // librdkafka retries by itself; the bound decides when it is too much.
                Some(Err(_)) | None => return None,
            }
        }
        None
    });
    records.sort_by_key(|record| (record.partition, record.offset));
    records
}

/// Reads a topic again and again until it holds at least `count` records.
///
/// # Panics
///
/// When it holds fewer after `bound`.
#[track_caller]
pub fn read_topic_until(cluster: &Cluster, topic: &str, count: usize, bound: Duration) -> Vec<ReadRecord> {
    let mut seen = 0;
    let records = try_eventually(bound, || {
        let records = read_committed_now(cluster, topic);
        seen = records.len();
        (seen >= count).then_some(records)
    });
    records.unwrap_or_else(|| panic!("not within {bound:?}: {count} records in {topic}; it holds {seen}"))
}

fn partitions(cluster: &Cluster, topic: &str) -> std::ops::Range<i32> {
    0..i32::try_from(cluster.partition_count(topic)).expect("partitions are few")
}

fn consumer(cluster: &Cluster) -> BaseConsumer {
    ClientConfig::new()
        .set("bootstrap.servers", cluster.bootstrap_plaintext())
        .set("group.id", "testkit-reader")
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "error")
        .set("check.crcs", "true")
        .set("fetch.wait.max.ms", "20")
        .set("fetch.error.backoff.ms", "50")
        .set("reconnect.backoff.max.ms", "500")
        .create()
        .expect("a consumer can be made")
}

fn read(message: &BorrowedMessage<'_>) -> ReadRecord {
    let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
    ReadRecord {
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: headers.map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect(),
        timestamp_ms: message.timestamp().to_millis(),
    }
}
