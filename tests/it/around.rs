//! What stands around Send: health, reflection, metrics and probes, where it listens, what it limits, and how many may come.
//!
//! Tests of `outage` and `crowd` break the cluster's proxies or fill the machine; they run alone.

pub mod contract;
pub mod crowd;
pub mod health;
pub mod limits;
pub mod listening;
pub mod logs;
pub mod metrics;
pub mod outage;

use std::time::Duration;

use testkit::{Sidecar, SidecarBuilder, eventually};
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
    health_client::HealthClient,
};

use crate::client::READY;

/// The service by its full name.
const SERVICE: &str = "caas.producer.v1.ProducerService";

/// Starts a sidecar and waits until it listens, whether or not Kafka is there.
fn listening(builder: SidecarBuilder) -> Sidecar {
    let sidecar = builder.start();
    eventually(READY, "the sidecar listens", || {
        sidecar.try_http_get("/startupz").ok().filter(|(status, _)| *status == 200)
    });
    sidecar
}

/// Starts a sidecar and waits until it is ready.
fn ready(builder: SidecarBuilder) -> Sidecar {
    let sidecar = builder.start();
    sidecar.wait_ready(READY);
    sidecar
}

/// Makes a channel of its own, which is one connection.
pub fn channel(address: &str) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy()
}

/// Returns the value of a metric's line, such as `name` or `name{label="x"}`; none where there is no such line.
pub fn metric(sidecar: &Sidecar, line: &str) -> Option<u64> {
    let metrics = sidecar.http_get("/metrics").1;
    let value = metrics.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(' '))?;
    Some(value.parse().unwrap())
}

/// Waits until a metric has a value.
#[track_caller]
pub fn wait_metric(sidecar: &Sidecar, line: &str, value: u64, bound: Duration) {
    eventually(bound, &format!("{line} {value}"), || (metric(sidecar, line) == Some(value)).then_some(()));
}

/// What `grpc.health.v1` says of a name; the error's code where it says nothing.
async fn check(channel: &Channel, name: &str) -> Result<ServingStatus, Code> {
    let request = HealthCheckRequest { service: name.to_owned() };
    let answer = HealthClient::new(channel.clone()).check(request).await;
    answer.map(|answer| answer.into_inner().status()).map_err(|status| status.code())
}

/// Begins to watch a name; the first message is its status now.
pub async fn watch(channel: &Channel, name: &str) -> tonic::Streaming<HealthCheckResponse> {
    let request = HealthCheckRequest { service: name.to_owned() };
    HealthClient::new(channel.clone()).watch(request).await.unwrap().into_inner()
}

/// The next status of a watched name, within a bound.
pub async fn next(watched: &mut tonic::Streaming<HealthCheckResponse>) -> ServingStatus {
    let next = tokio::time::timeout(READY, watched.message()).await;
    next.expect("a status within the bound").unwrap().expect("the stream goes on").status()
}
