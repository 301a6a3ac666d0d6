//! What a proxy is told to do, what it has done, and the chances it draws.

use std::collections::HashMap;
use std::time::Duration;

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
    /// Responses that came when their client had been hung up on.
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

/// How responses to one type of request are lost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Swallow {
    pub(super) probability: f64,
    pub(super) then_reset: bool,
}

/// Everything a test can ask for.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    pub(super) mode: Mode,
    pub(super) delay_requests: Duration,
    pub(super) delay_responses: Duration,
    /// By type: how many more requests to hold, or all.
    pub(super) holds: HashMap<i16, Option<u32>>,
    pub(super) swallows: HashMap<i16, Swallow>,
    /// Grows with each release; a held request waits for it to.
    pub(super) releases: u64,
    /// Grows when all connections are to end; each connection knows the one it was made in.
    pub(super) generation: u64,
    pub(super) ending: Ending,
    /// Grows when the clients of all connections are to be hung up on; what they sent goes on.
    pub(super) hang_ups: u64,
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

    /// Takes one of the holds that are asked for, if there is one for this type.
    fn take_hold(&mut self, api_key: i16) -> bool {
        match self.holds.get_mut(&api_key) {
            None | Some(Some(0)) => false,
            Some(None) => true,
            Some(Some(left)) => {
                *left -= 1;
                true
            }
        }
    }
}

/// What a proxy's connections and its handle share.
#[derive(Debug)]
pub(super) struct Shared {
    rules: watch::Sender<Rules>,
    counts: Mutex<HashMap<i16, Counts>>,
    chance: Mutex<StdRng>,
}

impl Shared {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            rules: watch::Sender::new(Rules::default()),
            counts: Mutex::default(),
            chance: Mutex::new(StdRng::seed_from_u64(seed)),
        }
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

    pub(super) fn counts(&self, api_key: i16) -> Counts {
        self.counts.lock().get(&api_key).copied().unwrap_or_default()
    }

    pub(super) fn count(&self, api_key: i16, change: impl FnOnce(&mut Counts)) {
        change(self.counts.lock().entry(api_key).or_default());
    }

    /// Whether this request is to be held, and if so the release count that it has to see exceeded.
    pub(super) fn take_hold(&self, api_key: i16) -> Option<u64> {
        let mut hold = None;
        self.rules.send_if_modified(|rules| {
            if rules.take_hold(api_key) {
                hold = Some(rules.releases);
            }
            // Nobody waits for a hold to be taken.
            false
        });
        hold
    }

    /// Whether this response is to be lost, and how.
    pub(super) fn draw_swallow(&self, api_key: i16) -> Option<Swallow> {
        let swallow = *self.rules.borrow().swallows.get(&api_key)?;
        self.chance.lock().random_bool(swallow.probability).then_some(swallow)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counted_hold_runs_out_and_a_plain_one_does_not() {
        let shared = Shared::new(0);
        shared.change(|rules| {
            rules.holds.insert(26, Some(1));
            rules.holds.insert(0, None);
        });
        assert_eq!(shared.take_hold(26), Some(0));
        assert_eq!(shared.take_hold(26), None);
        assert!((0..3).all(|_| shared.take_hold(0).is_some()));
        assert_eq!(shared.take_hold(3), None);
        shared.change(Rules::let_go);
        assert_eq!(shared.take_hold(0), None);
    }

    #[test]
    fn the_same_seed_draws_the_same_losses() {
        let draw = |seed| {
            let shared = Shared::new(seed);
            let swallow = Swallow { probability: 0.5, then_reset: false };
            shared.change(|rules| rules.swallows.insert(0, swallow));
            (0..64).map(|_| shared.draw_swallow(0).is_some()).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }
}
