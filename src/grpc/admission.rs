//! Owns who may begin a call: nobody once draining has begun, and no connection beyond its share of `callers_max`.
//! Must never make anybody wait: a call that does not fit is refused at once.
//!
//! A connection may hold at most as many calls as are free (a dynamic threshold, as in `pipeline/budget.rs`): alone it gets half
//! of them, a second one half of the rest, and a newcomer always finds some.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use http::Extensions;

use crate::{
    connections::Peer,
    failure::{Failure, Reason},
    lifecycle::{Call, Lifecycle},
};

/// The bound on calls, and how many there are.
#[derive(Debug)]
pub struct Callers {
    calls_max: usize,
    calls: Arc<AtomicUsize>,
}

/// What a call holds while it is in progress.
#[derive(Debug)]
pub struct Admission {
    _call: Call,
    calls: Arc<AtomicUsize>,
    peer: Option<Arc<Peer>>,
}

impl Callers {
    /// Allows so many calls, of all connections together.
    #[must_use]
    pub fn new(calls_max: usize) -> Self {
        Self { calls_max, calls: Arc::default() }
    }

    /// Takes a place for a call; the request's extensions name its connection.
    ///
    /// # Errors
    /// `Draining` once the sidecar stops, `QueueFull` if all places are taken, or the connection's share of them.
    pub fn admit(&self, lifecycle: &Lifecycle, request: &Extensions) -> Result<Admission, Failure> {
        let draining = || Failure::new(Reason::Draining, "the sidecar is stopping and takes no more calls");
        let call = lifecycle.begin_call().ok_or_else(draining)?;
        let peer = request.get::<Arc<Peer>>().cloned();
        let before = self.calls.fetch_add(1, Ordering::AcqRel);
        let held = peer.as_ref().map_or(0, |peer| peer.places().fetch_add(1, Ordering::AcqRel));
        // Made first, so that a refusal gives the places back when it drops.
        let admission = Admission { _call: call, calls: Arc::clone(&self.calls), peer };
        let free = self.calls_max.saturating_sub(before);
        if free == 0 {
            let sentence = format!("{} calls are in progress already", self.calls_max);
            return Err(Failure::new(Reason::QueueFull, sentence));
        }
        if held >= free {
            let sentence = format!(
                "{held} calls are in progress on this connection already, its share of the {} that may be",
                self.calls_max
            );
            return Err(Failure::new(Reason::QueueFull, sentence));
        }
        Ok(admission)
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        if let Some(peer) = &self.peer {
            peer.places().fetch_sub(1, Ordering::AcqRel);
        }
        self.calls.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::Phase;

    fn on(peer: &Arc<Peer>) -> Extensions {
        let mut request = Extensions::new();
        request.insert(Arc::clone(peer));
        request
    }

    #[test]
    fn a_connection_holds_no_more_than_what_is_free() {
        let (callers, lifecycle) = (Callers::new(100), Lifecycle::default());
        let flood = |peer: &Arc<Peer>| -> Vec<_> {
            std::iter::from_fn(|| callers.admit(&lifecycle, &on(peer)).ok()).take(1_000).collect()
        };
        let [first, second, third] = [1, 2, 3].map(|number| Arc::new(Peer::new(number)));
        let held = (flood(&first), flood(&second), flood(&third));
        assert_eq!((held.0.len(), held.1.len(), held.2.len()), (50, 25, 13));
        let refused = callers.admit(&lifecycle, &on(&first)).unwrap_err();
        assert_eq!(refused.reason(), Reason::QueueFull);
        drop(held);
        assert_eq!(flood(&second).len(), 50, "all was given back");
        lifecycle.advance(Phase::Draining);
        let refused = callers.admit(&lifecycle, &on(&first)).unwrap_err();
        assert_eq!(refused.reason(), Reason::Draining);
        assert_eq!((callers.calls.load(Ordering::Acquire), lifecycle.calls()), (0, 0));
    }

    #[test]
    fn all_places_can_be_taken_by_many_connections() {
        let (callers, lifecycle) = (Callers::new(100), Lifecycle::default());
        let peers = (0..200).map(|number| Arc::new(Peer::new(number)));
        let admitted: Vec<_> = peers.filter_map(|peer| callers.admit(&lifecycle, &on(&peer)).ok()).collect();
        assert_eq!(admitted.len(), 100);
    }
}
