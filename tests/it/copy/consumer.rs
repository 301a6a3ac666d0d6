//! Owns a consumer of a copy job: a member of a real group on a thread of its own, which does what docs/exactly-once.md says.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use rdkafka::{
    ClientConfig, ClientContext, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _, ConsumerContext, Rebalance},
};
use testkit::{Cluster, GroupMembership};

use super::{
    call::{Counts, Manner, Verdict, call, count},
    job::{Protocol, Shared},
    part::{Part, UnitState},
};

/// How long a step of the consumer may block it.
const STEP: Duration = Duration::from_millis(10);
/// How long librdkafka may take to answer where the group is, or to go back.
const ASK: Duration = Duration::from_secs(2);
/// The session time-out of consumers: longer than a call's deadline.
const SESSION_MS: &str = "10000";
/// That of those who are to be thrown out.
const SESSION_SHORT_MS: &str = "6000";

/// What a consumer is started with.
#[derive(Clone)]
pub struct Settings {
    pub name: String,
    /// Which of the job's sidecars it talks to.
    pub sidecar: usize,
    pub protocol: Protocol,
    pub manner: Manner,
    /// It is a static member of this name, and leaves its group only by its session's end.
    pub instance: Option<String>,
    pub seed: u64,
}

/// A running consumer.
pub struct Consumer {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Left>,
    pub name: String,
}

/// A consumer that has ended: what it would go on with if it did not know.
pub struct Left {
    pub name: String,
    pub sidecar: usize,
    pub membership: GroupMembership,
    /// By partition: what it believes to be committed.
    pub parts: BTreeMap<i32, i64>,
}

impl Consumer {
    pub fn start(shared: &Arc<Shared>, settings: Settings) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let name = settings.name.clone();
        let work = Work::new(Arc::clone(shared), settings, Arc::clone(&stop));
        let thread = std::thread::Builder::new().name(name.clone()).spawn(|| work.run()).unwrap();
        Self { stop, thread, name }
    }

    /// Has it leave its group, and waits until it has.
    pub fn leave(self) -> Left {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// What librdkafka told of partitions, in order.
#[derive(Default)]
struct Rebalances(Mutex<Vec<(bool, Vec<i32>)>>);

impl ClientContext for Rebalances {}

impl ConsumerContext for Rebalances {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let (is_assigned, list) = match rebalance {
            Rebalance::Assign(list) => (true, list),
            Rebalance::Revoke(list) => (false, list),
            Rebalance::Error(_) => return,
        };
        let partitions = list.elements().iter().map(|element| element.partition()).collect();
        self.0.lock().unwrap().push((is_assigned, partitions));
    }
}

/// A partition, the serial number of its unit, and what is to become of that.
type Answered = (i32, u64, Verdict);

struct Work {
    shared: Arc<Shared>,
    settings: Settings,
    stop: Arc<AtomicBool>,
    consumer: BaseConsumer<Rebalances>,
    parts: BTreeMap<i32, Part>,
    answers: (Sender<Answered>, Receiver<Answered>),
    random: StdRng,
    serial: u64,
    counts: Counts,
}

