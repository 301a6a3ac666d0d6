//! The producer of the wire protocol before real brokers: what it says of each record is what a consumer finds.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use producer_sidecar::{
    kafka::{
        code::ErrorCode,
        wire::{
            partition::{Cause, End, Ended, Place},
            producer::{PartitionLog, ProducerSettings, WireProducer},
        },
    },
    record::{Record, Topic},
    tasks::Tasks,
};
use testkit::{ApiKey, Cluster, eventually, read_topic};

use super::{AT_ONCE, config, settings};

crate::tests!(
    records_are_where_they_are_said_to_be,
    lost_connections_and_answers_neither_double_nor_reorder,
    what_waits_behind_a_held_request_can_be_taken_out,
    records_of_a_topic_that_is_not_there_end_at_once,
);

const PATIENT: Duration = Duration::from_secs(60);
const PARTITIONS: i32 = 12;
const RECORDS: u64 = 6_000;

/// A numbered record.
struct Item(u64, Record);

impl AsRef<Record> for Item {
    fn as_ref(&self) -> &Record {
        &self.1
    }
}

type Ends = Arc<Mutex<HashMap<u64, (i32, End)>>>;

/// A producer, and how its records ended.
struct Bench {
    producer: WireProducer<Item>,
    topic: Topic,
    ends: Ends,
    logs: BTreeMap<i32, Arc<PartitionLog<Item>>>,
    runtime: tokio::runtime::Runtime,
    _tasks: Tasks,
}

impl Bench {
    /// Connects through the proxies under a name of its own, at which faults can be aimed.
    fn through_proxies(topic: &str, client: &str) -> Self {
        let cluster = Cluster::shared();
        let proxied = cluster.bootstrap_proxied();
        let variables = [
            ("KAFKA_BROKERS", proxied.as_str()),
            ("KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT"),
            ("KAFKA_CLIENT_ID", client),
        ];
        Self::start(topic, &variables)
    }

    fn start(topic: &str, variables: &[(&str, &str)]) -> Self {
        let cluster = Cluster::shared();
        let (config, wire) = (config(cluster, variables), settings(cluster, variables));
        let (ends, tasks) = (Ends::default(), Tasks::default());
        let told = Arc::clone(&ends);
        let on_end = move |log: &PartitionLog<Item>, ended: Vec<Ended<Item>>| {
            let mut told = told.lock();
            for ended in ended {
                let before = told.insert(ended.item.0, (log.index(), ended.end));
                assert_eq!(before, None, "a record ends once");
            }
        };
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let entered = runtime.enter();
        let producer = WireProducer::start(ProducerSettings::of(&config), wire, &tasks, Box::new(on_end));
        drop(entered);
        let topic = Topic::parse(topic).unwrap();
        Self { producer, topic, ends, logs: BTreeMap::new(), runtime, _tasks: tasks }
    }

    fn push(&mut self, number: u64, partition: i32) -> Place {
        let record = Record {
            topic: self.topic.clone(),
            key: None,
            value: Some(Bytes::from(number.to_string())),
            headers: Vec::new(),
            partition: None,
            timestamp_ms: 1_700_000_000_000,
            message_id: None,
        };
        let _entered = self.runtime.enter();
        let log = self.logs.entry(partition).or_insert_with(|| self.producer.log(&self.topic, partition));
        self.producer.push(log, Item(number, record))
    }

    /// Waits until so many records have ended.
    fn wait(&self, count: usize) -> HashMap<u64, (i32, End)> {
        eventually(PATIENT, "every record ends", || (self.ends.lock().len() >= count).then_some(()));
        self.ends.lock().clone()
    }
}

/// Reads a topic: the numbers of each partition, in order.
fn read(topic: &Topic) -> BTreeMap<i32, Vec<u64>> {
    let mut found: BTreeMap<i32, Vec<u64>> = BTreeMap::new();
    for record in read_topic(Cluster::shared(), topic.as_str()) {
        let value = String::from_utf8(record.value.unwrap()).unwrap();
        found.entry(record.partition).or_default().push(value.parse().unwrap());
    }
    found
}

