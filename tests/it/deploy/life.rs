//! A pod's life, played with processes by the numbers of the manifest: the sidecar starts before Kafka is there, the
//! application after it; Kafka comes; the application ends; the sidecar is told to stop and has what is left of the grace
//! period. What the application was told is in Kafka is there, once.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use testkit::{ApiKey, Cluster, Sidecar, Signal, eventually, read_topic, try_eventually};
use tokio::{sync::oneshot, task::JoinSet};

use super::{
    example,
    manifest::{environment, named, number, sidecar, template, text},
};
use crate::client::{READY, connect, run, send, text as record, through_proxies};

crate::tests!(a_pod_lives_and_loses_nothing);

const CALLERS: usize = 16;
/// How many records the application has acknowledged before anything else happens to it.
const ENOUGH: usize = 300;

/// A probe as the manifest has it.
struct Probe {
    path: String,
    period: Duration,
    timeout: Duration,
    failures: u32,
}

impl Probe {
    fn of(container: &Value, name: &str) -> Self {
        let probe = &container[name];
        let seconds = |bound: &str| Duration::from_secs(number(probe, bound));
        Self {
            path: text(probe, "/httpGet/path").to_owned(),
            period: seconds("/periodSeconds"),
            timeout: seconds("/timeoutSeconds"),
            failures: number(probe, "/failureThreshold").try_into().unwrap(),
        }
    }

    /// Asks once; an answer that comes too late is none.
    fn ask(&self, sidecar: &Sidecar) -> Option<(u16, String)> {
        let asked = Instant::now();
        let answer = sidecar.try_http_get(&self.path).ok()?;
        (asked.elapsed() <= self.timeout).then_some(answer)
    }

    /// Waits for a success, for as long as the kubelet would.
    #[track_caller]
    fn succeeds(&self, sidecar: &Sidecar) {
        let bound = self.period * self.failures;
        let answered = try_eventually(bound, || self.ask(sidecar).filter(|(status, _)| *status == 200));
        assert!(answered.is_some(), "{} within {bound:?}", self.path);
    }
}

/// The application: it sends until it ends, and sends again what surely was not written.
#[derive(Default)]
struct Application {
    acknowledged: Mutex<Vec<String>>,
    count: AtomicUsize,
    refused: AtomicUsize,
    ends: AtomicBool,
}

impl Application {
    /// Runs until it is told to die, with whatever it has under way.
    fn start(
        self: &Arc<Self>,
        sidecar: &Sidecar,
        topic: &str,
    ) -> (oneshot::Sender<()>, thread::JoinHandle<()>) {
        let (die, death) = oneshot::channel();
        let (application, address, topic) = (Arc::clone(self), sidecar.grpc_address(), topic.to_owned());
        let process = thread::spawn(move || {
            run(async {
                let mut callers = JoinSet::new();
                for caller in 0..CALLERS {
                    callers.spawn(Arc::clone(&application).call(address.clone(), topic.clone(), caller));
                }
                death.await.ok();
            });
        });
        (die, process)
    }

