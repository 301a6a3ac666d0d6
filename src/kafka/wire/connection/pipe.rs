//! Owns the requests that are on their way on one socket: written in order, answered in order, each within its time.
//! Must never say of a request that nothing of it was written unless the kernel has taken none of its bytes.
//!
//! ```text
//! send --> waiting --(first byte)--> being written --(last byte)--> written --(response)--> gone
//!             \------------------------- the socket ends -----------------/
//!              Unanswered, not written  | Unanswered, perhaps written
//! ```

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::ApiKey;
use tokio::time::{Instant, Sleep, sleep};

use super::{
    frame::{FrameReader, RESPONSE_BYTES_MAX_AT_FIRST},
    socket::Socket,
};
use crate::kafka::wire::{
    error::{ConnectionStage, WireError},
    message::{CorrelationId, RequestBuffer, Response},
};

/// The largest buffer that is kept for the next request.
const SPARE_BYTES_MAX: usize = 2 << 20;

/// What happened on the socket.
#[derive(Debug)]
pub(super) enum PipeEvent {
    /// The last byte of a request was handed to the kernel.
    Written(CorrelationId),
    /// A response came.
    Response(Response),
}

/// A request without a response at the end of its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unanswered {
    /// The number that it was sent under.
    pub id: CorrelationId,
    /// The API that it asked.
    pub api: ApiKey,
    /// Whether a byte of it may have left; if none has, the broker surely does not know of it.
    pub is_written: bool,
}

/// The requests on one socket.
#[derive(Debug)]
pub(super) struct Pipe {
    socket: Socket,
    /// What is under way, for the errors.
    pub(super) stage: ConnectionStage,
    /// The requests that are not wholly written: the last of those in flight.
    waiting: VecDeque<BytesMut>,
    /// The bytes of the first one that are written.
    written_bytes: usize,
    in_flight: VecDeque<InFlight>,
    pub(super) reader: FrameReader,
    /// Why no more can be written; what has come before is read first.
    broken: Option<WireError>,
    next_id: i32,
    /// Due when the oldest request is, or earlier.
    timer: Pin<Box<Sleep>>,
    request_timeout: Duration,
    spare: BytesMut,
}

#[derive(Debug)]
struct InFlight {
    id: CorrelationId,
    api: ApiKey,
    version: i16,
    sent_at: Instant,
    /// How many bytes the kernel had taken before it was offered the first of these.
    offered_at: Option<u64>,
}

impl Pipe {
    pub(super) fn new(socket: Socket, request_timeout: Duration) -> Self {
        Self {
            stage: ConnectionStage::Versions { is_tls: socket.is_tls() },
            socket,
            waiting: VecDeque::new(),
            written_bytes: 0,
            in_flight: VecDeque::new(),
            reader: FrameReader::new(RESPONSE_BYTES_MAX_AT_FIRST),
            broken: None,
            next_id: 0,
            timer: Box::pin(sleep(request_timeout)),
            request_timeout,
            spare: BytesMut::new(),
        }
    }

    /// Returns an empty buffer, that of a former request if there is one.
    pub(super) fn buffer(&mut self) -> BytesMut {
        std::mem::take(&mut self.spare)
    }

    /// Gives out the number of a request that will be sent.
    pub(super) const fn next_id(&mut self) -> CorrelationId {
        let id = CorrelationId(self.next_id);
        self.next_id = self.next_id.wrapping_add(1) & i32::MAX;
        id
    }

    /// Puts a request behind the others; it is written as [`Pipe::poll_next`] is called.
    pub(super) fn send(&mut self, id: CorrelationId, request: RequestBuffer) -> Result<(), WireError> {
        let (api, version) = (request.api(), request.version());
        self.waiting.push_back(request.finish(id)?);
        self.in_flight.push_back(InFlight { id, api, version, sent_at: Instant::now(), offered_at: None });
        Ok(())
    }

    /// Sends a request and waits for its response; for the beginning, when there is no other.
    pub(super) async fn call(&mut self, request: RequestBuffer) -> Result<Response, WireError> {
        let id = self.next_id();
        self.send(id, request)?;
        loop {
            match std::future::poll_fn(|context| self.poll_next(context)).await? {
                PipeEvent::Written(_) => {}
                PipeEvent::Response(response) => return Ok(response),
            }
        }
    }

