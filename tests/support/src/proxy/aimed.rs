//! Faults for one client alone, at all of a cluster's proxies: many clients can be broken at once, each in its own way.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::rules::{Aim, Rules, Swallow};
use super::{ApiKey, Counts, FaultProxy};
use crate::eventually::eventually;

/// What can be done to the client that calls itself so (`client.id`). Faults stay when this is dropped.
#[derive(Clone, Debug)]
pub struct ClientFaults<'a> {
    proxies: Vec<&'a FaultProxy>,
    client: Arc<str>,
}

impl<'a> ClientFaults<'a> {
    pub(crate) fn new(proxies: impl Iterator<Item = &'a FaultProxy>, client: &str) -> Self {
        Self { proxies: proxies.collect(), client: client.into() }
    }

    /// The same at one proxy alone.
    #[must_use]
    pub fn at(&self, proxy: &'a FaultProxy) -> Self {
        Self { proxies: vec![proxy], client: Arc::clone(&self.client) }
    }

    /// Holds back the client's requests of a type, each with what follows it on its connection, until
    /// [`ClientFaults::release`].
    pub fn hold(&self, key: ApiKey) {
        let aim = self.aim(key);
        self.change(|rules| rules.holds.insert(aim.clone()));
    }

    /// Lets later requests of a type pass; those that are held stay so.
    pub fn hold_no_more(&self, key: ApiKey) {
        let aim = self.aim(key);
        self.change(|rules| rules.holds.remove(&aim));
    }

    /// Ends the client's holds of a type; what is held goes on to the broker, also where the client has gone away.
    pub fn release(&self, key: ApiKey) {
        let aim = self.aim(key);
        self.change(|rules| rules.let_go_of(aim.clone()));
    }

    /// Waits until a request of a type is held back.
    ///
    /// # Panics
    ///
    /// When none is after `bound`.
    #[track_caller]
    pub fn wait_held(&self, key: ApiKey, bound: Duration) {
        let what = format!("a held {key:?} of {}", self.client);
        eventually(bound, &what, || (self.sum(key, |counts| counts.holding) > 0).then_some(()));
    }

    /// Closes the client's connections of this moment towards it; what it had sent, held requests too, still goes on to the
    /// brokers, as in a network that lost the client alone. New connections are served.
    pub fn hang_up(&self) {
        self.change(|rules| *rules.hang_ups_on.entry(Arc::clone(&self.client)).or_default() += 1);
    }

    /// Loses the response to the client's next request of a type, of each broker; those carry the request out. See
    /// [`FaultProxy::swallow_responses`].
    pub fn swallow_next(&self, key: ApiKey, then_reset: bool) {
        let swallow = Swallow { probability: 1.0, then_reset, left: Some(1) };
        self.change(|rules| rules.swallows.insert(self.aim(key), swallow));
    }

    /// Loses all responses to the client's requests of a type, as a broker that does not answer them and goes on with the others.
    pub fn swallow(&self, key: ApiKey) {
        let swallow = Swallow { probability: 1.0, then_reset: false, left: None };
        self.change(|rules| rules.swallows.insert(self.aim(key), swallow));
    }

    /// Loses no more responses of a type on purpose.
    pub fn swallow_no_more(&self, key: ApiKey) {
        self.change(|rules| rules.swallows.remove(&self.aim(key)));
    }

    /// Notes from now on when the client's requests of a type come.
    pub fn note_arrivals(&self, key: ApiKey) {
        for proxy in &self.proxies {
            proxy.shared.note_arrivals(self.aim(key));
        }
    }

    /// When they came, from [`ClientFaults::note_arrivals`] on.
    pub fn arrivals(&self, key: ApiKey) -> Vec<Instant> {
        let of = |proxy: &&FaultProxy| proxy.shared.arrivals(&self.aim(key));
        let mut arrivals: Vec<_> = self.proxies.iter().flat_map(of).collect();
        arrivals.sort();
        arrivals
    }

    /// How many of the client's responses of a type were lost on purpose.
    pub fn swallowed(&self, key: ApiKey) -> u64 {
        self.sum(key, |counts| counts.responses_swallowed)
    }

    /// How many of the client's requests of a type were answered when it had gone away.
    pub fn answered_late(&self, key: ApiKey) -> u64 {
        self.sum(key, |counts| counts.answered_late)
    }

    fn aim(&self, key: ApiKey) -> Aim {
        Aim { api_key: key.wire(), client: Some(Arc::clone(&self.client)) }
    }

    fn change<T>(&self, change: impl Fn(&mut Rules) -> T) {
        for proxy in &self.proxies {
            proxy.shared.change(&change);
        }
    }

    fn sum(&self, key: ApiKey, of: impl Fn(&Counts) -> u64) -> u64 {
        let aim = self.aim(key);
        self.proxies.iter().map(|proxy| of(&proxy.shared.counts(&aim))).sum()
    }
}
