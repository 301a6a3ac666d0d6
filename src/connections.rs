//! Owns the connections of a port: how many there may be, who leaves when there are too many, and how each of them ends.
//! Must never wait for a peer without a bound: what a peer has to do next has its time.
//!
//! A port serves each connection on a task of its own:
//!
//! ```text
//! accepted --full, nobody can leave--> refused
//!    |
//! greeting --not complete in time--> closed (no_handshake)
//!    |
//!  open ----nothing heard in time--> closed (silent)
//!    |  \---newcomers need room----> asked to leave, closed (made_room)
//!    |   \--the sidecar stops------> asked to leave, closed (stopping)
//! ended by the peer, or broken
//! ```

mod attended;
pub mod caller;
pub mod listener;
mod peer;
mod room;

use std::{
    collections::HashMap,
    io::Write as _,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use hyper_util::server::graceful::GracefulConnection;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::task::TaskTracker;

pub use self::{
    attended::Attended,
    peer::{Io, Peer},
};
use self::{
    listener::{Listener, Stream},
    peer::Leaving,
    room::who_leaves,
};
use crate::{
    tasks::Tasks,
    telemetry::{
        metrics::{Closed, Metrics, Refused},
        repeats::Repeats,
    },
};

/// How long accepting rests after it failed, in milliseconds: mostly because there is no file descriptor left.
const ACCEPT_REST_MS: u64 = 50;
/// How long a connection that was asked to leave may take for it, in milliseconds: its calls are over already.
const LEAVE_MS_MAX: u64 = 1_000;
/// The most connections that are asked to leave at once; beyond it they are closed without a word.
pub const LEAVING_MAX: usize = 64;

/// When a peer has shown that it speaks the port's protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Greeting {
    /// With so many bytes.
    Bytes(u64),
    /// With its first complete request.
    Request,
}

/// What a port allows.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The port's name, in metrics and log lines.
    pub name: &'static str,
    /// The most connections.
    pub connections_max: usize,
    /// The setting of `connections_max`.
    pub setting: &'static str,
    /// What a peer has to send first.
    pub greeting: Greeting,
    /// How long it may take for that.
    pub greeting_max: Duration,
    /// How long nothing may be heard of a peer.
    pub silence_max: Duration,
    /// For how long a connection must have had no request before it leaves for a newcomer.
    pub idle_min: Duration,
    /// What a refused newcomer is sent.
    pub refusal: Vec<u8>,
}

/// A port and its open connections.
#[derive(Debug)]
pub struct Port {
    rules: Rules,
    metrics: Arc<Metrics>,
    repeats: Mutex<Repeats<Refused>>,
    /// The connections that count against the bound, by their numbers.
    open: Mutex<HashMap<u64, Arc<Peer>>>,
    /// How many have been asked to leave and have not left yet.
    leaving: AtomicUsize,
}

/// The numbers of connections, of all ports together; 0 is none.
static NUMBERS: AtomicU64 = AtomicU64::new(1);

impl Port {
    /// Makes a port without connections; lines about refused ones are written at most once a period each.
    #[must_use]
    pub fn new(rules: Rules, metrics: Arc<Metrics>, log_period: Duration) -> Arc<Self> {
        metrics.connections().begin(rules.name);
        Arc::new(Self {
            rules,
            metrics,
            repeats: Mutex::new(Repeats::new(log_period)),
            open: Mutex::default(),
            leaving: AtomicUsize::new(0),
        })
    }

    /// Returns what the port allows.
    #[must_use]
    pub const fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Serves connections until `stop` resolves; then accepts no more and returns when those that are open have ended their requests.
    pub async fn serve<C>(
        self: Arc<Self>,
        listener: Listener,
        connect: impl Fn(Io, &Arc<Peer>) -> C,
        stop: impl Future<Output = ()>,
        tasks: &Tasks,
    ) where
        C: GracefulConnection + Send + 'static,
        C::Error: Send,
    {
        let mut stop = pin!(stop);
        let attended = TaskTracker::new();
        loop {
            let stream = tokio::select! {
                biased;
                () = &mut stop => break,
                stream = self.accept(&listener) => stream,
            };
            if let Some((io, peer)) = self.admit(stream) {
                let connection = connect(io, &peer);
                let attending = Arc::clone(&self).attend(peer, connection);
                tasks.spawn("connection", attended.track_future(attending));
            }
        }
        drop(listener);
        for peer in self.open.lock().values() {
            peer.ask_to_leave(Leaving::Stopping);
        }
        attended.close();
        attended.wait().await;
    }

    /// Waits for the next connection; goes on after failures.
    async fn accept(&self, listener: &Listener) -> Stream {
        loop {
            match listener.accept().await {
                Ok(stream) => return stream,
                Err(error) => {
                    let name = self.rules.name;
                    if let Some(repeated) = self.refused(Refused::AcceptFailed) {
                        tracing::warn!(
                            port = name,
                            repeated,
                            %error,
                            "a connection could not be accepted; callers wait until it can be. \
                             Compare `process_open_fds` with `process_max_fds`"
                        );
                    }
                    sleep(Duration::from_millis(ACCEPT_REST_MS)).await;
                }
            }
        }
    }

