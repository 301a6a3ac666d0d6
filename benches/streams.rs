//! Owns SendBatch as benchmarks drive it: streams that keep so many frames in flight, and what the sidecar makes of them.

use std::{sync::Arc, time::Duration};

use producer_sidecar::grpc::proto::{
    ProducerRecord, SendBatchRequest, producer_service_client::ProducerServiceClient, record_result,
};
use testkit::Sidecar;
use tokio::{
    sync::{Semaphore, mpsc},
    time::Instant,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

/// The most records in flight on all streams together, and the most frames on one.
const IN_FLIGHT_MAX: usize = 20_000;
const FRAMES_IN_FLIGHT_MAX: usize = 32;

/// One shape of load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Load {
    /// Records of a frame.
    pub frame: usize,
    /// Streams at once.
    pub streams: usize,
}

/// What one measurement gave.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    /// Records a second.
    pub rate: f64,
    /// Seconds of processor time a million records.
    pub cpu: f64,
}

/// Makes a record for a topic, with a key.
pub type Make = fn(&str, &str) -> ProducerRecord;

impl Load {
    /// Frames without an answer that each stream keeps.
    pub fn frames_in_flight(self) -> usize {
        (IN_FLIGHT_MAX / (self.streams * self.frame)).clamp(1, FRAMES_IN_FLIGHT_MAX)
    }
}

/// Sends records of a load for so long.
pub async fn through_sidecar(
    sidecar: &Sidecar,
    topic: &str,
    make: Make,
    load: Load,
    time: Duration,
) -> Measured {
    let endpoint =
        Channel::from_shared(format!("http://{}", sidecar.grpc_address())).expect("the address is one");
    let client = ProducerServiceClient::new(endpoint.connect().await.expect("the sidecar listens"));
    let (cpu, begun) = (cpu_seconds(sidecar.pid()), Instant::now());
    let end = begun + time;
    let streams = (0..load.streams)
        .map(|_| tokio::spawn(one_stream(client.clone(), topic.to_owned(), make, load, end)));
    let mut records = 0;
    for stream in streams.collect::<Vec<_>>() {
        records += stream.await.expect("a stream ends");
    }
    measured(records, begun.elapsed(), cpu_seconds(sidecar.pid()) - cpu)
}

async fn one_stream(
    mut client: ProducerServiceClient<Channel>,
    topic: String,
    make: Make,
    load: Load,
    end: Instant,
) -> usize {
    let (frames, outgoing) = mpsc::channel(load.frames_in_flight());
    let mut answers =
        client.send_batch(ReceiverStream::new(outgoing)).await.expect("a stream opens").into_inner();
    let room = Arc::new(Semaphore::new(load.frames_in_flight()));
    let taken = Arc::clone(&room);
    let sending = tokio::spawn(async move {
        for sequence in 0.. {
            taken.acquire().await.expect("the semaphore stays open").forget();
            if Instant::now() >= end {
                return;
            }
            let records =
                (0..load.frame).map(|place| make(&topic, &format!("key-{sequence}-{place}"))).collect();
            let frame = SendBatchRequest { sequence, records, ..SendBatchRequest::default() };
            frames.send(frame).await.expect("the stream is open");
        }
    });
    let mut records = 0;
    while let Some(answer) = answers.message().await.expect("the stream ends well") {
        room.add_permits(1);
        let good = |result: &&_| matches!(result, Some(record_result::Result::Receipt(_)));
        let receipts = answer.results.iter().map(|result| &result.result).filter(good).count();
        assert_eq!(receipts, load.frame, "every record is taken");
        records += receipts;
    }
    sending.await.expect("sending ends");
    records
}

/// Makes what a measurement gave.
pub fn measured(records: usize, took: Duration, cpu: f64) -> Measured {
    Measured { rate: records as f64 / took.as_secs_f64(), cpu: cpu * 1e6 / records as f64 }
}

/// Returns the processor time of a process, as the system counts it in hundredths of a second.
pub fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process runs");
    let after_name = stat.rsplit_once(')').expect("the name ends").1;
    let ticks: f64 =
        after_name.split_whitespace().skip(11).take(2).filter_map(|text| text.parse::<f64>().ok()).sum();
    ticks / 100.0
}

/// Returns the middle one.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
