//! SendBatch: a result for each record in its place, answers in order, order within each partition, and streams that are
//! left alone, left unread or left behind.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use producer_sidecar::grpc::proto::{
    ErrorReason, Persisted, ProducerRecord, RecordError, RecordResult, SendBatchRequest, SendBatchResponse,
    record_result,
};
use testkit::{Cluster, Sidecar, eventually, read_topic};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::client::{
    Client, READY, Refusal, connect, keyed, over_tls, over_tls_limited, run, send, shared_address, text,
    wait_connections, with_header,
};

crate::tests!(
    two_hundred_thousand_records_over_four_streams,
    what_is_wrong_with_a_frame_fails_its_records_and_not_the_stream,
    a_frame_beyond_a_limit_ends_its_stream_behind_those_before_it,
    a_frames_time_bounds_its_records,
    the_order_holds_around_records_that_are_too_large,
    callers_that_vanish_or_idle_leave_nothing_behind,
    a_caller_that_never_reads_is_ended,
);

/// Frames that a test's client keeps ready to send.
const AHEAD: usize = 16;

/// Opens a stream: frames go in, answers come out.
pub async fn open(address: &str) -> (mpsc::Sender<SendBatchRequest>, Streaming<SendBatchResponse>) {
    let (frames, outgoing) = mpsc::channel(AHEAD);
    let answers = connect(address).send_batch(ReceiverStream::new(outgoing)).await.expect("a stream opens");
    (frames, answers.into_inner())
}

/// A stream of a client on which nothing is sent; it ends when dropped.
pub type Idle = (mpsc::Sender<SendBatchRequest>, Streaming<SendBatchResponse>);

/// Opens a stream of a client and leaves it idle.
pub async fn idle(mut client: Client) -> Result<Idle, Refusal> {
    let (frames, outgoing) = mpsc::channel(1);
    let answers = client.send_batch(ReceiverStream::new(outgoing)).await;
    answers.map(|answers| (frames, answers.into_inner())).map_err(|status| Refusal::of(&status))
}

/// Sends all frames and returns all answers, checking that they come in order; then the stream's end.
pub async fn exchange(
    address: &str,
    frames: Vec<SendBatchRequest>,
) -> (Vec<SendBatchResponse>, Result<(), Status>) {
    let (outgoing, mut incoming) = open(address).await;
    let expected: Vec<_> = frames.iter().map(|frame| (frame.sequence, frame.records.len())).collect();
    let sending = tokio::spawn(async move {
        for frame in frames {
            if outgoing.send(frame).await.is_err() {
                return;
            }
        }
    });
    let mut answers = Vec::new();
    let end = loop {
        match incoming.message().await {
            Ok(Some(answer)) => {
                assert_eq!((answer.sequence, answer.results.len()), expected[answers.len()]);
                answers.push(answer);
            }
            Ok(None) => break Ok(()),
            Err(status) => break Err(status),
        }
    };
    sending.await.unwrap();
    (answers, end)
}

pub fn frame(sequence: u64, records: Vec<ProducerRecord>) -> SendBatchRequest {
    SendBatchRequest { sequence, records, ..SendBatchRequest::default() }
}

pub fn error(result: &RecordResult) -> Option<&RecordError> {
    match result.result.as_ref().expect("a result is set") {
        record_result::Result::Receipt(_) => None,
        record_result::Result::Error(error) => Some(error),
    }
}

/// Where every value lies that a consumer finds.
pub type Found = HashMap<String, Vec<(i32, i64)>>;

pub fn found(topics: &[&str]) -> Found {
    let mut found = Found::new();
    for topic in topics {
        for record in read_topic(Cluster::shared(), topic) {
            let value = String::from_utf8(record.value.unwrap()).unwrap();
            found.entry(format!("{topic}/{value}")).or_default().push((record.partition, record.offset));
        }
    }
    found
}

/// Checks that of each stream's records that landed in a partition, later ones lie behind earlier ones. Values are
/// `STREAM-NUMBER`.
pub fn assert_order(found: &Found) {
    let mut last: HashMap<(String, i32, String), Vec<(u64, i64)>> = HashMap::new();
    for (name, places) in found {
        let (topic, value) = name.split_once('/').unwrap();
        let (stream, number) = value.split_once('-').unwrap();
        for (partition, offset) in places {
            let of_stream = last.entry((topic.to_owned(), *partition, stream.to_owned())).or_default();
            of_stream.push((number.parse().unwrap(), *offset));
        }
    }
    for (place, mut numbers) in last {
        numbers.sort_unstable();
        let misplaced = numbers.windows(2).find(|pair| pair[0].1 >= pair[1].1);
        assert!(misplaced.is_none(), "{place:?}: {misplaced:?}");
    }
}

