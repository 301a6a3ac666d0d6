//! Owns the reading of a call's messages: gRPC's frames out of the request's body, unpacked, within the memory of all requests.
//! Must never hold bytes of a message that the budget did not grant before, nor wait without a bound for one that has begun.
//!
//! tonic's own reader keeps what has arrived of every call, whatever their number, and unpacks before anybody counts.

use std::{future::poll_fn, io::Read as _, pin::Pin, sync::Arc, time::Duration};

use bytes::{Buf as _, Bytes};
use flate2::read::GzDecoder;
use http_body::Body as _;
use tokio::time::{Instant, timeout_at};
use tonic::body::Body;

use super::memory::{Memory, Owner, Permit, TooManyWait};
use crate::failure::{Failure, Reason};

/// A flag and four bytes of length stand before each message.
const PREFIX_BYTES: usize = 5;
/// How gzip begins, and the least that it has: header and trailer (RFC 1952).
const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];
const GZIP_BYTES_MIN: usize = 18;
/// What unpacking takes beside what it yields, in bytes: its window and its tables.
const UNPACKING_BYTES: usize = 48 * 1024;
/// How much is unpacked before other tasks get their turn, in bytes.
const UNPACKED_AT_ONCE_BYTES: u64 = 64 * 1024;

/// What bounds the reading of all calls.
#[derive(Debug, Clone)]
pub struct Reading {
    /// The bytes that requests may take.
    pub memory: Arc<Memory>,
    /// The largest message, also once it is unpacked.
    pub message_bytes_max: usize,
    /// How long a message may take from its first byte until it is whole; waiting for memory does not count.
    pub body_max: Duration,
    /// How long a message may wait for memory.
    pub memory_wait_max: Duration,
}

/// The messages of one call.
#[derive(Debug)]
pub struct Messages {
    body: Body,
    is_gzip: bool,
    /// What has arrived and belongs to no message yet.
    rest: Bytes,
    has_ended: bool,
    reading: Reading,
    owner: Owner,
    /// When the call itself must have been answered, where that bounds its reading.
    deadline: Option<Instant>,
}

/// A whole message, and the memory that it takes until it is dropped.
#[derive(Debug)]
pub struct Message {
    bytes: Vec<u8>,
    _permit: Permit,
}

// === impl Messages ===

impl Messages {
    /// Begins to read a body.
    #[must_use]
    pub fn new(body: Body, is_gzip: bool, reading: Reading, owner: Owner) -> Self {
        Self { body, is_gzip, rest: Bytes::new(), has_ended: false, reading, owner, deadline: None }
    }

    /// Reads the next message; `None` where the caller has no more. Waits for its first byte without a bound.
    ///
    /// # Errors
    /// What is wrong with it, or that there was no memory or no end of it in time; nothing of it is written then.
    pub async fn next(&mut self) -> Result<Option<Message>, Failure> {
        if !self.has_more().await? {
            return Ok(None);
        }
        let by = Instant::now() + self.reading.body_max;
        Ok(Some(self.message(by).await?.0))
    }

    /// Reads the only message of a call that arrived then, at most until its deadline.
    ///
    /// # Errors
    /// As of [`Self::next`], and where there is none or more than one.
    pub async fn only(mut self, arrived: Instant, deadline: Instant) -> Result<Message, Failure> {
        self.deadline = Some(deadline);
        let by = arrived + self.reading.body_max;
        if !self.within(by, Self::has_more).await? {
            return Err(invalid("the call ended without a request"));
        }
        let (message, by) = self.message(by).await?;
        let is_over = self.rest.is_empty() && self.body.is_end_stream();
        if !is_over && self.within(by, Self::has_more).await? {
            return Err(invalid("the call has more than one request, or a part of another"));
        }
        Ok(message)
    }

    /// Reads a message whose first byte is there; returns by when what follows has to be there too.
    async fn message(&mut self, by: Instant) -> Result<(Message, Instant), Failure> {
        let mut prefix = [0; PREFIX_BYTES];
        self.within(by, async |messages: &mut Self| messages.fill(&mut prefix).await).await?;
        let [flag, length @ ..] = prefix;
        let is_packed = self.is_packed(flag)?;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        let limit = self.reading.message_bytes_max;
        if length > limit {
            let sentence =
                format!("the request is too large: found {length} bytes, the limit is: {limit} bytes");
            return Err(Failure::new(Reason::RecordTooLarge, sentence));
        }
        let before = Instant::now();
        let (permit, mut gives_way) =
            granted(&self.reading, self.deadline, self.reading.memory.body(self.owner, length)).await?;
        // The caller was held back by us meanwhile.
        let by = by + before.elapsed();
        let mut bytes = Vec::with_capacity(length);
        let reading = self.within(by, async |messages: &mut Self| {
            while bytes.len() < length {
                messages.must_have_more().await?;
                let more = messages.rest.len().min(length - bytes.len());
                bytes.extend_from_slice(&messages.rest[..more]);
                messages.rest.advance(more);
            }
            Ok(())
        });
        tokio::select! {
            biased;
            read = reading => read?,
            () = gives_way.asked() => return Err(gave_way()),
        }
        drop(gives_way);
        let message = Message { bytes, _permit: permit };
        if !is_packed {
            return Ok((message, by));
        }
        Ok((unpacked(&self.reading, (self.owner, self.deadline), &message).await?, by))
    }

