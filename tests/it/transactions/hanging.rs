//! The check that nothing hangs, checked: an open transaction is found, wherever it shows.

use std::sync::Arc;

use producer_sidecar::{
    kafka::{
        ffi::Transactional,
        transaction::{GroupOffsets, OffsetToCommit, Transaction},
    },
    offsets::{Group, Membership},
    record::Topic,
};
use testkit::{Cluster, eventually};

use super::{STEP, properties, record};

crate::tests!(an_open_transaction_is_seen_to_hang);

fn an_open_transaction_is_seen_to_hang() {
    let cluster = Cluster::shared();
    let output = cluster.create_topic("txn-open", 2, &[]);
    cluster.nothing_hangs(&[&output]);
    let producer = Transactional::start(&properties(&output), &Arc::default()).unwrap();
    producer.init(STEP).unwrap();
    let mut open = Transaction::begin(&producer, 1).unwrap();
    let topic = Topic::parse(&output).unwrap();
    let offset = OffsetToCommit { topic: &topic, partition: 0, next: 1, metadata: "" };
    let group = Group { id: output.clone(), membership: Membership::Manual };
    open.offsets(&GroupOffsets { group: &group, offsets: vec![offset] }, STEP).unwrap();
    let (record, partition) = record(&output, "open");
    open.send(&record, partition).unwrap();
    open.delivered(STEP).unwrap();
    // Nobody ends it: it is seen by its coordinator, and by readers of the output and of the group's offsets.
    let lines = eventually(STEP, "all three are seen", || {
        let lines = cluster.what_hangs(&[&output]);
        let sees = |what: &str| lines.iter().any(|line| line.contains(what));
        let output_hangs = sees(&format!("{output}/0 is stable to"));
        (sees("is Ongoing") && output_hangs && sees("__consumer_offsets/")).then_some(lines)
    });
    assert!(lines.iter().any(|line| line.starts_with(&format!("{output} of producer"))), "{lines:?}");
    assert!(!lines.iter().any(|line| line.contains(&format!("{output}/1"))), "{lines:?}");
    open.abort().unwrap();
    cluster.nothing_hangs(&[&output]);
}
