//! Owns what the copy jobs read: records written all the while, alone and in transactions, some of which are aborted.

use std::{
    sync::mpsc::{RecvTimeoutError, Sender, channel},
    thread::{self, JoinHandle},
    time::Duration,
};

use rdkafka::{
    ClientConfig,
    producer::{BaseProducer, BaseRecord, Producer},
};
use testkit::{Cluster, eventually};

pub const PARTITIONS: i32 = 3;
/// How many records a round writes into each partition.
const RECORDS: usize = 4;
/// The pause between rounds.
const PACE: Duration = Duration::from_millis(100);
/// How many rounds there are at most, whoever forgets to end it.
const ROUNDS: usize = 3_000;
/// How long one step with Kafka may take.
const STEP: Duration = Duration::from_secs(60);

/// What was committed: the values of each partition, in order.
pub type Written = Vec<Vec<String>>;

/// Writes a topic until it is ended.
pub struct Feeder {
    end: Sender<()>,
    thread: JoinHandle<Written>,
}

impl Feeder {
    pub fn start(topic: &str) -> Self {
        let (end, ended) = channel();
        let mut rounds = Rounds::new(topic);
        let thread = thread::spawn(move || {
            for round in 0..ROUNDS {
                rounds.write(round);
                if ended.recv_timeout(PACE) != Err(RecvTimeoutError::Timeout) {
                    break;
                }
            }
            // So that the end is the offset behind the last record: markers are written after a commit is answered.
            rounds.are_stable();
            rounds.alone();
            rounds.written
        });
        Self { end, thread }
    }

    /// Ends it and returns all that readers of committed records can see.
    pub fn end(self) -> Written {
        // It may have ended by itself.
        self.end.send(()).ok();
        self.thread.join().expect("the feeder writes")
    }
}

struct Rounds {
    topic: String,
    alone: BaseProducer,
    together: BaseProducer,
    written: Written,
}

impl Rounds {
    fn new(topic: &str) -> Self {
        let together = settings().set("transactional.id", topic).create::<BaseProducer>().unwrap();
        together.init_transactions(STEP).unwrap();
        let written = (0..PARTITIONS).map(|_| Vec::new()).collect();
        Self { topic: topic.to_owned(), alone: settings().create().unwrap(), together, written }
    }

    fn write(&mut self, round: usize) {
        match round % 4 {
            0 => self.alone(),
            1 => self.aborted(),
            _ => self.committed(),
        }
    }

    fn alone(&mut self) {
        let values = self.values();
        send(&self.alone, &self.topic, &values);
        self.alone.flush(STEP).unwrap();
        self.note(values);
    }

    fn committed(&mut self) {
        let values = self.values();
        self.together.begin_transaction().unwrap();
        send(&self.together, &self.topic, &values);
        self.together.commit_transaction(STEP).unwrap();
        self.note(values);
    }

    fn aborted(&self) {
        let values: Written = (0..PARTITIONS).map(|_| vec!["aborted".to_owned(); RECORDS]).collect();
        self.together.begin_transaction().unwrap();
        send(&self.together, &self.topic, &values);
        // They are to be in Kafka, not purged by the abort.
        self.together.flush(STEP).unwrap();
        self.together.abort_transaction(STEP).unwrap();
    }

    /// Waits until the last transaction's markers are in the topic.
    fn are_stable(&self) {
        let is_stable = |partition| {
            let ends = Cluster::shared().end_offsets(&self.topic, partition);
            ends.last_stable == ends.high_watermark
        };
        eventually(STEP, "the markers are written", || (0..PARTITIONS).all(is_stable).then_some(()));
    }

    fn values(&self) -> Written {
        let of = |written: &Vec<String>| -> Vec<String> {
            (0..RECORDS).map(|number| format!("{:05}", written.len() + number)).collect()
        };
        self.written.iter().map(of).collect()
    }

    fn note(&mut self, values: Written) {
        for (written, values) in self.written.iter_mut().zip(values) {
            written.extend(values);
        }
    }
}

/// Each record has its partition for a key: the sidecar keeps those of one key in one partition.
fn send(producer: &BaseProducer, topic: &str, values: &Written) {
    for (partition, values) in (0..).zip(values) {
        let key = i32::to_string(&partition);
        for value in values {
            let record = BaseRecord::to(topic).partition(partition).key(&key).payload(value);
            producer.send(record).map_err(|(error, _)| error).expect("the queue has room");
        }
    }
}

fn settings() -> ClientConfig {
    let cluster = Cluster::shared();
    let mut settings = ClientConfig::new();
    settings
        .set("bootstrap.servers", cluster.bootstrap_tls())
        .set("security.protocol", "SASL_SSL")
        .set("sasl.mechanism", "SCRAM-SHA-512")
        .set("sasl.username", cluster.user())
        .set("sasl.password", cluster.password())
        .set("ssl.ca.location", cluster.ca_file().display().to_string())
        .set("acks", "all")
        .set("enable.idempotence", "true");
    settings
}
