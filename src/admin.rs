//! Owns the admin listener: metrics and probes over HTTP.
//! Must never take a record, and never answer from Kafka: a probe must not hang with a broker.

use std::{io, sync::Arc};

use axum::{
    Router,
    extract::State,
    http::{
        HeaderMap, StatusCode,
        header::{ACCEPT, CONTENT_TYPE},
    },
    response::IntoResponse,
    routing::get,
};
use tokio::{net::TcpListener, sync::watch};

use crate::{
    lifecycle::{Lifecycle, Phase},
    pipeline::{readiness::Readiness, send::Sender},
    telemetry::metrics::{Metrics, exposition::Exposition},
};

/// What the endpoints answer from.
#[derive(Debug, Clone)]
pub struct Admin {
    /// The phase of the process.
    pub lifecycle: Lifecycle,
    /// Whether calls may be sent here.
    pub readiness: watch::Receiver<Readiness>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// The pipeline, for what it holds now.
    pub sender: Arc<Sender>,
}

/// Serves `/metrics`, `/startupz`, `/livez` and `/readyz` until told to stop.
///
/// # Errors
/// Where the listener breaks.
pub async fn serve(
    listener: TcpListener,
    admin: Admin,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/startupz", get(startupz))
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(readyz))
        .with_state(admin);
    axum::serve(listener, router).with_graceful_shutdown(stop).await
}

async fn metrics(State(admin): State<Admin>, headers: HeaderMap) -> impl IntoResponse {
    admin.metrics.outstanding(admin.sender.outstanding());
    admin.metrics.waiting(admin.sender.waiting());
    let accepted: Vec<_> = headers.get_all(ACCEPT).iter().filter_map(|accept| accept.to_str().ok()).collect();
    let exposition = Exposition::accepted(&accepted.join(","));
    match admin.metrics.render_as(exposition) {
        Ok(text) => (StatusCode::OK, [(CONTENT_TYPE, exposition.content_type())], text),
        Err(error) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            [(CONTENT_TYPE, "text/plain; charset=utf-8")],
            error.to_string(),
        ),
    }
}

async fn startupz(State(admin): State<Admin>) -> impl IntoResponse {
    match admin.lifecycle.phase() {
        Phase::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
        Phase::Serving | Phase::Draining => (StatusCode::OK, "started\n"),
    }
}

async fn readyz(State(admin): State<Admin>) -> impl IntoResponse {
    let readiness = admin.readiness.borrow().clone();
    if readiness.ready {
        (StatusCode::OK, format!("ready: {}\n", readiness.sentence))
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n", readiness.sentence))
    }
}
