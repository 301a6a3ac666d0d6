//! Owns the admin listener: metrics and probes over HTTP.
//! Must never take a record, and never answer from Kafka: a probe must not hang with a broker.

mod scrape;

use std::{io, sync::Arc, time::Duration};

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
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, sync::watch};

use self::scrape::Scrapes;
use crate::{
    config::Config,
    connections::{Attended, Greeting, Peer, Port, Rules, listener::Listener},
    lifecycle::{Lifecycle, Phase},
    pipeline::{readiness::Readiness, send::Sender},
    tasks::Tasks,
    telemetry::metrics::{Metrics, exposition::Exposition},
};

/// What a refused connection is sent.
const REFUSAL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// What the endpoints answer from.
#[derive(Debug, Clone)]
pub struct Admin {
    /// The phase of the process.
    pub lifecycle: Lifecycle,
    /// Whether calls may be sent here.
    pub readiness: watch::Receiver<Readiness>,
    /// Its connections.
    pub port: Arc<Port>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// The pipeline, for what it holds now.
    pub sender: Arc<Sender>,
}

/// What the handlers share.
#[derive(Debug, Clone)]
struct Shared {
    admin: Admin,
    scrapes: Arc<Scrapes>,
}

/// Serves `/metrics`, `/startupz`, `/livez` and `/readyz` until told to stop.
///
/// # Errors
/// None: a port goes on after whatever fails.
pub async fn serve(
    listener: TcpListener,
    admin: Admin,
    stop: impl Future<Output = ()> + Send + 'static,
    tasks: &Tasks,
) -> io::Result<()> {
    let port = Arc::clone(&admin.port);
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/startupz", get(startupz))
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(readyz))
        .with_state(Shared { admin, scrapes: Arc::default() });
    let mut builder = auto::Builder::new(TokioExecutor::new()).http1_only();
    builder.http1().timer(TokioTimer::new()).header_read_timeout(port.rules().greeting_max);
    let connect = |io, peer: &Arc<Peer>| {
        let service = Attended::new(router.clone(), Arc::clone(peer));
        builder.serve_connection(TokioIo::new(io), TowerToHyperService::new(service)).into_owned()
    };
    port.serve(Listener::Tcp(listener), connect, stop, tasks).await;
    Ok(())
}

/// Makes the admin port.
#[must_use]
pub fn port(config: &Config, metrics: &Arc<Metrics>) -> Arc<Port> {
    let settings = &config.admin;
    let rules = Rules {
        name: "admin",
        connections_max: settings.connections_max,
        setting: "admin_connections_max",
        greeting: Greeting::Request,
        greeting_max: settings.request,
        // Twice: what waits for its next request is closed after one, what does not take its answer after both.
        silence_max: settings.request * 2,
        idle_min: Duration::ZERO,
        refusal: REFUSAL.to_vec(),
    };
    Port::new(rules, Arc::clone(metrics), config.log.repeat)
}

async fn metrics(State(Shared { admin, scrapes }): State<Shared>, headers: HeaderMap) -> impl IntoResponse {
    let accepted: Vec<_> = headers.get_all(ACCEPT).iter().filter_map(|accept| accept.to_str().ok()).collect();
    let exposition = Exposition::accepted(&accepted.join(","));
    let text = scrapes
        .text(exposition, || {
            admin.metrics.outstanding(admin.sender.outstanding());
            admin.metrics.waiting(admin.sender.waiting());
            admin.metrics.render_as(exposition)
        })
        .await;
    match text {
        Ok(text) => (StatusCode::OK, [(CONTENT_TYPE, exposition.content_type())], text),
        Err(error) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            [(CONTENT_TYPE, "text/plain; charset=utf-8")],
            error.to_string().into(),
        ),
    }
}

async fn startupz(State(Shared { admin, .. }): State<Shared>) -> impl IntoResponse {
    match admin.lifecycle.phase() {
        Phase::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
        Phase::Serving | Phase::Draining => (StatusCode::OK, "started\n"),
    }
}

async fn readyz(State(Shared { admin, .. }): State<Shared>) -> impl IntoResponse {
    let readiness = admin.readiness.borrow().clone();
    if readiness.ready {
        (StatusCode::OK, format!("ready: {}\n", readiness.sentence))
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n", readiness.sentence))
    }
}
