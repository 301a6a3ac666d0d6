//! All brokers away while a steady load goes on: memory, threads and files stay bounded, every answer is typed and true, and the
//! load is served again at once when the brokers are back. Breaks the cluster, and heals it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use producer_sidecar::grpc::proto::{Persisted, ProducerRecord, producer_record::Payload, record_result};
use testkit::{Cluster, Sidecar, read_topic};
use tokio::{
    sync::mpsc,
    task::{JoinSet, spawn_blocking},
    time::{Interval, MissedTickBehavior, interval, timeout},
};

use crate::{
    around::wait_metric,
    client::{Client, READY, connect, over_tls, run, send, text, wait_connections},
    streams::{frame, open},
};

crate::tests!(
    a_long_outage_under_load_costs_little_and_ends_at_once,
    a_long_freeze_under_load_costs_little_and_ends_at_once,
);

/// How the brokers are away, and come back.
#[derive(Debug, Clone, Copy)]
struct Away {
    go: fn(&Cluster),
    come: fn(&Cluster),
    rss_bytes_max: u64,
}

/// Their processes are gone: nothing can be sent.
const STOPPED: Away = Away { go: Cluster::stop_all, come: Cluster::start_all, rss_bytes_max: RSS_BYTES_MAX };
/// Their processes stand still: what is sent gets no answer, and the connections stay open.
const FROZEN: Away =
    Away { go: Cluster::freeze_all, come: Cluster::thaw_all, rss_bytes_max: RSS_BYTES_MAX_FROZEN };

/// What is offered, in records a second: half of it in calls, half on a stream.
const OFFERED: u32 = 2_000;
/// What of it is offered in calls at least, on a machine that also stops and starts brokers.
const OFFERED_AT_LEAST: f64 = 0.8;
const TICK: Duration = Duration::from_millis(10);
const EACH_PER_TICK: usize = 10;
/// The places of both halves where they are counted apart.
const CALLS: usize = 0;
const STREAM: usize = 1;
const CONNECTIONS: usize = 4;
const RECORD_BYTES: usize = 1_024;
const MEASURED: Duration = Duration::from_secs(5);
const SAMPLED_EVERY: Duration = Duration::from_secs(1);
/// How long what is on its way may take once the brokers are back.
const SETTLED: Duration = Duration::from_secs(90);

/// While no broker is connected callers are told after `brokers_wait_ms`. That brokers are frozen is noticed later, and until then
/// callers wait for their deadlines: more calls wait at once, some 7 KiB each.
const RSS_BYTES_MAX: u64 = 150 << 20;
const RSS_BYTES_MAX_FROZEN: u64 = 180 << 20;
/// What librdkafka's clients, ten of them with their spares, need more while they look for their brokers; 30 and 75 were seen,
/// after a minute as after ten.
const THREADS_MORE: u64 = 60;
const FILES_MORE: u64 = 150;
/// What of the rate before the outage counts as normal, and how soon after the brokers' return it has to be.
const NORMAL: f64 = 0.9;
const RETURNED_WITHIN: Duration = Duration::from_secs(10);

/// For how long the brokers are away; `OUTAGE_SECONDS` makes it longer.
fn outage() -> Duration {
    let seconds = std::env::var("OUTAGE_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(15))
}

/// Ticks at the offered rate; what a busy machine misses of it is not offered later.
fn ticks() -> Interval {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks
}

/// Lets that much time go by under load.
async fn pass(period: Duration) {
    timeout(period, std::future::pending::<()>()).await.unwrap_err();
}

fn value(number: usize) -> String {
    format!("{number:0>RECORD_BYTES$}")
}

/// What was answered of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Open,
    Ok,
    No,
    Maybe,
}

/// The load, and what it was told.
struct Load {
    address: String,
    topic: String,
    is_over: AtomicBool,
    /// Of calls, and of the stream.
    written: [AtomicUsize; 2],
    offered: [AtomicUsize; 2],
    /// By the records' numbers, which are their values.
    answers: Mutex<Vec<Answer>>,
    /// How often each reason came.
    reasons: Mutex<BTreeMap<(String, &'static str), usize>>,
}

impl Load {
    fn written(&self) -> [usize; 2] {
        self.written.each_ref().map(|half| half.load(Ordering::Relaxed))
    }

