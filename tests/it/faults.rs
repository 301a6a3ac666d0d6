//! The truth of every answer while brokers die, freeze, and acknowledgements are lost: each OK is readable once at its
//! offset, each NO is absent, each MAYBE is there at most once. These tests break the cluster and heal it.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use producer_sidecar::grpc::proto::Receipt;
use testkit::{ApiKey, Cluster, Sidecar, eventually, read_topic};

use crate::client::{
    Client, DEADLINE_MARGIN_MS, READY, Refusal, connect, over_tls, run, send_within, text, through_proxies,
};

crate::tests!(
    brokers_killed_in_mid_load,
    brokers_frozen_in_mid_load,
    produce_responses_swallowed,
    all_brokers_away_and_back,
    kafka_started_after_the_sidecar,
    a_partition_has_one_request_on_its_way,
);

const CALLERS: usize = 32;
const DEADLINE: Duration = Duration::from_secs(2);
/// How long librdkafka may take to settle what it holds once the cluster is well again.
const SETTLED: Duration = Duration::from_secs(60);

/// A value with what was answered for it.
pub type Outcome = (String, Result<Receipt, Refusal>);

/// Sends unique values from many callers while `fault` runs; returns every value with its answer.
pub fn under_load(sidecar: &Sidecar, topic: &str, fault: impl FnOnce(&dyn Fn(usize)) + Send) -> Vec<Outcome> {
    let stop = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicUsize::new(0));
    let address = sidecar.grpc_address();
    thread::scope(|scope| {
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&answered));
        let load = scope.spawn(move || {
            run(async {
                let client = connect(&address);
                let callers: Vec<_> = (0..CALLERS)
                    .map(|caller| {
                        let caller = Caller {
                            number: caller,
                            client: client.clone(),
                            topic: topic.to_owned(),
                            stop: Arc::clone(&stopped),
                            answered: Arc::clone(&counted),
                        };
                        tokio::spawn(caller.send_until_stopped())
                    })
                    .collect();
                let mut outcomes = Vec::new();
                for caller in callers {
                    outcomes.extend(caller.await.unwrap());
                }
                outcomes
            })
        });
        let wait_answered = |more: usize| {
            let goal = answered.load(Ordering::Relaxed) + more;
            eventually(SETTLED, "the load goes on", || {
                (answered.load(Ordering::Relaxed) >= goal).then_some(())
            });
        };
        let ended = Ended(&stop);
        wait_answered(500);
        fault(&wait_answered);
        drop(ended);
        load.join().unwrap()
    })
}

/// Ends the load, also where a test fails in its midst.
struct Ended<'a>(&'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Caller {
    number: usize,
    client: Client,
    topic: String,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
}

impl Caller {
    async fn send_until_stopped(self) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        while !self.stop.load(Ordering::Relaxed) {
            let value = format!("{}-{}", self.number, outcomes.len());
            let outcome = send_within(&self.client, text(&self.topic, &value), Some(DEADLINE)).await;
            outcomes.push((value, outcome));
            self.answered.fetch_add(1, Ordering::Relaxed);
        }
        outcomes
    }
}

/// How many answers of each kind there were.
#[derive(Debug, Default)]
pub struct Told {
    pub ok: usize,
    pub no: usize,
    pub maybe: usize,
    pub maybe_written: usize,
}

/// Compares what was answered with what a consumer finds, once the sidecar holds nothing any more.
pub fn check(sidecar: &Sidecar, topic: &str, outcomes: &[Outcome]) -> Told {
    check_in(Cluster::shared(), sidecar, topic, outcomes)
}

/// The same in another cluster than the shared one.
pub fn check_in(cluster: &Cluster, sidecar: &Sidecar, topic: &str, outcomes: &[Outcome]) -> Told {
    eventually(SETTLED, "the sidecar holds nothing", || {
        let metrics = sidecar.http_get("/metrics").1;
        metrics.lines().any(|line| line == "producer_outstanding_records 0").then_some(())
    });
    let mut found: HashMap<String, Vec<(i32, i64)>> = HashMap::new();
    for record in read_topic(cluster, topic) {
        let value = String::from_utf8(record.value.unwrap()).unwrap();
        found.entry(value).or_default().push((record.partition, record.offset));
    }
    let mut told = Told::default();
    for (value, outcome) in outcomes {
        let places = found.remove(value).unwrap_or_default();
        match outcome {
            Ok(receipt) => {
                told.ok += 1;
                let [(partition, offset)] = places[..] else { panic!("{value}: OK, found at {places:?}") };
                assert_eq!(receipt.partition, Some(partition));
                // Unset where the broker only recognised the batch as repeated.
                assert!(receipt.offset.is_none_or(|told| told == offset), "{value}: {receipt:?} at {offset}");
            }
            Err(refusal) if refusal.persisted() == "NO" => {
                told.no += 1;
                assert!(places.is_empty(), "{value}: {refusal:?}, found at {places:?}");
            }
            Err(refusal) => {
                told.maybe += 1;
                told.maybe_written += places.len();
                assert!(places.len() <= 1, "{value}: {refusal:?}, found at {places:?}");
                // Without details it is the client's own clock that ran out: a maybe, as the contract says.
                assert!(["DELIVERY_UNKNOWN", ""].contains(&refusal.reason.as_str()), "{refusal:?}");
            }
        }
    }
    assert!(found.is_empty(), "records that nobody sent: {found:?}");
    eprintln!("{topic}: {told:?}");
    told
}

