//! Owns what `grpc.health.v1` says: the service's readiness, the connection to Kafka, and that the process lives.
//! Must never decide readiness; that is `pipeline::readiness`.

use tokio::sync::watch;
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::pipeline::readiness::Readiness;

/// The whole server, and the service by its full name.
const READINESS_NAMES: [&str; 2] = ["", "caas.producer.v1.ProducerService"];
/// Follows the connection to Kafka.
const KAFKA: &str = "kafka";
/// Serves for as long as the process does.
const LIVENESS: &str = "liveness";

/// Tells each change of readiness for as long as the process runs. Everything begins as not serving, save liveness.
pub async fn follow(reporter: HealthReporter, mut readiness: watch::Receiver<Readiness>) {
    reporter.set_service_status(LIVENESS, ServingStatus::Serving).await;
    let mut told: Option<Readiness> = None;
    loop {
        let now = readiness.borrow_and_update().clone();
        let before = told.replace(now.clone());
        // The reporter passes on what is set again, and whoever watches a name is to hear of its changes alone.
        if before.as_ref().is_none_or(|before| before.ready != now.ready) {
            for name in READINESS_NAMES {
                reporter.set_service_status(name, serving(now.ready)).await;
            }
        }
        if before.is_none_or(|before| before.connected != now.connected) {
            reporter.set_service_status(KAFKA, serving(now.connected)).await;
        }
        if readiness.changed().await.is_err() {
            return;
        }
    }
}

const fn serving(yes: bool) -> ServingStatus {
    if yes { ServingStatus::Serving } else { ServingStatus::NotServing }
}