    fn begin(&self, half: usize, count: usize) -> usize {
        self.offered[half].fetch_add(count, Ordering::Relaxed);
        let mut answers = self.answers.lock().unwrap();
        let first = answers.len();
        answers.resize(first + count, Answer::Open);
        first
    }

    fn record(&self, number: usize) -> ProducerRecord {
        text(&self.topic, &value(number))
    }

    fn note(&self, half: usize, number: usize, outcome: Result<(), (String, Answer)>) {
        let answer = match outcome {
            Ok(()) => {
                self.written[half].fetch_add(1, Ordering::Relaxed);
                Answer::Ok
            }
            Err((reason, answer)) => {
                let persisted = if answer == Answer::No { "NO" } else { "MAYBE" };
                *self.reasons.lock().unwrap().entry((reason, persisted)).or_default() += 1;
                answer
            }
        };
        self.answers.lock().unwrap()[number] = answer;
    }

    async fn call(self: Arc<Self>, client: Client) {
        let number = self.begin(CALLS, 1);
        // As bytes, which could keep the whole buffer that the call was read into.
        let payload = Some(Payload::Value(value(number).into()));
        let outcome = send(&client, ProducerRecord { payload, ..self.record(number) }).await;
        let failed = outcome.map(drop).map_err(|refusal| {
            let answer = if refusal.persisted() == "NO" { Answer::No } else { Answer::Maybe };
            (refusal.reason, answer)
        });
        self.note(CALLS, number, failed);
    }

    /// Begins calls at a steady rate, whatever becomes of them.
    async fn calls(self: Arc<Self>) {
        let clients: Vec<_> = (0..CONNECTIONS).map(|_| connect(&self.address)).collect();
        let (mut calls, mut tick) = (JoinSet::new(), ticks());
        while !self.is_over.load(Ordering::Relaxed) {
            tick.tick().await;
            for place in 0..EACH_PER_TICK {
                calls.spawn(Arc::clone(&self).call(clients[place % CONNECTIONS].clone()));
            }
            while let Some(call) = calls.try_join_next() {
                call.unwrap();
            }
        }
        while let Some(call) = calls.join_next().await {
            call.unwrap();
        }
    }

    /// Sends frames at a steady rate, as long as the stream is read.
    async fn stream(self: Arc<Self>) {
        let (frames, mut answers) = open(&self.address).await;
        let (sent, mut open) = mpsc::unbounded_channel();
        let sender = Arc::clone(&self);
        let sending = tokio::spawn(async move {
            let mut tick = ticks();
            for sequence in 1.. {
                if sender.is_over.load(Ordering::Relaxed) {
                    return;
                }
                tick.tick().await;
                let first = sender.begin(STREAM, EACH_PER_TICK);
                let records = (first..first + EACH_PER_TICK).map(|number| sender.record(number)).collect();
                sent.send(first).unwrap();
                frames.send(frame(sequence, records)).await.unwrap();
            }
        });
        while let Some(answer) = answers.message().await.unwrap() {
            let first = open.recv().await.unwrap();
            for (number, result) in (first..).zip(answer.results) {
                let outcome = match result.result.unwrap() {
                    record_result::Result::Receipt(_) => Ok(()),
                    record_result::Result::Error(error) => {
                        let is_no = error.persisted() == Persisted::No;
                        let answer = if is_no { Answer::No } else { Answer::Maybe };
                        let reason = error.reason().as_str_name().trim_start_matches("ERROR_REASON_");
                        Err((reason.to_owned(), answer))
                    }
                };
                self.note(STREAM, number, outcome);
            }
        }
        sending.await.unwrap();
    }
}

/// What was seen of the sidecar at one moment.
#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Instant,
    rss: u64,
    threads: u64,
    files: u64,
    written: [usize; 2],
}