fn started(builder: testkit::SidecarBuilder) -> Sidecar {
    let builder = builder.env("SIDECAR_BROKERS_WAIT_MS", "1000");
    let sidecar = builder.env("SIDECAR_DEADLINE_MARGIN_MS", DEADLINE_MARGIN_MS).start();
    sidecar.wait_ready(READY);
    sidecar
}

fn brokers_killed_in_mid_load() {
    let cluster = Cluster::shared();
    let topic = cluster.create_topic("killed", 6, &[]);
    let sidecar = started(over_tls());
    let outcomes = under_load(&sidecar, &topic, |more| {
        for node in 1..=3 {
            cluster.kill(node);
            more(200);
            cluster.start_node(node);
            cluster.heal();
            more(500);
        }
    });
    let told = check(&sidecar, &topic, &outcomes);
    assert!(told.ok > 1_000, "{told:?}");
}

fn brokers_frozen_in_mid_load() {
    let cluster = Cluster::shared();
    let topic = cluster.create_topic("frozen", 6, &[]);
    let sidecar = started(over_tls());
    let outcomes = under_load(&sidecar, &topic, |more| {
        cluster.freeze(1);
        more(200);
        cluster.thaw(1);
        cluster.heal();
        more(500);
        // All frozen: whoever asks meanwhile is answered at its deadline all the same.
        cluster.freeze_all();
        more(CALLERS * 2);
        cluster.thaw_all();
        cluster.heal();
        more(500);
    });
    let told = check(&sidecar, &topic, &outcomes);
    assert!(told.ok > 1_000 && told.maybe > 0, "{told:?}");
}

fn produce_responses_swallowed() {
    let cluster = Cluster::shared();
    let topic = cluster.create_topic("swallowed", 6, &[]);
    let sidecar = started(through_proxies());
    let outcomes = under_load(&sidecar, &topic, |more| {
        for proxy in cluster.proxies() {
            proxy.swallow_responses(ApiKey::Produce, 0.02, true);
        }
        more(3_000);
        cluster.heal();
        more(500);
    });
    let swallowed: u64 =
        cluster.proxies().map(|proxy| proxy.counts(ApiKey::Produce).responses_swallowed).sum();
    assert!(swallowed > 0, "the fault did happen");
    let told = check(&sidecar, &topic, &outcomes);
    assert!(told.ok > 1_000, "{told:?}");
}

fn all_brokers_away_and_back() {
    let cluster = Cluster::shared();
    let topic = cluster.create_topic("away", 6, &[]);
    let sidecar = started(over_tls());
    let outcomes = under_load(&sidecar, &topic, |more| {
        cluster.stop_all();
        more(CALLERS * 4);
        // An outage makes no pod unready; what waits is told apart from what was sent.
        assert_eq!(sidecar.http_get("/readyz").0, 200);
        cluster.start_all();
        cluster.heal();
        more(500);
    });
    let told = check(&sidecar, &topic, &outcomes);
    assert!(told.ok > 500 && told.no > 0, "{told:?}");
}

/// Two on their way at once could arrive out of sequence, for which librdkafka numbers all partitions anew: a record of
/// another one that waits to be sent again would be written twice.
fn a_partition_has_one_request_on_its_way() {
    let cluster = Cluster::shared();
    let topic = cluster.create_topic("one-request", 1, &[]);
    // A run is one request as long as no thread is stopped between two of its records for longer than librdkafka lingers: on a
    // busy machine that may be more than the few milliseconds of the default.
    let sidecar = started(through_proxies().env("SIDECAR_KAFKA_LINGER_MS", "100"));
    for proxy in cluster.proxies() {
        proxy.forget_unanswered_max(ApiKey::Produce);
        proxy.delay_responses(Duration::from_millis(20));
    }
    let outcomes = under_load(&sidecar, &topic, |more| more(2_000));
    let most = cluster.proxies().map(|proxy| proxy.counts(ApiKey::Produce).unanswered_max).max();
    cluster.heal();
    assert_eq!(most, Some(1));
    let told = check(&sidecar, &topic, &outcomes);
    assert!(told.ok > 2_000, "{told:?}");
}

fn kafka_started_after_the_sidecar() {
    let cluster = Cluster::shared();
    let topic = cluster.create_topic("after", 1, &[]);
    cluster.stop_all();
    let sidecar = over_tls().env("SIDECAR_DEADLINE_MARGIN_MS", DEADLINE_MARGIN_MS).start();
    eventually(Duration::from_secs(3), "the sidecar listens", || sidecar.try_http_get("/startupz").ok());
    assert_eq!(sidecar.http_get("/readyz").0, 503);
    run(async {
        let early =
            send_within(&connect(&sidecar.grpc_address()), text(&topic, "early"), Some(DEADLINE)).await;
        early.unwrap_err().expect(tonic::Code::DeadlineExceeded, "DEADLINE_NOT_WRITTEN", "NO");
    });
    cluster.start_all();
    cluster.heal();
    sidecar.wait_ready(READY);
    run(async {
        send_within(&connect(&sidecar.grpc_address()), text(&topic, "late"), None).await.unwrap();
    });
    let read = read_topic(cluster, &topic);
    assert_eq!(read.len(), 1);
    assert_eq!(read[0].value.as_deref(), Some(&b"late"[..]));
}