    fn is_packed(&self, flag: u8) -> Result<bool, Failure> {
        match flag {
            0 => Ok(false),
            1 if self.is_gzip => Ok(true),
            _ => Err(invalid("the request's compression flag does not fit its grpc-encoding")),
        }
    }

    async fn fill(&mut self, prefix: &mut [u8; PREFIX_BYTES]) -> Result<(), Failure> {
        let mut missing = &mut prefix[..];
        while !missing.is_empty() {
            self.must_have_more().await?;
            let more = self.rest.len().min(missing.len());
            let (now, later) = missing.split_at_mut(more);
            self.rest.copy_to_slice(now);
            missing = later;
        }
        Ok(())
    }

    async fn must_have_more(&mut self) -> Result<(), Failure> {
        if self.has_more().await? {
            Ok(())
        } else {
            Err(invalid("the call ended in the middle of a request"))
        }
    }

    /// Waits until something has arrived; false where nothing will.
    async fn has_more(&mut self) -> Result<bool, Failure> {
        while self.rest.is_empty() && !self.has_ended {
            // What was read is not kept alive by its empty rest.
            self.rest = Bytes::new();
            match poll_fn(|context| Pin::new(&mut self.body).poll_frame(context)).await {
                None => self.has_ended = true,
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(_trailers) => self.has_ended = true,
                },
                Some(Err(_)) => {
                    self.has_ended = true;
                    return Err(Failure::new(Reason::CancelledByCaller, "the caller went away"));
                }
            }
        }
        Ok(!self.rest.is_empty())
    }

    async fn within<T>(
        &mut self,
        by: Instant,
        reading: impl AsyncFnOnce(&mut Self) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let (body_max, deadline) = (self.reading.body_max, self.deadline);
        // One timer for both: most calls need none.
        match timeout_at(deadline.map_or(by, |deadline| deadline.min(by)), reading(self)).await {
            Ok(read) => read,
            Err(_) if deadline.is_some_and(|deadline| deadline < by) => {
                Err(late("the deadline passed before the request was whole"))
            }
            Err(_) => Err(late(format!("the request was not whole after {} ms", body_max.as_millis()))),
        }
    }
}

/// Unpacks a message. Its last four bytes say how large it will be; what is larger is refused.
async fn unpacked(
    reading: &Reading,
    (owner, deadline): (Owner, Option<Instant>),
    packed: &Message,
) -> Result<Message, Failure> {
    let cannot = || invalid("the request cannot be decompressed");
    let is_gzip = packed.bytes.starts_with(GZIP_MAGIC) && packed.bytes.len() >= GZIP_BYTES_MIN;
    let trailer = packed.bytes.last_chunk().filter(|_| is_gzip);
    let size = usize::try_from(u32::from_le_bytes(*trailer.ok_or_else(cannot)?)).map_err(|_| cannot())?;
    if size > reading.message_bytes_max {
        let sentence = "the request is too large once it is decompressed";
        return Err(Failure::new(Reason::RecordTooLarge, sentence));
    }
    let mut permit =
        granted(reading, deadline, reading.memory.unpacked(owner, size + UNPACKING_BYTES)).await?;
    let mut bytes = Vec::with_capacity(size);
    let bound = u64::try_from(size).unwrap_or(u64::MAX).saturating_add(1);
    let mut decoder = GzDecoder::new(&packed.bytes[..]).take(bound);
    loop {
        let step = decoder.by_ref().take(UNPACKED_AT_ONCE_BYTES).read_to_end(&mut bytes);
        if step.map_err(|_| cannot())? == 0 {
            break;
        }
        // Others get their turn: to unpack a large message takes milliseconds.
        tokio::task::yield_now().await;
    }
    if bytes.len() != size {
        return Err(cannot());
    }
    permit.shrink_to(size);
    Ok(Message { bytes, _permit: permit })
}

/// Waits for memory, at most until the deadline.
pub(super) async fn granted<T>(
    reading: &Reading,
    deadline: Option<Instant>,
    asked: impl Future<Output = Result<T, TooManyWait>>,
) -> Result<T, Failure> {
    let by = Instant::now() + reading.memory_wait_max;
    let is_callers = deadline.is_some_and(|deadline| deadline < by);
    match timeout_at(deadline.map_or(by, |deadline| deadline.min(by)), asked).await {
        Ok(Ok(granted)) => Ok(granted),
        Ok(Err(TooManyWait)) => Err(full("too many requests wait for memory already")),
        Err(_) if is_callers => Err(late("the deadline passed before there was memory for the request")),
        Err(_) => Err(full("there was no memory for the request in time")),
    }
}

fn gave_way() -> Failure {
    full("the request did not become whole, and gave way to others that waited for its memory")
}

fn late(sentence: impl Into<String>) -> Failure {
    Failure::new(Reason::DeadlineNotWritten, sentence)
}

fn invalid(sentence: &str) -> Failure {
    Failure::new(Reason::InvalidRecord, sentence)
}

fn full(sentence: &str) -> Failure {
    Failure::new(Reason::QueueFull, sentence)
}

// === impl Message ===

impl Message {
    /// Returns how many bytes it has.
    #[must_use]
    pub fn length(&self) -> usize {
        self.bytes.len()
    }

    /// Returns the bytes, which give their memory back once nothing of them is in use any more.
    #[must_use]
    pub fn shared(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Message {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests;
