//! A request that a coordinator carries out late does not touch the next transaction. The same with librdkafka alone shows
//! that the tests tell.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use producer_sidecar::{
    kafka::{
        ffi::Transactional,
        lane::Ended,
        transaction::{GroupOffsets, OffsetToCommit, Transaction},
    },
    offsets::Membership,
};
use testkit::{ApiKey, Cluster, eventually};

use super::{STEP, aborted, committed, finish, lane, offsets, properties, record, values, wait_ready, work};

crate::tests!(
    a_late_commit_tears_the_next_transaction_of_librdkafka_alone,
    a_late_commit_does_not_touch_the_next_transaction_of_a_lane,
    late_offsets_go_back_with_librdkafka_alone,
    late_offsets_do_not_go_back_with_a_lane,
);

/// Holds the next request of a type back, closes its connection, and returns once the client has asked again.
fn held_back(key: ApiKey, asking: impl FnOnce() + Send) {
    let cluster = Cluster::shared();
    for proxy in cluster.proxies() {
        proxy.hold_next(key, 1);
    }
    thread::scope(|scope| {
        let asked = scope.spawn(asking);
        let held =
            eventually(STEP, "a held request", || cluster.proxies().find(|proxy| proxy.holding(key) > 0));
        held.hang_up();
        // The second request passes: its broker's hold is spent, and the coordinator did not move.
        asked.join().unwrap();
    });
    // Those of the other brokers must not catch a later request.
    for proxy in cluster.proxies() {
        proxy.hold_next(key, 0);
    }
}

/// How many late requests for offsets the brokers have answered to nobody.
fn late_answers() -> u64 {
    Cluster::shared().proxies().map(|proxy| proxy.counts(ApiKey::TxnOffsetCommit).answered_late).sum()
}

fn release() {
    for proxy in Cluster::shared().proxies() {
        proxy.release();
    }
}

fn a_late_commit_tears_the_next_transaction_of_librdkafka_alone() {
    let cluster = Cluster::shared();
    let output = cluster.create_topic("txn-torn", 1, &[]);
    let doubt = Arc::<AtomicBool>::default();
    let producer = Transactional::start(&properties(&output), &doubt).unwrap();
    producer.init(STEP).unwrap();
    let send = |serial, value: &str| {
        let mut open = Transaction::begin(&producer, serial).unwrap();
        let (record, partition) = record(&output, value);
        open.send(&record, partition).unwrap();
        open.delivered(STEP).unwrap();
        open
    };
    let first = send(1, "first");
    held_back(ApiKey::EndTxn, || first.commit().map_err(|failed| failed.0).unwrap());
    assert!(doubt.load(Ordering::Acquire), "the interceptor has seen it");
    let second = send(2, "aborted");
    release();
    eventually(STEP, "the late commit shows", || {
        values(&output).contains(&"aborted".to_owned()).then_some(())
    });
    // Whatever the abort answers, the record is out.
    drop(second.abort());
    cluster.heal();
}

fn a_late_commit_does_not_touch_the_next_transaction_of_a_lane() {
    let cluster = Cluster::shared();
    let output = cluster.create_topic("txn-whole", 1, &[("max.message.bytes", "10000")]);
    let lane = lane(&output);
    held_back(ApiKey::EndTxn, || {
        assert!(matches!(finish(&lane, work(&[(&output, "first")], Vec::new())), Ended::Committed(_)));
    });
    wait_ready(&lane);
    // The next transaction is open while the late commit arrives: its one record waits before the broker.
    for proxy in cluster.proxies() {
        proxy.hold_next(ApiKey::Produce, 1);
    }
    let large = "x".repeat(20_000);
    let ended = thread::scope(|scope| {
        let second = scope.spawn(|| finish(&lane, work(&[(&output, &large)], Vec::new())));
        eventually(STEP, "a held Produce", || {
            cluster.proxies().any(|proxy| proxy.holding(ApiKey::Produce) > 0).then_some(())
        });
        release();
        second.join().unwrap()
    });
    aborted(ended);
    assert!(matches!(finish(&lane, work(&[(&output, "third")], Vec::new())), Ended::Committed(_)));
    cluster.heal();
    assert_eq!(values(&output), ["first", "third"]);
}

fn late_offsets_go_back_with_librdkafka_alone() {
    let cluster = Cluster::shared();
    let input = cluster.create_topic("txn-back", 1, &[]);
    let doubt = Arc::<AtomicBool>::default();
    let producer = Transactional::start(&properties(&input), &doubt).unwrap();
    producer.init(STEP).unwrap();
    let begin = |serial, next| {
        let mut open = Transaction::begin(&producer, serial).unwrap();
        let of_group = offsets(&input, Membership::Manual, &input, next);
        let (topic, partition, next, metadata) = &of_group.offsets[0];
        let offset = OffsetToCommit { topic, partition: *partition, next: *next, metadata };
        open.offsets(&GroupOffsets { group: &of_group.group, offsets: vec![offset] }, STEP).unwrap();
        open
    };
    let commit = |open: Transaction<'_>| open.commit().map_err(|failed| failed.0).unwrap();
    held_back(ApiKey::TxnOffsetCommit, || commit(begin(1, 1)));
    assert!(doubt.load(Ordering::Acquire), "the interceptor has seen it");
    assert_eq!(committed(&input, &input), 1);
    let second = begin(2, 2);
    let answered = late_answers();
    release();
    eventually(STEP, "the late request is carried out", || (late_answers() > answered).then_some(()));
    commit(second);
    cluster.heal();
    assert_eq!(committed(&input, &input), 1, "it was 2");
}

fn late_offsets_do_not_go_back_with_a_lane() {
    let cluster = Cluster::shared();
    let input = cluster.create_topic("txn-forth", 1, &[]);
    let lane = lane(&input);
    let to = |next| work(&[], vec![offsets(&input, Membership::Manual, &input, next)]);
    held_back(ApiKey::TxnOffsetCommit, || {
        assert!(matches!(finish(&lane, to(1)), Ended::Committed(_)));
    });
    wait_ready(&lane);
    // The second is open, with its offset, while the late request arrives: its commit waits before the broker.
    for proxy in cluster.proxies() {
        proxy.hold_next(ApiKey::EndTxn, 1);
    }
    thread::scope(|scope| {
        let second = scope.spawn(|| finish(&lane, to(2)));
        eventually(STEP, "a held EndTxn", || {
            cluster.proxies().any(|proxy| proxy.holding(ApiKey::EndTxn) > 0).then_some(())
        });
        release();
        assert!(matches!(second.join().unwrap(), Ended::Committed(_)));
    });
    cluster.heal();
    assert_eq!(committed(&input, &input), 2);
    assert!(matches!(finish(&lane, to(3)), Ended::Committed(_)));
    assert_eq!(committed(&input, &input), 3);
}
