//! Owns the way of a call to its method, and of the answer back: what `ProducerServiceServer` would do, with our own reading of
//! the request (`messages.rs`).
//! Must never decode a message, nor answer one.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Extensions, HeaderMap, HeaderValue, Request, Response, header::CONTENT_TYPE};
use tokio::time::Instant;
use tokio_stream::Stream;
use tonic::{
    Status,
    body::Body,
    codec::{BufferSettings, EncodeBody, SingleMessageCompressionOverride},
    metadata::MetadataMap,
    server::NamedService,
};
use tonic_prost::ProstEncoder;
use tower::Service;

use super::{
    Service as Producer,
    memory::Owner,
    messages::{Messages, Reading},
    proto::producer_service_server::SERVICE_NAME,
    status,
};
use crate::connections::Peer;

/// What an answer is written into at first, in bytes; each open stream has one of these.
const ANSWER_BUFFER_BYTES: usize = 512;
/// From how many bytes on answers are handed to the connection, though more could follow.
const ANSWERS_BYTES_MAX: usize = 32 * 1024;

/// The methods of the contract as a service.
#[derive(Debug, Clone)]
pub struct Methods(Arc<Producer>);

/// A call whose messages are still to be read.
#[derive(Debug)]
pub(super) struct Incoming {
    pub metadata: MetadataMap,
    pub extensions: Extensions,
    /// When its headers arrived: its deadline counts from then.
    pub arrived: Instant,
    body: Body,
    is_gzip: bool,
}

type Answering = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

// === impl Methods ===

impl Methods {
    /// Serves the methods of a service.
    #[must_use]
    pub fn new(service: Producer) -> Self {
        Self(Arc::new(service))
    }
}

impl NamedService for Methods {
    const NAME: &'static str = SERVICE_NAME;
}

impl Service<Request<Body>> for Methods {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answering;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Answering {
        let service = Arc::clone(&self.0);
        let (incoming, method) = match Incoming::new(request) {
            Ok(incoming) => incoming,
            Err(status) => return Box::pin(std::future::ready(Ok(status.into_http()))),
        };
        match method {
            Method::Send => Box::pin(async move { Ok(one(service.send(incoming).await)) }),
            Method::SendBatch => Box::pin(async move { Ok(answer(service.send_batch(incoming))) }),
            Method::ProcessAndForward => {
                Box::pin(async move { Ok(one(service.process_and_forward(incoming).await)) })
            }
            Method::GetInfo => Box::pin(async move { Ok(one(service.get_info(incoming).await)) }),
        }
    }
}

enum Method {
    Send,
    SendBatch,
    ProcessAndForward,
    GetInfo,
}

impl Method {
    fn of(path: &str) -> Option<Self> {
        let (service, method) = path.strip_prefix('/')?.split_once('/')?;
        match method {
            _ if service != SERVICE_NAME => None,
            "Send" => Some(Self::Send),
            "SendBatch" => Some(Self::SendBatch),
            "ProcessAndForward" => Some(Self::ProcessAndForward),
            "GetInfo" => Some(Self::GetInfo),
            _ => None,
        }
    }
}

// === impl Incoming ===

impl Incoming {
    fn new(request: Request<Body>) -> Result<(Self, Method), Status> {
        let arrived = Instant::now();
        let (parts, body) = request.into_parts();
        let method = Method::of(parts.uri.path()).ok_or_else(|| status::unimplemented(parts.uri.path()))?;
        let is_gzip = is_gzip(&parts.headers)?;
        let metadata = MetadataMap::from_headers(parts.headers);
        Ok((Self { metadata, extensions: parts.extensions, arrived, body, is_gzip }, method))
    }

    /// Returns the number of the connection that the call came on, if it is known.
    pub fn connection(&self) -> Option<u64> {
        self.extensions.get::<Arc<Peer>>().map(|peer| peer.number())
    }

    /// Begins to read the messages.
    pub fn messages(self, reading: Reading, owner: Owner) -> Messages {
        Messages::new(self.body, self.is_gzip, reading, owner)
    }
}

/// Returns whether messages may be packed; refuses what cannot be unpacked.
fn is_gzip(headers: &HeaderMap) -> Result<bool, Status> {
    match headers.get("grpc-encoding").map(HeaderValue::as_bytes) {
        None | Some(b"identity") => Ok(false),
        Some(b"gzip") => Ok(true),
        Some(other) => Err(status::unknown_encoding(&String::from_utf8_lossy(other))),
    }
}

fn one<M: prost::Message + 'static>(answered: Result<M, Status>) -> Response<Body> {
    answer(answered.map(|message| tokio_stream::once(Ok(message))))
}

fn answer<M: prost::Message + 'static>(
    answers: Result<impl Stream<Item = Result<M, Status>> + Send + 'static, Status>,
) -> Response<Body> {
    let answers = match answers {
        Ok(answers) => answers,
        Err(status) => return status.into_http(),
    };
    let encoder = ProstEncoder::new(BufferSettings::new(ANSWER_BUFFER_BYTES, ANSWERS_BYTES_MAX));
    let packed = SingleMessageCompressionOverride::default();
    let mut response = Response::new(Body::new(EncodeBody::new_server(encoder, answers, None, packed, None)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_known_by_their_paths() {
        let path = |method: &str| format!("/{SERVICE_NAME}/{method}");
        assert!(matches!(Method::of(&path("SendBatch")), Some(Method::SendBatch)));
        for unknown in ["", "/", "/Send", &path("send"), &path("Send/"), "/other/Send"] {
            assert!(Method::of(unknown).is_none(), "{unknown}");
        }
    }
}
