//! Owns a call to Send made of bare bytes, so that nothing on the way mends what is wrong with them.

use std::{future::poll_fn, pin::pin};

use axum::body::HttpBody as _;
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use producer_sidecar::grpc::proto::SendResponse;
use prost::Message as _;
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};
use tower::{Service as _, ServiceExt as _};

/// A flag and four bytes of length stand before each message.
const PREFIX_BYTES: usize = 5;

/// The body of a request, and what it says of its compression.
#[derive(Debug, Clone)]
pub struct Framed {
    pub body: Bytes,
    pub encoding: Option<&'static str>,
}

impl Framed {
    /// Frames one message as gRPC does.
    pub fn message(message: &[u8]) -> Self {
        let length = u32::try_from(message.len()).unwrap();
        Self { body: frame(0, length, message), encoding: None }
    }
}

/// Makes a frame that may lie about itself.
pub fn frame(flag: u8, length: u32, message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(PREFIX_BYTES + message.len());
    frame.put_u8(flag);
    frame.put_u32(length);
    frame.extend_from_slice(message);
    frame.freeze()
}

pub fn connect(address: &str) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy()
}

/// Calls Send and returns the topic of the receipt, or the status.
pub async fn call(mut channel: Channel, framed: Framed) -> Result<String, Status> {
    let mut request = http::Request::post("/caas.producer.v1.ProducerService/Send")
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    if let Some(encoding) = framed.encoding {
        request = request.header("grpc-encoding", encoding);
    }
    let request = request.body(tonic::body::Body::new(axum::body::Body::from(framed.body))).unwrap();
    let lost = |error: &dyn std::error::Error| Status::unknown(format!("no answer: {error}"));
    let channel = channel.ready().await.map_err(|error| lost(&error))?;
    let response = channel.call(request).await.map_err(|error| lost(&error))?;
    if let Some(status) = Status::from_header_map(response.headers()) {
        return Err(status);
    }
    let mut body = pin!(response.into_body());
    let (mut message, mut status) = (BytesMut::new(), None);
    while let Some(frame) = poll_fn(|context| body.as_mut().poll_frame(context)).await {
        match frame?.into_data() {
            Ok(data) => message.extend_from_slice(&data),
            Err(frame) => status = frame.trailers_ref().and_then(Status::from_header_map),
        }
    }
    match status {
        Some(status) if status.code() == tonic::Code::Ok => {}
        Some(status) => return Err(status),
        None => return Err(Status::unknown("no status")),
    }
    message.advance(PREFIX_BYTES);
    let answer = SendResponse::decode(message).map_err(|error| Status::unknown(error.to_string()))?;
    Ok(answer.receipt.ok_or_else(|| Status::unknown("no receipt"))?.topic)
}
