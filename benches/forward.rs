//! ProcessAndForward, side by side: the sidecar, librdkafka's transactions in this process, and kafkajs's in its own, in turns
//! within one run. One record and one offset a unit; each caller has a group of its own, or a partition of one group.
//!
//! The sidecar's lanes and librdkafka's producers are as many, with the same properties. `NODES=1` asks a cluster of one,
//! `CALLERS=256` that number of callers alone.

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a benchmark that cannot run has nothing to say, and counts are small"
)]

mod kafkajs;
mod settings;
mod workload;

use std::{
    sync::{Arc, atomic::AtomicBool},
    thread,
    time::{Duration, Instant},
};

use producer_sidecar::{
    config::librdkafka,
    grpc::proto::{
        ConsumerGroup, InputOffset, ManualAssignment, ProcessAndForwardRequest, consumer_group::Membership,
        producer_service_client::ProducerServiceClient,
    },
    kafka::{
        ffi::Transactional,
        transaction::{GroupOffsets, OffsetToCommit, Transaction},
    },
    offsets::{Group, Membership as Member},
    record::{Header, Record, Topic},
};
use testkit::{Cluster, ClusterOptions, Sidecar};
use tonic::transport::Channel;

use self::{
    kafkajs::{KafkaJs, number},
    settings::settings,
    workload::{HEADERS, VALUE, record},
};

const CALLERS: [usize; 3] = [1, 16, 256];
const LANES: usize = 4;
const ROUNDS: usize = 5;
const ROUND_MS: u64 = 3_000;
const WARM_UP_MS: u64 = 12_000;
const WAIT: Duration = Duration::from_secs(30);

/// Whose offsets the callers commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// Each caller's own group's, of one partition.
    OwnGroups,
    /// One group's, each caller those of its own partition.
    OneGroup,
}

impl Shape {
    fn group(self, side: &str, caller: usize) -> String {
        match self {
            Self::OwnGroups => format!("{side}-{caller}"),
            Self::OneGroup => format!("{side}-all"),
        }
    }

    fn partition(self, caller: usize) -> i32 {
        let own = i32::try_from(caller).expect("there are so few callers");
        if self == Self::OneGroup { own } else { 0 }
    }
}

/// The latencies of a measurement, in milliseconds, and how long it took.
#[derive(Debug, Default)]
struct Measured {
    latencies_ms: Vec<f64>,
    rate: f64,
}

fn main() {
    // A transaction is the brokers' work for the most part: theirs has to be done as fast as in production.
    let mut options = ClusterOptions { compiles_fully: true, ..ClusterOptions::default() };
    if let Some(nodes) = std::env::var("NODES").ok().and_then(|text| text.parse().ok()) {
        options.nodes = nodes;
    }
    let cluster = &kafkajs::cluster(options);
    let callers_max = CALLERS.into_iter().max().and_then(|most| i32::try_from(most).ok()).unwrap_or(1);
    let (source, target) =
        (cluster.create_topic("bench-in", callers_max, &[]), cluster.create_topic("bench-out", 6, &[]));
    let sidecar = Sidecar::for_cluster(env!("CARGO_BIN_EXE_producer-sidecar"), cluster).arg("serve").start();
    sidecar.wait_ready(WAIT);
    let raw: Vec<_> = (0..LANES).map(|lane| raw_producer(cluster, lane)).collect();
    let mut kafkajs = KafkaJs::start("transactions.js", cluster, &[&source, &target, VALUE]);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime can be made");
    println!(
        "Units a second and milliseconds, medians of {ROUNDS} rounds of {ROUND_MS} ms, {} nodes.",
        cluster.node_count()
    );
    println!(
        "| groups | callers | sidecar /s | p50 | p99 | librdkafka /s | p50 | p99 | kafkajs /s | / librdkafka | p50 / p50 | / kafkajs |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|");
    let shapes = [Shape::OneGroup, Shape::OwnGroups];
    let asked = std::env::var("CALLERS").ok().and_then(|text| text.parse::<usize>().ok());
    let of_shape = |shape| CALLERS.map(|callers| (shape, callers));
    for (shape, callers) in shapes.into_iter().flat_map(of_shape) {
        if asked.is_some_and(|asked| asked != callers) {
            continue;
        }
        let mut rounds = Vec::new();
        for round in 0..=ROUNDS {
            // The first round warms up: the brokers' virtual machine compiles what is called often for tens of seconds.
            let time = Duration::from_millis(if round == 0 { WARM_UP_MS } else { ROUND_MS });
            let ours = runtime.block_on(through_sidecar(&sidecar, (&source, &target), shape, callers, time));
            let theirs = in_process(&raw, (&source, &target), shape, callers.min(LANES), time);
            let kafkajs = through_kafkajs(&mut kafkajs, shape, callers.min(LANES), time);
            if round > 0 {
                rounds.push((ours, theirs, kafkajs));
            }
        }
        report(shape, callers, &rounds);
    }
}

