//! Owns the input of the copy jobs: a compacted topic, half of it written in transactions, with real gaps. Written once a run.

use std::{
    collections::BTreeMap,
    fs,
    sync::OnceLock,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rdkafka::{
    ClientConfig,
    producer::{BaseProducer, BaseRecord, Producer},
};
use testkit::{Cluster, eventually, read_topic};

use super::form;

/// How many partitions input and output have.
pub const PARTITIONS: i32 = 6;
/// In how many rounds a partition is written: alternately plain and in a transaction, each a segment of its own at least.
const ROUNDS: usize = 12;
/// Every how many records one has an earlier version of the same key, which compaction removes.
const OVERWRITTEN: usize = 4;
/// How far the timestamps of rounds are apart: more than `segment.ms`, so that each begins a new segment.
const ROUND_MS: i64 = 5_000;
/// How long writing, and compaction on every node, may take. The cleaner rests for 15 s where it found nothing to do.
const BOUND: Duration = Duration::from_secs(180);

/// What the earlier versions of keys begin with.
const EARLIER: &str = "earlier-";
/// What the records of aborted transactions begin with.
const ABORTED: &str = "aborted-";

/// The input, and what of it a reader of committed records sees.
pub struct Input {
    pub topic: String,
    /// By partition: offset and value of each record, in order.
    pub records: Vec<Vec<(i64, String)>>,
}

impl Input {
    /// The input that all jobs of this run share.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Input> = OnceLock::new();
        SHARED.get_or_init(Self::write)
    }

    /// Where the group is, by partition, once all is copied.
    pub fn ends(&self) -> BTreeMap<i32, i64> {
        let ends = self.records.iter().map(|records| records.last().unwrap().0 + 1);
        (0..PARTITIONS).zip(ends).collect()
    }

    /// The values, by partition.
    pub fn values(&self) -> BTreeMap<i32, Vec<String>> {
        let values = |records: &Vec<(i64, String)>| records.iter().map(|(_, value)| value.clone()).collect();
        (0..PARTITIONS).zip(self.records.iter().map(values)).collect()
    }

    fn write() -> Self {
        let cluster = Cluster::shared();
        let configs = [
            ("cleanup.policy", "compact"),
            ("segment.ms", "1000"),
            ("min.cleanable.dirty.ratio", "0.001"),
            ("compression.type", "uncompressed"),
        ];
        let topic = cluster.create_topic("copy-in", PARTITIONS, &configs);
        Writer::new(&topic).write();
        let begun = std::time::Instant::now();
        eventually(BOUND, "every replica is compacted", || is_compacted(&topic).then_some(()));
        eprintln!("{topic}: compacted after {:?}", begun.elapsed());
        let mut records = vec![Vec::new(); usize::try_from(PARTITIONS).unwrap()];
        for record in read_topic(cluster, &topic) {
            let value = String::from_utf8(record.value.unwrap()).unwrap();
            records[usize::try_from(record.partition).unwrap()].push((record.offset, value));
        }
        let input = Self { topic, records };
        input.check();
        input
    }

    /// Checks that the input is what the jobs claim to copy.
    fn check(&self) {
        for (partition, records) in (0..).zip(&self.records) {
            let expected: Vec<_> = (0..form().records).map(|number| value(partition, number)).collect();
            let read: Vec<_> = records.iter().map(|(_, value)| value.clone()).collect();
            assert_eq!(read, expected, "the input's partition {partition}");
            let gaps = records.windows(2).filter(|pair| pair[1].0 > pair[0].0 + 1).count();
            // Between any two rounds there were earlier versions, a marker or both.
            assert!(gaps >= ROUNDS - 1, "{gaps} gaps in partition {partition}");
        }
        let missing: i64 = self
            .records
            .iter()
            .map(|records| records.last().unwrap().0 + 1 - i64::try_from(records.len()).unwrap())
            .sum();
        eprintln!("{}: {missing} offsets without a record", self.topic);
    }
}

fn value(partition: i32, number: usize) -> String {
    format!("{partition}-{number}")
}

/// Whether no replica has an earlier version of a key any more. A reader only sees the leaders; after one dies it would see
/// what another replica still has.
fn is_compacted(topic: &str) -> bool {
    let cluster = Cluster::shared();
    let nodes = 1..=i32::try_from(cluster.node_count()).unwrap();
    let mut segments = 0;
    for node in nodes {
        let data = cluster.log_file(node).with_file_name("data");
        for partition in 0..PARTITIONS {
            let Ok(files) = fs::read_dir(data.join(format!("{topic}-{partition}"))) else { return false };
            let paths = files.filter_map(|file| Some(file.ok()?.path()));
            for path in paths.filter(|path| path.extension().is_some_and(|extension| extension == "log")) {
                segments += 1;
                let Ok(bytes) = fs::read(&path) else { return false };
                if bytes.windows(EARLIER.len()).any(|window| window == EARLIER.as_bytes()) {
                    return false;
                }
            }
        }
    }
    segments > 0
}

struct Writer<'a> {
    topic: &'a str,
    plain: BaseProducer,
    transactional: BaseProducer,
    timestamp_ms: i64,
}

impl<'a> Writer<'a> {
    fn new(topic: &'a str) -> Self {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", Cluster::shared().bootstrap_plaintext());
        config.set("enable.idempotence", "true").set("linger.ms", "5");
        let plain = config.create().unwrap();
        let transactional: BaseProducer = config.set("transactional.id", topic).create().unwrap();
        transactional.init_transactions(BOUND).unwrap();
        // Markers have the broker's time: records lie ahead of it, so that none is taken for older than a marker.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let timestamp_ms = i64::try_from(now.as_millis()).unwrap() + 60_000;
        Self { topic, plain, transactional, timestamp_ms }
    }

    fn write(mut self) {
        let records = form().records;
        let of_round = |round: usize| records * round / ROUNDS..records * (round + 1) / ROUNDS;
        for round in 0..ROUNDS {
            let is_transaction = round % 2 == 1;
            if is_transaction {
                self.transactional.begin_transaction().unwrap();
                self.each(&self.transactional, of_round(round).step_by(5), ABORTED);
                self.transactional.flush(BOUND).unwrap();
                self.transactional.abort_transaction(BOUND).unwrap();
                self.transactional.begin_transaction().unwrap();
            }
            let producer = if is_transaction { &self.transactional } else { &self.plain };
            self.each(producer, of_round(round), "");
            // What the last round has stays in the active segment, which is never compacted.
            if round + 2 < ROUNDS {
                self.each(producer, of_round(round + 1).step_by(OVERWRITTEN), EARLIER);
            }
            producer.flush(BOUND).unwrap();
            if is_transaction {
                self.transactional.commit_transaction(BOUND).unwrap();
            }
            self.timestamp_ms += ROUND_MS;
        }
    }

    fn each(&self, producer: &BaseProducer, numbers: impl Iterator<Item = usize> + Clone, prefix: &str) {
        for partition in 0..PARTITIONS {
            for number in numbers.clone() {
                let key = value(partition, number);
                let value = format!("{prefix}{key}");
                let record = BaseRecord::to(self.topic).partition(partition).timestamp(self.timestamp_ms);
                producer.send(record.key(&key).payload(&value)).map_err(|failed| failed.0).unwrap();
            }
        }
    }
}
