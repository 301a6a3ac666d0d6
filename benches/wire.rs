//! The produce path in this process, beside librdkafka in this process, in turns within one run: one node, near and 10 ms away,
//! one, 12 and 300 partitions. `LOADS=near,far` and `ROUNDS=5` narrow or lengthen the run.
//!
//! Both sides send the same records with as many in flight. librdkafka runs twice, with `linger.ms` 0 and 5: the better one counts.

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a benchmark that cannot run has nothing to say, and counts are small"
)]

#[expect(dead_code, reason = "records of gRPC are another benchmark's")]
mod workload;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use producer_sidecar::{
    config::{
        Compression, Config, Purpose,
        source::{self, Environment, Inputs},
    },
    kafka::wire::{
        partition::{End, Ended},
        producer::{PartitionLog, ProducerSettings, WireProducer},
        settings::WireSettings,
    },
    record::{Header, Record, Topic},
    tasks::Tasks,
};
use rdkafka::{
    ClientConfig, ClientContext,
    message::{DeliveryResult, OwnedHeaders},
    producer::{BaseRecord, ProducerContext, ThreadedProducer},
};
use testkit::{Cluster, ClusterOptions};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use self::workload::{HEADERS, VALUE};

const DELAY: Duration = Duration::from_millis(5);
const ROUND: Duration = Duration::from_millis(2_000);
const STREAMS: usize = 4;
const STREAM_WINDOW: usize = 3_200;

/// Who hears of a record's end.
enum Done {
    Caller(oneshot::Sender<()>),
    Stream { _permit: OwnedSemaphorePermit, count: Arc<AtomicU64> },
}

impl Done {
    fn tell(self) {
        match self {
            // The caller waits for as long as the record is on its way.
            Self::Caller(caller) => caller.send(()).unwrap_or(()),
            Self::Stream { count, .. } => drop(count.fetch_add(1, Ordering::Relaxed)),
        }
    }
}

struct Item {
    record: Record,
    done: Done,
}

impl AsRef<Record> for Item {
    fn as_ref(&self) -> &Record {
        &self.record
    }
}

struct Reports;

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<Done>;

    fn delivery(&self, result: &DeliveryResult<'_>, done: Box<Done>) {
        assert!(result.is_ok(), "every record is delivered");
        done.tell();
    }
}

