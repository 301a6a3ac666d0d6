//! Owns a copy job: its sidecars and consumers, and the order in which it is started, disturbed, ended and checked.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use producer_sidecar::grpc::proto::{
    ConsumerGroup, GroupMember, ProcessAndForwardRequest, consumer_group::Membership,
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use testkit::{Cluster, GroupMembership, Sidecar, eventually, history::Committed, try_eventually};
use tokio::{runtime::Runtime, time::Instant};

use super::{
    call::{Counts, Manner},
    checker,
    consumer::{Consumer, Left, Settings},
    form,
    input::{Input, PARTITIONS},
    watch,
};
use crate::{
    client::{Client, READY, connect, keyed, text, through_proxies},
    forward::input,
    neighbours,
};

/// How long the whole job may take.
const BOUND: Duration = Duration::from_secs(900);

/// How many of a dead sidecar's last lines are shown.
const LINES: usize = 30;

/// How consumers find their partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// All partitions are revoked at each rebalance.
    Classic,
    /// The classic protocol, where only those that move are.
    Cooperative,
    Kip848,
}

/// What the parts of a job share.
pub struct Shared {
    pub group: String,
    pub target: String,
    pub input: &'static Input,
    /// The most records of a unit.
    pub unit_records_max: usize,
    pub runtime: tokio::runtime::Handle,
    /// What the group has committed, by partition, as it was last seen.
    pub committed: Mutex<BTreeMap<i32, i64>>,
    /// The same, as it was seen one after the other.
    pub seen_committed: Mutex<Vec<Committed>>,
    /// Where each sidecar listens, and a client of it.
    clients: Mutex<Vec<(String, Client)>>,
    owners: Mutex<BTreeMap<i32, String>>,
    counts: Mutex<Counts>,
    trouble: Mutex<Option<String>>,
    over: AtomicBool,
}

impl Shared {
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Whether the group has come to the input's end.
    pub fn is_copied(&self) -> bool {
        *self.committed.lock().unwrap() == self.input.ends()
    }

    /// Notes that the job has failed, and why; the first reason stays.
    pub fn fail(&self, why: String) {
        self.trouble.lock().unwrap().get_or_insert(why);
    }

    pub fn must<T, E: std::fmt::Display>(&self, done: Result<T, E>, what: &str) {
        if let Err(error) = done {
            self.fail(format!("{what}: {error}"));
        }
    }

    pub fn add(&self, counts: Counts) {
        let mut all = self.counts.lock().unwrap();
        for (name, count) in counts {
            *all.entry(name).or_default() += count;
        }
    }

    pub fn owned(&self, partition: i32, name: &str) {
        self.owners.lock().unwrap().insert(partition, name.to_owned());
    }

    pub fn disowned(&self, partition: i32, name: &str) {
        let mut owners = self.owners.lock().unwrap();
        if owners.get(&partition).is_some_and(|owner| owner == name) {
            owners.remove(&partition);
        }
    }

    pub fn client(&self, sidecar: usize) -> Client {
        self.clients.lock().unwrap()[sidecar].1.clone()
    }

    /// A unit of one partition; `offsets` are what is expected and what comes next.
    pub fn unit(
        &self,
        membership: &GroupMembership,
        as_bytes: bool,
        partition: i32,
        (expected, next): (Option<i64>, i64),
        values: &[String],
    ) -> ProcessAndForwardRequest {
        let GroupMembership { bytes, generation, member_id, instance_id } = membership.clone();
        let membership = if as_bytes {
            Membership::LibrdkafkaMetadata(bytes.into())
        } else {
            let member = GroupMember { generation_id: generation, member_id, group_instance_id: instance_id };
            Membership::Member(member)
        };
        let group = ConsumerGroup { group_id: self.group.clone(), membership: Some(membership) };
        let outputs = values.iter().map(|value| {
            let mut record = keyed(text(&self.target, value), value);
            record.partition = Some(partition);
            record
        });
        let inputs = vec![input(&self.input.topic, partition, expected, next)];
        ProcessAndForwardRequest { group: Some(group), inputs, outputs: outputs.collect() }
    }
}

