//! One client's connection through the proxy: four stages that read and write frames in two directions.
//!
//! Between reading and writing there is a short queue per direction, so that delays do not add up; its bound keeps a
//! client that floods a held connection from growing the harness.

use std::collections::VecDeque;
use std::net::{Shutdown, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use socket2::SockRef;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::frame::{client_id, correlation_id, read_frame, request_head};
use super::rules::{Ending, Mode, Rules, Shared, Ticket};

const QUEUE_FRAMES: usize = 16;
/// How long a broker may take to answer what a client sent before it went away.
const DRAIN_BOUND: Duration = Duration::from_secs(10);

type Queue = mpsc::Sender<(Instant, Vec<u8>)>;
type Queued = mpsc::Receiver<(Instant, Vec<u8>)>;

/// One connection's part of the proxy.
pub(super) struct Link {
    shared: Arc<Shared>,
    rules: watch::Receiver<Rules>,
    generation: u64,
    hang_ups: u64,
    /// The client's name for itself and how often that had been hung up on, from its first request on.
    client: OnceLock<(Arc<str>, u64)>,
    /// Whether the client has gone away, or been hung up on.
    is_gone: AtomicBool,
    /// Requests passed on and not answered yet, in order: correlation id and type. Kafka answers a connection in order.
    unanswered: Mutex<VecDeque<(i32, i16)>>,
}

impl Link {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let rules = shared.subscribe();
        let (generation, hang_ups) = {
            let rules = rules.borrow();
            (rules.generation, rules.hang_ups)
        };
        Self {
            shared,
            rules,
            generation,
            hang_ups,
            client: OnceLock::new(),
            is_gone: AtomicBool::new(false),
            unanswered: Mutex::default(),
        }
    }

    /// Serves a client until either side closes or a rule ends it.
    pub(super) async fn run(self, mut client: TcpStream, upstream: SocketAddr) {
        let ending = tokio::select! {
            ending = self.serve(&mut client, upstream) => ending,
            ending = self.ended() => ending,
        };
        if ending == Ending::Reset {
            // Closing a socket that may not linger sends RST instead of FIN.
            drop(SockRef::from(&client).set_linger(Some(Duration::ZERO)));
        }
    }

    async fn serve(&self, client: &mut TcpStream, upstream: SocketAddr) -> Ending {
        match self.mode() {
            Mode::Pass => {}
            Mode::Cut => return Ending::Close,
            // To take the connection and never connect to the broker: the rule's end closes it.
            Mode::BlackHole => return std::future::pending().await,
        }
        let Ok(mut broker) = TcpStream::connect(upstream).await else {
            return Ending::Close;
        };
        drop(client.set_nodelay(true));
        drop(broker.set_nodelay(true));
        let (from_client, to_client) = client.split();
        let (from_broker, to_broker) = broker.split();
        let (requests, requests_queued) = mpsc::channel(QUEUE_FRAMES);
        let (responses, responses_queued) = mpsc::channel(QUEUE_FRAMES);
        let forth = async {
            let writing = self.write_requests(to_broker, requests_queued);
            let reading = async {
                self.read_requests(from_client, requests).await;
                self.is_gone.store(true, Ordering::Release);
            };
            until_written(reading, writing).await;
            // The client is gone; the broker still gets to finish what it was sent.
            drop(timeout(DRAIN_BOUND, self.answered()).await);
            Ending::Close
        };
        let back = async {
            let writing = self.write_responses(to_client, responses_queued);
            let ending = until_written(read_responses(from_broker, responses), writing).await;
            if self.mode() == Mode::BlackHole {
                // Nobody beyond a black hole sees the broker hang up.
                std::future::pending::<()>().await;
            }
            ending
        };
        tokio::select! {
            ending = forth => ending,
            ending = back => ending,
        }
    }

    fn mode(&self) -> Mode {
        self.rules.borrow().mode
    }

    /// Waits until a rule ends the connections of this one's generation.
    async fn ended(&self) -> Ending {
        let mut rules = self.rules.clone();
        match rules.wait_for(|rules| rules.generation != self.generation).await {
            Ok(rules) => rules.ending,
            Err(_) => Ending::Close,
        }
    }

    async fn answered(&self) {
        let mut tick = tokio::time::interval(Duration::from_millis(10));
        while !self.unanswered.lock().is_empty() {
            tick.tick().await;
        }
    }

    async fn read_requests(&self, mut client: ReadHalf<'_>, queue: Queue) {
        let mut rules = self.rules.clone();
        let hung_up_on = rules.wait_for(|rules| self.is_hung_up_on(rules));
        tokio::pin!(hung_up_on);
        loop {
            let frame = tokio::select! {
                frame = read_frame(&mut client) => frame,
                _ = &mut hung_up_on => {
                    drop(SockRef::from(client.as_ref()).shutdown(Shutdown::Both));
                    return;
                }
            };
            let Ok(Some(frame)) = frame else { return };
            if let Some(head) = request_head(&frame) {
                self.note_client(&frame);
                self.shared.count(head.api_key, self.client(), |counts| counts.requests += 1);
                self.shared.arrived(head.api_key, self.client());
            }
            if queue.send((Instant::now(), frame)).await.is_err() {
                return;
            }
        }
    }

    fn note_client(&self, frame: &[u8]) {
        if self.client.get().is_none()
            && let Some(name) = client_id(frame)
        {
            let hang_ups = self.rules.borrow().hang_ups_on.get(name).copied().unwrap_or_default();
            // Nobody else writes it: requests are read one after the other.
            drop(self.client.set((name.into(), hang_ups)));
        }
    }

    fn client(&self) -> Option<&Arc<str>> {
        self.client.get().map(|(name, _)| name)
    }

    fn is_hung_up_on(&self, rules: &Rules) -> bool {
        let of_client = self.client.get().is_some_and(|(name, before)| {
            rules.hang_ups_on.get(name).is_some_and(|hang_ups| hang_ups > before)
        });
        of_client || rules.hang_ups != self.hang_ups
    }

    async fn write_requests(&self, mut broker: WriteHalf<'_>, mut queued: Queued) {
        while let Some((arrived, frame)) = queued.recv().await {
            let delay = self.rules.borrow().delay_requests;
            sleep_until(arrived + delay).await;
            let Some(head) = request_head(&frame) else {
                return;
            };
            if let Some(ticket) = self.shared.take_hold(head.api_key, self.client()) {
                self.hold(head.api_key, &ticket).await;
            }
            if self.mode() == Mode::BlackHole {
                continue;
            }
            self.note_unanswered(head.correlation_id, head.api_key);
            if broker.write_all(&frame).await.is_err() {
                return;
            }
        }
    }

    fn note_unanswered(&self, correlation_id: i32, api_key: i16) {
        let of_type = {
            let mut unanswered = self.unanswered.lock();
            unanswered.push_back((correlation_id, api_key));
            unanswered.iter().filter(|(_, key)| *key == api_key).count() as u64
        };
        self.shared.count(api_key, self.client(), |counts| {
            counts.unanswered_max = counts.unanswered_max.max(of_type);
        });
    }

    async fn hold(&self, api_key: i16, ticket: &Ticket) {
        let _held = Held::new(&self.shared, api_key, self.client());
        let mut rules = self.rules.clone();
        drop(rules.wait_for(|rules| rules.is_let_go(ticket)).await);
    }

    async fn write_responses(&self, mut client: WriteHalf<'_>, mut queued: Queued) -> Ending {
        while let Some((arrived, frame)) = queued.recv().await {
            let delay = self.rules.borrow().delay_responses;
            sleep_until(arrived + delay).await;
            let api_key = correlation_id(&frame).and_then(|id| self.answer(id));
            if let Some(api_key) = api_key
                && let Some(swallow) = self.shared.draw_swallow(api_key, self.client())
            {
                self.shared.count(api_key, self.client(), |counts| counts.responses_swallowed += 1);
                if swallow.then_reset {
                    return Ending::Reset;
                }
                continue;
            }
            if let Some(api_key) = api_key
                && self.is_gone.load(Ordering::Acquire)
            {
                self.shared.count(api_key, self.client(), |counts| counts.answered_late += 1);
            }
            if self.mode() != Mode::BlackHole {
                // A client that is gone is the requests' side to notice; until then its responses are read and dropped,
                // so that the broker can finish.
                drop(client.write_all(&frame).await);
            }
        }
        Ending::Close
    }

    /// Takes the request that a response answers off the list, with those before it that want no response (`acks=0`).
    fn answer(&self, correlation_id: i32) -> Option<i16> {
        let mut unanswered = self.unanswered.lock();
        let at = unanswered.iter().position(|(id, _)| *id == correlation_id)?;
        unanswered.drain(..=at).next_back().map(|(_, api_key)| api_key)
    }
}

/// Runs a direction's two stages until the second is done: it may stop early, while the first waits for a frame that
/// never comes.
async fn until_written<T>(reading: impl Future<Output = ()>, writing: impl Future<Output = T>) -> T {
    tokio::pin!(writing);
    tokio::select! {
        written = &mut writing => written,
        () = reading => writing.await,
    }
}

async fn read_responses(mut broker: ReadHalf<'_>, queue: Queue) {
    while let Ok(Some(frame)) = read_frame(&mut broker).await {
        if queue.send((Instant::now(), frame)).await.is_err() {
            return;
        }
    }
}

/// Counts a request as held for as long as it lives, also when its connection is ended meanwhile.
struct Held<'a> {
    shared: &'a Shared,
    api_key: i16,
    client: Option<&'a Arc<str>>,
}

impl<'a> Held<'a> {
    fn new(shared: &'a Shared, api_key: i16, client: Option<&'a Arc<str>>) -> Self {
        shared.count(api_key, client, |counts| {
            counts.held += 1;
            counts.holding += 1;
        });
        Self { shared, api_key, client }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.shared.count(self.api_key, self.client, |counts| counts.holding -= 1);
    }
}
