//! ProcessAndForward, side by side: the sidecar, librdkafka's transactions in this process, and kafkajs's in its own, in turns
//! within one run. One record and one offset a unit, each caller with a group of its own.
//!
//! The sidecar's lanes and librdkafka's producers are as many, with the same properties. `NODES=1` asks a cluster of one.

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a benchmark that cannot run has nothing to say, and counts are small"
)]

mod workload;

use std::{
    io::{BufRead as _, BufReader, Lines, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
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

use self::workload::{HEADERS, VALUE, record, settings};

const CALLERS: [usize; 3] = [1, 16, 256];
const LANES: usize = 4;
const ROUNDS: usize = 5;
const ROUND_MS: u64 = 3_000;
const WAIT: Duration = Duration::from_secs(30);

/// The latencies of a measurement, in milliseconds, and how long it took.
#[derive(Debug, Default)]
struct Measured {
    latencies_ms: Vec<f64>,
    rate: f64,
}

fn main() {
    // kafkajs cannot authenticate a second time on a connection (its handshake is refused): no broker asks it to.
    let forever =
        ("listener.name.sasl_ssl.scram-sha-512.connections.max.reauth.ms".to_owned(), "0".to_owned());
    let nodes = std::env::var("NODES").ok().and_then(|text| text.parse().ok()).unwrap_or(3);
    let options = ClusterOptions { nodes, properties: vec![forever], ..ClusterOptions::default() };
    let cluster = &Cluster::start(&options);
    let (source, target) =
        (cluster.create_topic("bench-in", 1, &[]), cluster.create_topic("bench-out", 6, &[]));
    let sidecar = Sidecar::for_cluster(env!("CARGO_BIN_EXE_producer-sidecar"), cluster).arg("serve").start();
    sidecar.wait_ready(WAIT);
    let raw: Vec<_> = (0..LANES).map(|lane| raw_producer(cluster, lane)).collect();
    let mut kafkajs = KafkaJs::start(cluster, &source, &target);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime can be made");
    println!("Units a second and milliseconds, medians of {ROUNDS} rounds of {ROUND_MS} ms, {nodes} nodes.");
    println!(
        "| callers | sidecar /s | p50 | p99 | librdkafka /s | p50 | p99 | kafkajs /s | / librdkafka | p50 / p50 | / kafkajs |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    for callers in CALLERS {
        let mut rounds = Vec::new();
        for round in 0..=ROUNDS {
            let time = Duration::from_millis(ROUND_MS);
            let ours = runtime.block_on(through_sidecar(&sidecar, &source, &target, callers, time));
            let theirs = in_process(&raw, &source, &target, callers.min(LANES), time);
            let kafkajs = kafkajs.measure(callers.min(LANES), time);
            // The first round warms up.
            if round > 0 {
                rounds.push((ours, theirs, kafkajs));
            }
        }
        report(callers, &rounds);
    }
}

fn report(callers: usize, rounds: &[(Measured, Measured, f64)]) {
    let median_of = |of: &dyn Fn(&(Measured, Measured, f64)) -> f64| median(rounds.iter().map(of).collect());
    println!(
        "| {callers} | {:.0} | {:.1} | {:.1} | {:.0} | {:.1} | {:.1} | {:.0} | {:.2} | {:.2} | {:.0} |",
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
    source: &str,
    target: &str,
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
                let unit = unit(&source, &target, caller, next);
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

fn unit(source: &str, target: &str, caller: usize, next: i64) -> ProcessAndForwardRequest {
    let membership = Some(Membership::ManualAssignment(ManualAssignment {}));
    ProcessAndForwardRequest {
        group: Some(ConsumerGroup { group_id: format!("bench-{caller}"), membership }),
        inputs: vec![InputOffset { topic: source.to_owned(), next_offset: next, ..InputOffset::default() }],
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
    source: &str,
    target: &str,
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
                scope.spawn(move || transact(producer, source, target, place, begun, time))
            })
            .collect();
        running.into_iter().flat_map(|one| one.join().expect("a producer ends")).collect()
    });
    Measured::of(latencies, begun.elapsed())
}

fn transact(
    producer: &Transactional,
    source: &str,
    target: &str,
    place: usize,
    begun: Instant,
    time: Duration,
) -> Vec<Duration> {
    let topic = |name: &str| Topic::parse(name).expect("it is a topic's name");
    let (source, group) =
        (topic(source), Group { id: format!("bench-raw-{place}"), membership: Member::Manual });
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
        let offset = OffsetToCommit { topic: &source, partition: 0, next: i64::from(serial), metadata: "" };
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

struct KafkaJs {
    process: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
}

impl KafkaJs {
    fn start(cluster: &Cluster, source: &str, target: &str) -> Self {
        let script =
            std::env::var("KAFKAJS_TRANSACTIONS").expect("scripts/bench names the script with its packages");
        let mut process = Command::new("node")
            .args([&script, &cluster.bootstrap_tls(), cluster.user(), cluster.password()])
            .arg(cluster.ca_file())
            .args([source, target, VALUE])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node runs");
        let input = process.stdin.take();
        let output = BufReader::new(process.stdout.take().expect("its output is a pipe")).lines();
        let mut started = Self { process, input, output };
        assert_eq!(started.line(), "ready");
        started
    }

    fn line(&mut self) -> String {
        self.output.next().expect("kafkajs goes on").expect("its output is text")
    }

    /// Returns units a second.
    fn measure(&mut self, producers: usize, time: Duration) -> f64 {
        let asked = serde_json::json!({"producers": producers, "ms": time.as_millis()});
        let input = self.input.as_mut().expect("its input is open");
        writeln!(input, "{asked}").expect("kafkajs goes on");
        let told: serde_json::Value = serde_json::from_str(&self.line()).expect("kafkajs tells its rate");
        let number = |name: &str| told[name].as_f64().expect("a number");
        number("units") / number("seconds")
    }
}

impl Drop for KafkaJs {
    fn drop(&mut self) {
        drop(self.input.take());
        drop(self.process.wait());
    }
}
