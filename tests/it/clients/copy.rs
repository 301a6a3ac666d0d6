//! The copy jobs of the example clients, each with its language's own consumer: two processes share a group, one is killed
//! and replaced, the sidecar is killed and started again, and the output is the input's committed records, each once.

use std::{
    collections::BTreeMap,
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::{Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
};
use testkit::{
    Cluster, Program, Sidecar, SidecarBuilder, Signal,
    cluster::{Acl, Operation, Resource},
    read_topic, try_eventually,
};

use super::{
    CLIENTS, Client,
    feeder::{Feeder, PARTITIONS, Written},
};
use crate::client::{READY, over_tls};

crate::tests!(all_languages);

/// How long the step of a job may take on a busy machine: a killed member's session among others, which lasts 10 s.
const STEP: Duration = Duration::from_secs(120);
/// How much the members copy between two events.
const RECORDS: usize = 50;
/// The application's own principal, which needs nothing but to read.
const APPLICATION: &str = "application";
const PASSWORD: &str = "canary-application";
/// The exit code of a JVM that SIGTERM ended in good order; all others say 0.
const JAVA_TERMINATED: i32 = 143;

/// The clients that are run; `COPY_LANGUAGES`, such as `go,node`, makes them fewer.
fn clients() -> Vec<&'static Client> {
    let asked = std::env::var("COPY_LANGUAGES").ok();
    let is_asked = |client: &&Client| {
        asked.as_ref().is_none_or(|asked| asked.split(',').any(|language| language == client.language))
    };
    CLIENTS.iter().filter(is_asked).collect()
}

fn all_languages() {
    Cluster::shared().set_password(APPLICATION, PASSWORD);
    let clients = clients();
    for client in &clients {
        client.built();
    }
    let begun = Instant::now();
    let sidecar = sidecar(over_tls());
    let address = sidecar.grpc_address();
    let (restarted, (arrivals, arrived)) = (AtomicBool::new(false), channel());
    thread::scope(|scope| {
        let start = |client| {
            let (address, restarted, arrival) = (&address, &restarted, Arrival(arrivals.clone()));
            scope.spawn(move || Job::new(client, address).run(arrival, restarted))
        };
        let jobs: Vec<_> = clients.into_iter().map(start).collect();
        for _ in &jobs {
            arrived.recv().expect("each arrives, or fails within a bound");
        }
        // While all of them copy.
        sidecar.kill();
        let sidecar = self::sidecar(over_tls().env("SIDECAR_LISTEN", &address));
        restarted.store(true, Ordering::Release);
        let failed = jobs.into_iter().filter_map(|job| job.join().err()).count();
        drop(sidecar);
        assert_eq!(failed, 0, "jobs failed, see above");
    });
    eprintln!("all copied in {:?}", begun.elapsed());
}

fn sidecar(builder: SidecarBuilder) -> Sidecar {
    let sidecar = builder.env("SIDECAR_INSTANCE_ID", "copy-jobs").start();
    sidecar.wait_ready(READY);
    sidecar
}

/// Says that a job is where the sidecar may be killed, or that it failed before.
struct Arrival(Sender<()>);

impl Drop for Arrival {
    fn drop(&mut self) {
        // The test has failed if nobody listens.
        self.0.send(()).ok();
    }
}

/// One language's copy of one topic.
struct Job<'a> {
    client: &'a Client,
    sidecar: &'a str,
    input: String,
    output: String,
}

impl<'a> Job<'a> {
    fn new(client: &'a Client, sidecar: &'a str) -> Self {
        let (cluster, language) = (Cluster::shared(), client.language);
        let input = cluster.create_topic(&format!("copy-{language}-in"), PARTITIONS, &[]);
        let output = cluster.create_topic(&format!("copy-{language}-out"), PARTITIONS, &[]);
        for resource in [Resource::Topic(input.clone()), Resource::Group(output.clone())] {
            cluster.add_acl(&Acl::allow(APPLICATION, Operation::Read, resource));
        }
        Self { client, sidecar, input, output }
    }

    fn run(&self, arrival: Arrival, restarted: &AtomicBool) {
        let feeder = Feeder::start(&self.input);
        let first = self.join("the first");
        first.copies(RECORDS);
        let second = self.join("the second");
        second.copies(RECORDS);
        // In the middle of whatever it does.
        first.program.kill();
        let third = self.join("the third");
        third.copies(RECORDS);
        drop(arrival);
        second.eventually("the sidecar is there again", || restarted.load(Ordering::Acquire).then_some(()));
        for member in [&second, &third] {
            member.copies(member.copied() + RECORDS);
        }
        let written = feeder.end();
        second.eventually("the group is at the end", || self.is_at_end());
        for member in [&second, &third] {
            member.ends();
        }
        self.compare(&written);
        for member in [first, second, third] {
            member.report();
        }
    }

