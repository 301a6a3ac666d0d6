//! Owns one connection as its port sees it: its bytes, its requests, and whether it has to leave.
//! Must never hold a lock: it is written with every read from the socket.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Notify,
    time::Instant,
};

use super::{Greeting, caller::Caller, listener::Stream, room::Standing};

const STAYS: u8 = 0;
const MAKES_ROOM: u8 = 1;
const STOPPING: u8 = 2;

/// Why a connection is asked to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaving {
    /// A newcomer needs its place.
    MakesRoom,
    /// The sidecar stops.
    Stopping,
}

/// A connection.
#[derive(Debug)]
pub struct Peer {
    number: u64,
    opened: Instant,
    /// How many bytes were read.
    received: AtomicU64,
    /// When bytes were read last, in milliseconds since `opened`.
    heard_ms: AtomicU64,
    /// How many requests began.
    begun: AtomicU64,
    /// How many requests are in progress.
    requests: AtomicUsize,
    /// When a request began or ended last, in milliseconds since `opened`.
    active_ms: AtomicU64,
    /// How many of the calls that all connections share this one holds.
    calls: AtomicUsize,
    /// How many of the streams.
    streams: AtomicUsize,
    leaves: AtomicU8,
    asked: Notify,
}

/// A request in progress, until dropped.
#[derive(Debug)]
pub(super) struct InProgress(Arc<Peer>);

/// A connection's stream, which notes what is heard.
#[derive(Debug)]
pub struct Io {
    stream: Stream,
    peer: Arc<Peer>,
}

// === impl Peer ===

impl Peer {
    /// Makes the connection of that number, which begins now.
    #[must_use]
    pub fn new(number: u64) -> Self {
        Self {
            number,
            opened: Instant::now(),
            received: AtomicU64::new(0),
            heard_ms: AtomicU64::new(0),
            begun: AtomicU64::new(0),
            requests: AtomicUsize::new(0),
            active_ms: AtomicU64::new(0),
            calls: AtomicUsize::new(0),
            streams: AtomicUsize::new(0),
            leaves: AtomicU8::new(STAYS),
            asked: Notify::new(),
        }
    }

    /// Returns its number, which no other connection of this process has.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// Returns who asks on it.
    #[must_use]
    pub const fn caller(&self) -> Caller {
        Caller::new(self.number)
    }

    /// Returns the count of the calls that the connection holds; kept by `grpc/admission.rs`.
    #[must_use]
    pub const fn calls(&self) -> &AtomicUsize {
        &self.calls
    }

    /// Returns the count of the streams that the connection holds; kept by `grpc/admission.rs`.
    #[must_use]
    pub const fn streams(&self) -> &AtomicUsize {
        &self.streams
    }

    pub(super) const fn opened(&self) -> Instant {
        self.opened
    }

    /// Returns when something was heard of the peer last.
    pub(super) fn heard(&self) -> Instant {
        self.opened + Duration::from_millis(self.heard_ms.load(Ordering::Relaxed))
    }

    pub(super) fn has_greeted(&self, greeting: Greeting) -> bool {
        match greeting {
            Greeting::Bytes(bytes) => self.received.load(Ordering::Relaxed) >= bytes,
            Greeting::Request => self.begun.load(Ordering::Relaxed) > 0,
        }
    }

    pub(super) fn standing(&self, greeting: Greeting, now: Instant) -> Standing {
        let active = self.opened + Duration::from_millis(self.active_ms.load(Ordering::Relaxed));
        Standing {
            number: self.number,
            has_greeted: self.has_greeted(greeting),
            requests: self.requests.load(Ordering::Acquire),
            idle: now.saturating_duration_since(active),
        }
    }

    /// Begins a request.
    pub(super) fn begin(self: &Arc<Self>) -> InProgress {
        self.requests.fetch_add(1, Ordering::AcqRel);
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.active_ms.store(self.age_ms(), Ordering::Relaxed);
        InProgress(Arc::clone(self))
    }

    /// Asks the connection to leave; only the first time counts.
    pub(super) fn ask_to_leave(&self, leaving: Leaving) {
        let leaves = match leaving {
            Leaving::MakesRoom => MAKES_ROOM,
            Leaving::Stopping => STOPPING,
        };
        if self.leaves.compare_exchange(STAYS, leaves, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            self.asked.notify_one();
        }
    }

    /// Waits until the connection is asked to leave; one task at a time.
    pub(super) async fn asked_to_leave(&self) -> Leaving {
        loop {
            match self.leaves.load(Ordering::Acquire) {
                STAYS => self.asked.notified().await,
                MAKES_ROOM => return Leaving::MakesRoom,
                _ => return Leaving::Stopping,
            }
        }
    }

    fn heard_now(&self, bytes: usize) {
        self.received.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.heard_ms.store(self.age_ms(), Ordering::Relaxed);
    }

    fn age_ms(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        self.0.active_ms.store(self.0.age_ms(), Ordering::Relaxed);
        self.0.requests.fetch_sub(1, Ordering::AcqRel);
    }
}

// === impl Io ===

impl Io {
    pub(super) const fn new(stream: Stream, peer: Arc<Peer>) -> Self {
        Self { stream, peer }
    }
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let bytes = buffer.filled().len().saturating_sub(before);
        if bytes > 0 {
            self.peer.heard_now(bytes);
        }
        read
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_idle_from_the_end_of_its_last_request() {
        let opened = Instant::now() - Duration::from_secs(60);
        let peer = Arc::new(Peer { opened, ..Peer::new(1) });
        let standing = || peer.standing(Greeting::Request, Instant::now());
        assert!(!standing().has_greeted && standing().idle >= Duration::from_secs(60));
        let requests = (peer.begin(), peer.begin());
        assert_eq!((standing().has_greeted, standing().requests), (true, 2));
        drop(requests);
        assert_eq!(standing().requests, 0);
        assert!(standing().idle < Duration::from_secs(50));
        assert!(!peer.has_greeted(Greeting::Bytes(24)));
        peer.heard_now(24);
        assert!(peer.has_greeted(Greeting::Bytes(24)) && peer.heard() > opened + Duration::from_secs(50));
    }

    #[tokio::test]
    async fn the_first_request_to_leave_counts_whenever_it_came() {
        let peer = Peer::new(1);
        peer.ask_to_leave(Leaving::MakesRoom);
        peer.ask_to_leave(Leaving::Stopping);
        assert_eq!(peer.asked_to_leave().await, Leaving::MakesRoom);
        assert_eq!(peer.asked_to_leave().await, Leaving::MakesRoom);
    }
}
