//! A copy job through ProcessAndForward while the sidecar is killed and brokers die, freeze and lose answers: the output is
//! exactly the input, once, for a reader of committed records, and the offsets are committed to the end.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use producer_sidecar::grpc::proto::{InputOffset, ProcessAndForwardRequest};
use testkit::{ApiKey, Cluster, Sidecar, eventually};
use tokio::time::{Instant, interval};
use tonic::Request;

use crate::{
    client::{READY, Refusal, connect, keyed, run, text, through_proxies},
    forward::{input, unit},
};

crate::tests!(
    a_copy_job_through_nothing_at_all,
    a_copy_job_through_a_sidecar_killed_again_and_again,
    a_copy_job_through_brokers_killed_in_turn,
    a_copy_job_through_a_frozen_broker,
    a_copy_job_through_lost_answers_of_coordinators,
);

const PARTITIONS: i32 = 3;
/// How many records a unit has.
const UNIT: i64 = 5;
/// How long the whole job may take.
const BOUND: Duration = Duration::from_secs(900);
/// The pause before a unit is sent again.
const PAUSE: Duration = Duration::from_millis(50);

/// How many records of each input partition the job copies; `COPY_RECORDS` makes it a long run.
fn records() -> i64 {
    let asked = std::env::var("COPY_RECORDS").ok().and_then(|text| text.parse().ok());
    asked.unwrap_or(600)
}

/// A copy job: its input is imaginary, record `n` of partition `p` being `p-n`, and as far as Kafka knows only offsets.
struct Job {
    group: String,
    source: String,
    target: String,
    /// Where the sidecar listens now.
    address: Mutex<String>,
    done: AtomicUsize,
}

impl Job {
    fn new() -> Arc<Self> {
        let cluster = Cluster::shared();
        let source = cluster.create_topic("copy-in", PARTITIONS, &[]);
        let target = cluster.create_topic("copy-out", PARTITIONS, &[]);
        let address = Mutex::default();
        Arc::new(Self { group: target.clone(), source, target, address, done: AtomicUsize::new(0) })
    }

    fn sidecar(&self) -> Sidecar {
        let builder = through_proxies().env("SIDECAR_INSTANCE_ID", &self.target);
        // A lane that does not come back is given up soon, and a dead sidecar's transaction by its id.
        let sidecar = builder.env("SIDECAR_TRANSACTIONS_STUCK_MS", "5000").start();
        *self.address.lock().unwrap() = sidecar.grpc_address();
        sidecar
    }

    fn unit(&self, partition: i32, from: i64) -> ProcessAndForwardRequest {
        let inputs: Vec<InputOffset> = vec![input(&self.source, partition, from, from + UNIT)];
        let outputs = (from..from + UNIT).map(|number| {
            let value = format!("{partition}-{number}");
            keyed(text(&self.target, &value), &value)
        });
        unit(&self.group, inputs, outputs.collect())
    }

    /// Copies a partition; a unit is sent until it is known to be committed.
    async fn copy(self: Arc<Self>, partition: i32) {
        let mut client = None;
        let mut again = interval(PAUSE);
        let mut from = 0;
        while from < records() {
            let address = self.address.lock().unwrap().clone();
            let known = client.take().filter(|(known, _)| *known == address);
            let (address, connected) = known.unwrap_or_else(|| (address.clone(), connect(&address)));
            let mut request = Request::new(self.unit(partition, from));
            request.set_timeout(Duration::from_secs(20));
            match connected.clone().process_and_forward(request).await {
                Ok(_) => {
                    from += UNIT;
                    self.done.fetch_add(1, Ordering::Relaxed);
                }
                Err(status) => {
                    let refusal = Refusal::of(&status);
                    let hopeless = ["OFFSET_MISMATCH", "INVALID_RECORD", "INTERNAL", "PRODUCER_FENCED"];
                    assert!(
                        !hopeless.contains(&refusal.reason.as_str()),
                        "{partition} at {from}: {refusal:?}"
                    );
                    again.tick().await;
                }
            }
            client = Some((address, connected));
        }
    }