fn partition_of(number: u64) -> i32 {
    i32::try_from(number).unwrap() % PARTITIONS
}

/// Compares what was said with what a consumer finds: all are written, once, in order, at their offsets.
fn assert_all_written(topic: &Topic, ends: &HashMap<u64, (i32, End)>) {
    let found = read(topic);
    assert_eq!(found.values().map(Vec::len).sum::<usize>(), ends.len());
    for (partition, numbers) in &found {
        assert!(numbers.is_sorted(), "partition {partition} is in order");
        for (offset, number) in (0_i64..).zip(numbers) {
            let (said_partition, end) = ends[number];
            assert_eq!(said_partition, *partition);
            let End::Written { offset: said, .. } = end else { panic!("{number} is written, but {end:?}") };
            assert!(said.is_none_or(|said| said == offset), "{number} is at {offset}, not {said:?}");
        }
    }
}

fn records_are_where_they_are_said_to_be() {
    let cluster = Cluster::shared();
    for compression in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let topic = cluster.create_topic("wire-producing", PARTITIONS, &[]);
        let mut bench = Bench::start(&topic, &[("SIDECAR_KAFKA_COMPRESSION", compression)]);
        for number in 0..RECORDS {
            bench.push(number, partition_of(number));
        }
        let ends = bench.wait(usize::try_from(RECORDS).unwrap());
        assert_all_written(&bench.topic, &ends);
    }
}

fn lost_connections_and_answers_neither_double_nor_reorder() {
    let cluster = Cluster::shared();
    let topic = cluster.create_topic("wire-faults", PARTITIONS, &[]);
    let mut bench = Bench::through_proxies(&topic, "wire-faults");
    let faults = cluster.faults_of("wire-faults");
    for number in 0..RECORDS {
        bench.push(number, partition_of(number));
        match number % 1_000 {
            300 => faults.swallow_next(ApiKey::Produce, true),
            600 => faults.hang_up(),
            _ => {}
        }
        // At its pace, so that faults meet requests under way.
        if number % 50 == 49 {
            bench.wait(usize::try_from(number).unwrap().saturating_sub(200));
        }
    }
    let ends = bench.wait(usize::try_from(RECORDS).unwrap());
    assert!(faults.swallowed(ApiKey::Produce) > 0, "an answer was lost");
    assert_all_written(&bench.topic, &ends);
}

fn what_waits_behind_a_held_request_can_be_taken_out() {
    let cluster = Cluster::shared();
    let topic = cluster.create_topic("wire-held", 1, &[]);
    let mut bench = Bench::through_proxies(&topic, "wire-held");
    let first = bench.push(0, 0);
    bench.wait(1);
    let faults = cluster.faults_of("wire-held");
    faults.hold(ApiKey::Produce);
    // Some requests are written to a connection whose broker does not answer, and the rest waits.
    let mut places = vec![first];
    eventually(PATIENT, "records wait", || {
        places.push(bench.push(u64::try_from(places.len()).unwrap(), 0));
        (bench.logs[&0].waiting_count() >= 3).then_some(())
    });
    faults.wait_held(ApiKey::Produce, PATIENT);
    let log = Arc::clone(&bench.logs[&0]);
    let withdrawn: Vec<_> =
        places.iter().filter_map(|place| log.withdraw(*place)).map(|item| item.0).collect();
    assert!(!withdrawn.is_empty() && !withdrawn.contains(&1), "{withdrawn:?}");
    faults.release(ApiKey::Produce);
    let ends = bench.wait(places.len() - withdrawn.len());
    assert!(withdrawn.iter().all(|number| !ends.contains_key(number)));
    assert_all_written(&bench.topic, &ends);
}

fn records_of_a_topic_that_is_not_there_end_at_once() {
    let mut bench = Bench::start("wire-not-there", &[]);
    bench.push(0, 0);
    eventually(AT_ONCE, "the record ends", || (!bench.ends.lock().is_empty()).then_some(()));
    let end = End::NotWritten(Cause::Code(ErrorCode::UNKNOWN_TOPIC_OR_PART));
    assert_eq!(bench.ends.lock()[&0], (0, end));
}
