//! What requests can take of the process's memory: small messages that become large, requests that do not end, streams that wait.
//! It stays bounded, every caller is told the truth, and the memory is given back. Freezes the cluster, and thaws it.

use std::{
    collections::HashMap,
    fs,
    future::poll_fn,
    io::Write as _,
    pin::pin,
    time::{Duration, Instant},
};

use axum::body::{Body, HttpBody as _};
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use producer_sidecar::grpc::proto::{
    GetInfoRequest, Persisted, ProducerRecord, SendBatchRequest, SendBatchResponse,
    record_result::Result::Receipt,
};
use prost::{Message as _, encoding::encode_varint};
use testkit::{Cluster, Sidecar, eventually, read_topic};
use tokio::task::JoinSet;
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::{Code, Status, transport::Channel};
use tower::{Service as _, ServiceExt as _};

use crate::{
    client::{READY, Refusal, connect, over_tls, run, text},
    commands::{listening_without_brokers, without_brokers},
    malformed::wire,
    streams::{error, frame, open},
};

crate::tests!(
    small_messages_of_many_parts_are_refused_before_they_are_built,
    calls_that_lack_their_last_byte_are_bounded_and_end,
    a_callers_own_deadline_ends_a_request_that_is_not_whole,
    idle_streams_are_bounded_and_cost_little,
    empty_frames_behind_a_slow_one_are_held_back,
    large_frames_of_many_streams_while_kafka_stands_still,
);

const MIB: u64 = 1 << 20;
/// The most that any attack may take, with the process itself.
const PEAK_MIB: u64 = 120;
/// What is left after an attack.
const AFTER_MIB: u64 = 60;
const GIVEN_BACK: Duration = Duration::from_secs(10);
/// Parts of two bytes that fill a message of 4 MB.
const PARTS: usize = 2_000_000;

/// The most memory that the process ever had: what was taken and given back at once counts too.
fn peak_mib(sidecar: &Sidecar) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", sidecar.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.split_whitespace().next().unwrap().parse::<u64>().unwrap() / 1024
}

fn given_back(sidecar: &Sidecar) {
    eventually(GIVEN_BACK, "the memory is given back", || {
        (sidecar.rss_bytes() / MIB < AFTER_MIB).then_some(())
    });
}

/// Calls a method with a bare body, and returns how it ended.
async fn ended(
    mut channel: Channel,
    method: &str,
    is_gzip: bool,
    timeout: Option<&str>,
    body: Body,
) -> Status {
    let path = format!("/caas.producer.v1.ProducerService/{method}");
    let mut request =
        http::Request::post(path).header("content-type", "application/grpc").header("te", "trailers");
    if is_gzip {
        request = request.header("grpc-encoding", "gzip");
    }
    if let Some(timeout) = timeout {
        request = request.header("grpc-timeout", timeout);
    }
    let request = request.body(tonic::body::Body::new(body)).unwrap();
    let response = channel.ready().await.unwrap().call(request).await.unwrap();
    if let Some(status) = Status::from_header_map(response.headers()) {
        return status;
    }
    let mut body = pin!(response.into_body());
    while let Some(frame) = poll_fn(|context| body.as_mut().poll_frame(context)).await {
        if let Some(status) = frame.unwrap().trailers_ref().and_then(Status::from_header_map) {
            return status;
        }
    }
    panic!("{method} ended without a status")
}

/// A field with a length: tag, length, content.
fn field(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut field = vec![tag << 3 | 2];
    encode_varint(content.len() as u64, &mut field);
    field.extend_from_slice(content);
    field
}

/// The same field again and again.
fn many(tag: u8, content: &[u8], count: usize) -> Vec<u8> {
    field(tag, content).repeat(count)
}

fn gzip(message: &[u8]) -> Vec<u8> {
    let mut packing = GzEncoder::new(Vec::new(), Compression::best());
    packing.write_all(message).unwrap();
    packing.finish().unwrap()
}