/// Looks at the sidecar each second, for ever.
async fn sample(sidecar: &Sidecar, load: &Load, samples: &Mutex<Vec<Sample>>) {
    let mut tick = interval(SAMPLED_EVERY);
    loop {
        tick.tick().await;
        samples.lock().unwrap().push(Sample {
            at: Instant::now(),
            rss: sidecar.rss_bytes(),
            threads: sidecar.thread_count(),
            files: sidecar.fd_count().try_into().unwrap(),
            written: load.written(),
        });
    }
}

/// Returns how many records a second are acknowledged for so long.
async fn rate(load: &Load, period: Duration) -> f64 {
    let (before, begun) = (load.written(), Instant::now());
    pass(period).await;
    let written = u32::try_from(more(load.written(), before).iter().sum::<usize>()).unwrap();
    f64::from(written) / begun.elapsed().as_secs_f64()
}

fn more(now: [usize; 2], before: [usize; 2]) -> [usize; 2] {
    [now[CALLS] - before[CALLS], now[STREAM] - before[STREAM]]
}

/// The moments and rates of the run.
#[derive(Debug)]
struct Course {
    gone: Instant,
    started: Instant,
    returned: Instant,
    before: f64,
    normal: Instant,
    after: f64,
}

async fn brokers_go_and_come(load: &Load, Away { go, come, .. }: Away) -> Course {
    let cluster = Cluster::shared();
    pass(Duration::from_secs(3)).await;
    let before = rate(load, MEASURED).await;
    spawn_blocking(move || go(cluster)).await.unwrap();
    let gone = Instant::now();
    pass(outage()).await;
    let started = Instant::now();
    spawn_blocking(move || come(cluster)).await.unwrap();
    // Meanwhile brokers come back one by one, and the load with them.
    spawn_blocking(|| cluster.wait_ready()).await.unwrap();
    let returned = Instant::now();
    while rate(load, SAMPLED_EVERY / 2).await < NORMAL * before {
        assert!(returned.elapsed() < 3 * RETURNED_WITHIN, "the load is served again");
    }
    let normal = Instant::now();
    let after = rate(load, MEASURED).await;
    Course { gone, started, returned, before, normal, after }
}

fn a_long_outage_under_load_costs_little_and_ends_at_once() {
    passes(STOPPED);
}

fn a_long_freeze_under_load_costs_little_and_ends_at_once() {
    passes(FROZEN);
}

fn passes(away: Away) {
    let topic = Cluster::shared().create_topic("outage", 6, &[]);
    let sidecar = over_tls().start();
    sidecar.wait_ready(READY);
    wait_connections(&sidecar);
    let load = Arc::new(Load {
        address: sidecar.grpc_address(),
        topic,
        is_over: AtomicBool::new(false),
        written: Default::default(),
        offered: Default::default(),
        answers: Mutex::default(),
        reasons: Mutex::default(),
    });
    let samples = Mutex::new(Vec::new());
    let course = run(async {
        let calls = tokio::spawn(Arc::clone(&load).calls());
        let stream = tokio::spawn(Arc::clone(&load).stream());
        let ended = async {
            let course = brokers_go_and_come(&load, away).await;
            load.is_over.store(true, Ordering::Relaxed);
            calls.await.unwrap();
            stream.await.unwrap();
            course
        };
        tokio::select! {
            course = ended => course,
            () = sample(&sidecar, &load, &samples) => unreachable!("it never ends"),
        }
    });
    report(&course, &load, &samples.lock().unwrap(), away.rss_bytes_max);
    check_truth(&sidecar, &load);
}