/// Kafka refuses them, whole runs at first: who they are is found out with others before and behind them.
fn the_order_holds_around_records_that_are_too_large() {
    const RECORDS: usize = 100;
    const FRAMES: usize = 60;
    let topic = Cluster::shared().create_topic("limited-too-large", 2, &[("max.message.bytes", "10000")]);
    let is_large = |number: usize| number.is_multiple_of(487);
    let frames = (0..FRAMES).map(|frame_number| {
        let records = (frame_number * RECORDS..(frame_number + 1) * RECORDS).map(|number| {
            let value = format!("0-{number}");
            let record = keyed(text(&topic, &value), &number.to_string());
            if is_large(number) { with_header(record, "filler", &"x".repeat(10_000)) } else { record }
        });
        frame(frame_number as u64, records.collect())
    });
    // Tests run beside this one: a thread may be stopped for long, and must not split a run meanwhile.
    let sidecar = over_tls_limited().env("SIDECAR_KAFKA_LINGER_MS", "100").start();
    sidecar.wait_ready(READY);
    let (answers, end) = run(exchange(&sidecar.grpc_address(), frames.collect()));
    end.unwrap();
    let results = answers.iter().flat_map(|answer| &answer.results).enumerate();
    for (number, result) in results {
        let reason = error(result).map(RecordError::reason);
        assert_eq!(reason, is_large(number).then_some(ErrorReason::RecordTooLarge), "record {number}");
        let attempts = error(result).and_then(|error| error.metadata.get("attempts"));
        assert_eq!(attempts.is_some(), is_large(number), "record {number}: it was Kafka that refused it");
    }
    let found = found(&[&topic]);
    assert_eq!(found.len(), (0..FRAMES * RECORDS).filter(|number| !is_large(*number)).count());
    assert_order(&found);
}

fn two_hundred_thousand_records_over_four_streams() {
    const STREAMS: usize = 4;
    const FRAMES: usize = 500;
    const RECORDS: usize = 100;
    let cluster = Cluster::shared();
    let topics = [cluster.create_topic("batch-a", 6, &[]), cluster.create_topic("batch-b", 3, &[])];
    let hidden = cluster.create_topic("hidden-", 1, &[]);
    // One in a hundred is bad, each kind in turn, at a place of its own in each frame.
    let bad = |frame: usize| match frame % 3 {
        0 => (text("bad topic", "v"), ErrorReason::InvalidRecord),
        1 => (text("no-such-topic", "v"), ErrorReason::TopicNotFound),
        _ => (text(&hidden, "v"), ErrorReason::NotAuthorized),
    };
    let record = |stream: usize, frame: usize, place: usize| {
        let number = frame * RECORDS + place;
        if place == frame % RECORDS {
            return bad(frame).0;
        }
        keyed(text(&topics[number % 2], &format!("{stream}-{number}")), &(number % 50).to_string())
    };
    let frames = |stream: usize| -> Vec<_> {
        let records = |index: usize| (0..RECORDS).map(|place| record(stream, index, place)).collect();
        (0..FRAMES).map(|index| frame(index as u64 + 7, records(index))).collect()
    };
    let answers = run(async {
        let address = shared_address();
        let streams: Vec<_> = (0..STREAMS)
            .map(|stream| {
                let (address, frames) = (address.clone(), frames(stream));
                tokio::spawn(async move { exchange(&address, frames).await })
            })
            .collect();
        let mut answers = Vec::new();
        for stream in streams {
            let (of_stream, end) = stream.await.unwrap();
            end.unwrap();
            answers.push(of_stream);
        }
        answers
    });
    let found = found(&[&topics[0], &topics[1]]);
    assert_eq!(found.len(), STREAMS * FRAMES * (RECORDS - 1));
    assert_order(&found);
    for (stream, of_stream) in answers.iter().enumerate() {
        for (index, answer) in of_stream.iter().enumerate() {
            for (place, result) in answer.results.iter().enumerate() {
                let number = index * RECORDS + place;
                if place == index % RECORDS {
                    let error = error(result).expect("the bad record has an error");
                    assert_eq!(
                        (error.reason(), error.persisted()),
                        (bad(index).1, Persisted::No),
                        "{error:?}"
                    );
                    continue;
                }
                let Some(record_result::Result::Receipt(receipt)) = &result.result else {
                    panic!("{stream}-{number}: {result:?}");
                };
                let place = (receipt.partition.unwrap(), receipt.offset.unwrap());
                assert_eq!(receipt.topic, topics[number % 2]);
                assert_eq!(found[&format!("{}/{stream}-{number}", topics[number % 2])], [place]);
            }
        }
    }
}

