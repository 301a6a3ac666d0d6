//! Other groups that commit, as in any cluster that is used.
//!
//! Without them a group's coordinator that has moved may answer nobody who waits for open transactions, until something is
//! written to its partition of `__consumer_offsets`: with Kafka 4.1.0 about once in a hundred moves of a busy machine
//! (docs/exactly-once.md).

use std::{
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread,
    time::Duration,
};

use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer as _},
};
use testkit::Cluster;

/// One in each of five partitions: Kafka takes Java's hash of the name, which the last character goes into as it is.
const GROUPS: [&str; 5] = ["neighbour-0", "neighbour-1", "neighbour-2", "neighbour-3", "neighbour-4"];
const COMMIT_EVERY: Duration = Duration::from_millis(500);

/// They commit until it is dropped.
pub struct Neighbours {
    _until: Sender<()>,
}

impl Neighbours {
    pub fn start() -> Self {
        let cluster = Cluster::shared();
        let mut read = TopicPartitionList::new();
        read.add_partition_offset(&cluster.create_topic("neighbours-in", 1, &[]), 0, Offset::Offset(1))
            .unwrap();
        let consumers = GROUPS.map(|group| {
            let mut config = ClientConfig::new();
            config.set("bootstrap.servers", cluster.bootstrap_plaintext()).set("group.id", group);
            config.create::<BaseConsumer>().unwrap()
        });
        let (until, over) = mpsc::channel();
        thread::spawn(move || {
            while over.recv_timeout(COMMIT_EVERY) == Err(RecvTimeoutError::Timeout) {
                for consumer in &consumers {
                    // What fails is done again soon.
                    drop(consumer.commit(&read, CommitMode::Async));
                    while consumer.poll(Duration::ZERO).is_some() {}
                }
            }
        });
        Self { _until: until }
    }
}