/// One of those that are compared.
#[derive(Clone)]
enum Side {
    Wire(Arc<WireProducer<Item>>),
    Librdkafka(Arc<ThreadedProducer<Reports>>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Load {
    is_far: bool,
    partitions: i32,
    /// None: streams.
    callers: Option<usize>,
}

#[derive(Debug, Clone, Copy)]
struct Measured {
    rate: f64,
    p50_ms: f64,
    cpu_us: f64,
}

fn main() {
    let options = ClusterOptions { nodes: 1, compiles_fully: true, ..ClusterOptions::default() };
    let cluster = Cluster::start(&options);
    cluster.proxy(1).delay_requests(DELAY);
    cluster.proxy(1).delay_responses(DELAY);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime can be made");
    let rounds: usize = std::env::var("ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3);
    let mut results: HashMap<(Load, &str), Vec<Measured>> = HashMap::new();
    let loads = loads();
    for is_far in [false, true] {
        if !loads.iter().any(|load| load.is_far == is_far) {
            continue;
        }
        let sides = runtime.block_on(async { sides(&cluster, is_far) });
        let topics: HashMap<i32, String> = [1, 12, 300]
            .into_iter()
            .map(|count| (count, cluster.create_topic("bench", count, &[])))
            .collect();
        for round in 0..=rounds {
            for load in loads.iter().filter(|load| load.is_far == is_far) {
                for (name, side) in &sides {
                    let measured = runtime.block_on(side.measure(&topics[&load.partitions], *load));
                    // The first round warms up.
                    if round > 0 {
                        results.entry((*load, name)).or_default().push(measured);
                    }
                }
            }
        }
    }
    report(&loads, &results);
}

fn loads() -> Vec<Load> {
    let asked = std::env::var("LOADS").unwrap_or_else(|_| "near,far".to_owned());
    let mut loads = Vec::new();
    for is_far in [false, true] {
        if !asked.contains(if is_far { "far" } else { "near" }) {
            continue;
        }
        for (partitions, callers) in [(1, Some(1)), (12, Some(256)), (300, Some(256)), (1, None), (12, None)]
        {
            loads.push(Load { is_far, partitions, callers });
        }
    }
    loads
}

fn report(loads: &[Load], results: &HashMap<(Load, &str), Vec<Measured>>) {
    println!(
        "| load | librdkafka, linger 0 | linger 5 | wire | / better | p50 ms | p50 ms wire | CPU us | CPU us wire |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for load in loads {
        let of = |name| &results[&(*load, name)];
        let median = |name, value: fn(&Measured) -> f64| {
            let mut values: Vec<f64> = of(name).iter().map(value).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        let rate = |name| median(name, |measured| measured.rate);
        let (zero, five, wire) = (rate("linger 0"), rate("linger 5"), rate("wire"));
        let better = if zero > five { "linger 0" } else { "linger 5" };
        println!(
            "| {} {} on {} | {zero:.0} | {five:.0} | {wire:.0} | {:.2} | {:.2} | {:.2} | {:.1} | {:.1} |",
            if load.is_far { "far" } else { "near" },
            load.callers.map_or("streams".to_owned(), |callers| format!("{callers} callers")),
            load.partitions,
            wire / zero.max(five),
            median(better, |measured| measured.p50_ms),
            median("wire", |measured| measured.p50_ms),
            median(better, |measured| measured.cpu_us),
            median("wire", |measured| measured.cpu_us),
        );
    }
}

/// Makes the sides; both log in over the same listener.
fn sides(cluster: &Cluster, is_far: bool) -> Vec<(&'static str, Side)> {
    let config = settings(cluster, is_far);
    let librdkafka = |linger: &str| {
        let mut properties = ClientConfig::new();
        for property in producer_sidecar::config::librdkafka::producer_properties(&config) {
            properties.set(property.name.clone(), property.expose());
        }
        properties
            .set("linger.ms", linger)
            .set("batch.num.messages", "10000")
            .set("statistics.interval.ms", "0");
        Side::Librdkafka(Arc::new(
            properties.create_with_context(Reports).expect("librdkafka takes the properties"),
        ))
    };
    let wire = WireSettings::read(&config, None).expect("the settings are right");
    let settings = ProducerSettings { compression: Compression::None, ..ProducerSettings::of(&config) };
    let on_end = |_: &PartitionLog<Item>, ended: Vec<Ended<Item>>| {
        for ended in ended {
            assert!(matches!(ended.end, End::Written { .. }), "every record is delivered: {:?}", ended.end);
            ended.item.done.tell();
        }
    };
    let tasks: &'static Tasks = Box::leak(Box::default());
    let wire = WireProducer::start(settings, Arc::new(wire), tasks, Box::new(on_end));
    vec![("linger 0", librdkafka("0")), ("linger 5", librdkafka("5")), ("wire", Side::Wire(Arc::new(wire)))]
}

fn settings(cluster: &Cluster, is_far: bool) -> Config {
    let near = cluster.bootstrap_plaintext();
    let far = cluster.bootstrap_proxied();
    let mut variables = vec![("HOSTNAME", "bench")];
    if is_far {
        variables.extend([
            ("KAFKA_BROKERS", far.as_str()),
            ("KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT"),
            ("KAFKA_USER", cluster.user()),
            ("KAFKA_PASSWORD", cluster.password()),
        ]);
    } else {
        variables.extend([("KAFKA_BROKERS", near.as_str()), ("KAFKA_SECURITY_PROTOCOL", "PLAINTEXT")]);
    }
    let environment = Environment::of(variables);
    let inputs = Inputs { config: None, flags: &[], environment: &environment };
    source::load(inputs, Purpose::Serve).expect("the settings are right").config
}

impl Side {
    async fn measure(&self, topic: &str, load: Load) -> Measured {
        let cpu = cpu_seconds();
        let begun = Instant::now();
        let (count, mut latencies) = match load.callers {
            Some(callers) => self.calls(topic, load.partitions, callers).await,
            None => (self.streams(topic, load.partitions).await, vec![0.0]),
        };
        let took = begun.elapsed().as_secs_f64();
        latencies.sort_by(f64::total_cmp);
        let count = count as f64;
        Measured {
            rate: count / took,
            p50_ms: latencies[latencies.len() / 2],
            cpu_us: (cpu_seconds() - cpu) * 1e6 / count,
        }
    }

    async fn calls(&self, topic: &str, partitions: i32, callers: usize) -> (usize, Vec<f64>) {
        let until = Instant::now() + ROUND;
        let mut tasks = tokio::task::JoinSet::new();
        for caller in 0..callers {
            let (side, topic) = (self.clone(), topic.to_owned());
            tasks.spawn(async move {
                let (mut latencies, mut number) = (Vec::new(), caller);
                while Instant::now() < until {
                    let begun = Instant::now();
                    let (told, done) = oneshot::channel();
                    side.send(&topic, partitions, number, Done::Caller(told));
                    done.await.expect("an end comes");
                    latencies.push(begun.elapsed().as_secs_f64() * 1e3);
                    number += 7;
                }
                latencies
            });
        }
        let mut all = Vec::new();
        while let Some(latencies) = tasks.join_next().await {
            all.extend(latencies.expect("no caller panics"));
        }
        (all.len(), all)
    }

    async fn streams(&self, topic: &str, partitions: i32) -> usize {
        let until = Instant::now() + ROUND;
        let counted = Arc::new(AtomicU64::new(0));
        let mut tasks = tokio::task::JoinSet::new();
        for stream in 0..STREAMS {
            let (side, topic, counted) = (self.clone(), topic.to_owned(), Arc::clone(&counted));
            tasks.spawn(async move {
                let window = Arc::new(Semaphore::new(STREAM_WINDOW));
                let mut number = stream;
                while Instant::now() < until {
                    for _ in 0..100 {
                        let permit =
                            Arc::clone(&window).acquire_owned().await.expect("the window stays open");
                        side.send(
                            &topic,
                            partitions,
                            number,
                            Done::Stream { _permit: permit, count: Arc::clone(&counted) },
                        );
                        number += 7;
                    }
                }
                let all = u32::try_from(STREAM_WINDOW).expect("it is small");
                drop(window.acquire_many(all).await);
            });
        }
        while tasks.join_next().await.is_some() {}
        usize::try_from(counted.load(Ordering::Relaxed)).expect("it is small")
    }

    fn send(&self, topic: &str, partitions: i32, number: usize, done: Done) {
        let key = format!("key-{number}");
        let partition = i32::try_from(number % usize::try_from(partitions).unwrap_or(1)).unwrap_or(0);
        match self {
            Self::Librdkafka(producer) => {
                let headers = HEADERS.iter().fold(
                    OwnedHeaders::new_with_capacity(HEADERS.len()),
                    |headers, (key, value)| {
                        headers.insert(rdkafka::message::Header { key, value: Some(*value) })
                    },
                );
                let outgoing = BaseRecord::with_opaque_to(topic, Box::new(done));
                let outgoing = outgoing.partition(partition).key(&key).payload(VALUE).headers(headers);
                producer.send(outgoing).map_err(|(error, _)| error).expect("the queue has room");
            }
            Self::Wire(producer) => {
                let topic = Topic::parse(topic).expect("it is a topic");
                let header = |(name, value): &(&str, &'static str)| Header {
                    name: (*name).to_owned(),
                    value: Some(Bytes::from_static(value.as_bytes())),
                };
                let record = Record {
                    topic: topic.clone(),
                    key: Some(key.into()),
                    value: Some(Bytes::from_static(VALUE.as_bytes())),
                    headers: HEADERS.iter().map(header).collect(),
                    partition: None,
                    timestamp_ms: 1_700_000_000_000,
                    message_id: None,
                };
                let log = producer.log(&topic, partition);
                producer.push(&log, Item { record, done });
            }
        }
    }
}

fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("the process has a status");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |place: usize| fields[place].parse::<f64>().unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}
