//! SendBatch while brokers die, freeze and lose answers, and while the sidecar stops: every answer true, order kept. These
//! tests break the cluster and heal it.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use producer_sidecar::grpc::proto::{Persisted, SendBatchRequest, SendBatchResponse, record_result};
use testkit::{ApiKey, Cluster, Sidecar, Signal, eventually};
use tonic::Code;

use crate::{
    client::{READY, Refusal, keyed, over_tls, run, text, through_proxies},
    streams::{assert_order, error, found, frame, open},
};

crate::tests!(
    order_and_truth_through_killed_frozen_and_mute_brokers,
    one_dead_partition_holds_up_no_other_stream,
    tiny_frames_without_end_while_kafka_is_frozen,
    sigterm_answers_every_frame_that_was_read,
);

const STREAMS: usize = 4;
const RECORDS: usize = 50;
const SETTLED: Duration = Duration::from_secs(60);

fn timed(
    sequence: u64,
    records: Vec<producer_sidecar::grpc::proto::ProducerRecord>,
    ms: i64,
) -> SendBatchRequest {
    let nanos = i32::try_from(ms % 1000 * 1_000_000).unwrap();
    let timeout = Some(prost_types::Duration { seconds: ms / 1000, nanos });
    SendBatchRequest { timeout, ..frame(sequence, records) }
}

/// What one stream sent and was answered: answers to the frames 0, 1, 2 and so on, and the end.
struct Told {
    frames_sent: usize,
    answers: Vec<SendBatchResponse>,
    end: Option<Refusal>,
}

/// Streams frames until told to stop; values are `STREAM-NUMBER`, keys spread over the partitions.
async fn stream(
    address: String,
    topic: String,
    number: usize,
    timeout_ms: i64,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
) -> Told {
    let (frames, mut incoming) = open(&address).await;
    let sending = tokio::spawn(async move {
        for sequence in 0.. {
            let value = |place: usize| format!("{number}-{}", sequence * RECORDS + place);
            let record = |place: usize| keyed(text(&topic, &value(place)), &(place % 12).to_string());
            let next = timed(sequence as u64, (0..RECORDS).map(record).collect(), timeout_ms);
            if stop.load(Ordering::Relaxed) || frames.send(next).await.is_err() {
                return sequence;
            }
        }
        0
    });
    let mut answers = Vec::new();
    let end = loop {
        match incoming.message().await {
            Ok(Some(answer)) => {
                assert_eq!(answer.sequence, answers.len() as u64);
                answers.push(answer);
                answered.fetch_add(1, Ordering::Relaxed);
            }
            Ok(None) => break None,
            Err(status) => break Some(Refusal::of(&status)),
        }
    };
    drop(incoming);
    Told { frames_sent: sending.await.unwrap(), answers, end }
}

/// Runs streams while `fault` runs, which may wait for so many more answers; each frame may take so long.
fn under_load(
    sidecar: &Sidecar,
    topic: &str,
    timeout_ms: i64,
    fault: impl FnOnce(&dyn Fn(usize)) + Send,
) -> Vec<Told> {
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    thread::scope(|scope| {
        let load = scope.spawn(|| {
            run(async {
                let start = |number| {
                    let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
                    tokio::spawn(stream(
                        sidecar.grpc_address(),
                        topic.to_owned(),
                        number,
                        timeout_ms,
                        stop,
                        answered,
                    ))
                };
                let mut told = Vec::new();
                for running in (0..STREAMS).map(start).collect::<Vec<_>>() {
                    told.push(running.await.unwrap());
                }
                told
            })
        });
        let more = |more: usize| {
            let goal = answered.load(Ordering::Relaxed) + more;
            eventually(SETTLED, "the streams go on", || {
                (answered.load(Ordering::Relaxed) >= goal).then_some(())
            });
        };
        more(20);
        fault(&more);
        stop.store(true, Ordering::Relaxed);
        load.join().unwrap()
    })
}