fn report(course: &Course, load: &Load, samples: &[Sample], rss_bytes_max: u64) {
    let Course { gone, started, returned, before, normal, after } = course;
    let upto = |limit: Instant| samples.iter().filter(move |sample| sample.at < limit);
    let most = |of: fn(&Sample) -> u64, limit: Instant| upto(limit).map(of).max().unwrap();
    let end = samples.last().unwrap().at + SAMPLED_EVERY;
    let mib = |bytes: u64| bytes >> 20;
    let before_and_most = |of: fn(&Sample) -> u64| (most(of, *gone), most(of, end));
    let (rss_before, rss_most) = before_and_most(|sample| sample.rss);
    let (threads_before, threads_most) = before_and_most(|sample| sample.threads);
    let (files_before, files_most) = before_and_most(|sample| sample.files);
    let first_again =
        samples.windows(2).find(|pair| pair[0].at > *started && pair[1].written > pair[0].written);
    let seconds = |from: &Instant, to: &Instant| to.saturating_duration_since(*from).as_secs_f64();
    eprintln!(
        "{before:.0} records a second, then away for {:.0} s, whole {:.1} s after the start (first acknowledged {:.1} s \
         after it), normal {:.1} s after that; then {after:.0} a second",
        seconds(gone, started),
        seconds(started, returned),
        first_again.map_or(f64::NAN, |pair| seconds(started, &pair[1].at)),
        seconds(returned, normal),
    );
    let of_each: Vec<_> = samples
        .windows(2)
        .filter(|pair| pair[1].at > *started)
        .map(|pair| more(pair[1].written, pair[0].written))
        .collect();
    eprintln!("acknowledged in each second from then on, of calls and of the stream: {of_each:?}");
    let course_of_rss: Vec<_> =
        samples.iter().step_by(samples.len().div_ceil(30)).map(|sample| mib(sample.rss)).collect();
    eprintln!("MiB {} before, {} at most: {course_of_rss:?}", mib(rss_before), mib(rss_most));
    eprintln!("threads {threads_before}, then {threads_most}; files {files_before}, then {files_most}");
    let whole = seconds(&samples[0].at, &end);
    let offered = load.offered.each_ref().map(|half| u32::try_from(half.load(Ordering::Relaxed)).unwrap());
    let rates = offered.map(|half| f64::from(half) / whole);
    eprintln!("{offered:?} offered, {rates:.0?} a second: {:?}", load.reasons.lock().unwrap());
    // The stream is read as far as it is answered; calls are offered all the time.
    assert!(rates[CALLS] >= OFFERED_AT_LEAST * f64::from(OFFERED) / 2.0, "{rates:.0?} a second were offered");
    assert!(rss_most < rss_bytes_max, "{} MiB", mib(rss_most));
    assert!(threads_most <= threads_before + THREADS_MORE, "{threads_most} of {threads_before} threads");
    assert!(files_most <= files_before + FILES_MORE, "{files_most} of {files_before} files");
    assert!(seconds(returned, normal) <= RETURNED_WITHIN.as_secs_f64());
    assert!(*after >= NORMAL * before, "{after} of {before}");
    assert!(2.0 * before >= f64::from(OFFERED), "the machine serves the load at all");
}

/// Each OK is there once, each NO is not, each MAYBE at most once; and no other reasons than those of an outage were told.
fn check_truth(sidecar: &Sidecar, load: &Load) {
    wait_metric(sidecar, "producer_outstanding_records", 0, SETTLED);
    let answers = load.answers.lock().unwrap();
    let mut found = vec![0_usize; answers.len()];
    for record in read_topic(Cluster::shared(), &load.topic) {
        let number: usize = String::from_utf8(record.value.unwrap()).unwrap().parse().unwrap();
        found[number] += 1;
    }
    for (number, (answer, found)) in answers.iter().zip(&found).enumerate() {
        let is_true = match answer {
            Answer::Ok => *found == 1,
            Answer::No => *found == 0,
            Answer::Maybe => *found <= 1,
            Answer::Open => false,
        };
        assert!(is_true, "{number}: {answer:?}, found {found} times");
    }
    let known = ["QUEUE_FULL", "BROKERS_UNAVAILABLE", "DEADLINE_NOT_WRITTEN", "DELIVERY_UNKNOWN"];
    let reasons = load.reasons.lock().unwrap();
    assert!(reasons.keys().all(|(reason, _)| known.contains(&reason.as_str())), "{reasons:?}");
    assert!(!reasons.is_empty(), "there was an outage");
}
