//! How many may come at once: callers that wait out an outage, callers that give up, callers beyond the bound, and streams
//! that do nothing. What they take is given back. Breaks the cluster's proxies, and heals them.

use std::{collections::HashSet, time::Duration};

use producer_sidecar::grpc::proto::GetInfoRequest;
use testkit::{Cluster, Sidecar, eventually, read_topic};
use tokio::task::JoinSet;
use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus::Serving;

use super::{channel, listening, metric, next, ready, wait_metric, watch};
use crate::{
    client::{
        Client, DEADLINE_MARGIN_MS, READY, Refusal, connect, run, send, send_within, text, through_proxies,
        wait_connections,
    },
    commands::without_brokers,
};

crate::tests!(
    a_thousand_callers_wait_out_an_outage,
    callers_that_give_up_take_their_records_back,
    callers_beyond_the_bound_are_refused_at_once,
    five_thousand_idle_streams_cost_little_and_end,
);

/// How long a thousand calls may take on a busy machine.
const BOUND: Duration = Duration::from_secs(60);
/// Longer than any test: nobody's patience ends before the test lets it.
const PATIENCE_MS: &str = "200000";
const CALLERS: usize = 1_024;
/// Connections to brokers that come by themselves.
const FILES_MORE: usize = 3;
const MIB: u64 = 1 << 20;

/// A ready sidecar that waits for its brokers as long as it takes, and has lost them.
fn cut_off(topic: &str) -> Sidecar {
    let builder = through_proxies().env("SIDECAR_BROKERS_WAIT_MS", PATIENCE_MS);
    let sidecar = ready(builder.env("SIDECAR_SEND_TIMEOUT_MS", PATIENCE_MS));
    run(async { send(&connect(&sidecar.grpc_address()), text(topic, "before")).await }).unwrap();
    for proxy in Cluster::shared().proxies() {
        proxy.cut();
    }
    wait_metric(&sidecar, "kafka_producer_connected", 0, READY);
    sidecar
}

/// Begins calls that cannot be answered yet.
fn begin(
    calls: &mut JoinSet<Result<(), Refusal>>,
    client: &Client,
    topic: &str,
    values: impl Iterator<Item = String>,
) {
    for value in values {
        let (client, record) = (client.clone(), text(topic, &value));
        calls.spawn(async move { send(&client, record).await.map(drop) });
    }
}

fn wait_outstanding(sidecar: &Sidecar, records: usize) {
    wait_metric(sidecar, "producer_outstanding_records", records.try_into().unwrap(), BOUND);
}

fn a_thousand_callers_wait_out_an_outage() {
    const CONNECTIONS: usize = 256;
    let cluster = Cluster::shared();
    let topic = cluster.create_topic("crowd", 6, &[]);
    let sidecar = cut_off(&topic);
    let address = sidecar.grpc_address();
    run(async {
        let mut calls = JoinSet::new();
        begin(&mut calls, &connect(&address), &topic, (0..CALLERS).map(|number| format!("one {number}")));
        for connection in 0..CONNECTIONS {
            let values = (0..CALLERS / CONNECTIONS).map(|number| format!("many {connection} {number}"));
            begin(&mut calls, &connect(&address), &topic, values);
        }
        wait_outstanding(&sidecar, 2 * CALLERS);
        assert_eq!(calls.try_join_next().map(|_| ()), None, "all wait");
        // They are in nobody's way.
        connect(&address).get_info(GetInfoRequest {}).await.unwrap();
        cluster.heal();
        while let Some(call) = calls.join_next().await {
            call.unwrap().unwrap();
        }
    });
    wait_outstanding(&sidecar, 0);
    let read = read_topic(cluster, &topic);
    let values: HashSet<_> = read.iter().map(|record| record.value.clone()).collect();
    assert_eq!((read.len(), values.len()), (2 * CALLERS + 1, 2 * CALLERS + 1), "each once");
}

fn callers_that_give_up_take_their_records_back() {
    const GIVING_UP: usize = 500;
    let cluster = Cluster::shared();
    let topic = cluster.create_topic("given-up", 6, &[]);
    let sidecar = cut_off(&topic);
    let cancelled = r#"producer_failures_total{reason="CANCELLED_BY_CALLER"}"#;
    assert_eq!(metric(&sidecar, cancelled), None);
    run(async {
        let client = connect(&sidecar.grpc_address());
        let mut staying = JoinSet::new();
        begin(&mut staying, &client, &topic, (0..10).map(|number| format!("stays {number}")));
        let mut leaving = JoinSet::new();
        begin(&mut leaving, &client, &topic, (0..GIVING_UP).map(|number| format!("leaves {number}")));
        wait_outstanding(&sidecar, GIVING_UP + 10);
        leaving.abort_all();
        wait_outstanding(&sidecar, 10);
        wait_metric(&sidecar, cancelled, GIVING_UP.try_into().unwrap(), READY);
        // So many resets are no attack: the connection stands, and with it the calls that stay.
        client.clone().get_info(GetInfoRequest {}).await.unwrap();
        cluster.heal();
        while let Some(call) = staying.join_next().await {
            call.unwrap().unwrap();
        }
    });
    assert_eq!(metric(&sidecar, "producer_outstanding_bytes"), Some(0));
    let read = read_topic(cluster, &topic);
    let left = read.iter().filter(|record| record.value.as_ref().unwrap().starts_with(b"leaves"));
    assert_eq!((left.count(), read.len()), (0, 11), "what was taken back is not in Kafka");
}

