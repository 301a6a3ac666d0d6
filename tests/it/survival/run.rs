//! Owns one run: the sidecar, the load, what is written down meanwhile, and the judgement at the end.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    thread,
    time::{Duration, Instant},
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use testkit::{
    Cluster, ReadRecord, Sidecar, SidecarBuilder, Signal, eventually,
    history::{
        Attempt, Bounds, Deletion, Found, Healing, History, Letter, Life, LifeEnd, Output, Place, Sample,
    },
    read_topic, try_eventually,
};
use tokio::{runtime::Runtime, task::JoinHandle};

use super::{
    callers::Caller,
    drawn::{KEY_CANARY, Topics, VALUE_CANARY},
    ledger::{Ledger, Target, counted},
    seed,
    streams::Streamer,
};
use crate::client::{DEADLINE_MARGIN_MS, READY};

const CALLERS: usize = 6;
const STREAMERS: usize = 3;
/// One of how many callers gives up what failed.
const CARELESS: usize = 3;
const PARTITIONS: i32 = 6;
/// How long the load may take to succeed once all is well.
const WITHIN: Duration = Duration::from_secs(10);
/// For how long nothing may fail until the load counts as well.
const CALM_MS: u64 = 1_500;
/// A call that takes so long has met a fault: else they take milliseconds.
const NOTICED_MS: u64 = 250;
/// For how long a load that is not well in time is looked at: longer than a call takes.
const LOOKED_AT: Duration = Duration::from_secs(6);
/// How often the process is looked at.
const STEP: Duration = Duration::from_millis(250);
/// How long all that was accepted may take to have its outcome.
const SETTLED: Duration = Duration::from_secs(60);
/// How long a stop may take: the drain's 25 s and what follows it.
const GRACE: Duration = Duration::from_secs(30);
/// As long as the sidecar remembers a message id by default.
const WINDOW_MS: u64 = 600_000;
const BOUNDS: Bounds = Bounds { rss_bytes: 200 << 20, threads: 150, fds: 400 };
/// What of this load's failures has a dead letter: none of its records is malformed.
const BURIED: [&str; 4] = ["TOPIC_NOT_FOUND", "RECORD_TOO_LARGE", "RECORD_REJECTED", "NOT_AUTHORIZED"];
/// The most violations that are shown.
const SHOWN: usize = 8;
/// How many of the sidecar's last lines are shown with them.
const LINES: usize = 60;

/// What distinguishes one run from another.
pub struct Plan {
    pub start: fn() -> SidecarBuilder,
    pub topic_configs: &'static [(&'static str, &'static str)],
}

/// A fault, and when it was there.
struct Broken {
    fault: String,
    from_ms: u64,
    until_ms: u64,
}

/// A run while it goes on.
pub struct Run {
    pub topics: Topics,
    pub plan: Plan,
    letters: String,
    ledger: Arc<Ledger>,
    sidecar: Mutex<Sidecar>,
    history: Mutex<History>,
    /// What callers must have noticed.
    broken: Mutex<Vec<Broken>>,
    random: Mutex<StdRng>,
}

impl Run {
    /// Runs the load through a fault and judges what came of it.
    pub fn through(plan: Plan, name: &str, fault: impl FnOnce(&Self)) {
        eprintln!("{name}: SURVIVAL_SEED={}", seed());
        let begun = Instant::now();
        let run = Self::start(plan);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.unwrap();
        let callers = run.callers(&runtime);
        thread::scope(|scope| {
            scope.spawn(|| run.watch());
            // Ends the load where the fault panics too, so that the watcher ends.
            let _end = EndOnDrop(&run.ledger);
            eventually(READY, "every caller's first success", || {
                run.ledger.is_well(CALLERS + STREAMERS, 0, 0).then_some(())
            });
            fault(&run);
        });
        Cluster::shared().heal();
        for caller in callers {
            runtime.block_on(caller).unwrap();
        }
        run.judge(name, begun);
    }