fn what_is_wrong_with_a_frame_fails_its_records_and_not_the_stream() {
    let topic = Cluster::shared().create_topic("frames", 1, &[]);
    let good = || text(&topic, "0-1");
    let timeout = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    let frames = vec![
        frame(1, vec![ProducerRecord::default(), good()]),
        SendBatchRequest { timeout: timeout(-1), ..frame(2, vec![good()]) },
        SendBatchRequest { durability: 99, ..frame(3, vec![good()]) },
        SendBatchRequest { durability: 2, ..frame(4, vec![good()]) },
        frame(5, vec![]),
        frame(u64::MAX, vec![ProducerRecord { partition: Some(7), ..good() }, good()]),
    ];
    let (answers, end) = run(async { exchange(&shared_address(), frames).await });
    end.unwrap();
    let first = |index: usize| error(&answers[index].results[0]).cloned().unwrap_or_default();
    let seen = |index: usize| (first(index).reason(), first(index).metadata.get("field").cloned());
    assert_eq!(seen(0), (ErrorReason::InvalidRecord, Some("records[0].topic".into())));
    assert!(error(&answers[0].results[1]).is_none());
    assert_eq!(seen(1), (ErrorReason::InvalidRecord, Some("timeout".into())));
    assert_eq!(seen(2), (ErrorReason::InvalidRecord, Some("durability".into())));
    assert_eq!(seen(3).0, ErrorReason::SpoolNotConfigured);
    assert_eq!(answers[4].results.len(), 0);
    assert_eq!(seen(5), (ErrorReason::InvalidRecord, Some("records[0].partition".into())));
    assert!(error(&answers[5].results[1]).is_none());
    assert_eq!(read_topic(Cluster::shared(), &topic).len(), 2);
}

fn a_frame_beyond_a_limit_ends_its_stream_behind_those_before_it() {
    let topic = Cluster::shared().create_topic("beyond", 1, &[]);
    let good = || text(&topic, "0-1");
    let (many, large) = (vec![good(); 1_001], vec![text(&topic, &"x".repeat(900_000)); 5]);
    for (beyond, reason, said) in
        [(many, "INVALID_RECORD", ["1000", "frame"]), (large, "RECORD_TOO_LARGE", ["4259840", "limit"])]
    {
        let (answers, end) = run(async {
            let (frames, mut incoming) = open(&shared_address()).await;
            frames.send(frame(1, vec![good()])).await.unwrap();
            frames.send(frame(2, beyond)).await.unwrap();
            frames.send(frame(3, vec![good()])).await.unwrap();
            let mut answers = Vec::new();
            loop {
                match incoming.message().await {
                    Ok(answer) => answers.push(answer.expect("the stream does not end with OK")),
                    Err(status) => return (answers, status),
                }
            }
        });
        assert_eq!(answers.iter().map(|answer| answer.sequence).collect::<Vec<_>>(), [1]);
        assert!(error(&answers[0].results[0]).is_none());
        Refusal::of(&end).expect(Code::InvalidArgument, reason, "NO");
        assert!(said.iter().all(|said| end.message().contains(said)), "{end:?}");
    }
    // Neither what was beyond the limit nor what came after it.
    assert_eq!(read_topic(Cluster::shared(), &topic).len(), 2);
}