/// What distinguishes one job from another.
pub struct Plan {
    pub name: &'static str,
    pub protocol: Protocol,
    pub manner: Manner,
    pub sidecars: usize,
}

/// A running copy job.
pub struct Job {
    pub shared: Arc<Shared>,
    pub plan: Plan,
    pub random: Mutex<StdRng>,
    /// By number; each has an instance id of its own, which it keeps.
    sidecars: Mutex<Vec<Sidecar>>,
    consumers: Mutex<Vec<Consumer>>,
    consumers_made: Mutex<usize>,
    _runtime: Runtime,
}

impl Job {
    /// Runs a job with three consumers while `fault` does what it does, and checks what came of it.
    pub fn run(plan: Plan, fault: impl FnOnce(&Self)) {
        neighbours::commit();
        let job = Self::start(plan);
        let begun = Instant::now();
        let (seen, reading) = watch::read(&job.shared);
        let sampling = watch::sample(&job.shared);
        for _ in 0..3 {
            job.join(None);
        }
        fault(&job);
        job.until(1.0);
        let copied = begun.elapsed();
        Cluster::shared().heal();
        checker::check(&job.shared, &seen);
        for consumer in job.consumers.lock().unwrap().drain(..) {
            consumer.leave();
        }
        job.shared.over.store(true, Ordering::Relaxed);
        reading.join().unwrap();
        sampling.join().unwrap();
        job.sound();
        let counts = job.shared.counts.lock().unwrap();
        let Plan { name, protocol, .. } = &job.plan;
        eprintln!("{name}, {protocol:?}: copied in {copied:.1?}, {:.1?} in all: {counts:?}", begun.elapsed());
    }

