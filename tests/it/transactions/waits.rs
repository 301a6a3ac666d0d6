//! What a lane waits for, and what it must not wait for: brokers that are away, and reports that nobody has read.

use std::{
    thread,
    time::{Duration, Instant},
};

use producer_sidecar::{grpc::proto::ProcessAndForwardRequest, kafka::transaction::Transaction};
use testkit::{ApiKey, Cluster, eventually};

use super::{
    STEP,
    alone::Alone,
    copier::{Copier, within},
    late::Loss,
    record,
};
use crate::{
    around::metric,
    client::{connect, run, text},
};

crate::tests!(
    an_abort_waits_for_no_unread_report,
    a_lane_that_waits_for_brokers_is_not_given_up,
    a_lane_whose_commit_does_not_come_back_is_given_up,
    a_group_whose_coordinator_is_silent_holds_up_nobody_else,
);

/// How many records are sent, and as many again.
const RECORDS: i64 = 2_000;

fn an_abort_waits_for_no_unread_report() {
    let alone = Alone::start("unread");
    let name = alone.name.clone();
    let aborting = thread::spawn(move || {
        let mut open = Transaction::begin(&alone.producer, 1).unwrap();
        let mut send = |count| {
            for _ in 0..count {
                let (record, partition) = record(&alone.name, "unread");
                open.send(&record, partition).unwrap();
            }
        };
        send(RECORDS);
        eventually(STEP, "the records are written", || {
            (Cluster::shared().end_offsets(&alone.name, 0).high_watermark >= RECORDS).then_some(())
        });
        send(RECORDS);
        let begun = Instant::now();
        open.abort().unwrap();
        // The producer is as good as before.
        alone.open(2, "after").unwrap().commit().map_err(|failed| failed.0).unwrap();
        begun.elapsed()
    });
    eventually(3 * STEP, "the abort ends", || aborting.is_finished().then_some(()));
    let took = aborting.join().unwrap();
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(super::values(&name), ["after"]);
    Cluster::shared().nothing_hangs(&[&name]);
}

/// Sends the next unit and expects that it is given up, which takes longer than a lane may be stuck.
fn waits_in_vain(copier: &Copier) {
    let begun = Instant::now();
    let refusal = copier.send_within(copier.unit([]), Duration::from_secs(8)).expect("no broker is there");
    let reasons = ["BROKERS_UNAVAILABLE", "DEADLINE_NOT_WRITTEN"];
    assert!(reasons.contains(&refusal.reason.as_str()) && refusal.persisted() == "NO", "{refusal:?}");
    assert!(begun.elapsed() > Duration::from_secs(3), "{refusal:?}");
}

fn a_lane_that_waits_for_brokers_is_not_given_up() {
    let cluster = Cluster::shared();
    let source = cluster.create_topic("waits-in", 1, &[]);
    let outputs = [(); 2].map(|()| cluster.create_topic("waits", 1, &[]));
    // A lane that does not come back is given up after three times as long.
    let settings = [("SIDECAR_TRANSACTIONS_STUCK_MS", "1000"), ("SIDECAR_BROKERS_WAIT_MS", "5000")];
    let mut later = Copier::start_with(&source, &outputs[0], &settings);
    // Its producer is in doubt and is replaced, and the new one cannot initialise.
    later.faults.hold(ApiKey::InitProducerId);
    later.faults.hold(ApiKey::EndTxn);
    later.copy_during(|faults| Loss::HungUp.once_held(faults, ApiKey::EndTxn));
    later.faults.wait_held(ApiKey::InitProducerId, STEP);
    cluster.proxies().for_each(testkit::FaultProxy::cut);
    let at_start = Copier::start_away(&source, &outputs[1], &settings);
    eventually(STEP, "it listens", || {
        at_start.sidecar.try_http_get("/startupz").ok().filter(|(status, _)| *status == 200)
    });
    let mut copiers = [later, at_start];
    thread::scope(|scope| {
        for copier in &copiers {
            scope.spawn(|| waits_in_vain(copier));
        }
    });
    cluster.heal();
    for copier in &mut copiers {
        copier.goes_on();
        let given_up = |line: &String| line.contains("did not come back");
        let lines = copier.sidecar.stderr().into_iter().chain(copier.sidecar.stdout());
        assert_eq!(lines.filter(given_up).collect::<Vec<_>>(), [""; 0]);
    }
    cluster.nothing_hangs(&[&outputs[0], &outputs[1]]);
}

fn a_lane_whose_commit_does_not_come_back_is_given_up() {
    let cluster = Cluster::shared();
    let source = cluster.create_topic("stuck-in", 1, &[]);
    let output = cluster.create_topic("stuck", 1, &[]);
    // librdkafka waits longer for the answer than this test takes.
    let settings = [("SIDECAR_TRANSACTIONS_STUCK_MS", "1000"), ("SIDECAR_KAFKA_SOCKET_TIMEOUT_MS", "60000")];
    let mut copier = Copier::start_with(&source, &output, &settings);
    let abandoned =
        |copier: &Copier| metric(&copier.sidecar, "producer_lanes_abandoned_total").expect("it is counted");
    assert_eq!(abandoned(&copier), 0);
    copier.faults.hold(ApiKey::EndTxn);
    let begun = Instant::now();
    copier.copy_during(|faults| {
        faults.wait_held(ApiKey::EndTxn, STEP);
        faults.hold_no_more(ApiKey::EndTxn);
    });
    let took = begun.elapsed();
    assert!(took > Duration::from_secs(3), "stuck for one second and two more, but {took:?}");
    assert_eq!(abandoned(&copier), 1);
    assert_eq!(metric(&copier.sidecar, r#"producer_transactions_total{outcome="unknown"}"#), Some(1));
    // The coordinator hears of the commit after all.
    copier.faults.release(ApiKey::EndTxn);
    copier.goes_on();
    assert_eq!(abandoned(&copier), 1);
    cluster.nothing_hangs(&[&output]);
}

fn a_group_whose_coordinator_is_silent_holds_up_nobody_else() {
    let cluster = Cluster::shared();
    let source = cluster.create_topic("silent-in", 1, &[]);
    let [output, other] = [(); 2].map(|()| cluster.create_topic("silent", 1, &[]));
    let mut copier = Copier::start_with(&source, &output, &[]);
    let address = copier.sidecar.grpc_address();
    copier.faults.hold(ApiKey::OffsetFetch);
    copier.copy_during(|faults| {
        faults.wait_held(ApiKey::OffsetFetch, STEP);
        // There is one lane, and it is free.
        run(async {
            let client = connect(&address);
            for number in 0..5 {
                let outputs = vec![text(&other, &number.to_string())];
                let unit = ProcessAndForwardRequest { outputs, ..ProcessAndForwardRequest::default() };
                let refusal = within(&client, unit, STEP).await;
                assert!(refusal.is_none(), "{refusal:?}");
            }
        });
        assert_eq!(super::values(&other).len(), 5);
        assert_eq!(super::values(&output).len(), 1, "the other group's unit waits");
        faults.release(ApiKey::OffsetFetch);
    });
    copier.check();
    cluster.nothing_hangs(&[&output, &other]);
}