/// Method, message, and where it is refused.
fn kinds() -> [(&'static str, Vec<u8>, &'static str); 9] {
    let headers = many(8, &[], PARTS);
    // Lists of truths, each a value of two bytes.
    let json = field(6, &field(6, &many(1, &[0x20, 1], PARTS / 2)));
    let objects = field(6, &field(6, &many(1, &field(5, &field(1, &[])), PARTS / 4)));
    [
        ("SendBatch", many(2, &[], PARTS), "records"),
        ("SendBatch", field(2, &headers), "records[0].headers"),
        ("SendBatch", field(2, &json), "records[0].json"),
        ("Send", field(1, &headers), "record.headers"),
        ("Send", field(1, &json), "record.json"),
        ("Send", field(1, &objects), "record.json"),
        ("ProcessAndForward", many(3, &[], PARTS), "outputs"),
        ("ProcessAndForward", many(2, &[], PARTS), "inputs"),
        ("ProcessAndForward", field(3, &json), "outputs[0].json"),
    ]
}

fn small_messages_of_many_parts_are_refused_before_they_are_built() {
    const CALLS: usize = 4;
    let sidecar = listening_without_brokers(without_brokers(&["serve"]));
    run(async {
        for (method, message, field) in kinds() {
            let packed = gzip(&message);
            assert!(packed.len() < 20_000, "{} bytes", packed.len());
            for (is_gzip, message) in [(true, packed), (false, message)] {
                let length = u32::try_from(message.len()).unwrap();
                let body = wire::frame(u8::from(is_gzip), length, &message);
                let mut calls = JoinSet::new();
                for _ in 0..CALLS {
                    let (channel, body) = (wire::connect(&sidecar.grpc_address()), Body::from(body.clone()));
                    calls.spawn(async move { ended(channel, method, is_gzip, None, body).await });
                }
                for status in calls.join_all().await {
                    let refusal = Refusal::of(&status);
                    refusal.expect(Code::InvalidArgument, "INVALID_RECORD", "NO");
                    assert_eq!(refusal.metadata.get("field").map(String::as_str), Some(field), "{status:?}");
                    if field == "records" {
                        let said = status.message();
                        assert!(said.contains("at most 1000"), "{said}");
                    }
                }
            }
            let peak = peak_mib(&sidecar);
            assert!(peak < PEAK_MIB, "{peak} MiB after {method} with {field}");
        }
    });
    given_back(&sidecar);
}

/// A body of 4 MB whose last byte never comes.
fn unfinished() -> (Body, impl Send) {
    const LENGTH: usize = 4_000_000;
    static ZEROS: [u8; LENGTH] = [0; LENGTH];
    let (send, receive) = tokio::sync::mpsc::channel(2);
    let prefix = wire::frame(0, u32::try_from(LENGTH).unwrap(), &[]);
    for part in [prefix, Bytes::from_static(&ZEROS[..LENGTH - 1])] {
        send.try_send(part).unwrap();
    }
    (Body::from_stream(ReceiverStream::new(receive).map(Ok::<_, std::io::Error>)), send)
}

fn calls_that_lack_their_last_byte_are_bounded_and_end() {
    const CALLS: usize = 300;
    let builder =
        without_brokers(&["serve"]).env("SIDECAR_BODY_MS_MAX", "2000").env("SIDECAR_SEND_TIMEOUT_MS", "5000");
    let sidecar = listening_without_brokers(builder);
    run(async {
        let channels: Vec<_> = (0..10).map(|_| wire::connect(&sidecar.grpc_address())).collect();
        let mut calls = JoinSet::new();
        for number in 0..CALLS {
            let channel = channels[number % channels.len()].clone();
            let method = ["Send", "SendBatch", "ProcessAndForward"][number % 3];
            calls.spawn(async move {
                let (body, _kept) = unfinished();
                ended(channel, method, false, None, body).await
            });
        }
        let mut ends = HashMap::new();
        while let Some(status) = calls.join_next().await {
            let refusal = Refusal::of(&status.unwrap());
            assert_eq!(refusal.persisted(), "NO", "{refusal:?}");
            *ends.entry(refusal.reason).or_insert(0) += 1;
            if calls.len() % 30 == 0 {
                // Small ones get through.
                connect(&sidecar.grpc_address()).get_info(GetInfoRequest {}).await.unwrap();
            }
        }
        let timed_out = ends.get("DEADLINE_NOT_WRITTEN").copied().unwrap_or_default();
        assert!(timed_out > 0, "{ends:?}");
        assert!(
            ends.keys().all(|end| ["DEADLINE_NOT_WRITTEN", "QUEUE_FULL"].contains(&end.as_str())),
            "{ends:?}"
        );
    });
    let peak = peak_mib(&sidecar);
    assert!(peak < PEAK_MIB, "{peak} MiB");
    given_back(&sidecar);
}

