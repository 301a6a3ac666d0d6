//! Owns who may begin a call or a stream: nobody once draining has begun, and no connection beyond its share of `callers_max` and
//! `streams_max`.
//! Must never make anybody wait: a call that does not fit is refused at once.
//!
//! A connection may hold at most as many places as are free (a dynamic threshold, as in `pipeline/budget.rs`): alone it gets half
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

/// Places that all connections share: the bound, and how many are taken.
#[derive(Debug)]
pub struct Places {
    /// What takes a place, in the plural.
    what: &'static str,
    places_max: usize,
    taken: Arc<AtomicUsize>,
    /// The count of those that one connection holds.
    of_peer: fn(&Peer) -> &AtomicUsize,
}

/// A place, given back when dropped.
#[derive(Debug)]
pub struct Place {
    taken: Arc<AtomicUsize>,
    peer: Option<Arc<Peer>>,
    of_peer: fn(&Peer) -> &AtomicUsize,
}

/// What a call holds while it is in progress.
#[derive(Debug)]
pub struct Admission {
    _call: Call,
    _place: Place,
}

// === impl Places ===

impl Places {
    /// Makes the places of calls.
    #[must_use]
    pub fn of_calls(calls_max: usize) -> Self {
        Self { what: "calls", places_max: calls_max, taken: Arc::default(), of_peer: Peer::calls }
    }

    /// Makes the places of streams.
    #[must_use]
    pub fn of_streams(streams_max: usize) -> Self {
        Self { what: "streams", places_max: streams_max, taken: Arc::default(), of_peer: Peer::streams }
    }

    /// Takes a place; the request's extensions name its connection.
    ///
    /// # Errors
    /// `QueueFull` if all places are taken, or the connection's share of them.
    pub fn take(&self, request: &Extensions) -> Result<Place, Failure> {
        let peer = request.get::<Arc<Peer>>().cloned();
        let before = self.taken.fetch_add(1, Ordering::AcqRel);
        let held = peer.as_ref().map_or(0, |peer| (self.of_peer)(peer).fetch_add(1, Ordering::AcqRel));
        // Made first, so that a refusal gives it back when it drops.
        let place = Place { taken: Arc::clone(&self.taken), peer, of_peer: self.of_peer };
        let (what, most) = (self.what, self.places_max);
        let free = most.saturating_sub(before);
        if free == 0 {
            return Err(Failure::new(Reason::QueueFull, format!("{most} {what} are in progress already")));
        }
        if held >= free {
            let sentence = format!(
                "{held} {what} are in progress on this connection already, its share of the {most} that may be"
            );
            return Err(Failure::new(Reason::QueueFull, sentence));
        }
        Ok(place)
    }

    /// Takes the place of a call.
    ///
    /// # Errors
    /// `Draining` once the sidecar stops, and as of [`Self::take`].
    pub fn admit(&self, lifecycle: &Lifecycle, request: &Extensions) -> Result<Admission, Failure> {
        let draining = || Failure::new(Reason::Draining, "the sidecar is stopping and takes no more calls");
        let call = lifecycle.begin_call().ok_or_else(draining)?;
        Ok(Admission { _call: call, _place: self.take(request)? })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(peer) = &self.peer {
            (self.of_peer)(peer).fetch_sub(1, Ordering::AcqRel);
        }
        self.taken.fetch_sub(1, Ordering::AcqRel);
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
        let (callers, lifecycle) = (Places::of_calls(100), Lifecycle::default());
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
        assert_eq!((callers.taken.load(Ordering::Acquire), lifecycle.calls()), (0, 0));
    }

    #[test]
    fn all_places_can_be_taken_by_many_connections() {
        let (callers, lifecycle) = (Places::of_calls(100), Lifecycle::default());
        let peers = (0..200).map(|number| Arc::new(Peer::new(number)));
        let admitted: Vec<_> = peers.filter_map(|peer| callers.admit(&lifecycle, &on(&peer)).ok()).collect();
        assert_eq!(admitted.len(), 100);
    }
}