    /// Takes a connection in, or refuses it if the port is full and no connection can leave for it.
    fn admit(&self, stream: Stream) -> Option<(Io, Arc<Peer>)> {
        let mut open = self.open.lock();
        if open.len() >= self.rules.connections_max {
            let now = Instant::now();
            let standings = open.values().map(|peer| peer.standing(self.rules.greeting, now));
            match who_leaves(standings.collect(), self.rules.idle_min) {
                Some(number) => {
                    if let Some(peer) = open.remove(&number) {
                        peer.ask_to_leave(Leaving::MakesRoom);
                    }
                }
                None => {
                    drop(open);
                    self.refuse(stream);
                    return None;
                }
            }
        }
        let peer = Arc::new(Peer::new(NUMBERS.fetch_add(1, Ordering::Relaxed)));
        open.insert(peer.number(), Arc::clone(&peer));
        self.metrics.connections().open(self.rules.name, open.len());
        Some((Io::new(stream, Arc::clone(&peer)), peer))
    }

    fn refuse(&self, stream: Stream) {
        let Rules { name, connections_max, setting, .. } = self.rules;
        if let Some(repeated) = self.refused(Refused::Full) {
            tracing::warn!(
                port = name,
                repeated,
                "a connection was refused: {connections_max} are open and none of them is idle. \
                 Raise `{setting}`, or have callers share connections"
            );
        }
        // The socket's buffer is empty, and what does not fit is not worth a wait.
        let told = match stream {
            Stream::Left(stream) => {
                stream.into_std().and_then(|mut stream| stream.write(&self.rules.refusal))
            }
            Stream::Right(stream) => {
                stream.into_std().and_then(|mut stream| stream.write(&self.rules.refusal))
            }
        };
        if let Err(error) = told {
            tracing::debug!(port = name, %error, "a refused connection was closed without a word");
        }
    }

    /// Counts a refusal; returns how many like it were not logged before, if this one is to be.
    fn refused(&self, why: Refused) -> Option<u64> {
        self.metrics.connections().refused(self.rules.name, why);
        self.repeats.lock().one(why, std::time::Instant::now())
    }

    /// Serves a connection to its end.
    async fn attend<C: GracefulConnection>(self: Arc<Self>, peer: Arc<Peer>, connection: C) {
        let registered = Registered { port: &self, number: peer.number() };
        let closed = self.until_closed(&peer, connection).await;
        drop(registered);
        self.metrics.connections().closed(self.rules.name, closed);
        tracing::debug!(port = self.rules.name, reason = closed.name(), "a connection ended");
    }

    async fn until_closed<C: GracefulConnection>(&self, peer: &Peer, connection: C) -> Closed {
        let mut connection = pin!(connection);
        let mut look = pin!(sleep_until(self.overdue_at(peer)));
        loop {
            tokio::select! {
                biased;
                ended = connection.as_mut() => {
                    return match ended {
                        Ok(()) => Closed::Ended,
                        Err(_) if !peer.has_greeted(self.rules.greeting) => Closed::NoHandshake,
                        Err(_) => Closed::Broken,
                    };
                }
                leaving = peer.asked_to_leave() => return self.leave(peer, leaving, connection).await,
                () = &mut look => {
                    let at = self.overdue_at(peer);
                    if Instant::now() < at {
                        look.as_mut().reset(at);
                    } else if peer.has_greeted(self.rules.greeting) {
                        return Closed::Silent;
                    } else {
                        return Closed::NoHandshake;
                    }
                }
            }
        }
    }

    /// Returns when the peer has to have done what it owes by now.
    fn overdue_at(&self, peer: &Peer) -> Instant {
        if peer.has_greeted(self.rules.greeting) {
            peer.heard() + self.rules.silence_max
        } else {
            peer.opened() + self.rules.greeting_max
        }
    }

    /// Ends a connection that was asked to leave: after a word to the peer if it knows the protocol.
    async fn leave<C: GracefulConnection>(
        &self,
        peer: &Peer,
        leaving: Leaving,
        mut connection: std::pin::Pin<&mut C>,
    ) -> Closed {
        let closed = match leaving {
            Leaving::MakesRoom => Closed::MadeRoom,
            Leaving::Stopping => Closed::Stopping,
        };
        match leaving {
            // Who has not begun has nothing to end.
            Leaving::MakesRoom | Leaving::Stopping if !peer.has_greeted(self.rules.greeting) => {}
            Leaving::Stopping => {
                connection.as_mut().graceful_shutdown();
                drop(connection.await);
            }
            Leaving::MakesRoom => {
                if self.leaving.fetch_add(1, Ordering::AcqRel) < LEAVING_MAX {
                    connection.as_mut().graceful_shutdown();
                    drop(tokio::time::timeout(Duration::from_millis(LEAVE_MS_MAX), connection).await);
                }
                self.leaving.fetch_sub(1, Ordering::AcqRel);
            }
        }
        closed
    }
}

/// Takes a connection's place back, also if its task panics.
struct Registered<'a> {
    port: &'a Port,
    number: u64,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        let mut open = self.port.open.lock();
        open.remove(&self.number);
        self.port.metrics.connections().open(self.port.rules.name, open.len());
    }
}
