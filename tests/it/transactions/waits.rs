//! What a lane waits for, and what it must not wait for: brokers that are away, and reports that nobody has read.

use std::{
    thread,
    time::{Duration, Instant},
};

use producer_sidecar::kafka::transaction::Transaction;
use testkit::{ApiKey, Cluster, eventually};

use super::{STEP, alone::Alone, copier::Copier, late::Loss, record};

crate::tests!(an_abort_waits_for_no_unread_report, a_lane_that_waits_for_brokers_is_not_given_up,);

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
