//! What a broker refuses for now is sent again, at the distances that the settings say, and holds up nothing else. Breaks the
//! cluster and heals it.

use std::{
    thread,
    time::{Duration, Instant},
};

use producer_sidecar::grpc::proto::ProducerRecord;
use testkit::{ApiKey, Cluster, eventually, read_topic};

use crate::client::{READY, connect, run, send, send_within, text, through_proxies};

crate::tests!(a_refused_request_is_sent_again_at_growing_distances);

/// The pauses that are waited for, in milliseconds: the first, doubled up to the longest.
const PAUSES_MS: [u64; 5] = [200, 400, 800, 800, 800];
/// What librdkafka's jitter leaves of a pause at least, in hundredths, and the distance of two looks besides.
const LEFT_PERCENT: u64 = 75;
/// How much later than that a request may come on a busy machine.
const LATE: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(60);

/// Sends for as long as a call may take on a busy machine; returns the offset.
fn delivered(address: &str, record: ProducerRecord) -> Option<i64> {
    run(async { send_within(&connect(address), record, Some(PATIENCE)).await }).unwrap().offset
}

/// The refusal is NOT_ENOUGH_REPLICAS: the topic asks for one that is dead.
fn a_refused_request_is_sent_again_at_growing_distances() {
    let cluster = Cluster::shared();
    let refusing = cluster.create_topic("refusing", 1, &[("min.insync.replicas", "3")]);
    let other = cluster.create_topic("taking", 1, &[]);
    let sidecar = through_proxies()
        .env("KAFKA_CLIENT_ID", &refusing)
        .env("SIDECAR_KAFKA_RETRY_BACKOFF_MS", PAUSES_MS[0].to_string())
        .env("SIDECAR_KAFKA_RETRY_BACKOFF_MS_MAX", PAUSES_MS[4].to_string())
        .start();
    sidecar.wait_ready(READY);
    let (address, faults) = (sidecar.grpc_address(), cluster.faults_of(&refusing));
    // One that does not lead it.
    cluster.kill(cluster.leader(&refusing, 0) % 3 + 1);
    cluster.wait_in_sync(&refusing, 0, 2);
    thread::scope(|scope| {
        let first = scope.spawn(|| delivered(&address, text(&refusing, "1")));
        let mut begun = None::<Instant>;
        for (number, pause) in (1..).zip([0].into_iter().chain(PAUSES_MS)) {
            let pause = Duration::from_millis(pause);
            eventually(pause * 2 + LATE, &format!("request {number}"), || {
                (faults.requests(ApiKey::Produce) >= number).then_some(())
            });
            assert_eq!(faults.requests(ApiKey::Produce), number, "one after the other");
            let waited = begun.replace(Instant::now()).map(|begun| begun.elapsed());
            let least = Duration::from_millis(u64::try_from(pause.as_millis()).unwrap() * LEFT_PERCENT / 100);
            assert!(waited.is_none_or(|waited| waited >= least), "{waited:?} before request {number}");
        }
        // What is behind it waits with it; what goes elsewhere does not.
        let second = scope.spawn(|| delivered(&address, text(&refusing, "2")));
        run(async { send(&connect(&address), text(&other, "meanwhile")).await }).unwrap();
        cluster.alter_topic_config(&refusing, &[("min.insync.replicas", "2")]);
        let offsets = [first, second].map(|sending| sending.join().unwrap());
        assert_eq!(offsets, [Some(0), Some(1)]);
    });
    assert_eq!(read_topic(cluster, &refusing).len(), 2, "each once");
    cluster.heal();
}
