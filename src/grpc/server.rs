//! Owns the gRPC server: its services, its limits, its start and its end.
//! Must never end a call that is in progress before the drain's deadline.

use std::{sync::Arc, time::Duration};

use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::sync::watch;
use tonic_health::server::health_reporter;
use tonic_reflection::server::Builder;
use tower::Layer as _;

pub use tonic::service::Routes;

use super::{Service, calls::TellCalls, health, methods::Methods, proto};
use crate::{
    config::Limits,
    connections::{Attended, Greeting, Peer, Port, Rules, listener::Listener},
    pipeline::readiness::Readiness,
    tasks::Tasks,
    telemetry::metrics::Metrics,
};

/// The largest message to health and reflection, in bytes: they carry names.
const NAMES_BYTES_MAX: usize = 4_096;
/// How many streams that the caller reset may wait to be noticed before the connection is closed (h2's guard against rapid
/// resets). Callers that cancel many calls at once are honest here: one process beside us.
const RESET_STREAMS_PENDING_MAX: usize = 4_096;
/// How many bytes of answers a stream may have that its caller did not take yet; counted in `config/memory.rs`.
const ANSWERS_UNSENT_BYTES_MAX: usize = 65_536;
/// With what HTTP/2 begins, in bytes (RFC 9113, 3.4).
const PREFACE_BYTES: u64 = 24;

/// The server could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The reflection service refuses the descriptors; a bug.
    #[error("the descriptors cannot be served by reflection")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// Makes the routes: the service, health, and reflection where it is wanted.
///
/// # Errors
/// Where reflection refuses the descriptors.
pub async fn routes(
    service: Service,
    reflection: bool,
    readiness: watch::Receiver<Readiness>,
    tasks: &Tasks,
) -> Result<Routes, ServerError> {
    let (reporter, health_service) = health_reporter();
    // tonic starts the whole server as serving; nothing is, until Kafka has been reached.
    reporter.set_service_status("", tonic_health::ServingStatus::NotServing).await;
    tasks.spawn_vital("health", health::follow(reporter, readiness));
    let mut routes = Routes::builder();
    routes
        .add_service(Methods::new(service))
        .add_service(health_service.max_decoding_message_size(NAMES_BYTES_MAX));
    if reflection {
        let (v1, v1alpha) = (descriptors().build_v1()?, descriptors().build_v1alpha()?);
        routes
            .add_service(v1.max_decoding_message_size(NAMES_BYTES_MAX))
            .add_service(v1alpha.max_decoding_message_size(NAMES_BYTES_MAX));
    }
    Ok(routes.routes())
}

/// Names every type that an answer can hold, the error details among them, so that grpcurl prints them.
fn descriptors() -> Builder<'static> {
    Builder::configure()
        .register_encoded_file_descriptor_set(proto::DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

/// Makes the port of the service.
#[must_use]
pub fn port(limits: &Limits, metrics: &Arc<Metrics>, log_period: Duration) -> Arc<Port> {
    let rules = Rules {
        name: "grpc",
        connections_max: limits.connections_max,
        setting: "connections_max",
        greeting: Greeting::Bytes(PREFACE_BYTES),
        greeting_max: limits.handshake,
        silence_max: limits.keepalive + limits.keepalive_timeout,
        idle_min: limits.connection_idle_min,
        refusal: refusal(),
    };
    Port::new(rules, Arc::clone(metrics), log_period)
}

/// Returns what a refused caller is sent: an empty SETTINGS frame, which is how a server begins, and GOAWAY (RFC 9113, 6.8).
fn refusal() -> Vec<u8> {
    const WORDS: &[u8] = b"the sidecar has as many connections as it may have";
    const ENHANCE_YOUR_CALM: u8 = 0x0b;
    let goaway_bytes = u8::try_from(8 + WORDS.len()).unwrap_or(u8::MAX);
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let goaway = [0, 0, goaway_bytes, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ENHANCE_YOUR_CALM];
    [settings.as_slice(), goaway.as_slice(), WORDS].concat()
}

/// Serves until told to stop; then takes no more connections and returns when the open ones have ended their calls.
///
/// # Errors
/// None: a port goes on after whatever fails.
pub async fn serve(
    (listener, port): (Listener, Arc<Port>),
    routes: Routes,
    limits: &Limits,
    calls: TellCalls,
    stop: impl Future<Output = ()>,
    tasks: &Tasks,
) -> Result<(), ServerError> {
    let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    let mut builder = auto::Builder::new(TokioExecutor::new()).http2_only();
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(number(limits.streams_per_connection_max))
        .initial_stream_window_size(number(limits.stream_window_bytes))
        .initial_connection_window_size(number(limits.connection_window_bytes))
        .max_header_list_size(number(limits.header_list_bytes_max))
        .max_pending_accept_reset_streams(RESET_STREAMS_PENDING_MAX)
        .max_send_buf_size(ANSWERS_UNSENT_BYTES_MAX)
        .keep_alive_interval(limits.keepalive)
        // The port closes a silent connection itself, and sooner: hyper would wait for its own last words to be taken.
        .keep_alive_timeout(limits.keepalive_timeout * 2);
    let service = calls.layer(routes.prepare());
    let connect = |io, peer: &Arc<Peer>| {
        let service = Attended::new(service.clone(), Arc::clone(peer));
        builder.serve_connection(TokioIo::new(io), TowerToHyperService::new(service)).into_owned()
    };
    port.serve(listener, connect, stop, tasks).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_two_frames_of_http2() {
        let bytes = refusal();
        let (settings, goaway) = bytes.split_at(9);
        assert_eq!((settings[3], &settings[..3]), (4, [0; 3].as_slice()));
        assert_eq!((goaway[3], usize::from(goaway[2])), (7, goaway.len() - 9));
        assert_eq!(goaway[9..17], [0, 0, 0, 0, 0, 0, 0, 0x0b]);
    }
}