    /// Returns how many requests are not wholly written.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Returns how many requests have no response yet.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Writes, reads and watches the time until something has happened.
    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<PipeEvent, WireError>> {
        loop {
            if self.broken.is_none() {
                match self.poll_write(context) {
                    Poll::Ready(Ok(id)) => return Poll::Ready(Ok(PipeEvent::Written(id))),
                    Poll::Ready(Err(error)) => self.broken = Some(error),
                    Poll::Pending => {}
                }
            }
            if let Some((id, body)) = self.reader.next()? {
                return Poll::Ready(self.answered(id, body).map(PipeEvent::Response));
            }
            match self.socket.poll_read(context, self.reader.room()) {
                Poll::Ready(Ok(0)) => {
                    return Poll::Ready(Err(self.ended(WireError::end_of_stream(self.stage))));
                }
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => {
                    return Poll::Ready(Err(self.ended(WireError::of_stream(error, self.stage))));
                }
                Poll::Pending => {
                    if let Some(error) = self.broken.take() {
                        return Poll::Ready(Err(error));
                    }
                    ready!(self.poll_timeout(context));
                    return Poll::Ready(Err(WireError::Timeout(self.stage)));
                }
            }
        }
    }

    /// Returns what had no response, in the order in which it was sent.
    pub(super) fn into_unanswered(self) -> Vec<Unanswered> {
        let bytes_out = self.socket.bytes_out();
        let unanswered = self.in_flight.into_iter().map(|request| {
            let InFlight { id, api, offered_at, .. } = request;
            Unanswered { id, api, is_written: offered_at.is_some_and(|offered_at| bytes_out > offered_at) }
        });
        unanswered.collect()
    }

    /// Writes the first of those that wait to its end.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<Result<CorrelationId, WireError>> {
        let place = self.in_flight.len() - self.waiting.len();
        let (Some(frame), Some(request)) = (self.waiting.front(), self.in_flight.get_mut(place)) else {
            return Poll::Pending;
        };
        request.offered_at.get_or_insert(self.socket.bytes_out());
        let id = request.id;
        while self.written_bytes < frame.len() {
            match ready!(self.socket.poll_write(context, &frame[self.written_bytes..])) {
                Ok(0) => {
                    let error = io::Error::from(io::ErrorKind::WriteZero);
                    return Poll::Ready(Err(WireError::of_stream(error, self.stage)));
                }
                Ok(bytes) => self.written_bytes += bytes,
                Err(error) => return Poll::Ready(Err(WireError::of_stream(error, self.stage))),
            }
        }
        self.written_bytes = 0;
        if let Some(mut buffer) = self.waiting.pop_front()
            && buffer.capacity() <= SPARE_BYTES_MAX
        {
            buffer.clear();
            self.spare = buffer;
        }
        Poll::Ready(Ok(id))
    }

    /// Finds the request of a response: a broker answers in order, and nothing that it was not asked.
    fn answered(&mut self, answered: i32, bytes: Bytes) -> Result<Response, WireError> {
        let is_asked = self.in_flight.len() > self.waiting.len();
        let Some(oldest) = self.in_flight.front().filter(|_| is_asked) else {
            return Err(WireError::Protocol("the broker answers what it was not asked".to_owned()));
        };
        let InFlight { id, api, version, .. } = *oldest;
        if id.0 != answered {
            let due = id.0;
            return Err(WireError::Protocol(format!(
                "the broker answers request {answered} where {due} is due"
            )));
        }
        self.in_flight.pop_front();
        Ok(Response { id, api, version, bytes })
    }

    /// Chooses between the reasons for an end: what TLS says counts before a write that found no reader.
    fn ended(&mut self, read: WireError) -> WireError {
        match (read, self.broken.take()) {
            (tls @ WireError::Tls(_), _) => tls,
            (read, broken) => broken.unwrap_or(read),
        }
    }

    /// Ends when the oldest request has waited for too long.
    fn poll_timeout(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            let Some(oldest) = self.in_flight.front() else { return Poll::Pending };
            let due = oldest.sent_at + self.request_timeout;
            // Set for a former request: it may only be early.
            ready!(self.timer.as_mut().poll(context));
            if Instant::now() >= due {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(due);
        }
    }
}
