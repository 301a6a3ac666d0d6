//! Calls as no client library makes them: bodies that are cut, that never end, or that unpack to many times their size.

use std::{
    io::Write as _,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{BufMut as _, Bytes, BytesMut};
use flate2::{Compression, write::GzEncoder};
use http_body::{Body as _, Frame};
use tonic::{Status, body::Body, transport::Channel};
use tower::ServiceExt as _;

/// The path of `Send`.
pub const SEND: &str = "/caas.producer.v1.ProducerService/Send";
/// The path of `SendBatch`.
pub const SEND_BATCH: &str = "/caas.producer.v1.ProducerService/SendBatch";
/// The path of `ProcessAndForward`.
pub const PROCESS_AND_FORWARD: &str = "/caas.producer.v1.ProducerService/ProcessAndForward";

/// A request body of fixed bytes, which then ends or stays open.
pub struct RawBody {
    bytes: Option<Bytes>,
    stays_open: bool,
}

impl RawBody {
    /// A body that ends after these bytes.
    pub fn whole(bytes: Bytes) -> Self {
        Self { bytes: Some(bytes), stays_open: false }
    }

    /// A body that never ends.
    pub fn open(bytes: Bytes) -> Self {
        Self { bytes: Some(bytes), stays_open: true }
    }
}

impl http_body::Body for RawBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match self.bytes.take() {
            Some(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            // Nothing wakes the connection for this body any more: that is what is wanted of it.
            None if self.stays_open => Poll::Pending,
            None => Poll::Ready(None),
        }
    }
}

/// A message as gRPC frames it.
pub fn framed(message: &[u8], is_compressed: bool) -> Bytes {
    let mut frame = BytesMut::with_capacity(message.len() + 5);
    frame.put_u8(u8::from(is_compressed));
    frame.put_u32(u32::try_from(message.len()).expect("a message of less than 4 GiB"));
    frame.put_slice(message);
    frame.freeze()
}

/// A message, compressed and framed.
pub fn compressed(message: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(message).expect("a vector takes all");
    framed(&encoder.finish().expect("a vector takes all"), true)
}

/// A length-delimited protobuf field.
pub fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    prost::encoding::encode_varint(content.len() as u64, &mut field);
    field.extend_from_slice(content);
    field
}

/// Makes a call and returns how it ended; a stream's answers are read and dropped.
pub async fn call(channel: &Channel, path: &str, body: RawBody, is_compressed: bool) -> Result<(), Status> {
    let mut request = http::Request::post(format!("http://attacked{path}"));
    request = request.header("content-type", "application/grpc").header("te", "trailers");
    if is_compressed {
        request = request.header("grpc-encoding", "gzip");
    }
    let request = request.body(Body::new(body)).expect("the request is one");
    let answer =
        channel.clone().oneshot(request).await.map_err(|error| Status::unavailable(error.to_string()))?;
    if let Some(status) = Status::from_header_map(answer.headers()) {
        return ended(status);
    }
    let mut body = Box::pin(answer.into_body());
    while let Some(frame) = std::future::poll_fn(|context| body.as_mut().poll_frame(context)).await {
        let frame = frame?;
        if let Some(status) = frame.trailers_ref().and_then(Status::from_header_map) {
            return ended(status);
        }
    }
    Err(Status::unknown("the call ended without a status"))
}

fn ended(status: Status) -> Result<(), Status> {
    if status.code() == tonic::Code::Ok { Ok(()) } else { Err(status) }
}
