//! Owns those who watch a copy job while it runs: a reader of committed records of the output, and a sampler of the group's
//! committed offsets.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::Duration,
};

use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
};
use testkit::{Cluster, eventually, history::Committed, try_eventually};

use super::{input::PARTITIONS, job::Shared};

/// How long a question may take.
const ASK: Duration = Duration::from_secs(2);
/// How long to look for an answer before the job's end is looked at again.
const STEP: Duration = Duration::from_millis(100);
/// How long the offsets may take to be stable, and a broker to answer.
const STABLE: Duration = Duration::from_secs(90);

/// Partition, offset and value of a record of the output.
pub type Output = (i32, i64, String);

/// What the reader has seen so far.
pub type Seen = Arc<Mutex<Vec<Output>>>;

fn consumer(group: &str, isolation: &str) -> BaseConsumer {
    ClientConfig::new()
        .set("bootstrap.servers", Cluster::shared().bootstrap_plaintext())
        .set("group.id", group)
        .set("isolation.level", isolation)
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "error")
        .set("fetch.wait.max.ms", "50")
        .set("reconnect.backoff.max.ms", "500")
        .create()
        .unwrap()
}

fn list(topic: &str) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        list.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
    }
    list
}

/// Reads the output until the job is over.
pub fn read(shared: &Arc<Shared>) -> (Seen, JoinHandle<()>) {
    let (shared, seen) = (Arc::clone(shared), Seen::default());
    let kept = Arc::clone(&seen);
    let thread = std::thread::spawn(move || {
        let consumer = consumer("copy-reader", "read_committed");
        consumer.assign(&list(&shared.target)).unwrap();
        while !shared.is_over() {
            if let Some(Ok(message)) = consumer.poll(STEP) {
                let value = String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned();
                kept.lock().unwrap().push((message.partition(), message.offset(), value));
            }
        }
    });
    (seen, thread)
}

/// Asks for the group's committed offsets until the job is over; pending ones are waited out. Who does not ask for that (`require_stable`)
/// is answered by a coordinator that has just taken over what was committed before its predecessor's last commits, for a moment.
pub fn sample(shared: &Arc<Shared>) -> JoinHandle<()> {
    let shared = Arc::clone(shared);
    std::thread::spawn(move || {
        let consumer = consumer(&shared.group, "read_committed");
        let mut last = BTreeMap::new();
        while !shared.is_over() {
            // One by one: of some partition a commit is pending always.
            for partition in 0..PARTITIONS {
                let topic = shared.input.topic.clone();
                let Some(now) = committed_of(&consumer, &topic, partition) else { continue };
                if last.insert(partition, now) != Some(now) {
                    shared.seen_committed.lock().unwrap().push(Committed { topic, partition, next: now });
                }
            }
            *shared.committed.lock().unwrap() = last.clone();
            try_eventually(STEP, || shared.is_over().then_some(()));
        }
    })
}

fn committed_of(consumer: &BaseConsumer, topic: &str, partition: i32) -> Option<i64> {
    let mut asked = TopicPartitionList::new();
    asked.add_partition(topic, partition);
    let found = consumer.committed_offsets(asked, ASK).ok()?;
    match found.elements().first().map(|element| (element.error(), element.offset())) {
        Some((Ok(()), Offset::Offset(offset))) => Some(offset),
        Some(_) | None => None,
    }
}

/// The group's committed offsets by partition, once no commit is pending.
pub fn committed(group: &str, topic: &str) -> BTreeMap<i32, i64> {
    let consumer = consumer(group, "read_committed");
    eventually(STABLE, "stable committed offsets", || {
        let found = consumer.committed_offsets(list(topic), ASK).ok()?;
        let offset = |element: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>| match (
            element.error(),
            element.offset(),
        ) {
            (Ok(()), Offset::Offset(offset)) => Some((element.partition(), offset)),
            _ => None,
        };
        found.elements().iter().map(offset).collect()
    })
}
