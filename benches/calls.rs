//! Owns Send as benchmarks drive it: callers with one record on its way each.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use producer_sidecar::grpc::proto::{SendRequest, producer_service_client::ProducerServiceClient};
use tokio::time::Instant;
use tonic::transport::Channel;

use super::workload::record;

/// Returns the records a second of so many callers; `send` takes a key.
pub async fn rate<F: Future<Output = ()> + Send>(
    callers: usize,
    time: Duration,
    send: impl Fn(String) -> F + Clone + Send + 'static,
) -> f64 {
    let stop = Arc::new(AtomicBool::new(false));
    let sent = Arc::new(AtomicU64::new(0));
    let begun = Instant::now();
    let tasks: Vec<_> = (0..callers)
        .map(|caller| {
            let (send, stop, sent) = (send.clone(), Arc::clone(&stop), Arc::clone(&sent));
            tokio::spawn(async move {
                let mut number = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    send(format!("{caller}-{number}")).await;
                    number += 1;
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    tokio::time::sleep(time).await;
    let rate = sent.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.expect("a caller ends");
    }
    rate
}

/// Sends the record of all benchmarks, over gRPC.
pub async fn send(mut client: ProducerServiceClient<Channel>, topic: &str, key: &str) {
    let request = SendRequest { record: Some(record(topic, key)), ..SendRequest::default() };
    client.send(request).await.expect("every record is taken");
}

/// Connects to a server, with its first call.
pub fn client(address: &str) -> ProducerServiceClient<Channel> {
    let endpoint = Channel::from_shared(format!("http://{address}")).expect("the address is one");
    ProducerServiceClient::new(endpoint.connect_lazy())
}