impl Work {
    fn new(shared: Arc<Shared>, settings: Settings, stop: Arc<AtomicBool>) -> Self {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", Cluster::shared().bootstrap_plaintext())
            .set("group.id", &shared.group)
            .set("isolation.level", "read_committed")
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "earliest")
            .set("fetch.wait.max.ms", "50")
            .set("reconnect.backoff.max.ms", "500");
        match settings.protocol {
            Protocol::Classic | Protocol::Cooperative => {
                let session = if settings.instance.is_some() { SESSION_SHORT_MS } else { SESSION_MS };
                config.set("session.timeout.ms", session).set("heartbeat.interval.ms", "1000");
                if settings.protocol == Protocol::Cooperative {
                    config.set("partition.assignment.strategy", "cooperative-sticky");
                }
            }
            Protocol::Kip848 => {
                config.set("group.protocol", "consumer");
            }
        }
        if let Some(instance) = &settings.instance {
            config.set("group.instance.id", instance);
        }
        let consumer: BaseConsumer<Rebalances> = config.create_with_context(Rebalances::default()).unwrap();
        consumer.subscribe(&[&shared.input.topic]).unwrap();
        let random = StdRng::seed_from_u64(settings.seed);
        Self {
            shared,
            settings,
            stop,
            consumer,
            parts: BTreeMap::new(),
            answers: channel(),
            random,
            serial: 0,
            counts: Counts::new(),
        }
    }

    fn run(mut self) -> Left {
        let mut left = None;
        while !self.stop.load(Ordering::Relaxed) && !self.shared.is_over() {
            self.poll();
            self.answered();
            self.locate();
            self.send();
            let membership = GroupMembership::of(&self.consumer).filter(GroupMembership::has_joined);
            let parts: BTreeMap<_, _> =
                self.parts.iter().filter_map(|(number, part)| Some((*number, part.committed?))).collect();
            // The last moment at which it had something.
            if let Some(membership) = membership.filter(|_| !parts.is_empty()) {
                left = Some((membership, parts));
            }
        }
        let (membership, parts) = left.unwrap_or_else(|| {
            let nobody = GroupMembership {
                bytes: Vec::new(),
                generation: -1,
                member_id: String::new(),
                instance_id: None,
            };
            (nobody, BTreeMap::new())
        });
        for number in self.parts.keys() {
            self.shared.disowned(*number, &self.settings.name);
        }
        self.shared.add(self.counts);
        // Dropping the consumer has it leave its group, unless it is a static member.
        Left { name: self.settings.name, sidecar: self.settings.sidecar, membership, parts }
    }

    /// Takes one record in, and before it what librdkafka told of partitions.
    fn poll(&mut self) {
        let polled = self.consumer.poll(STEP);
        let rebalances = std::mem::take(&mut *self.consumer.context().0.lock().unwrap());
        let record = polled.and_then(Result::ok).map(|message| {
            let value = String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned();
            (message.partition(), message.offset(), value)
        });
        for (is_assigned, partitions) in rebalances {
            for number in partitions {
                if is_assigned {
                    self.parts.insert(number, Part::default());
                    // What was paused when it was taken away is still paused when it comes back.
                    let list = list(&self.shared.input.topic, number);
                    self.shared.must(self.consumer.resume(&list), "resume");
                    self.shared.owned(number, &self.settings.name);
                } else if self.parts.remove(&number).is_some() {
                    // Its unit, sent or not, is not sent again: whoever has the partition next reads it anew.
                    self.shared.disowned(number, &self.settings.name);
                }
            }
        }
        if let Some((number, offset, value)) = record
            && let Some(part) = self.parts.get_mut(&number)
        {
            part.push(offset, value);
        }
    }

    fn answered(&mut self) {
        while let Ok((number, serial, verdict)) = self.answers.1.try_recv() {
            let Some(part) = self.parts.get_mut(&number) else { continue };
            let Some(unit) = part.unit.as_mut().filter(|unit| unit.serial == serial) else { continue };
            match verdict {
                Verdict::Committed => {
                    part.advance();
                    if std::mem::take(&mut part.is_paused) {
                        let list = list(&self.shared.input.topic, number);
                        self.shared.must(self.consumer.resume(&list), "resume");
                    }
                }
                Verdict::Again(after) => {
                    unit.state = UnitState::Due(Some(Instant::now() + after));
                    if !std::mem::replace(&mut part.is_paused, true) {
                        let list = list(&self.shared.input.topic, number);
                        self.shared.must(self.consumer.pause(&list), "pause");
                    }
                }
                Verdict::Drop => part.give_up(),
                Verdict::Hopeless(what) => {
                    let Settings { name, .. } = &self.settings;
                    self.shared.fail(format!("{name}, partition {number}: {what}"));
                }
            }
        }
    }

    /// Asks where the group is in partitions that are new or given up, and goes back there.
    fn locate(&mut self) {
        let topic = &self.shared.input.topic;
        let mut asked = TopicPartitionList::new();
        for number in
            self.parts.iter().filter(|(_, part)| part.committed.is_none()).map(|(number, _)| *number)
        {
            asked.add_partition(topic, number);
        }
        if asked.count() == 0 {
            return;
        }
        let Ok(found) = self.consumer.committed_offsets(asked, ASK) else {
            count(&mut self.counts, "consumer: committed() failed");
            return;
        };
        for element in found.elements() {
            let Some(part) = self.parts.get_mut(&element.partition()) else { continue };
            let committed = match (element.error(), element.offset()) {
                (Ok(()), Offset::Offset(offset)) => offset,
                // Nothing yet: the group begins at the beginning, as `auto.offset.reset` says.
                (Ok(()), Offset::Invalid) => 0,
                _ => continue,
            };
            if part.goes_back {
                let to = Offset::Offset(committed);
                if self.consumer.seek(topic, element.partition(), to, ASK).is_err() {
                    count(&mut self.counts, "consumer: seek failed");
                    continue;
                }
                part.goes_back = false;
            }
            if std::mem::take(&mut part.is_paused) {
                self.shared.must(self.consumer.resume(&list(topic, element.partition())), "resume");
            }
            if part.found(committed) > 0 {
                count(&mut self.counts, "consumer: read what was committed already");
            }
        }
    }

    /// Makes units and sends what is due.
    fn send(&mut self) {
        for (number, part) in &mut self.parts {
            let records = self.random.random_range(1..=self.shared.unit_records_max);
            self.serial += 1;
            part.make_unit(self.serial, records);
            let Some(unit) = part.due() else { continue };
            // Just before each call, never kept.
            let membership = GroupMembership::of(&self.consumer).filter(GroupMembership::has_joined);
            let Some(membership) = membership else {
                count(&mut self.counts, "consumer: assigned and not joined");
                continue;
            };
            let as_bytes = self.settings.seed.is_multiple_of(2);
            let expected = Some(unit.expected);
            let request =
                self.shared.unit(&membership, as_bytes, *number, (expected, unit.next), &unit.values);
            let client = self.shared.client(self.settings.sidecar);
            let way = self.settings.manner.draw(&mut self.random);
            let (answers, number, serial) = (self.answers.0.clone(), *number, unit.serial);
            unit.state = UnitState::Called;
            let shared = Arc::clone(&self.shared);
            self.shared.runtime.spawn(async move {
                let mut counts = Counts::new();
                let verdict = call(client, request, way, &mut counts).await;
                shared.add(counts);
                // The consumer may have ended meanwhile.
                drop(answers.send((number, serial, verdict)));
            });
        }
    }
}

fn list(topic: &str, partition: i32) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    list.add_partition(topic, partition);
    list
}
