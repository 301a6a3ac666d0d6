//! What a broker refuses for now is sent again, at the distances that the settings say, and holds up nothing else. Breaks the
//! cluster and heals it.

use std::{
    thread,
    time::{Duration, Instant},
};

use testkit::{ApiKey, ClientFaults, Cluster, Sidecar, eventually, read_topic};

use crate::client::{READY, connect, run, send, send_within, text, through_proxies};

crate::tests!(a_refused_request_is_sent_again_at_growing_distances);

/// The pauses that are waited for, in milliseconds: the first, doubled up to the longest.
const PAUSES_MS: [u64; 5] = [200, 400, 800, 800, 800];
/// What librdkafka's jitter leaves of a pause at least, in hundredths.
const LEFT_PERCENT: u64 = 79;
/// How much later than that requests may come: a leader that still hoped for the dead one has the first wait for half a minute.
const LATE: Duration = Duration::from_secs(45);
const PATIENCE: Duration = Duration::from_secs(120);
/// More refusals than librdkafka can double a pause for.
const MANY: usize = 70;

/// A sidecar with a topic of its own, after which it is named.
struct Refused {
    topic: String,
    sidecar: Sidecar,
    faults: ClientFaults<'static>,
}

impl Refused {
    /// All replicas of the topic have to be in sync.
    fn start(first_ms: u64, longest_ms: u64) -> Self {
        let cluster = Cluster::shared();
        let topic = cluster.create_topic("refusing", 1, &[("min.insync.replicas", "3")]);
        let sidecar = through_proxies()
            .env("KAFKA_CLIENT_ID", &topic)
            .env("SIDECAR_KAFKA_RETRY_BACKOFF_MS", first_ms.to_string())
            .env("SIDECAR_KAFKA_RETRY_BACKOFF_MS_MAX", longest_ms.to_string())
            .start();
        sidecar.wait_ready(READY);
        let faults = cluster.faults_of(&topic);
        faults.note_arrivals(ApiKey::Produce);
        Self { topic, sidecar, faults }
    }

    /// Sends for as long as a call may take on a busy machine; returns the offset.
    fn deliver(&self, value: &str) -> Option<i64> {
        let (address, record) = (self.sidecar.grpc_address(), text(&self.topic, value));
        run(async { send_within(&connect(&address), record, Some(PATIENCE)).await }).unwrap().offset
    }

    fn wait_for_requests(&self, count: usize, bound: Duration) -> Vec<Instant> {
        eventually(bound, &format!("{count} requests for {}", self.topic), || {
            Some(self.faults.arrivals(ApiKey::Produce)).filter(|arrivals| arrivals.len() >= count)
        })
    }

    /// Has the replicas that are left be enough.
    fn let_in(&self) {
        Cluster::shared().alter_topic_config(&self.topic, &[("min.insync.replicas", "2")]);
    }
}

/// The refusal is NOT_ENOUGH_REPLICAS: one is dead.
fn a_refused_request_is_sent_again_at_growing_distances() {
    let cluster = Cluster::shared();
    let [growing, quick] = [(PAUSES_MS[0], PAUSES_MS[4]), (10, 20)].map(|(a, b)| Refused::start(a, b));
    let other = cluster.create_topic("taking", 1, &[]);
    let dead = cluster.leader(&growing.topic, 0) % 3 + 1;
    cluster.kill(dead);
    for refused in [&growing, &quick] {
        cluster.wait_in_sync(&refused.topic, 0, 2);
    }
    thread::scope(|scope| {
        let first = scope.spawn(|| growing.deliver("1"));
        let often = scope.spawn(|| quick.deliver("1"));
        let in_all = Duration::from_millis(2 * PAUSES_MS.iter().sum::<u64>()) + LATE;
        let arrivals = growing.wait_for_requests(1 + PAUSES_MS.len(), in_all);
        let waited: Vec<_> = arrivals.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let least = PAUSES_MS.map(|pause| Duration::from_millis(pause * LEFT_PERCENT / 100));
        assert!(waited.iter().zip(least).all(|(waited, least)| *waited >= least), "{waited:?}");
        // A busy machine lengthens some of the longest pauses, and not all of them.
        let last = &waited[PAUSES_MS.iter().position(|pause| *pause == PAUSES_MS[4]).unwrap()..];
        assert!(last.iter().any(|waited| *waited < 2 * Duration::from_millis(PAUSES_MS[4])), "{waited:?}");
        // What is behind it waits with it; what goes elsewhere does not.
        let second = scope.spawn(|| growing.deliver("2"));
        let elsewhere = growing.sidecar.grpc_address();
        run(async { send(&connect(&elsewhere), text(&other, "meanwhile")).await }).unwrap();
        quick.wait_for_requests(MANY, PATIENCE);
        growing.let_in();
        quick.let_in();
        let offsets = [first, second, often].map(|sending| sending.join().unwrap());
        assert_eq!(offsets, [Some(0), Some(1), Some(0)]);
    });
    assert_eq!([&growing, &quick].map(|refused| read_topic(cluster, &refused.topic).len()), [2, 1]);
    cluster.heal();
}
