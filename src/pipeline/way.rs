//! Owns the way to Kafka that all partitions share, and the numbers by which librdkafka's reports find their record.
//! Must never decide about a record; its partition's flow does.

use std::sync::{
    Arc, OnceLock, Weak,
    atomic::{AtomicBool, Ordering},
};

use parking_lot::RwLock;

use super::{
    dead_letters::DeadLetters,
    held::Flow,
    line::{PLACE_BITS, Place},
};
use crate::kafka::{context::Delivery, handle::Handle, reachability::Reachability, topics::Topics};

/// The most partitions, of all topics together, that records can go to.
pub const FLOWS_MAX: usize = 1 << (u64::BITS - PLACE_BITS);

/// Names a record that has no outcome yet: the number of its flow, and its place there. It travels through librdkafka.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark(u64);

/// The flows by their numbers; they are never taken off it.
#[derive(Debug, Default)]
pub struct Flows {
    flows: RwLock<Vec<Arc<Flow>>>,
    /// Set once the way is there; weak, because the producer that the way owns reports to here.
    way: OnceLock<Weak<Way>>,
}

/// What takes records to Kafka.
#[derive(Debug)]
pub struct Way {
    /// The producer in use.
    pub handle: Arc<Handle>,
    /// Whether the cluster is there.
    pub reachability: Arc<Reachability>,
    /// The partition counts, corrected by what deliveries tell.
    pub topics: Arc<Topics>,
    /// Who takes the producer's reports.
    pub flows: Arc<Flows>,
    /// Who takes records that failed for good.
    pub dead_letters: DeadLetters,
    /// Set when what is left is given up, so that nothing of it comes back to wait.
    ending: AtomicBool,
}

// === impl Mark ===

impl Mark {
    /// Makes the mark of a place in a flow.
    #[must_use]
    pub fn new(flow: u32, place: Place) -> Self {
        Self(u64::from(flow) << PLACE_BITS | place)
    }

    /// Returns the number that travels with the record.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }

    const fn place(self) -> Place {
        self.0 & ((1 << PLACE_BITS) - 1)
    }

    fn flow(self) -> usize {
        usize::try_from(self.0 >> PLACE_BITS).unwrap_or(usize::MAX)
    }
}

// === impl Flows ===

impl Flows {
    /// Takes in a report from librdkafka; runs on the polling thread.
    pub fn reported(&self, number: u64, delivery: Delivery) {
        let mark = Mark(number);
        if let (Some(way), Some((flow, place))) = (self.way.get().and_then(Weak::upgrade), self.find(mark)) {
            flow.reported(&way, place, delivery);
        }
    }

    /// Makes a flow under the next number; `None` where there are [`FLOWS_MAX`] already.
    pub fn add(&self, make: impl FnOnce(u32) -> Arc<Flow>) -> Option<Arc<Flow>> {
        let mut flows = self.flows.write();
        let number = u32::try_from(flows.len()).ok().filter(|_| flows.len() < FLOWS_MAX)?;
        let flow = make(number);
        flows.push(Arc::clone(&flow));
        Some(flow)
    }

    /// Finds the flow of a mark, and the place there.
    #[must_use]
    pub fn find(&self, mark: Mark) -> Option<(Arc<Flow>, Place)> {
        Some((Arc::clone(self.flows.read().get(mark.flow())?), mark.place()))
    }

    /// Ends the records of a producer whose reports will not come.
    pub fn left_behind(&self, producer: u64) {
        let Some(way) = self.way.get().and_then(Weak::upgrade) else { return };
        let flows: Vec<_> = self.flows.read().clone();
        for flow in flows {
            flow.left_behind(&way, producer);
        }
    }

    /// Returns the flows in which records wait.
    #[must_use]
    pub fn waiting(&self) -> Vec<Arc<Flow>> {
        self.flows.read().iter().filter(|flow| flow.is_waiting()).cloned().collect()
    }
}

// === impl Way ===

impl Way {
    /// Joins the parts of the way, so that reports find it.
    #[must_use]
    pub fn new(
        handle: Arc<Handle>,
        reachability: Arc<Reachability>,
        topics: Arc<Topics>,
        flows: Arc<Flows>,
        dead_letters: DeadLetters,
    ) -> Arc<Self> {
        let ending = AtomicBool::new(false);
        let way = Arc::new(Self { handle, reachability, topics, flows, dead_letters, ending });
        // A second way over the same flows does not happen; the first would keep their reports.
        way.flows.way.get_or_init(|| Arc::downgrade(&way));
        way
    }

    /// Gives up all that Kafka's client has, for good; reports follow.
    pub fn give_up(&self) {
        self.ending.store(true, Ordering::Release);
        self.handle.give_up();
    }

    /// Returns whether what is left has been given up.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_keeps_flow_and_place_apart() {
        let last = (1 << PLACE_BITS) - 1;
        for (flow, place) in [(0, 0), (7, 5), (u32::try_from(FLOWS_MAX).unwrap() - 1, last)] {
            let mark = Mark::new(flow, place);
            assert_eq!((mark.flow(), mark.place()), (usize::try_from(flow).unwrap(), place));
        }
    }
}