fn a_callers_own_deadline_ends_a_request_that_is_not_whole() {
    let sidecar = listening_without_brokers(without_brokers(&["serve"]));
    run(async {
        for method in ["Send", "ProcessAndForward"] {
            let begun = Instant::now();
            let (body, _kept) = unfinished();
            let status = ended(wire::connect(&sidecar.grpc_address()), method, false, Some("1S"), body).await;
            Refusal::of(&status).expect(Code::DeadlineExceeded, "DEADLINE_NOT_WRITTEN", "NO");
            assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        }
    });
}

fn idle_streams_are_bounded_and_cost_little() {
    // What one connection gets: half.
    const STREAMS: usize = 256;
    let streams_max = (2 * STREAMS).to_string();
    let builder = without_brokers(&["serve"]).env("SIDECAR_STREAMS_MAX", streams_max);
    let sidecar = listening_without_brokers(builder);
    run(async {
        connect(&sidecar.grpc_address()).get_info(GetInfoRequest {}).await.unwrap();
        let before = sidecar.rss_bytes();
        let client = connect(&sidecar.grpc_address());
        let open = || async {
            let (frames, outgoing) = tokio::sync::mpsc::channel::<SendBatchRequest>(1);
            let answers = client.clone().send_batch(ReceiverStream::new(outgoing)).await?;
            Ok::<_, Status>((frames, answers.into_inner()))
        };
        let mut idle = Vec::new();
        for _ in 0..STREAMS {
            idle.push(open().await.unwrap());
        }
        let grown = sidecar.rss_bytes().saturating_sub(before);
        assert!(grown / (STREAMS as u64) < 24 * 1024, "{grown} bytes for {STREAMS} streams");
        for _ in 0..1_000 {
            let refusal = Refusal::of(&open().await.map(drop).unwrap_err());
            refusal.expect(Code::ResourceExhausted, "QUEUE_FULL", "NO");
        }
        // A place is free once one has ended.
        idle.pop();
        let again = async {
            loop {
                if let Ok(stream) = open().await {
                    return stream;
                }
            }
        };
        tokio::time::timeout(READY, again).await.expect("a place is free");
    });
    assert!(peak_mib(&sidecar) < AFTER_MIB);
}

fn empty_frames_behind_a_slow_one_are_held_back() {
    const FRAMES: u64 = 100_000;
    let sidecar =
        listening_without_brokers(without_brokers(&["serve"]).env("SIDECAR_BROKERS_WAIT_MS", "60000"));
    run(async {
        let (frames, mut answers) = open(&sidecar.grpc_address()).await;
        let timeout = Some(prost_types::Duration { seconds: 4, nanos: 0 });
        let slow = SendBatchRequest { timeout, ..frame(0, vec![text("orders", "v")]) };
        frames.send(slow).await.unwrap();
        let sending = tokio::spawn(async move {
            for sequence in 1..=FRAMES {
                frames.send(frame(sequence, Vec::new())).await.unwrap();
            }
        });
        for sequence in 0..=FRAMES {
            let answer = answers.message().await.unwrap().unwrap();
            assert_eq!((answer.sequence, answer.results.len()), (sequence, usize::from(sequence == 0)));
        }
        sending.await.unwrap();
        assert_eq!(answers.message().await.unwrap(), None);
    });
    let peak = peak_mib(&sidecar);
    assert!(peak < AFTER_MIB, "{peak} MiB");
}

