//! A proxy between clients and one broker that breaks connections as networks and brokers do.
//!
//! It knows where Kafka's requests and responses begin and end, of what type they are and how their client calls itself; it
//! reads no further and changes no byte. Left alone it passes everything on. Controls act at once, also on open connections, and may be
//! called from any thread. Chances are drawn from a seed, so a run can be repeated.
//!
//! It never loses part of a stream silently: a connection on which something was swallowed for good is closed rather than
//! continued. What a client sent before it went away still reaches the broker, as it does in a real network.

mod aimed;
mod api_key;
mod frame;
mod link;
mod rules;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

use self::link::Link;
use self::rules::{Aim, Ending, Mode, Rules, Shared, Swallow};
use crate::eventually::eventually;

pub use self::aimed::ClientFaults;
pub use self::api_key::ApiKey;
pub use self::rules::Counts;

/// One proxy, in front of one broker's listener, for as long as the value lives.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

impl FaultProxy {
    /// Starts a proxy for the broker at `upstream` on a port of its own of 127.0.0.1.
    ///
    /// # Errors
    ///
    /// When no port can be had.
    pub fn start(upstream: SocketAddr, seed: u64) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::new(seed));
        let runtime = runtime();
        let listener = {
            let _entered = runtime.enter();
            TcpListener::from_std(listener)?
        };
        let accepting = runtime.spawn(accept(listener, upstream, Arc::clone(&shared)));
        Ok(Self { address, shared, accepting })
    }

    /// Where clients connect; what the broker advertises.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes back every fault. Requests that are held go on; connections that a black hole swallowed from are closed.
    pub fn pass(&self) {
        self.shared.change(Rules::pass);
    }

    /// Lets every request arrive at the broker this much later, in order.
    pub fn delay_requests(&self, delay: Duration) {
        self.shared.change(|rules| rules.delay_requests = delay);
    }

    /// Lets every response arrive at the client this much later, in order.
    pub fn delay_responses(&self, delay: Duration) {
        self.shared.change(|rules| rules.delay_responses = delay);
    }

    /// Closes all connections, and every new one at once, until [`FaultProxy::pass`].
    pub fn cut(&self) {
        self.shared.change(|rules| {
            rules.mode = Mode::Cut;
            rules.end_connections(Ending::Close);
        });
    }

    /// Resets (RST) all connections of this moment; new ones are served.
    pub fn reset(&self) {
        self.shared.change(|rules| rules.end_connections(Ending::Reset));
    }

    /// Keeps connections open, takes new ones, and passes nothing on in either direction until [`FaultProxy::pass`].
    pub fn black_hole(&self) {
        self.shared.change(|rules| rules.mode = Mode::BlackHole);
    }

    /// Holds back every request of a type, and what follows it on its connection, until [`FaultProxy::release`].
    pub fn hold(&self, key: ApiKey) {
        self.shared.change(|rules| rules.holds.insert(Aim::anybody(key.wire())));
    }

    /// Ends all holds; held requests go on to the broker, also those whose client has gone away meanwhile.
    pub fn release(&self) {
        self.shared.change(Rules::let_go);
    }

    /// Loses responses to requests of a type, each with this chance (0 to 1). The broker has carried the request out.
    /// With `then_reset` the connection is reset where the response would have come, else it stays and the client waits.
    pub fn swallow_responses(&self, key: ApiKey, probability: f64, then_reset: bool) {
        let swallow = Swallow { probability: probability.clamp(0.0, 1.0), then_reset, left: None };
        self.shared.change(|rules| rules.swallows.insert(Aim::anybody(key.wire()), swallow));
    }

    /// Draws chances from this seed from now on.
    pub fn seed(&self, seed: u64) {
        self.shared.seed(seed);
    }

    /// What was done to requests of a type since the start.
    pub fn counts(&self, key: ApiKey) -> Counts {
        self.shared.counts(&Aim::anybody(key.wire()))
    }

    /// Begins to count [`Counts::unanswered_max`] anew.
    pub fn forget_unanswered_max(&self, key: ApiKey) {
        self.shared.forget_unanswered_max(Aim::anybody(key.wire()));
    }

    /// How many requests of a type are held back now.
    pub fn holding(&self, key: ApiKey) -> u64 {
        self.counts(key).holding
    }

    /// Waits until a request of a type is held back.
    ///
    /// # Panics
    ///
    /// When none is after `bound`.
    #[track_caller]
    pub fn wait_held(&self, key: ApiKey, bound: Duration) {
        eventually(bound, &format!("a held {key:?}"), || (self.holding(key) > 0).then_some(()));
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

/// The proxies' own runtime: a test that blocks its runtime must not hold up the network.
fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("fault-proxy")
            .enable_all()
            .build()
            .expect("a runtime can be built")
    })
}

async fn accept(listener: TcpListener, upstream: SocketAddr, shared: Arc<Shared>) {
    loop {
        let Ok((client, _)) = listener.accept().await else {
            // Out of file descriptors, most likely: the next one may find some again.
            tokio::task::yield_now().await;
            continue;
        };
        let link = Link::new(Arc::clone(&shared));
        tokio::spawn(link.run(client, upstream));
    }
}
