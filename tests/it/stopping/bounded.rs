//! The whole of a stop while nothing answers: within the time that the documents promise, and with the right exit code.

use std::{
    thread,
    time::{Duration, Instant},
};

use testkit::{Cluster, Signal};

use crate::{
    around::wait_metric,
    client::{READY, connect, over_tls, run, send, text},
    forward::{forward, input, unit},
};

crate::tests!(a_stop_with_everything_stuck_ends_in_time, a_second_signal_does_not_wait_for_what_is_stuck,);

const DRAIN_MS: u64 = 2_000;
/// As README.md and docs/kubernetes.md say it.
const AFTER_DRAIN: Duration = Duration::from_secs(5);
const RECORDS: usize = 5;

/// Freezes the brokers under records, and under a unit whose group is asked for; stops, and returns how long that took.
fn stuck(drain_ms: u64, is_hurried: bool) -> Duration {
    let cluster = Cluster::shared();
    let (source, target) =
        (cluster.create_topic("stuck-in", 1, &[]), cluster.create_topic("stuck-out", 1, &[]));
    let sidecar = over_tls().env("SIDECAR_DRAIN_MS", drain_ms.to_string()).start();
    sidecar.wait_ready(READY);
    let address = sidecar.grpc_address();
    run(async {
        let client = connect(&address);
        send(&client, text(&target, "before")).await.unwrap();
        let first = unit(&target, vec![input(&source, 0, 0, 10)], vec![text(&target, "first")]);
        forward(&client, first).await.unwrap();
    });
    cluster.freeze_all();
    let calls = thread::spawn(move || {
        run(async {
            let client = connect(&address);
            let mut sends = tokio::task::JoinSet::new();
            for number in 0..RECORDS {
                let (client, record) = (client.clone(), text(&target, &number.to_string()));
                sends.spawn(async move { send(&client, record).await.unwrap_err() });
            }
            // Of a group that was not asked for yet.
            let group = format!("{target}-another");
            let second = unit(&group, vec![input(&source, 0, 0, 10)], vec![text(&target, "second")]);
            drop(forward(&client, second).await.unwrap_err());
            sends.join_all().await
        })
    });
    wait_metric(&sidecar, "producer_outstanding_records", u64::try_from(RECORDS).unwrap() + 1, READY);
    let begun = Instant::now();
    sidecar.signal(Signal::TERM);
    if is_hurried {
        sidecar.wait_for_line(|line| line.contains("draining"), READY);
        sidecar.signal(Signal::INT);
    }
    let status = sidecar.wait_exit(Duration::from_secs(60));
    let took = begun.elapsed();
    cluster.thaw_all();
    cluster.heal();
    assert_eq!(status.code(), Some(2), "{:?}", sidecar.stderr());
    let last = sidecar.stderr().pop().unwrap();
    assert!(last.contains("stopped: delivered 0 of 6"), "{last}");
    assert!(calls.join().unwrap().iter().all(|refusal| !refusal.reason.is_empty()));
    eprintln!("a stop with everything stuck took {took:.1?}");
    took
}

fn a_stop_with_everything_stuck_ends_in_time() {
    let took = stuck(DRAIN_MS, false);
    assert!(took <= Duration::from_millis(DRAIN_MS) + AFTER_DRAIN, "{took:?}");
}

fn a_second_signal_does_not_wait_for_what_is_stuck() {
    let took = stuck(200_000, true);
    assert!(took <= AFTER_DRAIN, "{took:?}");
}
