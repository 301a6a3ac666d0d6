//! What traces cost whose receiver takes connections and never answers: a sidecar that records every call beside one that
//! records none, in turns within one run. Medians of the rounds; the ratios are what is to be compared.
//! `ROUNDS` asks for other than forty rounds.

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a benchmark that cannot run has nothing to say, and counts are small"
)]

mod calls;
mod rounds;
mod streams;
mod workload;

use std::{collections::HashMap, net::TcpListener, time::Duration};

use testkit::{Cluster, Sidecar};

use self::{
    rounds::{ROUND_MS, rounds, started},
    streams::{Load, Measured, cpu_seconds, median, through_sidecar},
};

const PARTITIONS: i32 = 6;

/// How records are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Way {
    /// So many callers of Send.
    Calls(usize),
    Streams(Load),
}

const WAYS: [Way; 5] = [
    Way::Calls(1),
    Way::Calls(16),
    Way::Calls(256),
    Way::Streams(Load { frame: 1, streams: 64 }),
    Way::Streams(Load { frame: 100, streams: 4 }),
];

type Results = HashMap<(Way, &'static str), Vec<Measured>>;

fn main() {
    let cluster = Cluster::shared();
    let topic = cluster.create_topic("bench", PARTITIONS, &[]);
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let endpoint = format!("http://{}", silent.local_addr().expect("it has an address"));
    let builder = || Sidecar::for_cluster(env!("CARGO_BIN_EXE_producer-sidecar"), cluster).arg("serve");
    let (without, with) =
        (started(builder()), started(builder().env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)));
    let results = measure(&topic, [("without", &without), ("with", &with)]);
    drop((with, without));
    Cluster::shutdown_shared();
    report(&results);
}

fn measure(topic: &str, mut sides: [(&'static str, &Sidecar); 2]) -> Results {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime can be made");
    let mut results = Results::new();
    // The first round warms up.
    for round in 0..=rounds() {
        for way in WAYS {
            for (name, sidecar) in sides {
                let measured = runtime.block_on(sent(sidecar, topic, way));
                if round > 0 {
                    results.entry((way, name)).or_default().push(measured);
                }
            }
        }
        sides.reverse();
    }
    results
}

async fn sent(sidecar: &Sidecar, topic: &str, way: Way) -> Measured {
    let time = Duration::from_millis(ROUND_MS);
    match way {
        Way::Streams(load) => through_sidecar(sidecar, topic, workload::record, load, time).await,
        Way::Calls(callers) => {
            let (client, topic) = (calls::client(&sidecar.grpc_address()), topic.to_owned());
            let cpu = cpu_seconds(sidecar.pid());
            let rate = calls::rate(callers, time, move |key| {
                let (client, topic) = (client.clone(), topic.clone());
                async move { calls::send(client, &topic, &key).await }
            })
            .await;
            let taken = cpu_seconds(sidecar.pid()) - cpu;
            Measured { rate, cpu: taken * 1e6 / (rate * time.as_secs_f64()) }
        }
    }
}

fn report(results: &Results) {
    println!(
        "Records per second, medians of {} rounds of {ROUND_MS} ms; CPU in seconds a million records.",
        rounds()
    );
    println!("| sent by | without | with | with / without | CPU without | CPU with |");
    println!("|---|---|---|---|---|---|");
    for way in WAYS {
        let of = |name| results.get(&(way, name)).cloned().unwrap_or_default();
        let rate = |name| median(of(name).iter().map(|measured| measured.rate).collect());
        let cpu = |name| median(of(name).iter().map(|measured| measured.cpu).collect());
        let pairs = of("with").into_iter().zip(of("without"));
        let ratio = median(pairs.map(|(with, without)| with.rate / without.rate).collect());
        let name = match way {
            Way::Calls(callers) => format!("Send, {callers} callers"),
            Way::Streams(Load { frame, streams }) => {
                format!("SendBatch, {streams} streams, frames of {frame}")
            }
        };
        println!(
            "| {name} | {:.0} | {:.0} | {:.3} | {:.1} | {:.1} |",
            rate("without"),
            rate("with"),
            ratio,
            cpu("without"),
            cpu("with"),
        );
    }
}
