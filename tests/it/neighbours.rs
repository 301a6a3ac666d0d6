//! Other groups that commit, as in any cluster that is used.
//!
//! Without them a group's coordinator that has moved may answer nobody who waits for open transactions, until something is
//! written to its partition of `__consumer_offsets`: with Kafka 4.1.0 about once in a hundred moves of a busy machine
//! (docs/exactly-once.md).

use std::{
    sync::{Once, mpsc},
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

/// Has them commit in the shared cluster from now on.
pub fn commit() {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| drop(thread::spawn(commit_for_ever)));
}

fn commit_for_ever() {
    let source = &Cluster::shared().create_topic("neighbours-in", 1, &[]);
    let mut read = TopicPartitionList::new();
    read.add_partition_offset(source, 0, Offset::Offset(1)).unwrap();
    let consumers = GROUPS.map(|group| {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", Cluster::shared().bootstrap_plaintext()).set("group.id", group);
        // Else a frozen coordinator is waited for instead of its successor.
        config.set("socket.timeout.ms", "3000");
        config.create::<BaseConsumer>().unwrap()
    });
    let (_keep, never) = mpsc::channel::<()>();
    while never.recv_timeout(COMMIT_EVERY).is_err() {
        for consumer in &consumers {
            // What fails is done again soon.
            drop(consumer.commit(&read, CommitMode::Async));
            while consumer.poll(Duration::ZERO).is_some() {}
        }
    }
}
