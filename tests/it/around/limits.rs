//! What one call may bring: headers, compressed bytes, streams, and a deadline shorter than the margin. What is beyond a
//! limit is refused, and the sidecar goes on.

use std::{
    fs,
    time::{Duration, Instant},
};

use producer_sidecar::grpc::proto::{
    GetInfoRequest, SendRequest, producer_service_client::ProducerServiceClient,
};
use testkit::{Cluster, Sidecar, read_topic};
use tonic::{Code, Request, codec::CompressionEncoding};

use super::{channel, listening, next, watch};
use crate::{
    client::{Client, READY, Refusal, connect, run, send, send_within, shared_address, text},
    commands::without_brokers,
};

crate::tests!(
    headers_beyond_the_limit_are_refused_and_others_go_on,
    streams_beyond_the_limit_wait_for_their_turn,
    compressed_requests_are_taken,
    what_unpacks_beyond_the_limit_is_refused,
    an_unknown_compression_is_refused,
    a_deadline_shorter_than_the_margin_is_answered_in_words,
);

fn headers_beyond_the_limit_are_refused_and_others_go_on() {
    let sidecar = listening(without_brokers(&["serve"]));
    run(async {
        let client = connect(&sidecar.grpc_address());
        let with_header = |bytes: usize| {
            let mut request = Request::new(GetInfoRequest {});
            request.metadata_mut().insert("x-large", "x".repeat(bytes).parse().unwrap());
            request
        };
        client.clone().get_info(with_header(8_000)).await.unwrap();
        for bytes in [17_000, 60_000, 1_000_000] {
            client.clone().get_info(with_header(bytes)).await.unwrap_err();
            // On the same channel, and on another. What is far too large ends its connection: a call that was on it already goes
            // again.
            let again = [(); 2].map(|()| client.clone());
            let mut answer = Err(tonic::Status::unknown("not asked yet"));
            for mut client in again {
                if answer.is_err() {
                    answer = client.get_info(with_header(8_000)).await;
                }
            }
            answer.unwrap();
            connect(&sidecar.grpc_address()).get_info(with_header(10)).await.unwrap();
        }
    });
    assert_eq!(sidecar.exit_status(), None);
}

fn streams_beyond_the_limit_wait_for_their_turn() {
    const MAX: usize = 4;
    let sidecar =
        listening(without_brokers(&["serve"]).env("SIDECAR_STREAMS_PER_CONNECTION_MAX", MAX.to_string()));
    run(async {
        let full = channel(&sidecar.grpc_address());
        let mut watched = Vec::new();
        for _ in 0..MAX {
            let mut stream = watch(&full, "liveness").await;
            next(&mut stream).await;
            watched.push(stream);
        }
        let mut on_full = ProducerServiceClient::new(full);
        let mut one_more = tokio::spawn(async move { on_full.get_info(GetInfoRequest {}).await.map(drop) });
        // Other connections have their own streams.
        for _ in 0..20 {
            connect(&sidecar.grpc_address()).get_info(GetInfoRequest {}).await.unwrap();
        }
        let waited = tokio::time::timeout(Duration::from_millis(200), &mut one_more).await;
        assert!(waited.is_err(), "{waited:?} on a full connection");
        watched.pop();
        tokio::time::timeout(READY, one_more).await.expect("a stream has ended").unwrap().unwrap();
    });
}

fn packing(address: &str) -> Client {
    ProducerServiceClient::new(channel(address)).send_compressed(CompressionEncoding::Gzip)
}

fn compressed_requests_are_taken() {
    let topic = Cluster::shared().create_topic("packed", 1, &[]);
    let value = "the same again and again ".repeat(4_000);
    run(async { send(&packing(&shared_address()), text(&topic, &value)).await }).unwrap();
    assert_eq!(read_topic(Cluster::shared(), &topic)[0].value.as_deref(), Some(value.as_bytes()));
}

fn what_unpacks_beyond_the_limit_is_refused() {
    const BOMB_BYTES: usize = 64 << 20;
    let sidecar = listening(without_brokers(&["serve"]));
    let before = peak_bytes(&sidecar);
    run(async {
        let client = packing(&sidecar.grpc_address());
        // Packed it is a thousandth of that, far below every limit.
        let record = text("orders", &"0".repeat(BOMB_BYTES));
        for _ in 0..4 {
            let refusal = send(&client, record.clone()).await.unwrap_err();
            refusal.expect(Code::InvalidArgument, "RECORD_TOO_LARGE", "NO");
            assert_eq!(refusal.pushback_ms, Some(-1));
        }
        // Within the message's limit and beyond the record's: refused by its own size.
        let refusal = send(&client, text("orders", &"0".repeat(2_000_000))).await.unwrap_err();
        refusal.expect(Code::InvalidArgument, "RECORD_TOO_LARGE", "NO");
    });
    let grown = peak_bytes(&sidecar) - before;
    assert!(grown < 32 << 20, "{grown} bytes more for bombs of {BOMB_BYTES}");
}

/// The most memory that the process ever had: what was taken and given back at once counts too.
fn peak_bytes(sidecar: &Sidecar) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", sidecar.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
}

fn an_unknown_compression_is_refused() {
    run(async {
        let mut request =
            Request::new(SendRequest { record: Some(text("orders", "v")), ..SendRequest::default() });
        request.metadata_mut().insert("grpc-encoding", "br".parse().unwrap());
        let status = connect(&shared_address()).send(request).await.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented, "{:?}", Refusal::of(&status));
    });
}

fn a_deadline_shorter_than_the_margin_is_answered_in_words() {
    let sidecar = listening(without_brokers(&["serve"]).env("SIDECAR_DEADLINE_MARGIN_MS", "1000"));
    run(async {
        let client = connect(&sidecar.grpc_address());
        let begun = Instant::now();
        let deadline = Duration::from_millis(900);
        let refusal = send_within(&client, text("orders", "v"), Some(deadline)).await.unwrap_err();
        let took = begun.elapsed();
        refusal.expect(Code::DeadlineExceeded, "DEADLINE_NOT_WRITTEN", "NO");
        // Half of it at least is spent on waiting for a broker.
        assert!(took >= deadline / 2 && took < deadline, "{took:?}");
    });
}