    /// Runs the job while `fault` does; checks the output.
    fn run(self: Arc<Self>, sidecar: Sidecar, fault: impl FnOnce(&Self, Sidecar) -> Sidecar) {
        sidecar.wait_ready(READY);
        let copying = Arc::clone(&self);
        let begun = Instant::now();
        std::thread::scope(|scope| {
            let job = scope.spawn(move || {
                run(async {
                    let copies =
                        (0..PARTITIONS).map(|partition| tokio::spawn(Arc::clone(&copying).copy(partition)));
                    for copy in copies.collect::<Vec<_>>() {
                        tokio::time::timeout(BOUND, copy).await.expect("the job ends").unwrap();
                    }
                });
            });
            let sidecar = fault(&self, sidecar);
            job.join().unwrap();
            Cluster::shared().heal();
            drop(sidecar);
        });
        let mut read = crate::forward::values(&self.target);
        let mut expected: Vec<_> = (0..PARTITIONS)
            .flat_map(|partition| (0..records()).map(move |number| format!("{partition}-{number}")))
            .collect();
        read.sort_unstable();
        expected.sort_unstable();
        assert!(read == expected, "{} read of {}", read.len(), expected.len());
        self.nothing_is_left_open();
        eprintln!("{}: {} units in {:?}", self.target, self.done.load(Ordering::Relaxed), begun.elapsed());
    }

    fn nothing_is_left_open(&self) {
        for partition in 0..PARTITIONS {
            eventually(READY, "no transaction is open", || {
                let ends = Cluster::shared().end_offsets(&self.target, partition);
                (ends.last_stable == ends.high_watermark).then_some(())
            });
        }
    }

    /// Waits until so many more units are copied, or the job is at its end.
    fn more(&self, units: usize) {
        let all = usize::try_from(i64::from(PARTITIONS) * records() / UNIT).unwrap();
        let goal = (self.done.load(Ordering::Relaxed) + units).min(all);
        eventually(BOUND, "the job goes on", || (self.done.load(Ordering::Relaxed) >= goal).then_some(()));
    }
}

fn a_copy_job_through_nothing_at_all() {
    let job = Job::new();
    let sidecar = job.sidecar();
    job.run(sidecar, |_, sidecar| sidecar);
}

fn a_copy_job_through_a_sidecar_killed_again_and_again() {
    let job = Job::new();
    let sidecar = job.sidecar();
    job.run(sidecar, |job, mut sidecar| {
        for _ in 0..4 {
            job.more(30);
            sidecar.kill();
            sidecar = job.sidecar();
        }
        sidecar
    });
}

fn a_copy_job_through_brokers_killed_in_turn() {
    let cluster = Cluster::shared();
    let job = Job::new();
    let sidecar = job.sidecar();
    job.run(sidecar, |job, sidecar| {
        for node in 1..=3 {
            job.more(20);
            cluster.kill(node);
            job.more(10);
            cluster.start_node(node);
            cluster.wait_ready();
        }
        sidecar
    });
}

fn a_copy_job_through_a_frozen_broker() {
    let cluster = Cluster::shared();
    let job = Job::new();
    let sidecar = job.sidecar();
    job.run(sidecar, |job, sidecar| {
        job.more(20);
        // The one that the transactions end at, for longer than a lane is waited for.
        let node = cluster.transaction_coordinator(&format!("caas-gateway.{}.0", job.target));
        cluster.freeze(node);
        job.more(10);
        cluster.thaw(node);
        sidecar
    });
}

fn a_copy_job_through_lost_answers_of_coordinators() {
    let cluster = Cluster::shared();
    let job = Job::new();
    let sidecar = job.sidecar();
    job.run(sidecar, |job, sidecar| {
        for key in [ApiKey::EndTxn, ApiKey::TxnOffsetCommit, ApiKey::AddPartitionsToTxn] {
            for proxy in cluster.proxies() {
                proxy.swallow_responses(key, 0.1, true);
            }
            job.more(60);
            cluster.heal();
        }
        sidecar
    });
}
