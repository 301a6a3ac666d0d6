//! Units whose group has no coordinator yet, or no more: each is answered within its deadline, and the lanes work on.

use std::{
    thread,
    time::{Duration, Instant},
};

use testkit::{ApiKey, Cluster, ClusterOptions, Sidecar, read_topic};
use tokio::time::interval;

use super::{
    STEP,
    copier::{Copier, within},
};
use crate::{
    client::{BINARY, DEADLINE_MARGIN_MS, READY, connect, run, text},
    forward::{input, unit},
};

crate::tests!(
    the_first_units_ever_of_a_cluster_are_committed,
    a_coordinator_killed_while_offsets_are_read_holds_up_no_answer,
);

fn the_first_units_ever_of_a_cluster_are_committed() {
    let options = ClusterOptions { nodes: 1, warm: false, ..ClusterOptions::default() };
    let cluster = Cluster::start(&options);
    let (source, target) =
        (cluster.create_topic("first-in", 1, &[]), cluster.create_topic("first-out", 1, &[]));
    assert!(!cluster.has_topic("__consumer_offsets"), "no group has been asked for yet");
    let sidecar = Sidecar::for_cluster(BINARY, &cluster)
        .arg("serve")
        .env("SIDECAR_DEADLINE_MARGIN_MS", DEADLINE_MARGIN_MS)
        .start();
    sidecar.wait_ready(READY);
    run(async {
        let client = connect(&sidecar.grpc_address());
        // One is compared with what its group has committed, the other is not.
        let copies = [None, Some(0)].map(|expected| {
            let (client, group) = (client.clone(), format!("{target}-{expected:?}"));
            let request = unit(
                &group,
                vec![input(&source, 0, expected, 1)],
                vec![text(&target, &format!("{expected:?}"))],
            );
            tokio::spawn(async move {
                let mut again = interval(Duration::from_millis(50));
                let begun = Instant::now();
                while let Some(refusal) = within(&client, request.clone(), Duration::from_secs(10)).await {
                    // What may be committed is not sent again: this unit expects nothing.
                    assert_eq!(refusal.persisted(), "NO", "{refusal:?}");
                    assert!(begun.elapsed() < 3 * STEP, "{refusal:?}");
                    again.tick().await;
                }
            })
        });
        for copy in copies {
            copy.await.unwrap();
        }
    });
    let mut read: Vec<_> = read_topic(&cluster, &target)
        .into_iter()
        .map(|record| String::from_utf8(record.value.unwrap()).unwrap())
        .collect();
    read.sort_unstable();
    assert_eq!(read, ["None", "Some(0)"]);
    cluster.nothing_hangs(&[&target]);
}

fn a_coordinator_killed_while_offsets_are_read_holds_up_no_answer() {
    let cluster = Cluster::shared();
    let source = cluster.create_topic("killed-in", 1, &[]);
    let name = cluster.create_topic("killed", 1, &[]);
    // librdkafka may look for the new coordinator for ever; a lane in which it does is given up soon.
    let settings = [("SIDECAR_TRANSACTIONS_STUCK_MS", "3000")];
    let mut copier = Copier::start_with(&source, &name, &settings);
    let node = cluster.group_coordinator(&name);
    copier.faults.hold(ApiKey::OffsetFetch);
    thread::scope(|scope| {
        let short = scope.spawn(|| copier.send_within(copier.unit([]), Duration::from_secs(3)));
        copier.faults.wait_held(ApiKey::OffsetFetch, STEP);
        cluster.kill(node);
        let refusal = short.join().unwrap().expect("nobody knows the offsets so soon");
        let reasons = ["DEADLINE_NOT_WRITTEN", "BROKERS_UNAVAILABLE"];
        assert!(reasons.contains(&refusal.reason.as_str()) && refusal.persisted() == "NO", "{refusal:?}");
    });
    copier.faults.release(ApiKey::OffsetFetch);
    copier.copy();
    cluster.heal();
    copier.goes_on();
    cluster.nothing_hangs(&[&name]);
}