fn a_frames_time_bounds_its_records() {
    let sidecar = Sidecar::builder(crate::client::BINARY)
        .arg("serve")
        .env("KAFKA_BROKERS", format!("127.0.0.1:{}", testkit::free_port()))
        .env("KAFKA_SECURITY_PROTOCOL", "PLAINTEXT")
        .start();
    eventually(READY, "the sidecar listens", || sidecar.try_http_get("/startupz").ok());
    let begun = Instant::now();
    let timed = |sequence| SendBatchRequest {
        timeout: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
        ..frame(sequence, vec![text("orders", "v"), text("clicks", "v")])
    };
    let (answers, end) = run(async { exchange(&sidecar.grpc_address(), (0..20).map(timed).collect()).await });
    end.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    for result in answers.iter().flat_map(|answer| &answer.results) {
        let error = error(result).unwrap();
        assert_eq!((error.reason(), error.persisted()), (ErrorReason::DeadlineNotWritten, Persisted::No));
        assert_eq!(error.code, Code::DeadlineExceeded as i32);
    }
}

fn callers_that_vanish_or_idle_leave_nothing_behind() {
    const IDLE: usize = 5_000;
    const VANISHING: usize = 500;
    let topic = Cluster::shared().create_topic("vanish", 3, &[]);
    let sidecar = over_tls().env("SIDECAR_STREAMS_MAX", "12000").start();
    sidecar.wait_ready(READY);
    let address = sidecar.grpc_address();
    run(async { send(&connect(&address), text(&topic, "warm")).await.unwrap() });
    wait_connections(&sidecar);
    let before = (sidecar.fd_count(), sidecar.thread_count(), sidecar.rss_bytes());
    run(async {
        let clients: Vec<_> = (0..5).map(|_| connect(&address)).collect();
        let mut idle = Vec::new();
        for number in 0..IDLE {
            let (frames, outgoing) = mpsc::channel(1);
            let answers =
                clients[number % 5].clone().send_batch(ReceiverStream::new(outgoing)).await.unwrap();
            idle.push((frames, answers));
        }
        // Others are served meanwhile.
        send(&connect(&address), text(&topic, "beside")).await.unwrap();
        for _ in 0..VANISHING {
            let (frames, answers) = open(&address).await;
            frames.send(frame(1, (0..20).map(|_| text(&topic, "gone")).collect())).await.unwrap();
            drop((frames, answers));
        }
    });
    let after = || (sidecar.fd_count(), sidecar.thread_count(), sidecar.rss_bytes());
    eventually(Duration::from_secs(20), "connections, tasks and records are gone", || {
        let (fds, threads, _) = after();
        let metrics = sidecar.http_get("/metrics").1;
        let settled = metrics.lines().any(|line| line == "producer_outstanding_records 0");
        (settled && fds <= before.0 + 2 && threads <= before.1).then_some(())
    });
    eventually(Duration::from_secs(10), "less than 60 MiB are held", || (after().2 < 60 << 20).then_some(()));
    run(async { send(&connect(&address), text(&topic, "after")).await.unwrap() });
}

fn a_caller_that_never_reads_is_ended() {
    let topic = Cluster::shared().create_topic("unread", 3, &[]);
    let sidecar = over_tls().env("SIDECAR_RESPONSES_NOT_READ_MS", "1000").start();
    sidecar.wait_ready(READY);
    let address = sidecar.grpc_address();
    let end = run(async {
        let (frames, mut answers) = open(&address).await;
        // Answers are as large as frames: they fill the connection's window and everything before it.
        let sending = tokio::spawn(async move {
            for sequence in 0..20_000 {
                if frames
                    .send(frame(sequence, (0..100).map(|_| text(&topic, "0-0")).collect()))
                    .await
                    .is_err()
                {
                    return;
                }
            }
        });
        let ended = |sidecar: &Sidecar| {
            let metrics = sidecar.http_get("/metrics").1;
            metrics.contains(r#"producer_failures_total{reason="RESPONSES_NOT_READ"} 1"#).then_some(())
        };
        tokio::task::block_in_place(|| {
            eventually(Duration::from_secs(60), "the stream is ended", || ended(&sidecar));
            assert!(sidecar.rss_bytes() < 600_000_000, "{}", sidecar.rss_bytes());
        });
        // Another caller is unaffected.
        send(&connect(&address), text("no-such-topic", "v")).await.unwrap_err();
        let end = loop {
            match answers.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the stream ended well"),
                Err(status) => break status,
            }
        };
        sending.abort();
        end
    });
    Refusal::of(&end).expect(Code::ResourceExhausted, "RESPONSES_NOT_READ", "MAYBE");
}
