//! The metrics of units: each output counts once, by what its unit came to, and not before that is known.

use std::time::Duration;

use producer_sidecar::grpc::proto::ProcessAndForwardRequest;
use testkit::{ApiKey, Cluster};

use super::{
    STEP,
    copier::{Copier, within},
};
use crate::{
    around::{metric, wait_metric},
    client::{connect, run, text},
    forward::{input, unit},
};

crate::tests!(a_unit_counts_once_its_end_is_known);

/// A lane is not given up for want of an answer while these run.
const PATIENT: [(&str, &str); 2] =
    [("SIDECAR_KAFKA_SOCKET_TIMEOUT_MS", "60000"), ("SIDECAR_TRANSACTIONS_STUCK_MS", "60000")];

fn sent(copier: &Copier, status: &str) -> Option<u64> {
    let topic = &copier.name;
    metric(&copier.sidecar, &format!(r#"kafka_messages_sent_total{{topic="{topic}",status="{status}"}}"#))
}

fn wait_sent(copier: &Copier, status: &str, count: u64) {
    let topic = &copier.name;
    let line = format!(r#"kafka_messages_sent_total{{topic="{topic}",status="{status}"}}"#);
    wait_metric(&copier.sidecar, &line, count, STEP);
}

/// The unit that reads that record of the input.
fn reading(copier: &Copier, source: &str, offset: i64) -> ProcessAndForwardRequest {
    let outputs = vec![text(&copier.name, &offset.to_string())];
    unit(&copier.name, vec![input(source, 0, offset, offset + 1)], outputs)
}

fn a_unit_counts_once_its_end_is_known() {
    let cluster = Cluster::shared();
    let source = cluster.create_topic("counted-in", 1, &[]);
    let copier = Copier::start_with(&source, &cluster.create_topic("counted", 1, &[]), &PATIENT);
    let faults = copier.faults.clone();
    let cancelled = r#"producer_failures_total{reason="CANCELLED_BY_CALLER"}"#;
    wait_sent(&copier, "success", 1);

    // Told at its deadline, and committed behind that.
    faults.hold(ApiKey::EndTxn);
    let refusal = copier.send_within(reading(&copier, &source, 1), Duration::from_secs(4)).unwrap();
    assert_eq!(refusal.reason, "COMMIT_UNKNOWN", "{refusal:?}");
    assert_eq!((sent(&copier, "success"), sent(&copier, "error")), (Some(1), Some(0)), "not known yet");
    faults.release(ApiKey::EndTxn);
    wait_sent(&copier, "success", 2);
    let again = copier.send(reading(&copier, &source, 1));
    assert!(again.is_none(), "it was committed: {again:?}");
    assert_eq!(sent(&copier, "success"), Some(2), "once");

    // Left by its caller in its transaction; and one behind it that never came into one.
    faults.hold(ApiKey::EndTxn);
    run(async {
        let client = connect(&copier.sidecar.grpc_address());
        let send = |unit| {
            let client = client.clone();
            tokio::spawn(async move { within(&client, unit, STEP * 2).await })
        };
        let open = send(reading(&copier, &source, 2));
        tokio::task::block_in_place(|| faults.wait_held(ApiKey::EndTxn, STEP));
        let behind = send(reading(&copier, &source, 3));
        let in_queue = || wait_metric(&copier.sidecar, "producer_outstanding_records", 2, STEP);
        tokio::task::block_in_place(in_queue);
        behind.abort();
        tokio::task::block_in_place(|| wait_metric(&copier.sidecar, cancelled, 1, STEP));
        open.abort();
        drop((open.await, behind.await));
    });
    wait_sent(&copier, "error", 1);
    assert_eq!(sent(&copier, "success"), Some(2), "not known yet");
    faults.release(ApiKey::EndTxn);
    wait_sent(&copier, "success", 3);
    assert_eq!(sent(&copier, "error"), Some(1));
    assert_eq!(metric(&copier.sidecar, cancelled), Some(1), "the other one went on");
    assert_eq!(super::values(&copier.name), ["0", "1", "2"]);
    cluster.nothing_hangs(&[&copier.name]);
}
