//! SendBatch, side by side: the sidecar, librdkafka in this process, and kafkajs in its own, in turns within one run.
//!
//! All move the same records to the same cluster. The sidecar and librdkafka have as many records in flight, the same linger
//! and the same compression; kafkajs has the source document's settings and as many batches at once as the streams hold
//! frames. Medians of the rounds are printed; the ratios are what is to be compared. `PAIRS=100x4,10x1` narrows the run.

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a benchmark that cannot run has nothing to say, and counts are small"
)]

mod direct;
mod kafkajs;
mod workload;

use std::{collections::HashMap, sync::Arc, time::Duration};

use producer_sidecar::grpc::proto::{
    SendBatchRequest, producer_service_client::ProducerServiceClient, record_result,
};
use testkit::{ClusterOptions, Sidecar};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::Instant,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use self::{
    direct::{Direct, PARTITIONS},
    kafkajs::{KafkaJs, number},
    workload::{VALUE, record},
};

const FRAMES: [usize; 4] = [1, 10, 100, 1000];
const STREAMS: [usize; 3] = [1, 4, 64];
const ROUNDS: usize = 5;
const ROUND_MS: u64 = 2_000;
/// The most records in flight on all streams together, and the most frames on one.
const IN_FLIGHT_MAX: usize = 20_000;
const FRAMES_IN_FLIGHT_MAX: usize = 32;

/// One shape of load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Load {
    frame: usize,
    streams: usize,
}

/// What one measurement gave.
#[derive(Debug, Clone, Copy)]
struct Measured {
    rate: f64,
    /// Seconds of processor time a million records.
    cpu: f64,
}

fn main() {
    let cluster = &kafkajs::cluster(ClusterOptions::default());
    let topic = cluster.create_topic("bench", PARTITIONS, &[]);
    let sidecar = Sidecar::for_cluster(env!("CARGO_BIN_EXE_producer-sidecar"), cluster).arg("serve").start();
    sidecar.wait_ready(Duration::from_secs(15));
    let mut kafkajs = KafkaJs::start("send_batch.js", cluster, &[&topic, VALUE]);
    let direct = direct::producer(cluster, |delivered, permit: OwnedSemaphorePermit| {
        assert!(delivered, "every record is delivered");
        drop(permit);
    });
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime can be made");
    let mut results: HashMap<(Load, &str), Vec<Measured>> = HashMap::new();
    let loads = loads();
    for round in 0..=ROUNDS {
        for load in &loads {
            let time = Duration::from_millis(ROUND_MS);
            let measured = [
                ("sidecar", runtime.block_on(through_sidecar(&sidecar, &topic, *load, time))),
                ("direct", runtime.block_on(in_process(&direct, &topic, *load, time))),
                ("kafkajs", through_kafkajs(&mut kafkajs, *load, time)),
            ];
            // The first round warms up.
            for (side, measured) in measured.into_iter().filter(|_| round > 0) {
                results.entry((*load, side)).or_default().push(measured);
            }
        }
    }
    drop(kafkajs);
    drop(sidecar);
    report(&loads, &results);
}

fn loads() -> Vec<Load> {
    let all = FRAMES
        .iter()
        .flat_map(|frame| STREAMS.iter().map(|streams| Load { frame: *frame, streams: *streams }));
    let Ok(wanted) = std::env::var("PAIRS") else { return all.collect() };
    let wanted: Vec<_> = wanted.split(',').map(ToOwned::to_owned).collect();
    all.filter(|load| wanted.contains(&format!("{}x{}", load.frame, load.streams))).collect()
}