    fn start(plan: Plan) -> Self {
        let cluster = Cluster::shared();
        let letters = cluster.create_topic("survival-letters", 3, &[]);
        let topic = || cluster.create_topic("survival", PARTITIONS, plan.topic_configs);
        let topics = Topics {
            known: vec![topic(), topic()],
            unknown: format!("{letters}-none"),
            forbidden: cluster.create_topic("readonly-survival", PARTITIONS, &[]),
            compacted: cluster.create_topic(
                "survival-compacted",
                PARTITIONS,
                &[("cleanup.policy", "compact")],
            ),
        };
        let sidecar = started(plan.start, &letters);
        sidecar.wait_ready(READY);
        let secrets = [cluster.password(), VALUE_CANARY, KEY_CANARY].map(ToOwned::to_owned);
        let history = History {
            lives: vec![Life::default()],
            secrets: secrets.to_vec(),
            bounds: BOUNDS,
            message_id_window_ms: WINDOW_MS,
            buried: BURIED.map(ToOwned::to_owned).to_vec(),
            ..History::default()
        };
        Self {
            topics,
            plan,
            letters,
            ledger: Arc::new(Ledger::new(Target { life: 0, address: sidecar.grpc_address() })),
            sidecar: Mutex::new(sidecar),
            history: Mutex::new(history),
            broken: Mutex::default(),
            random: Mutex::new(StdRng::seed_from_u64(seed())),
        }
    }

    fn callers(&self, runtime: &Runtime) -> Vec<JoinHandle<()>> {
        let _inside = runtime.enter();
        let of_number = |number: usize| {
            let (ledger, topics) = (Arc::clone(&self.ledger), self.topics.clone());
            let seed = seed().wrapping_mul(1_000).wrapping_add(u64::try_from(number).unwrap());
            let is_careful = !number.is_multiple_of(CARELESS);
            if number < CALLERS {
                runtime.spawn(Caller { number, topics, is_careful }.run(ledger, seed))
            } else {
                runtime.spawn(Streamer { number, topics, is_careful, seed }.run(ledger))
            }
        };
        (0..CALLERS + STREAMERS).map(of_number).collect()
    }

    /// Looks at the process until the run is over.
    fn watch(&self) {
        while !self.ledger.is_over() {
            let sidecar = self.sidecar();
            let is_ready = sidecar.try_http_get("/readyz").is_ok_and(|(status, _)| status == 200);
            let sample = Sample {
                at_ms: self.ledger.now_ms(),
                rss_bytes: sidecar.rss_bytes(),
                threads: sidecar.thread_count(),
                fds: u64::try_from(sidecar.fd_count()).unwrap(),
                is_ready,
            };
            drop(sidecar);
            self.history().samples.push(sample);
            try_eventually(STEP, || self.ledger.is_over().then_some(()));
        }
    }