fn large_frames_of_many_streams_while_kafka_stands_still() {
    const STREAMS: usize = 100;
    const RECORDS: usize = 4;
    const VALUE_BYTES: usize = 990_000;
    /// The memory limit of `deploy/kubernetes`.
    const LIMIT_MIB: u64 = 384;
    let cluster = Cluster::shared();
    let topic = cluster.create_topic("still", 6, &[]);
    let sidecar = over_tls().env("SIDECAR_SEND_TIMEOUT_MS", "4000").start();
    sidecar.wait_ready(READY);
    run(async {
        let warm = crate::client::send(&connect(&sidecar.grpc_address()), text(&topic, "warm")).await;
        warm.unwrap();
    });
    let name = |stream: usize, place: usize| format!("{stream}-{place} ");
    let large = |stream: usize, place: usize| -> ProducerRecord {
        text(&topic, &format!("{}{}", name(stream, place), "x".repeat(VALUE_BYTES)))
    };
    cluster.freeze_all();
    let told = run(async {
        let mut streams = JoinSet::new();
        for stream in 0..STREAMS {
            let frame = frame(0, (0..RECORDS).map(|place| large(stream, place)).collect());
            assert!(frame.encoded_len() < 4_194_304);
            let address = sidecar.grpc_address();
            streams.spawn(async move {
                let (frames, mut answers) = open(&address).await;
                drop(frames.send(frame).await);
                drop(frames);
                (stream, answers.message().await)
            });
        }
        streams.join_all().await
    });
    let peak = peak_mib(&sidecar);
    cluster.thaw_all();
    cluster.heal();
    assert!(peak < LIMIT_MIB, "{peak} MiB");
    check(&sidecar, &topic, told, RECORDS, name);
    given_back(&sidecar);
}

/// Compares what streams of one frame were told with what a consumer finds.
fn check(
    sidecar: &Sidecar,
    topic: &str,
    told: Vec<(usize, Result<Option<SendBatchResponse>, Status>)>,
    records: usize,
    name: impl Fn(usize, usize) -> String,
) {
    eventually(Duration::from_secs(60), "the sidecar holds nothing", || {
        let metrics = sidecar.http_get("/metrics").1;
        metrics.lines().any(|line| line == "producer_outstanding_records 0").then_some(())
    });
    let mut found = HashMap::<_, usize>::new();
    for record in read_topic(Cluster::shared(), topic) {
        let value = String::from_utf8(record.value.unwrap()).unwrap();
        let end = value.find(' ').map_or(value.len(), |end| end + 1);
        *found.entry(value[..end].to_owned()).or_default() += 1;
    }
    let (mut ok, mut no, mut maybe) = (0, 0, 0);
    for (stream, answer) in told {
        for place in 0..records {
            let times = found.get(&name(stream, place)).copied().unwrap_or_default();
            let result = match &answer {
                Ok(answer) => Ok(&answer.as_ref().expect("a frame is answered").results[place]),
                Err(status) => Err(Refusal::of(status)),
            };
            match result {
                Ok(result) if matches!(result.result, Some(Receipt(_))) => {
                    ok += 1;
                    assert_eq!(times, 1, "{stream}-{place}: OK");
                }
                Ok(result) if error(result).is_some_and(|error| error.persisted() == Persisted::Maybe) => {
                    maybe += 1;
                    assert!(times <= 1, "{stream}-{place}: MAYBE");
                }
                Ok(result) => {
                    no += 1;
                    assert_eq!(times, 0, "{stream}-{place}: {result:?}");
                }
                Err(refusal) => {
                    no += 1;
                    refusal.expect(Code::ResourceExhausted, "QUEUE_FULL", "NO");
                    assert_eq!(times, 0, "{stream}-{place}: {refusal:?}");
                }
            }
        }
    }
    eprintln!("{topic}: OK {ok}, NO {no}, MAYBE {maybe}");
    assert!(no > 0, "the memory was enough for all of them");
}