/// Compares answers with what a consumer finds; returns how many were OK, NO and MAYBE.
fn check(topic: &str, told: &[Told]) -> [usize; 3] {
    let mut found = found(&[topic]);
    assert_order(&found);
    let mut counts = [0; 3];
    for (stream, of_stream) in told.iter().enumerate() {
        for (index, answer) in of_stream.answers.iter().enumerate() {
            for (place, result) in answer.results.iter().enumerate() {
                let name = format!("{topic}/{stream}-{}", index * RECORDS + place);
                let places = found.remove(&name).unwrap_or_default();
                match (&result.result, error(result)) {
                    (Some(record_result::Result::Receipt(receipt)), _) => {
                        counts[0] += 1;
                        let [(partition, offset)] = places[..] else { panic!("{name}: OK, at {places:?}") };
                        assert_eq!(receipt.partition, Some(partition));
                        assert!(receipt.offset.is_none_or(|told| told == offset), "{name}: {receipt:?}");
                    }
                    (_, Some(error)) if error.persisted() == Persisted::No => {
                        counts[1] += 1;
                        assert!(places.is_empty(), "{name}: {error:?}, at {places:?}");
                    }
                    (_, error) => {
                        counts[2] += 1;
                        assert!(places.len() <= 1, "{name}: {error:?}, at {places:?}");
                    }
                }
            }
        }
        // Frames without an answer: NO where the stream ended with DRAINING, else at most once.
        let draining = of_stream.end.as_ref().is_some_and(|end| end.reason == "DRAINING");
        for number in of_stream.answers.len() * RECORDS..of_stream.frames_sent * RECORDS {
            let places = found.remove(&format!("{topic}/{stream}-{number}")).unwrap_or_default();
            assert!(
                places.len() <= usize::from(!draining),
                "{stream}-{number} without an answer, at {places:?}"
            );
        }
    }
    assert!(found.is_empty(), "records that nobody sent: {:?}", found.keys().next());
    counts
}

fn settle(sidecar: &Sidecar) {
    eventually(SETTLED, "the sidecar holds nothing", || {
        let metrics = sidecar.http_get("/metrics").1;
        metrics.lines().any(|line| line == "producer_outstanding_records 0").then_some(())
    });
}

fn order_and_truth_through_killed_frozen_and_mute_brokers() {
    let cluster = Cluster::shared();
    let topic = cluster.create_topic("stream-faults", 6, &[]);
    let sidecar = through_proxies().start();
    sidecar.wait_ready(READY);
    let told = under_load(&sidecar, &topic, 3_000, |more| {
        cluster.kill(1);
        more(40);
        cluster.start_node(1);
        cluster.heal();
        more(40);
        cluster.freeze(2);
        more(20);
        cluster.thaw(2);
        cluster.heal();
        more(40);
        for proxy in cluster.proxies() {
            proxy.swallow_responses(ApiKey::Produce, 0.05, true);
        }
        more(200);
        cluster.heal();
        more(40);
    });
    settle(&sidecar);
    assert!(told.iter().all(|stream| stream.end.is_none() && stream.answers.len() == stream.frames_sent));
    let counts = check(&topic, &told);
    eprintln!("{topic}: OK, NO, MAYBE: {counts:?}");
    assert!(counts[0] > 10_000, "{counts:?}");
}

fn one_dead_partition_holds_up_no_other_stream() {
    let cluster = Cluster::shared();
    let topic = cluster.create_topic("dead", 6, &[]);
    let sidecar = through_proxies().start();
    sidecar.wait_ready(READY);
    let leaders: HashMap<i32, i32> =
        (0..6).map(|partition| (partition, cluster.leader(&topic, partition))).collect();
    let dead = leaders[&0];
    let alive = *leaders.iter().find(|(_, leader)| **leader != dead).expect("leaders are spread").0;
    let address = sidecar.grpc_address();
    let to = |partition: i32, value: &str| producer_sidecar::grpc::proto::ProducerRecord {
        partition: Some(partition),
        ..text(&topic, value)
    };
    run(async {
        let (frames, mut answers) = open(&address).await;
        let (other_frames, mut other_answers) = open(&address).await;
        for (frames, answers, partition) in
            [(&frames, &mut answers, 0), (&other_frames, &mut other_answers, alive)]
        {
            let value = if partition == 0 { "0-0" } else { "1-0" };
            frames.send(timed(0, vec![to(partition, value)], 5_000)).await.unwrap();
            assert!(error(&answers.message().await.unwrap().unwrap().results[0]).is_none());
        }
        // Dead for the sidecar alone: the brokers among themselves are well, and so is replication.
        cluster.proxy(dead).black_hole();
        let begun = Instant::now();
        for sequence in 1..=5 {
            frames.send(timed(sequence, vec![to(0, &format!("0-{sequence}"))], 1_000)).await.unwrap();
        }
        // While those wait, the other stream is answered as ever.
        let mut slowest = Duration::ZERO;
        for sequence in 1..=50 {
            let sent = Instant::now();
            let record = to(alive, &format!("1-{sequence}"));
            other_frames.send(timed(sequence, vec![record], 5_000)).await.unwrap();
            let answer = other_answers.message().await.unwrap().unwrap();
            assert_eq!(answer.sequence, sequence);
            slowest = slowest.max(sent.elapsed());
            if begun.elapsed() > Duration::from_millis(800) {
                break;
            }
        }
        assert!(slowest < Duration::from_secs(1), "{slowest:?}");
        for sequence in 1..=5 {
            let answer = answers.message().await.unwrap().unwrap();
            assert_eq!(answer.sequence, sequence);
        }
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    });
    cluster.heal();
    settle(&sidecar);
    assert!(found(&[&topic]).values().all(|places| places.len() == 1));
}

