//! What a proxy is told to do, what it has done, and the chances it draws.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::watch;

/// What was done to the requests of one type since the proxy's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests that came from clients, whatever happened to them then.
    pub requests: u64,
    /// Requests that were held back at some time.
    pub held: u64,
    /// Requests that are held back now.
    pub holding: u64,
    /// Responses that were lost on purpose.
    pub responses_swallowed: u64,
    /// Responses that came when their client had gone away or been hung up on.
    pub answered_late: u64,
    /// The most requests that were on one connection's way at once, sent to the broker and not answered, since
    /// [`FaultProxy::forget_unanswered_max`](super::FaultProxy::forget_unanswered_max).
    pub unanswered_max: u64,
}

/// What happens to connections as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Mode {
    #[default]
    Pass,
    Cut,
    BlackHole,
}

/// How a connection is ended towards the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Ending {
    #[default]
    Close,
    Reset,
}

/// Whose requests a rule or a count is about, and of which type.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Aim {
    pub(super) api_key: i16,
    /// The client's name for itself (`client.id`); none for every client.
    pub(super) client: Option<Arc<str>>,
}

impl Aim {
    pub(super) fn anybody(api_key: i16) -> Self {
        Self { api_key, client: None }
    }

    /// The aims that a client's request meets, the narrower first.
    fn of(api_key: i16, client: Option<&Arc<str>>) -> impl Iterator<Item = Self> {
        let own = client.map(|client| Self { api_key, client: Some(Arc::clone(client)) });
        own.into_iter().chain([Self::anybody(api_key)])
    }
}

/// How responses to one type of request are lost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Swallow {
    pub(super) probability: f64,
    pub(super) then_reset: bool,
    /// How many more; none for all.
    pub(super) left: Option<u32>,
}

/// What a held request waits for: more releases than there were when it was held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    aim: Aim,
    of_all: u64,
    of_aim: u64,
}

/// Everything a test can ask for.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    pub(super) mode: Mode,
    pub(super) delay_requests: Duration,
    pub(super) delay_responses: Duration,
    pub(super) holds: HashSet<Aim>,
    pub(super) swallows: HashMap<Aim, Swallow>,
    /// Grows when all holds end.
    releases: u64,
    /// Grow when the holds of one aim end.
    releases_of: HashMap<Aim, u64>,
    /// Grows when all connections are to end; each connection knows the one it was made in.
    pub(super) generation: u64,
    pub(super) ending: Ending,
    /// Grows when the clients of all connections are to be hung up on; what they sent goes on.
    pub(super) hang_ups: u64,
    /// Grow when one client is to be hung up on.
    pub(super) hang_ups_on: HashMap<Arc<str>, u64>,
}

impl Rules {
    pub(super) fn end_connections(&mut self, ending: Ending) {
        self.generation += 1;
        self.ending = ending;
    }

    pub(super) fn let_go(&mut self) {
        self.holds.clear();
        self.releases += 1;
    }

    pub(super) fn let_go_of(&mut self, aim: Aim) {
        self.holds.remove(&aim);
        *self.releases_of.entry(aim).or_default() += 1;
    }

    /// Takes back every fault; what grows stays, because connections compare with it.
    pub(super) fn pass(&mut self) {
        if self.mode == Mode::BlackHole {
            self.end_connections(Ending::Close);
        }
        self.let_go();
        self.mode = Mode::Pass;
        (self.delay_requests, self.delay_responses) = (Duration::ZERO, Duration::ZERO);
        self.swallows.clear();
    }

    pub(super) fn is_let_go(&self, ticket: &Ticket) -> bool {
        self.releases > ticket.of_all || self.released(&ticket.aim) > ticket.of_aim
    }

    fn released(&self, aim: &Aim) -> u64 {
        self.releases_of.get(aim).copied().unwrap_or_default()
    }

    fn take_swallow(&mut self, aim: &Aim, draw: impl FnOnce(f64) -> bool) -> Option<Swallow> {
        let swallow = self.swallows.get_mut(aim)?;
        if swallow.left == Some(0) || !draw(swallow.probability) {
            return None;
        }
        swallow.left = swallow.left.map(|left| left - 1);
        Some(*swallow)
    }
}

/// What a proxy's connections and its handle share.
#[derive(Debug)]
pub(super) struct Shared {
    rules: watch::Sender<Rules>,
    counts: Mutex<HashMap<Aim, Counts>>,
    /// When the requests of an aim came, where somebody wants to know.
    arrivals: Mutex<HashMap<Aim, Vec<Instant>>>,
    chance: Mutex<StdRng>,
}

