//! What deduplication and dead letters cost while nothing fails: a sidecar with both as they are by default beside one without,
//! in turns within one run, both with and without message ids. Medians of the rounds; the ratios are what is to be compared.
//! `ROUNDS` asks for other than nine rounds.

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a benchmark that cannot run has nothing to say, and counts are small"
)]

mod rounds;
mod streams;
mod workload;

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use producer_sidecar::grpc::proto::ProducerRecord;
use testkit::{Cluster, Sidecar};

use self::{
    rounds::{ROUND_MS, rounds, started},
    streams::{Load, Make, Measured, median, through_sidecar},
    workload::record,
};

const LOADS: [Load; 4] = [
    Load { frame: 1, streams: 64 },
    Load { frame: 10, streams: 4 },
    Load { frame: 100, streams: 4 },
    Load { frame: 100, streams: 64 },
];
const PARTITIONS: i32 = 6;

/// One way through one sidecar.
struct Side<'a> {
    name: &'static str,
    sidecar: &'a Sidecar,
    make: Make,
}

fn main() {
    let cluster = Cluster::shared();
    let topic = cluster.create_topic("bench", PARTITIONS, &[]);
    let builder = || Sidecar::for_cluster(env!("CARGO_BIN_EXE_producer-sidecar"), cluster).arg("serve");
    let without = started(
        builder().env("SIDECAR_DEDUPLICATION_MESSAGE_IDS_MAX", "0").env("SIDECAR_DEAD_LETTERS_TOPIC", "off"),
    );
    let with = started(builder());
    let sides = [
        Side { name: "without", sidecar: &without, make: record },
        Side { name: "with", sidecar: &with, make: record },
        Side { name: "without, ids", sidecar: &without, make: identified },
        Side { name: "with, ids", sidecar: &with, make: identified },
    ];
    let results = measure(&topic, &sides);
    drop((with, without));
    Cluster::shutdown_shared();
    report(&results);
}

/// The same record, with a message id that no other has.
fn identified(topic: &str, key: &str) -> ProducerRecord {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    // As long as a UUID.
    ProducerRecord { message_id: format!("{number:036}"), ..record(topic, key) }
}

type Results = HashMap<(Load, &'static str), Vec<Measured>>;

fn measure(topic: &str, sides: &[Side<'_>]) -> Results {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime can be made");
    let time = Duration::from_millis(ROUND_MS);
    let mut results = Results::new();
    // The first round warms up.
    for round in 0..=rounds() {
        for load in LOADS {
            // Each is first as often as the others.
            for place in 0..sides.len() {
                let Side { name, sidecar, make } = &sides[(place + round) % sides.len()];
                let measured = runtime.block_on(through_sidecar(sidecar, topic, *make, load, time));
                if round > 0 {
                    results.entry((load, *name)).or_default().push(measured);
                }
            }
        }
    }
    results
}

fn report(results: &Results) {
    println!(
        "Records per second, medians of {} rounds of {ROUND_MS} ms; CPU in seconds a million records.",
        rounds()
    );
    println!(
        "| frame | streams | without | with | with / without | without, ids | with, ids | with / without | CPU without | CPU with | CPU without, ids | CPU with, ids |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|");
    for load in LOADS {
        let of = |name| results.get(&(load, name)).cloned().unwrap_or_default();
        let rate = |name| median(of(name).iter().map(|measured| measured.rate).collect());
        let cpu = |name| median(of(name).iter().map(|measured| measured.cpu).collect());
        let ratio =
            |with, without| median(of(with).iter().zip(of(without)).map(|(a, b)| a.rate / b.rate).collect());
        println!(
            "| {} | {} | {:.0} | {:.0} | {:.3} | {:.0} | {:.0} | {:.3} | {:.1} | {:.1} | {:.1} | {:.1} |",
            load.frame,
            load.streams,
            rate("without"),
            rate("with"),
            ratio("with", "without"),
            rate("without, ids"),
            rate("with, ids"),
            ratio("with, ids", "without, ids"),
            cpu("without"),
            cpu("with"),
            cpu("without, ids"),
            cpu("with, ids"),
        );
    }
}
