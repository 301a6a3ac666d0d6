//! Owns the gRPC server: its services, its limits, its start and its end.
//! Must never end a call that is in progress before the drain's deadline.

use std::sync::Arc;

use tokio::sync::watch;
use tonic::{codec::CompressionEncoding, transport::Server};
use tonic_health::server::health_reporter;
use tonic_reflection::server::Builder;

pub use tonic::service::Routes;

use super::{
    Service, calls::TellCalls, connection::Listener, health, proto,
    proto::producer_service_server::ProducerServiceServer, refusal::Mapped,
};
use crate::{config::Limits, pipeline::readiness::Readiness, tasks::Tasks};

/// What a message may have beside its records: field numbers, lengths, the names of its parts. In bytes.
const MESSAGE_OVERHEAD_BYTES: usize = 65_536;
/// How many streams that the caller reset may wait to be noticed before the connection is closed (h2's guard against rapid
/// resets). Callers that cancel many calls at once are honest here: one process beside us.
const RESET_STREAMS_PENDING_MAX: usize = 4_096;

/// The server could not be made, or broke.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The reflection service refuses the descriptors; a bug.
    #[error("the descriptors cannot be served by reflection")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The server broke.
    #[error("the gRPC server ended")]
    Transport(#[from] tonic::transport::Error),
}

/// Makes the routes: the service, health, and reflection where it is wanted.
///
/// # Errors
/// Where reflection refuses the descriptors.
pub async fn routes(
    service: Service,
    limits: &Limits,
    reflection: bool,
    readiness: watch::Receiver<Readiness>,
    tasks: &Tasks,
) -> Result<Routes, ServerError> {
    let message_bytes_max = limits.record_bytes_max.max(limits.frame_bytes_max) + MESSAGE_OVERHEAD_BYTES;
    let producer = ProducerServiceServer::from_arc(Arc::new(service))
        .max_decoding_message_size(message_bytes_max)
        .accept_compressed(CompressionEncoding::Gzip);
    let (reporter, health_service) = health_reporter();
    // tonic starts the whole server as serving; nothing is, until Kafka has been reached.
    reporter.set_service_status("", tonic_health::ServingStatus::NotServing).await;
    tasks.spawn_vital("health", health::follow(reporter, readiness));
    let mut routes = Routes::builder();
    routes.add_service(Mapped::new(producer)).add_service(health_service);
    if reflection {
        routes.add_service(descriptors().build_v1()?).add_service(descriptors().build_v1alpha()?);
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

/// Serves until told to stop; then takes no more connections and returns when the open ones have ended their calls.
///
/// # Errors
/// Where the server breaks.
pub async fn serve(
    listener: Listener,
    routes: Routes,
    limits: &Limits,
    calls: TellCalls,
    stop: impl Future<Output = ()>,
    tasks: &Tasks,
) -> Result<(), ServerError> {
    let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    let connections = listener.connections(limits.connections_max, tasks);
    Server::builder()
        .max_concurrent_streams(Some(number(limits.streams_per_connection_max)))
        .initial_stream_window_size(Some(number(limits.stream_window_bytes)))
        .initial_connection_window_size(Some(number(limits.connection_window_bytes)))
        .http2_max_header_list_size(Some(number(limits.header_list_bytes_max)))
        .http2_max_pending_accept_reset_streams(Some(RESET_STREAMS_PENDING_MAX))
        .layer(calls)
        .add_routes(routes)
        .serve_with_incoming_shutdown(connections, stop)
        .await?;
    Ok(())
}