impl Shared {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            rules: watch::Sender::new(Rules::default()),
            counts: Mutex::default(),
            arrivals: Mutex::default(),
            chance: Mutex::new(StdRng::seed_from_u64(seed)),
        }
    }

    pub(super) fn seed(&self, seed: u64) {
        *self.chance.lock() = StdRng::seed_from_u64(seed);
    }

    /// Changes the rules and wakes every connection.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Rules) -> T) {
        self.rules.send_modify(|rules| {
            change(rules);
        });
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Rules> {
        self.rules.subscribe()
    }

    pub(super) fn counts(&self, aim: &Aim) -> Counts {
        self.counts.lock().get(aim).copied().unwrap_or_default()
    }

    /// Counts for everybody, and for the client where it is known.
    pub(super) fn count(&self, api_key: i16, client: Option<&Arc<str>>, change: impl Fn(&mut Counts)) {
        let mut counts = self.counts.lock();
        Aim::of(api_key, client).for_each(|aim| change(counts.entry(aim).or_default()));
    }

    /// Notes from now on when an aim's requests come.
    pub(super) fn note_arrivals(&self, aim: Aim) {
        self.arrivals.lock().insert(aim, Vec::new());
    }

    pub(super) fn arrived(&self, api_key: i16, client: Option<&Arc<str>>) {
        let mut arrivals = self.arrivals.lock();
        for aim in Aim::of(api_key, client) {
            if let Some(of_aim) = arrivals.get_mut(&aim) {
                of_aim.push(Instant::now());
            }
        }
    }

    pub(super) fn arrivals(&self, aim: &Aim) -> Vec<Instant> {
        self.arrivals.lock().get(aim).cloned().unwrap_or_default()
    }

    pub(super) fn forget_unanswered_max(&self, aim: Aim) {
        self.counts.lock().entry(aim).or_default().unanswered_max = 0;
    }

    /// Whether this request is to be held, and if so what it waits for.
    pub(super) fn take_hold(&self, api_key: i16, client: Option<&Arc<str>>) -> Option<Ticket> {
        let rules = self.rules.borrow();
        let aim = Aim::of(api_key, client).find(|aim| rules.holds.contains(aim))?;
        let of_aim = rules.released(&aim);
        Some(Ticket { aim, of_all: rules.releases, of_aim })
    }

    /// Whether this response is to be lost, and how.
    pub(super) fn draw_swallow(&self, api_key: i16, client: Option<&Arc<str>>) -> Option<Swallow> {
        let mut taken = None;
        self.rules.send_if_modified(|rules| {
            let draw = |probability| self.chance.lock().random_bool(probability);
            taken = Aim::of(api_key, client).find_map(|aim| rules.take_swallow(&aim, draw));
            // Nobody waits for this.
            false
        });
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_ends_holds_of_its_aim_and_no_others() {
        let shared = Shared::new(0);
        let (one, two): (Arc<str>, Arc<str>) = ("one".into(), "two".into());
        let of_one = Aim { api_key: 26, client: Some(Arc::clone(&one)) };
        shared.change(|rules| rules.holds.insert(of_one.clone()));
        assert_eq!(shared.take_hold(26, Some(&two)), None);
        assert_eq!(shared.take_hold(28, Some(&one)), None);
        let held = shared.take_hold(26, Some(&one)).expect("it is aimed at");
        shared.change(|rules| rules.holds.insert(Aim::anybody(26)));
        let other = shared.take_hold(26, None).expect("everybody is aimed at");
        shared.change(|rules| rules.let_go_of(of_one));
        let rules = shared.subscribe();
        assert!(rules.borrow().is_let_go(&held) && !rules.borrow().is_let_go(&other));
        assert!(shared.take_hold(26, Some(&one)).is_some(), "everybody still is");
        shared.change(Rules::pass);
        assert!(rules.borrow().is_let_go(&other));
        assert_eq!(shared.take_hold(26, Some(&one)), None);
    }

    #[test]
    fn the_same_seed_draws_the_same_losses() {
        let draw = |seed| {
            let shared = Shared::new(seed);
            let swallow = Swallow { probability: 0.5, then_reset: false, left: None };
            shared.change(|rules| rules.swallows.insert(Aim::anybody(0), swallow));
            (0..64).map(|_| shared.draw_swallow(0, None).is_some()).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn counted_losses_run_out() {
        let shared = Shared::new(0);
        let swallow = Swallow { probability: 1.0, then_reset: true, left: Some(1) };
        shared.change(|rules| rules.swallows.insert(Aim::anybody(26), swallow));
        assert!(shared.draw_swallow(26, None).is_some());
        assert!(shared.draw_swallow(26, None).is_none());
    }
}