    async fn call(self: Arc<Self>, address: String, topic: String, caller: usize) {
        let client = connect(&address);
        for number in 0.. {
            let value = format!("{caller}-{number}");
            loop {
                match send(&client, record(&topic, &value)).await {
                    Ok(_) => break,
                    Err(refusal) => {
                        assert_eq!(refusal.persisted(), "NO", "{refusal:?}");
                        self.refused.fetch_add(1, Ordering::Relaxed);
                    }
                }
                if self.ends.load(Ordering::Relaxed) {
                    return;
                }
            }
            self.acknowledged.lock().unwrap().push(value);
            self.count.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[track_caller]
    fn wait_acknowledged(&self, more: usize) {
        let target = self.count.load(Ordering::Relaxed) + more;
        eventually(READY, "the application's records are acknowledged", || {
            (self.count.load(Ordering::Relaxed) >= target).then_some(())
        });
    }
}

/// Starts the sidecar as its container would be, but for where it listens and how it reaches the brokers.
fn start(manifest: &Value) -> Sidecar {
    let cluster = Cluster::shared();
    let mut builder = through_proxies();
    for (name, value) in environment(&example().1, manifest) {
        let is_set_here = name.ends_with("_LISTEN")
            || name.ends_with("_FILE")
            || name.starts_with("OTEL_")
            || ["KAFKA_BROKERS", "KAFKA_SECURITY_PROTOCOL"].contains(&name.as_str());
        if !is_set_here {
            builder = builder.env(&name, value);
        }
    }
    builder
        .without_env("KAFKA_USER")
        .without_env("KAFKA_PASSWORD")
        .env_file("KAFKA_USER_FILE", "user", cluster.user())
        .env_file("KAFKA_PASSWORD_FILE", "password", cluster.password())
        .start()
}

fn a_pod_lives_and_loses_nothing() {
    let cluster = Cluster::shared();
    let topic = cluster.create_topic("pod", 6, &[]);
    let gateway = named(&example().1, "Deployment", "orders-gateway");
    let manifest = sidecar(gateway).unwrap();
    let grace = Duration::from_secs(number(template(gateway), "/spec/terminationGracePeriodSeconds"));
    let [startup, readiness, liveness] =
        ["startupProbe", "readinessProbe", "livenessProbe"].map(|name| Probe::of(manifest, name));

    // The pod starts and Kafka is not there.
    cluster.proxies().for_each(testkit::FaultProxy::cut);
    let sidecar = start(manifest);
    startup.succeeds(&sidecar);
    let application = Arc::new(Application::default());
    let (die, process) = application.start(&sidecar, &topic);
    let reason = eventually(READY, "the reason why it is not ready", || {
        let (status, body) = readiness.ask(&sidecar)?;
        assert_eq!(status, 503, "{body}");
        body.strip_prefix("not ready: no broker can be reached").map(ToOwned::to_owned)
    });
    assert!(reason.contains(':'), "the reason is said: {reason}");
    eventually(READY, "the application is told of it", || {
        (application.refused.load(Ordering::Relaxed) > 0).then_some(())
    });
    assert_eq!(liveness.ask(&sidecar).map(|(status, _)| status), Some(200), "no outage restarts it");
    assert_eq!(application.count.load(Ordering::Relaxed), 0);

    // Kafka comes.
    cluster.heal();
    eventually(READY, "the pod is ready", || readiness.ask(&sidecar).filter(|(status, _)| *status == 200));
    application.wait_acknowledged(ENOUGH);
    assert_eq!(liveness.ask(&sidecar).map(|(status, _)| status), Some(200));

    // The pod is to end. The application ends first, with records on their way.
    cluster.proxies().for_each(|proxy| proxy.hold(ApiKey::Produce));
    eventually(READY, "records are on their way", || {
        cluster.proxies().any(|proxy| proxy.holding(ApiKey::Produce) > 0).then_some(())
    });
    let stopping = Instant::now();
    application.ends.store(true, Ordering::Relaxed);
    die.send(()).unwrap();
    process.join().unwrap();

    // Then the sidecar is told to, and what it has goes on.
    sidecar.signal(Signal::TERM);
    eventually(READY, "it drains", || {
        let (status, body) = readiness.ask(&sidecar)?;
        (status == 503 && body.contains("draining")).then_some(())
    });
    assert_eq!(
        liveness.ask(&sidecar).map(|(status, _)| status),
        Some(200),
        "nothing kills it while it drains"
    );
    cluster.proxies().for_each(testkit::FaultProxy::release);
    let status = sidecar.wait_exit(grace.saturating_sub(stopping.elapsed()));
    cluster.heal();
    assert_eq!(status.code(), Some(0), "{:?}", sidecar.stderr());
    let last = sidecar.stderr().pop().unwrap();
    assert!(last.contains("stopped: delivered"), "{last}");

    let mut seen = HashSet::new();
    for record in read_topic(cluster, &topic) {
        let value = String::from_utf8(record.value.unwrap()).unwrap();
        assert!(seen.insert(value.clone()), "{value} is there twice");
    }
    let acknowledged = application.acknowledged.lock().unwrap();
    let lost: Vec<_> = acknowledged.iter().filter(|value| !seen.contains(*value)).collect();
    assert!(
        lost.is_empty(),
        "{} of {} acknowledged records are lost: {lost:?}",
        lost.len(),
        acknowledged.len()
    );
    // What was on its way when the application died is there too.
    assert!(seen.len() > acknowledged.len(), "{} and {}", seen.len(), acknowledged.len());
}