fn report(loads: &[Load], results: &HashMap<(Load, &str), Vec<Measured>>) {
    println!(
        "Records per second, medians of {ROUNDS} rounds of {ROUND_MS} ms; CPU in seconds a million records."
    );
    println!(
        "| frame | streams | in flight | sidecar | librdkafka | kafkajs | / librdkafka | / kafkajs | CPU sidecar | CPU librdkafka |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for load in loads {
        let of = |side| results.get(&(*load, side)).cloned().unwrap_or_default();
        let (sidecar, direct, kafkajs) = (of("sidecar"), of("direct"), of("kafkajs"));
        let rate = |side: &[Measured]| median(side.iter().map(|measured| measured.rate).collect());
        let cpu = |side: &[Measured]| median(side.iter().map(|measured| measured.cpu).collect());
        let ratio = |to: &[Measured]| median(sidecar.iter().zip(to).map(|(a, b)| a.rate / b.rate).collect());
        println!(
            "| {} | {} | {} | {:.0} | {:.0} | {:.0} | {:.2} | {:.1} | {:.1} | {:.1} |",
            load.frame,
            load.streams,
            load.streams * load.frames_in_flight() * load.frame,
            rate(&sidecar),
            rate(&direct),
            rate(&kafkajs),
            ratio(&direct),
            ratio(&kafkajs),
            cpu(&sidecar),
            cpu(&direct),
        );
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

impl Load {
    /// Frames without an answer that each stream keeps.
    fn frames_in_flight(self) -> usize {
        (IN_FLIGHT_MAX / (self.streams * self.frame)).clamp(1, FRAMES_IN_FLIGHT_MAX)
    }
}

// === the sidecar ===

async fn through_sidecar(sidecar: &Sidecar, topic: &str, load: Load, time: Duration) -> Measured {
    let endpoint =
        Channel::from_shared(format!("http://{}", sidecar.grpc_address())).expect("the address is one");
    let client = ProducerServiceClient::new(endpoint.connect().await.expect("the sidecar listens"));
    let (cpu, begun) = (cpu_seconds(sidecar.pid()), Instant::now());
    let end = begun + time;
    let streams =
        (0..load.streams).map(|_| tokio::spawn(one_stream(client.clone(), topic.to_owned(), load, end)));
    let mut records = 0;
    for stream in streams.collect::<Vec<_>>() {
        records += stream.await.expect("a stream ends");
    }
    measured(records, begun.elapsed(), cpu_seconds(sidecar.pid()) - cpu)
}

async fn one_stream(
    mut client: ProducerServiceClient<Channel>,
    topic: String,
    load: Load,
    end: Instant,
) -> usize {
    let (frames, outgoing) = mpsc::channel(load.frames_in_flight());
    let mut answers =
        client.send_batch(ReceiverStream::new(outgoing)).await.expect("a stream opens").into_inner();
    let room = Arc::new(Semaphore::new(load.frames_in_flight()));
    let taken = Arc::clone(&room);
    let sending = tokio::spawn(async move {
        for sequence in 0.. {
            taken.acquire().await.expect("the semaphore stays open").forget();
            if Instant::now() >= end {
                return;
            }
            let records =
                (0..load.frame).map(|place| record(&topic, &format!("key-{sequence}-{place}"))).collect();
            let frame = SendBatchRequest { sequence, records, ..SendBatchRequest::default() };
            frames.send(frame).await.expect("the stream is open");
        }
    });
    let mut records = 0;
    while let Some(answer) = answers.message().await.expect("the stream ends well") {
        room.add_permits(1);
        let good = |result: &&_| matches!(result, Some(record_result::Result::Receipt(_)));
        let receipts = answer.results.iter().map(|result| &result.result).filter(good).count();
        assert_eq!(receipts, load.frame, "every record is taken");
        records += receipts;
    }
    sending.await.expect("sending ends");
    records
}

// === librdkafka in this process ===

async fn in_process(
    producer: &Direct<OwnedSemaphorePermit>,
    topic: &str,
    load: Load,
    time: Duration,
) -> Measured {
    let in_flight = load.streams * load.frames_in_flight() * load.frame;
    let room = Arc::new(Semaphore::new(in_flight));
    let (cpu, begun) = (cpu_seconds(std::process::id()), Instant::now());
    let mut records = 0;
    while begun.elapsed() < time {
        let permit = Arc::clone(&room).acquire_owned().await.expect("the semaphore stays open");
        let key = format!("key-{records}");
        direct::produce(producer, topic, &key, permit);
        records += 1;
    }
    let all = u32::try_from(in_flight).expect("so few are in flight");
    drop(room.acquire_many(all).await.expect("the semaphore stays open"));
    measured(records, begun.elapsed(), cpu_seconds(std::process::id()) - cpu)
}

// === kafkajs ===

fn through_kafkajs(kafkajs: &mut KafkaJs, load: Load, time: Duration) -> Measured {
    let (frame, streams) = (load.frame, load.streams * load.frames_in_flight());
    let told = kafkajs.ask(&serde_json::json!({"frame": frame, "streams": streams, "ms": time.as_millis()}));
    let records = number(&told, "records");
    Measured { rate: records / number(&told, "seconds"), cpu: number(&told, "cpu") * 1e6 / records }
}

fn measured(records: usize, took: Duration, cpu: f64) -> Measured {
    Measured { rate: records as f64 / took.as_secs_f64(), cpu: cpu * 1e6 / records as f64 }
}

/// Returns the processor time of a process, as the system counts it in hundredths of a second.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process runs");
    let after_name = stat.rsplit_once(')').expect("the name ends").1;
    let ticks: f64 =
        after_name.split_whitespace().skip(11).take(2).filter_map(|text| text.parse::<f64>().ok()).sum();
    ticks / 100.0
}