fn report(shape: Shape, callers: usize, rounds: &[(Measured, Measured, f64)]) {
    let median_of = |of: &dyn Fn(&(Measured, Measured, f64)) -> f64| median(rounds.iter().map(of).collect());
    println!(
        "| {shape:?} | {callers} | {:.0} | {:.1} | {:.1} | {:.0} | {:.1} | {:.1} | {:.0} | {:.2} | {:.2} | {:.0} |",
        median_of(&|(ours, ..)| ours.rate),
        median_of(&|(ours, ..)| ours.percentile(0.5)),
        median_of(&|(ours, ..)| ours.percentile(0.99)),
        median_of(&|(_, theirs, _)| theirs.rate),
        median_of(&|(_, theirs, _)| theirs.percentile(0.5)),
        median_of(&|(_, theirs, _)| theirs.percentile(0.99)),
        median_of(&|(.., kafkajs)| *kafkajs),
        median_of(&|(ours, theirs, _)| ours.rate / theirs.rate),
        median_of(&|(ours, theirs, _)| ours.percentile(0.5) / theirs.percentile(0.5)),
        median_of(&|(ours, _, kafkajs)| ours.rate / kafkajs),
    );
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

impl Measured {
    fn of(latencies: Vec<Duration>, took: Duration) -> Self {
        let rate = latencies.len() as f64 / took.as_secs_f64();
        let mut latencies_ms: Vec<_> = latencies.iter().map(|latency| latency.as_secs_f64() * 1e3).collect();
        latencies_ms.sort_by(f64::total_cmp);
        Self { latencies_ms, rate }
    }

    fn percentile(&self, part: f64) -> f64 {
        let count = self.latencies_ms.len();
        // The part lies between 0 and 1, the count is small.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "as the line above says")]
        let place = (count as f64 * part) as usize;
        self.latencies_ms.get(place).copied().unwrap_or(f64::NAN)
    }
}

// === the sidecar ===

async fn through_sidecar(
    sidecar: &Sidecar,
    (source, target): (&str, &str),
    shape: Shape,
    callers: usize,
    time: Duration,
) -> Measured {
    let endpoint =
        Channel::from_shared(format!("http://{}", sidecar.grpc_address())).expect("the address is one");
    let client = ProducerServiceClient::new(endpoint.connect().await.expect("the sidecar listens"));
    let begun = Instant::now();
    let callers = (0..callers).map(|caller| {
        let (mut client, source, target) = (client.clone(), source.to_owned(), target.to_owned());
        tokio::spawn(async move {
            let mut latencies = Vec::new();
            for next in 1.. {
                let asked = Instant::now();
                if asked.duration_since(begun) >= time {
                    break;
                }
                let unit = unit(&source, &target, (shape, caller), next);
                client.process_and_forward(unit).await.expect("the unit is committed");
                latencies.push(asked.elapsed());
            }
            latencies
        })
    });
    let mut latencies = Vec::new();
    for caller in callers.collect::<Vec<_>>() {
        latencies.extend(caller.await.expect("a caller ends"));
    }
    Measured::of(latencies, begun.elapsed())
}

fn unit(source: &str, target: &str, (shape, caller): (Shape, usize), next: i64) -> ProcessAndForwardRequest {
    let membership = Some(Membership::ManualAssignment(ManualAssignment {}));
    ProcessAndForwardRequest {
        group: Some(ConsumerGroup { group_id: shape.group("bench", caller), membership }),
        inputs: vec![InputOffset {
            topic: source.to_owned(),
            partition: shape.partition(caller),
            next_offset: next,
            ..InputOffset::default()
        }],
        outputs: vec![record(target, &format!("key-{caller}"))],
    }
}

// === librdkafka in this process ===

fn raw_producer(cluster: &Cluster, lane: usize) -> Transactional {
    let properties = librdkafka::lane_properties(&settings(cluster), &format!("bench-raw-{lane}"));
    let pair = |property: &librdkafka::Property| (property.name.clone(), property.expose().to_owned());
    let properties: Vec<_> = properties.iter().map(pair).collect();
    let producer = Transactional::start(&properties, &Arc::<AtomicBool>::default());
    let producer = producer.expect("librdkafka takes the sidecar's properties");
    producer.init(WAIT).expect("the id is initialised");
    producer
}

fn in_process(
    producers: &[Transactional],
    topics: (&str, &str),
    shape: Shape,
    at_once: usize,
    time: Duration,
) -> Measured {
    let begun = Instant::now();
    let latencies = thread::scope(|scope| {
        let running: Vec<_> = producers
            .iter()
            .take(at_once)
            .enumerate()
            .map(|(place, producer)| {
                scope.spawn(move || transact(producer, topics, (shape, place), begun, time))
            })
            .collect();
        running.into_iter().flat_map(|one| one.join().expect("a producer ends")).collect()
    });
    Measured::of(latencies, begun.elapsed())
}

fn transact(
    producer: &Transactional,
    (source, target): (&str, &str),
    (shape, place): (Shape, usize),
    begun: Instant,
    time: Duration,
) -> Vec<Duration> {
    let topic = |name: &str| Topic::parse(name).expect("it is a topic's name");
    let (source, group) =
        (topic(source), Group { id: shape.group("bench-raw", place), membership: Member::Manual });
    let record = Record {
        topic: topic(target),
        key: Some(format!("key-{place}").into()),
        value: Some(VALUE.into()),
        headers: HEADERS
            .into_iter()
            .map(|(name, value)| Header { name: name.to_owned(), value: Some(value.into()) })
            .collect(),
        partition: None,
        timestamp_ms: 1_700_000_000_000,
        message_id: None,
    };
    let mut latencies = Vec::new();
    for serial in 1.. {
        let asked = Instant::now();
        if asked.duration_since(begun) >= time {
            break;
        }
        let offset = OffsetToCommit {
            topic: &source,
            partition: shape.partition(place),
            next: i64::from(serial),
            metadata: "",
        };
        let mut open = Transaction::begin(producer, serial).expect("a transaction begins");
        open.offsets(&GroupOffsets { group: &group, offsets: vec![offset] }, WAIT)
            .expect("offsets are taken");
        let partition = i32::try_from(place).unwrap_or(0);
        open.send(&record, partition).expect("the record is taken");
        open.delivered(WAIT).expect("the record is delivered");
        assert!(open.commit().is_ok(), "the transaction is committed");
        latencies.push(asked.elapsed());
    }
    latencies
}

// === kafkajs ===

fn through_kafkajs(kafkajs: &mut KafkaJs, shape: Shape, producers: usize, time: Duration) -> f64 {
    let one_group = shape == Shape::OneGroup;
    let asked = serde_json::json!({"producers": producers, "ms": time.as_millis(), "oneGroup": one_group});
    let told = kafkajs.ask(&asked);
    number(&told, "units") / number(&told, "seconds")
}
