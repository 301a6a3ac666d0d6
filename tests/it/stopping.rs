//! Stopping: SIGTERM loses no acknowledged record, refuses new calls truthfully, and ends with its say.

pub mod bounded;
pub mod early;
pub mod hurried;

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use testkit::{Cluster, Signal, eventually, read_topic};
use tonic::Code;

use crate::client::{READY, connect, over_tls, run, send, text};

crate::tests!(
    sigterm_under_load_loses_no_acknowledged_record,
    undelivered_records_are_counted_and_exit_with_two,
);

const ROUNDS: usize = 10;
const CALLERS: usize = 32;

fn sigterm_under_load_loses_no_acknowledged_record() {
    let cluster = Cluster::shared();
    let topic = cluster.create_topic("sigterm", 6, &[]);
    let mut acknowledged = HashSet::new();
    for round in 0..ROUNDS {
        acknowledged.extend(load_and_terminate(&topic, round));
    }
    let mut seen = HashSet::new();
    for record in read_topic(cluster, &topic) {
        let value = String::from_utf8(record.value.unwrap()).unwrap();
        assert!(seen.insert(value.clone()), "{value} is there twice");
    }
    let lost: Vec<_> = acknowledged.difference(&seen).collect();
    assert!(lost.is_empty(), "{} acknowledged records are lost, such as {:?}", lost.len(), lost[0]);
    assert!(acknowledged.len() > ROUNDS * 100);
}

/// Starts a sidecar, loads it, stops it in mid-load; returns the acknowledged values.
fn load_and_terminate(topic: &str, round: usize) -> Vec<String> {
    let sidecar = over_tls().start();
    sidecar.wait_ready(READY);
    let address = sidecar.grpc_address();
    let answered = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&answered);
    let topic = topic.to_owned();
    let load = thread::spawn(move || {
        run(async {
            let client = connect(&address);
            let mut callers = tokio::task::JoinSet::new();
            for caller in 0..CALLERS {
                let (client, topic, counted) = (client.clone(), topic.clone(), Arc::clone(&counted));
                callers.spawn(async move {
                    let mut acknowledged = Vec::new();
                    for number in 0.. {
                        let value = format!("{round}-{caller}-{number}");
                        match send(&client, text(&topic, &value)).await {
                            Ok(_) => acknowledged.push(value),
                            Err(refusal) => {
                                // Refused while draining, or nobody listens any more; never an error of another kind.
                                if !refusal.reason.is_empty() {
                                    refusal.expect(Code::Unavailable, "DRAINING", "NO");
                                }
                                return acknowledged;
                            }
                        }
                        counted.fetch_add(1, Ordering::Relaxed);
                    }
                    acknowledged
                });
            }
            callers.join_all().await.concat()
        })
    });
    eventually(READY, "the load runs", || (answered.load(Ordering::Relaxed) > 200).then_some(()));
    sidecar.signal(Signal::TERM);
    let status = sidecar.wait_exit(Duration::from_secs(40));
    assert_eq!(status.code(), Some(0), "{:?}", sidecar.stderr());
    let last = sidecar.stderr().pop().unwrap();
    assert!(last.contains("stopped: delivered"), "{last}");
    load.join().unwrap()
}

fn undelivered_records_are_counted_and_exit_with_two() {
    let cluster = Cluster::shared();
    let topic = cluster.create_topic("undelivered", 1, &[]);
    let sidecar = over_tls().env("SIDECAR_DRAIN_MS", "1000").start();
    sidecar.wait_ready(READY);
    let address = sidecar.grpc_address();
    run(async { send(&connect(&address), text(&topic, "before")).await.unwrap() });
    cluster.freeze_all();
    let in_flight = thread::spawn(move || {
        run(async {
            let client = connect(&address);
            let mut sends = tokio::task::JoinSet::new();
            for number in 0..7 {
                let (client, record) = (client.clone(), text(&topic, &number.to_string()));
                sends.spawn(async move { send(&client, record).await.unwrap_err() });
            }
            (topic, sends.join_all().await)
        })
    });
    eventually(READY, "the records are on their way", || {
        let metrics = sidecar.http_get("/metrics").1;
        metrics.lines().any(|line| line == "producer_outstanding_records 7").then_some(())
    });
    sidecar.signal(Signal::TERM);
    let status = sidecar.wait_exit(Duration::from_secs(40));
    cluster.thaw_all();
    cluster.heal();
    assert_eq!(status.code(), Some(2), "{:?}", sidecar.stderr());
    let last = sidecar.stderr().pop().unwrap();
    assert!(last.contains("delivered 0 of 7") && last.contains("7 could not be delivered"), "{last}");
    let (topic, refusals) = in_flight.join().unwrap();
    // Given up in flight: it may be written, and nobody says otherwise. One that came after its request waited here.
    let maybes = refusals.iter().filter(|refusal| refusal.persisted() == "MAYBE").count();
    let waited =
        refusals.iter().filter(|refusal| refusal.reason == "DRAINING" && refusal.persisted() == "NO");
    assert!(maybes > 0 && maybes + waited.count() == 7, "{refusals:?}");
    let read = read_topic(cluster, &topic);
    assert!(read.len() <= 1 + maybes, "{} of {maybes}", read.len());
}