    /// Starts one more member of the group.
    fn join(&self, name: &str) -> Member {
        let cluster = Cluster::shared();
        let folder = self.client.built();
        // Go and Java have one program for everything.
        let (program, command): (_, &[&str]) = match self.client.language {
            "go" | "java" => (folder.join(self.client.program), &["copy"]),
            _ => (folder.join("copy"), &[]),
        };
        let arguments = [command, &[self.sidecar, &self.input, &self.output, &self.output]].concat();
        let environment = [
            ("KAFKA_BROKERS", cluster.bootstrap_tls()),
            ("KAFKA_USER", APPLICATION.to_owned()),
            ("KAFKA_PASSWORD", PASSWORD.to_owned()),
            ("KAFKA_CA_FILE", cluster.ca_file().display().to_string()),
        ];
        let environment = environment.each_ref().map(|(name, value)| (*name, value.as_str()));
        Member {
            name: format!("{} {name}", self.client.language),
            program: Program::start(&program, &arguments, &environment),
            begun: Instant::now(),
        }
    }

    fn is_at_end(&self) -> Option<()> {
        let cluster = Cluster::shared();
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", cluster.bootstrap_plaintext())
            .set("group.id", &self.output)
            .create()
            .unwrap();
        let mut asked = TopicPartitionList::new();
        asked.add_partition_range(&self.input, 0, PARTITIONS - 1);
        let committed = consumer.committed_offsets(asked, STEP).ok()?;
        let is_at_end = |partition| {
            let end = cluster.end_offsets(&self.input, partition).high_watermark;
            let found = committed.find_partition(&self.input, partition);
            found.is_some_and(|found| found.offset() == Offset::Offset(end))
        };
        (0..PARTITIONS).all(is_at_end).then_some(())
    }

    /// Checks that the output is what was committed of the input, each record once and those of a partition in order.
    fn compare(&self, written: &Written) {
        let mut read: BTreeMap<i32, Vec<String>> = BTreeMap::new();
        let mut places: BTreeMap<i32, i32> = BTreeMap::new();
        for record in read_topic(Cluster::shared(), &self.output) {
            let text = |bytes: Option<Vec<u8>>| String::from_utf8(bytes.unwrap()).unwrap();
            let from: i32 = text(record.key).parse().unwrap();
            assert_eq!(*places.entry(from).or_insert(record.partition), record.partition);
            read.entry(from).or_default().push(text(record.value));
        }
        let language = self.client.language;
        for (partition, written) in (0..).zip(written) {
            let read = read.remove(&partition).unwrap_or_default();
            let differs = written.iter().zip(&read).position(|(written, read)| written != read);
            assert!(
                *written == read,
                "{language}: of {} in partition {partition} {} were copied; they differ at {differs:?}",
                written.len(),
                read.len()
            );
        }
    }
}

/// One process of a job.
struct Member {
    name: String,
    program: Program,
    begun: Instant,
}

impl Member {
    /// Sums up the numbers behind a word that the examples print.
    fn count(&self, word: &str) -> usize {
        let printed = self.program.stdout();
        let numbers = printed.iter().filter_map(|line| line.strip_prefix(word)?.trim().parse::<usize>().ok());
        numbers.sum()
    }

    fn copied(&self) -> usize {
        self.count("copied ")
    }

    /// Waits until it has copied so many records by itself.
    fn copies(&self, records: usize) {
        let what = format!("{records} records are copied");
        self.eventually(&what, || (self.copied() >= records).then_some(()));
    }

    /// Waits for something while the process runs.
    fn eventually(&self, what: &str, mut probe: impl FnMut() -> Option<()>) {
        let seen = try_eventually(STEP, || probe().or_else(|| self.program.exit_status().map(drop)));
        let is_running = self.program.exit_status().is_none();
        assert!(seen.is_some() && is_running, "{}: {what}\n{}", self.name, self.program.tail());
    }

    /// Asks it to stop, and checks that it does so in good order.
    fn ends(&self) {
        self.program.signal(Signal::TERM);
        let status = self.program.wait_exit(STEP).and_then(|status| status.code());
        let expected = if self.name.starts_with("java") { JAVA_TERMINATED } else { 0 };
        assert!(status == Some(expected), "{}: {status:?}\n{}", self.name, self.program.tail());
    }

    fn report(&self) {
        let mut answers: BTreeMap<String, usize> = BTreeMap::new();
        for line in self.program.stdout() {
            if line.starts_with("again ") || line.starts_with("dropped ") {
                *answers.entry(line).or_default() += 1;
            }
        }
        let (copied, already) = (self.copied(), self.count("already "));
        eprintln!(
            "{}: copied {copied}, already {already}, {answers:?} in {:?}",
            self.name,
            self.begun.elapsed()
        );
    }
}