fn callers_beyond_the_bound_are_refused_at_once() {
    let builder = without_brokers(&["serve", "--callers-max", &CALLERS.to_string()])
        .env("SIDECAR_BROKERS_WAIT_MS", PATIENCE_MS)
        .env("SIDECAR_SEND_TIMEOUT_MS", PATIENCE_MS)
        .env("SIDECAR_DEADLINE_MARGIN_MS", DEADLINE_MARGIN_MS);
    let sidecar = listening(builder);
    run(async {
        let client = connect(&sidecar.grpc_address());
        let mut waiting = JoinSet::new();
        // One connection has half of the places at most.
        begin(&mut waiting, &client, "orders", (0..CALLERS / 2).map(|number| number.to_string()));
        wait_outstanding(&sidecar, CALLERS / 2);
        let mut beyond = JoinSet::new();
        begin(&mut beyond, &client, "orders", (0..100).map(|number| number.to_string()));
        while let Some(refused) = beyond.join_next().await {
            let refusal = refused.unwrap().unwrap_err();
            refusal.expect(Code::ResourceExhausted, "QUEUE_FULL", "NO");
            assert!(refusal.pushback_ms.unwrap() > 0, "{refusal:?}");
        }
        // Each further one has half of what is free, until none is.
        let mut taken = CALLERS / 2;
        while taken < CALLERS {
            let more = (CALLERS - taken).div_ceil(2);
            let other = connect(&sidecar.grpc_address());
            begin(&mut waiting, &other, "orders", (0..more).map(|number| number.to_string()));
            taken += more;
            wait_outstanding(&sidecar, taken);
        }
        let refusal = send(&connect(&sidecar.grpc_address()), text("orders", "v")).await.unwrap_err();
        refusal.expect(Code::ResourceExhausted, "QUEUE_FULL", "NO");
        // Their places are free once they have gone.
        waiting.abort_all();
        wait_outstanding(&sidecar, 0);
        let refusal =
            send_within(&client, text("orders", "v"), Some(Duration::from_secs(1))).await.unwrap_err();
        refusal.expect(Code::DeadlineExceeded, "DEADLINE_NOT_WRITTEN", "NO");
    });
}

fn five_thousand_idle_streams_cost_little_and_end() {
    const CONNECTIONS: usize = 5;
    const STREAMS: usize = 1_000;
    let topic = Cluster::shared().create_topic("idle", 1, &[]);
    let sidecar = ready(through_proxies());
    run(async { send(&connect(&sidecar.grpc_address()), text(&topic, "before")).await }).unwrap();
    wait_connections(&sidecar);
    let (files, memory) = (sidecar.fd_count(), sidecar.rss_bytes());
    let mut peaks = Vec::new();
    for round in 0..3 {
        run(async {
            let address = sidecar.grpc_address();
            let mut opening = JoinSet::new();
            for _ in 0..CONNECTIONS {
                let channel = channel(&address);
                for _ in 0..STREAMS {
                    let channel = channel.clone();
                    opening.spawn(async move {
                        let mut stream = watch(&channel, "kafka").await;
                        assert_eq!(next(&mut stream).await, Serving);
                        stream
                    });
                }
            }
            let idle = opening.join_all().await;
            assert_eq!(idle.len(), CONNECTIONS * STREAMS);
            let client = connect(&address);
            for number in 0..100 {
                send(&client, text(&topic, &format!("{round} {number}"))).await.unwrap();
            }
            assert!(
                sidecar.fd_count() <= files + CONNECTIONS + 1 + FILES_MORE,
                "{} of {files}",
                sidecar.fd_count()
            );
            peaks.push(sidecar.rss_bytes());
            // They idle still, none was dropped.
            assert_eq!(idle.len(), CONNECTIONS * STREAMS);
        });
        eventually(READY, "the connections are gone", || {
            (sidecar.fd_count() <= files + FILES_MORE).then_some(())
        });
    }
    let grown: Vec<_> = peaks.iter().map(|peak| peak.saturating_sub(memory) / MIB).collect();
    assert!(grown[0] < 120, "MiB for {} streams: {grown:?}", CONNECTIONS * STREAMS);
    // What ended was given back: the last round lives on what the rounds before it had.
    assert!(grown[2] < grown[1] + 16, "MiB, round by round: {grown:?}");
    assert_eq!(read_topic(Cluster::shared(), &topic).len(), 301);
}