    pub fn sidecar(&self) -> MutexGuard<'_, Sidecar> {
        self.sidecar.lock().unwrap()
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap()
    }

    /// Lets the load go on for that long.
    pub fn go_on(&self, period: Duration) {
        try_eventually(period, || None::<()>);
    }

    /// Breaks something that callers must notice before this returns: else the load has not met it.
    pub fn noticed(&self, fault: &str, breaking: impl FnOnce()) {
        let from_ms = self.ledger.now_ms();
        breaking();
        let until_ms = self.ledger.now_ms();
        self.broken.lock().unwrap().push(Broken { fault: fault.to_owned(), from_ms, until_ms });
    }

    /// Draws a number within a range.
    pub fn draw(&self, range: std::ops::Range<i32>) -> i32 {
        self.random.lock().unwrap().random_range(range)
    }

    /// Draws a topic of the run.
    pub fn draw_topic(&self) -> &str {
        let drawn = self.random.lock().unwrap().random_range(0..self.topics.known.len());
        &self.topics.known[drawn]
    }

    /// Notes that a fault is cured, and waits until all goes well again. What does not in time is judged at the end.
    pub fn healed(&self, fault: &str) {
        let at_ms = self.ledger.now_ms();
        try_eventually(WITHIN + LOOKED_AT, || {
            self.ledger.is_well(CALLERS + STREAMERS, at_ms, CALM_MS).then_some(())
        });
        let within_ms = u64::try_from(WITHIN.as_millis()).unwrap();
        let until_ms = self.ledger.now_ms();
        let unserved = CALLERS + STREAMERS - self.ledger.served_since(at_ms);
        let fault = fault.to_owned();
        self.history().healings.push(Healing { fault, at_ms, within_ms, until_ms, unserved });
    }

    /// Has a text looked for in all that the sidecar says.
    pub fn keep_secret(&self, secret: &str) {
        self.history().secrets.push(secret.to_owned());
    }

    /// Notes that a topic, which was deleted, is there again.
    pub fn made_again(&self, topic: &str) {
        let deletion = Deletion { topic: topic.to_owned(), made_again_ms: self.ledger.now_ms() };
        self.history().deletions.push(deletion);
    }

    /// Kills the sidecar and starts its successor, which callers find at once, ready or not.
    pub fn kill_sidecar(&self) {
        let mut sidecar = self.sidecar();
        sidecar.kill();
        self.succeed(&mut sidecar, LifeEnd::Killed);
    }

    /// Stops the sidecar as an orchestrator does, and starts its successor.
    pub fn stop_sidecar(&self) {
        let mut sidecar = self.sidecar();
        let at_ms = self.ledger.now_ms();
        sidecar.signal(Signal::TERM);
        let status = sidecar.wait_exit(2 * GRACE);
        let took_ms = self.ledger.now_ms() - at_ms;
        eprintln!("stopped within {took_ms} ms: {}", sidecar.stderr().pop().unwrap_or_default());
        let grace_ms = u64::try_from(GRACE.as_millis()).unwrap();
        self.succeed(&mut sidecar, LifeEnd::Stopped { at_ms, took_ms, grace_ms, code: status.code() });
    }

    fn succeed(&self, sidecar: &mut Sidecar, end: LifeEnd) {
        self.keep_outputs(sidecar);
        *sidecar = started(self.plan.start, &self.letters);
        let life = self.history().lives.len();
        // Callers find it at once, listening or not.
        self.ledger.turn_to(Target { life, address: sidecar.grpc_address() });
        eventually(READY, "the sidecar listens", || {
            sidecar.try_http_get("/startupz").ok().filter(|(status, _)| *status == 200)
        });
        let mut history = self.history();
        history.lives.last_mut().unwrap().end = Some(end);
        history.lives.push(Life { listens_ms: self.ledger.now_ms(), end: None });
    }

    fn keep_outputs(&self, sidecar: &Sidecar) {
        let output = |name: &str, text: String| Output { name: name.to_owned(), text };
        let mut outputs = vec![
            output("standard output", sidecar.stdout().join("\n")),
            output("standard error", sidecar.stderr().join("\n")),
        ];
        for path in ["/metrics", "/readyz"] {
            outputs.extend(sidecar.try_http_get(path).ok().map(|(_, text)| output(path, text)));
        }
        self.history().outputs.extend(outputs);
    }

    /// Reads back what Kafka holds, once the sidecar holds nothing any more, and judges.
    fn judge(self, name: &str, begun: Instant) {
        let sidecar = self.sidecar();
        let has_died = sidecar.exit_status().is_some();
        if !has_died {
            eventually(SETTLED, "the sidecar holds nothing", || {
                let metrics = sidecar.http_get("/metrics").1;
                metrics.lines().any(|line| line == "producer_outstanding_records 0").then_some(())
            });
        }
        self.keep_outputs(&sidecar);
        let log = sidecar.stderr();
        drop(sidecar);
        let mut history = std::mem::take(&mut *self.history());
        history.lives.last_mut().unwrap().end = has_died.then_some(LifeEnd::Died);
        history.outputs.push(Output { name: "errors".to_owned(), text: self.ledger.errors() });
        history.attempts = self.ledger.take();
        let Topics { known, forbidden, compacted, .. } = &self.topics;
        for topic in known.iter().chain([forbidden, compacted]) {
            history
                .found
                .extend(read_topic(Cluster::shared(), topic).into_iter().map(|read| found(topic, read)));
        }
        let letters = read_topic(Cluster::shared(), &self.letters);
        history.letters = letters.into_iter().map(|read| letter(&self.letters, read)).collect();
        report(name, &history, begun);
        // No fault leaves the sidecar without valid credentials: whoever is told so is told a lie.
        let told = counted(&history.attempts);
        let untrue = told.keys().find(|how| how.ends_with("KAFKA_AUTHENTICATION_FAILED"));
        assert_eq!(untrue, None, "{name}: {told:?}");
        assert!(!history.letters.is_empty(), "{name}: no record failed for good");
        for broken in self.broken.lock().unwrap().iter() {
            assert!(broken.is_noticed(&history.attempts), "{name}: nobody noticed {}", broken.fault);
        }
        let violations = history.violations();
        let shown: Vec<_> = violations.iter().take(SHOWN).map(ToString::to_string).collect();
        let log = &log[log.len().saturating_sub(LINES)..];
        assert!(
            violations.is_empty(),
            "{name}: {} violations:\n{}\nthe sidecar's last lines:\n{}",
            violations.len(),
            shown.join("\n"),
            log.join("\n")
        );
    }
}

