//! What deduplication and dead letters cost while nothing fails: a sidecar with both as they are by default beside one without,
//! in turns within one run, both with and without message ids. Medians of the rounds; the ratios are what is to be compared, beside
//! the control, which compares two sidecars that are alike.
//! `ROUNDS` asks for other than forty rounds, `LOADS` for other than all shapes of load, such as `1x64,100x4`.

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
    name: (&'static str, Ids),
    sidecar: &'a Sidecar,
}

/// Whether records have message ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Ids {
    Without,
    With,
}

/// In the order in which their sidecars are started, which alone makes a difference of some hundredths: the one with all on is
/// between two that are alike, and compared with both.
const FIRST: &str = "without, first";
const WITH: &str = "with";
const LAST: &str = "without, last";

fn main() {
    let cluster = Cluster::shared();
    let topic = cluster.create_topic("bench", PARTITIONS, &[]);
    let builder = || Sidecar::for_cluster(env!("CARGO_BIN_EXE_producer-sidecar"), cluster).arg("serve");
    let without = || {
        let builder = builder().env("SIDECAR_DEDUPLICATION_MESSAGE_IDS_MAX", "0");
        started(builder.env("SIDECAR_DEAD_LETTERS_TOPIC", "off"))
    };
    let (first, with, last) = (without(), started(builder()), without());
    let sidecars = [(FIRST, &first), (WITH, &with), (LAST, &last)];
    let sides: Vec<_> = [Ids::Without, Ids::With]
        .into_iter()
        .flat_map(|ids| sidecars.map(|(name, sidecar)| Side { name: (name, ids), sidecar }))
        .collect();
    let results = measure(&topic, &sides);
    drop((first, with, last));
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

fn loads() -> impl Iterator<Item = Load> {
    let asked = std::env::var("LOADS").ok();
    let is_asked = move |load: &Load| {
        let name = format!("{}x{}", load.frame, load.streams);
        asked.as_ref().is_none_or(|asked| asked.split(',').any(|one| one == name))
    };
    LOADS.into_iter().filter(is_asked)
}

type Results = HashMap<(Load, (&'static str, Ids)), Vec<Measured>>;

fn measure(topic: &str, sides: &[Side<'_>]) -> Results {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime can be made");
    let time = Duration::from_millis(ROUND_MS);
    let mut results = Results::new();
    // The first round warms up.
    for round in 0..=rounds() {
        for load in loads() {
            // Each is first in turn.
            for place in 0..sides.len() {
                let Side { name, sidecar } = &sides[(place + round) % sides.len()];
                let make: Make = if name.1 == Ids::With { identified } else { record };
                let measured = runtime.block_on(through_sidecar(sidecar, topic, make, load, time));
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
        "Records per second, medians of {} rounds of {ROUND_MS} ms; CPU in seconds a million records. Without is the mean of the two \
         that are alike; what they differ by is the control.",
        rounds()
    );
    println!(
        "| frame | streams | ids | without | with | with / without | control: last / first | CPU without | CPU with | CPU with / without |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for (load, ids) in loads().flat_map(|load| [(load, Ids::Without), (load, Ids::With)]) {
        let of = |name| results.get(&(load, (name, ids))).cloned().unwrap_or_default();
        let (first, with, last) = (of(FIRST), of(WITH), of(LAST));
        let rounds = || first.iter().zip(&with).zip(&last).map(|((first, with), last)| (first, with, last));
        let middle =
            |of: &dyn Fn((&Measured, &Measured, &Measured)) -> f64| median(rounds().map(of).collect());
        let rate = |(first, _, last): (&Measured, &Measured, &Measured)| (first.rate + last.rate) / 2.0;
        let cpu = |(first, _, last): (&Measured, &Measured, &Measured)| (first.cpu + last.cpu) / 2.0;
        println!(
            "| {} | {} | {} | {:.0} | {:.0} | {:.3} | {:.3} | {:.2} | {:.2} | {:.3} |",
            load.frame,
            load.streams,
            if ids == Ids::With { "yes" } else { "no" },
            middle(&rate),
            middle(&|(_, with, _)| with.rate),
            middle(&|all| all.1.rate / rate(all)),
            middle(&|(first, _, last)| last.rate / first.rate),
            middle(&cpu),
            middle(&|(_, with, _)| with.cpu),
            middle(&|all| all.1.cpu / cpu(all)),
        );
    }
}
