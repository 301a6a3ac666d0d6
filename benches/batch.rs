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
mod settings;
mod streams;
mod workload;

use std::{collections::HashMap, sync::Arc, time::Duration};

use testkit::{ClusterOptions, Sidecar};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use self::{
    direct::{Direct, PARTITIONS},
    kafkajs::{KafkaJs, number},
    streams::{Load, Measured, cpu_seconds, measured, median, through_sidecar},
    workload::{VALUE, record},
};

const FRAMES: [usize; 4] = [1, 10, 100, 1000];
const STREAMS: [usize; 3] = [1, 4, 64];
const ROUNDS: usize = 5;
const ROUND_MS: u64 = 2_000;
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
                ("sidecar", runtime.block_on(through_sidecar(&sidecar, &topic, record, *load, time))),
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