impl Broken {
    /// Returns whether one that was under way then failed by no fault of its own, or took long.
    fn is_noticed(&self, attempts: &[Attempt]) -> bool {
        let under_way = |attempt: &&Attempt| {
            !attempt.is_doomed && attempt.begun_ms <= self.until_ms && attempt.ended_ms >= self.from_ms
        };
        let has_met_it =
            |attempt: &Attempt| !attempt.outcome.is_ok() || attempt.ended_ms - attempt.begun_ms >= NOTICED_MS;
        attempts.iter().filter(under_way).any(has_met_it)
    }
}

/// Ends the load when it is dropped.
struct EndOnDrop<'a>(&'a Ledger);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

fn started(start: fn() -> SidecarBuilder, letters: &str) -> Sidecar {
    let builder = start().env("SIDECAR_DEADLINE_MARGIN_MS", DEADLINE_MARGIN_MS);
    let builder = builder.env("SIDECAR_DEAD_LETTERS_TOPIC", letters);
    // Partitions that are added are used before the run is over.
    builder.env("SIDECAR_TOPIC_REFRESH_MS", "1000").start()
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

fn found(topic: &str, read: ReadRecord) -> Found {
    let place = Place { topic: topic.to_owned(), partition: read.partition, offset: read.offset };
    Found { place, value: text(read.value.unwrap()), key: read.key.map(text) }
}

fn letter(letters: &str, read: ReadRecord) -> Letter {
    let header = |name: &str| {
        let (_, value) = read.headers.iter().find(|(found, _)| found == name).unwrap();
        text(value.clone().unwrap())
    };
    let (topic, reason) = (header("dlq-topic"), header("dlq-reason"));
    let Found { place, value, key } = found(letters, read);
    Letter { place, value, key, topic, reason }
}

fn report(name: &str, history: &History, begun: Instant) {
    let most = |of: fn(&Sample) -> u64| history.samples.iter().map(of).max().unwrap_or(0);
    eprintln!(
        "{name}: {:.1?}; {} attempts, {} records and {} dead letters in Kafka, {} lives; {:?}; well after {:?} ms; at most {} MiB, {} threads, {} descriptors",
        begun.elapsed(),
        history.attempts.len(),
        history.found.len(),
        history.letters.len(),
        history.lives.len(),
        counted(&history.attempts),
        history.recoveries_ms(),
        most(|sample| sample.rss_bytes) >> 20,
        most(|sample| sample.threads),
        most(|sample| sample.fds),
    );
}