    fn start(plan: Plan) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.unwrap();
        let input = Input::shared();
        checker::await_settled();
        let target = Cluster::shared().create_topic("copy-out", PARTITIONS, &[]);
        let seed = form().seed;
        eprintln!("{}, {:?}: {target}, COPY_SEED={seed}", plan.name, plan.protocol);
        let shared = Shared {
            group: target.clone(),
            target,
            input,
            unit_records_max: form().unit_records_max,
            runtime: runtime.handle().clone(),
            committed: Mutex::default(),
            seen_committed: Mutex::default(),
            clients: Mutex::default(),
            owners: Mutex::default(),
            counts: Mutex::default(),
            trouble: Mutex::default(),
            over: AtomicBool::new(false),
        };
        let job = Self {
            shared: Arc::new(shared),
            random: Mutex::new(StdRng::seed_from_u64(seed)),
            sidecars: Mutex::default(),
            consumers: Mutex::default(),
            consumers_made: Mutex::new(0),
            _runtime: runtime,
            plan,
        };
        // A client is made inside the runtime that it will run on.
        let _inside = job.shared.runtime.enter();
        for number in 0..job.plan.sidecars {
            let sidecar = job.sidecar(number);
            sidecar.wait_ready(READY);
            let address = sidecar.grpc_address();
            let client = connect(&address);
            job.shared.clients.lock().unwrap().push((address, client));
            job.sidecars.lock().unwrap().push(sidecar);
        }
        drop(_inside);
        job
    }

    fn sidecar(&self, number: usize) -> Sidecar {
        let instance = format!("{}-{number}", self.shared.target);
        // A lane that does not come back is given up soon, and a dead sidecar's transaction by its id.
        let builder = through_proxies().env("SIDECAR_INSTANCE_ID", instance);
        builder.env("SIDECAR_TRANSACTIONS_STUCK_MS", "5000").start()
    }

    /// Kills a sidecar and starts its successor, which callers find at once, ready or not.
    pub fn replace_sidecar(&self, number: usize) {
        self.sidecars.lock().unwrap()[number].kill();
        let sidecar = self.sidecar(number);
        let _inside = self.shared.runtime.enter();
        let address = sidecar.grpc_address();
        let client = connect(&address);
        self.shared.clients.lock().unwrap()[number] = (address, client);
        self.sidecars.lock().unwrap()[number] = sidecar;
    }

    /// Starts one more consumer; a static member where it has an instance id.
    pub fn join(&self, instance: Option<String>) {
        let mut made = self.consumers_made.lock().unwrap();
        let settings = Settings {
            name: format!("consumer-{made}"),
            sidecar: *made % self.plan.sidecars,
            protocol: self.plan.protocol,
            manner: self.plan.manner,
            instance,
            seed: form().seed + u64::try_from(*made).unwrap(),
        };
        *made += 1;
        self.consumers.lock().unwrap().push(Consumer::start(&self.shared, settings));
    }

    /// Has one consumer leave, drawn by chance.
    pub fn leave(&self) -> Left {
        let consumers = self.consumers();
        let drawn = self.draw(consumers);
        let consumer = self.consumers.lock().unwrap().remove(drawn);
        consumer.leave()
    }

    /// Has the consumer that joined last leave.
    pub fn leave_last(&self) -> Left {
        let consumer = self.consumers.lock().unwrap().pop().unwrap();
        consumer.leave()
    }

    pub fn consumers(&self) -> usize {
        self.consumers.lock().unwrap().len()
    }

    /// Draws a number below `end`.
    pub fn draw(&self, end: usize) -> usize {
        self.random.lock().unwrap().random_range(0..end)
    }

    /// Waits until all of these partitions belong to consumers other than `name`.
    pub fn await_owners(&self, partitions: impl Iterator<Item = i32> + Clone, name: &str) {
        self.wait("the partitions have new owners", || {
            let owners = self.shared.owners.lock().unwrap();
            partitions.clone().all(|number| owners.get(&number).is_some_and(|owner| owner != name))
        });
    }

    /// Waits until a consumer of this name owns partitions.
    pub fn await_owner(&self, name: &str) {
        self.wait("the consumer owns partitions", || {
            self.shared.owners.lock().unwrap().values().any(|owner| owner == name)
        });
    }

    pub fn last_name(&self) -> String {
        self.consumers.lock().unwrap().last().unwrap().name.clone()
    }

    /// How much is copied, 0 to 1.
    pub fn progress(&self) -> f64 {
        let committed: i64 = self.shared.committed.lock().unwrap().values().sum();
        let all: i64 = self.shared.input.ends().values().sum();
        #[expect(clippy::cast_precision_loss, reason = "offsets of a test are small")]
        let progress = committed as f64 / all as f64;
        progress
    }

    /// Waits until so much is copied.
    pub fn until(&self, progress: f64) {
        self.wait("the job goes on", || self.progress() >= progress);
    }

    /// Waits until a little more is copied than now, or all.
    pub fn more(&self) {
        let goal = (self.progress() + 0.02).min(1.0);
        self.until(goal);
    }

    /// Goes on for so long, or until the job fails.
    pub fn hold(&self, time: Duration) {
        try_eventually(time, || self.shared.trouble.lock().unwrap().clone());
        self.sound();
    }

    fn wait(&self, what: &str, is_so: impl Fn() -> bool) {
        eventually(BOUND, what, || {
            self.sound();
            is_so().then_some(())
        });
    }

    /// Checks that nothing has failed so far.
    fn sound(&self) {
        let trouble = self.shared.trouble.lock().unwrap().clone();
        assert!(trouble.is_none(), "{}: {}", self.shared.target, trouble.unwrap_or_default());
        for sidecar in self.sidecars.lock().unwrap().iter() {
            if let Some(status) = sidecar.exit_status() {
                let printed = [sidecar.stdout(), sidecar.stderr()].map(|lines| last(&lines));
                panic!("{}: a sidecar ended, {status}:\n{}", self.shared.target, printed.join("\n"));
            }
        }
    }
}

/// The last lines that a process printed.
fn last(lines: &[String]) -> String {
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

impl Drop for Job {
    /// Ends the job's threads, and after a failure what was done to the cluster.
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        if std::thread::panicking() {
            let cluster = Cluster::shared();
            cluster.proxies().for_each(testkit::FaultProxy::pass);
            cluster.thaw_all();
            cluster.start_all();
        }
    }
}