fn tiny_frames_without_end_while_kafka_is_frozen() {
    /// The long run of a million is `scripts/faults`'s.
    const FRAMES: u64 = 100_000;
    let count = std::env::var("TINY_FRAMES").ok().and_then(|count| count.parse().ok()).unwrap_or(FRAMES);
    let cluster = Cluster::shared();
    let topic = cluster.create_topic("tiny", 3, &[]);
    let sidecar = over_tls().start();
    sidecar.wait_ready(READY);
    run(async {
        let warm =
            producer_sidecar::grpc::proto::ProducerRecord { partition: Some(0), ..text(&topic, "warm-0") };
        crate::client::send(&crate::client::connect(&sidecar.grpc_address()), warm).await.unwrap();
    });
    let before = sidecar.rss_bytes();
    cluster.freeze_all();
    let (answers, end, peak) = run(async {
        let (frames, mut incoming) = open(&sidecar.grpc_address()).await;
        let name = topic.clone();
        let sending = tokio::spawn(async move {
            for sequence in 0..count {
                let record = text(&name, &format!("0-{sequence:048}"));
                frames.send(timed(sequence, vec![record], 120_000)).await.unwrap();
            }
        });
        // Reading stops once window and buffer are full; nobody is sent away for it.
        let peak = tokio::task::block_in_place(|| {
            let mut last = 0;
            eventually(SETTLED, "the sidecar reads no further", || {
                let metrics = sidecar.http_get("/metrics").1;
                let outstanding =
                    metrics.lines().find(|line| line.starts_with("producer_outstanding_records "))?;
                let now: u64 = outstanding.rsplit(' ').next()?.parse().ok()?;
                let full = now == last && now >= 10_000;
                last = now;
                full.then_some(sidecar.rss_bytes())
            })
        });
        cluster.thaw_all();
        tokio::task::block_in_place(|| cluster.heal());
        let mut answers = Vec::new();
        let end = loop {
            match incoming.message().await {
                Ok(Some(answer)) => answers.push(answer),
                Ok(None) => break None,
                Err(status) => break Some(Refusal::of(&status)),
            }
        };
        sending.await.unwrap();
        (answers, end, peak)
    });
    assert!(end.is_none(), "{end:?}");
    assert_eq!(answers.len() as u64, count);
    assert!(answers.iter().enumerate().all(|(index, answer)| answer.sequence == index as u64));
    assert!(peak.saturating_sub(before) < 200_000_000, "{before} bytes before, {peak} at the peak");
    settle(&sidecar);
    let found = found(&[&topic]);
    assert_order(&found);
    for (sequence, answer) in answers.iter().enumerate() {
        let places = found.get(&format!("{topic}/0-{sequence:048}")).map_or(0, Vec::len);
        match error(&answer.results[0]) {
            None => assert_eq!(places, 1, "{sequence}"),
            Some(error) if error.persisted() == Persisted::No => {
                assert_eq!(places, 0, "{sequence}: {error:?}");
            }
            Some(_) => assert!(places <= 1, "{sequence}"),
        }
    }
}

fn sigterm_answers_every_frame_that_was_read() {
    let cluster = Cluster::shared();
    let topic = cluster.create_topic("stream-sigterm", 6, &[]);
    let sidecar = over_tls().start();
    sidecar.wait_ready(READY);
    // What a busy cluster takes late it takes all the same: the drain is longer than any frame waits.
    let told = under_load(&sidecar, &topic, 20_000, |_| {
        sidecar.signal(Signal::TERM);
        let status = sidecar.wait_exit(Duration::from_secs(40));
        assert_eq!(status.code(), Some(0), "{:?}", sidecar.stderr());
    });
    for stream in &told {
        let end = stream.end.as_ref().expect("a stream that is open at SIGTERM does not end with OK");
        assert_eq!((end.code, end.reason.as_str()), (Code::Unavailable, "DRAINING"), "{end:?}");
    }
    let counts = check(&topic, &told);
    assert!(counts[0] > 1_000 && counts[1] == 0 && counts[2] == 0, "{counts:?}");
}
