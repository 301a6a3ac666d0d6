//! Owns the records on their way into one partition: which are handed to librdkafka and which still wait here, in order.
//! Must never hand a record over twice while its outcome is open, nor one before an earlier one that still waits.
//!
//! A record waits here while no broker is connected (then it can be taken out, and is surely not written), and while
//! its partition sorts out a batch that was refused for its size: Kafka refuses the whole batch for one record, so each
//! record of it is sent again alone, and only one that fails alone is too large.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{Outcome, budget::Share};
use crate::{
    failure::{Failure, Reason},
    kafka::{context::Delivery, producer::Producer, reachability::Reachability, topics::Topics},
    record::{Receipt, Record, Topic},
    telemetry::metrics::TopicMetrics,
};

/// The way to Kafka that all partitions share.
#[derive(Debug)]
pub struct Way {
    /// The producer in use.
    pub producer: Producer<Entry>,
    /// Whether the cluster is there.
    pub reachability: Arc<Reachability>,
    /// The partition counts, corrected by what deliveries tell.
    pub topics: Arc<Topics>,
}

/// A record from its acceptance to its outcome.
pub struct Entry {
    record: Record,
    flow: Arc<Flow>,
    /// The place in the order of its partition.
    sequence: u64,
    /// Whether its batch was refused for its size, so that it must travel alone.
    suspect: AtomicBool,
    /// Taken when the outcome is known; the caller holds the other end of the channel and may have dropped it.
    open: Mutex<Option<(oneshot::Sender<Outcome>, Share)>>,
}

/// The records of one partition.
#[derive(Debug)]
pub struct Flow {
    way: Arc<Way>,
    partition: i32,
    metrics: TopicMetrics,
    state: Mutex<State>,
}

#[derive(Default, Debug)]
struct State {
    sequence_next: u64,
    in_flight: usize,
    /// Whether the only record in flight is a suspect, which nothing may accompany.
    alone_in_flight: bool,
    /// What waits here, by its place in the order.
    held: BTreeMap<u64, Arc<Entry>>,
}

// === impl Entry ===

impl Entry {
    /// Returns the topic.
    #[must_use]
    pub fn topic(&self) -> &Topic {
        &self.record.topic
    }

    /// Returns the partition.
    #[must_use]
    pub fn partition(&self) -> i32 {
        self.flow.partition
    }

    /// Returns the way to Kafka that it takes.
    #[must_use]
    pub fn way(&self) -> &Way {
        &self.flow.way
    }

    /// Takes the record out if it still waits here; returns whether it did. It is then surely not written.
    #[must_use]
    pub fn withdraw(&self, reason: Reason) -> bool {
        let withdrawn = self.flow.state.lock().held.remove(&self.sequence);
        if let Some(entry) = &withdrawn {
            // Something behind it may have waited for this one only.
            self.flow.hand_over_held();
            entry.flow.metrics.error(reason);
            drop(entry.open.lock().take());
        }
        withdrawn.is_some()
    }

    /// Takes in the delivery report; runs on the polling thread.
    pub fn delivered(self: Arc<Self>, delivery: Delivery) {
        let flow = Arc::clone(&self.flow);
        let alone = self.suspect.load(Ordering::Relaxed);
        {
            let mut state = flow.state.lock();
            state.in_flight = state.in_flight.saturating_sub(1);
            state.alone_in_flight = false;
            if let Err(undelivered) = &delivery
                && undelivered.is_too_large()
                && !alone
                && self.is_awaited()
            {
                self.suspect.store(true, Ordering::Relaxed);
                state.held.insert(self.sequence, self);
                drop(state);
                flow.hand_over_held();
                return;
            }
        }
        let outcome = match delivery {
            Ok(delivered) => Ok(Receipt {
                topic: self.record.topic.clone(),
                partition: flow.partition,
                offset: delivered.offset,
                timestamp_ms: delivered.timestamp_ms.unwrap_or(self.record.timestamp_ms),
            }),
            Err(undelivered) => Err(undelivered.failure(&self.record.topic, flow.partition)),
        };
        self.settle(outcome);
        flow.hand_over_held();
    }

    /// Returns whether somebody still waits for the outcome: a record that nobody waits for is not sent a second time.
    fn is_awaited(&self) -> bool {
        self.open.lock().as_ref().is_some_and(|(caller, _)| !caller.is_closed())
    }

    /// Tells the outcome to the caller, if it still listens, and counts it.
    fn settle(&self, outcome: Outcome) {
        let Some((caller, share)) = self.open.lock().take() else {
            return;
        };
        match &outcome {
            Ok(_) => self.flow.metrics.success(),
            Err(failure) => {
                self.flow.metrics.error(failure.reason());
                if failure.reason() == Reason::TopicNotFound {
                    self.flow.way.topics.forget(&self.record.topic);
                }
            }
        }
        drop(share);
        // A caller that went away, or was answered at its deadline, has dropped the other end: the outcome is counted.
        if let Err(unheard) = caller.send(outcome) {
            tracing::trace!(?unheard, "nobody waits for this outcome any more");
        }
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Entry({:?} to partition {})", self.record, self.flow.partition)
    }
}

// === impl Flow ===

impl Flow {
    /// Makes the flow of one partition.
    #[must_use]
    pub fn new(way: Arc<Way>, partition: i32, metrics: TopicMetrics) -> Arc<Self> {
        Arc::new(Self { way, partition, metrics, state: Mutex::default() })
    }

    /// Takes a record in behind all earlier ones and hands it over if it may go; never blocks.
    #[must_use]
    pub fn submit(
        self: &Arc<Self>,
        record: Record,
        share: Share,
    ) -> (Arc<Entry>, oneshot::Receiver<Outcome>) {
        let (caller, outcome) = oneshot::channel();
        let mut state = self.state.lock();
        let entry = Arc::new(Entry {
            record,
            flow: Arc::clone(self),
            sequence: state.sequence_next,
            suspect: AtomicBool::new(false),
            open: Mutex::new(Some((caller, share))),
        });
        state.sequence_next += 1;
        // The state of the connection is read under the lock: `hand_over_held` takes the lock after the connection came up.
        if state.held.is_empty() && !state.alone_in_flight && self.way.reachability.is_connected() {
            state.in_flight += 1;
            if let Err((undelivered, refused)) = self.give(&entry) {
                state.in_flight -= 1;
                drop(state);
                refused.settle(Err(undelivered.failure(&entry.record.topic, self.partition)));
            }
        } else {
            state.held.insert(entry.sequence, Arc::clone(&entry));
        }
        (entry, outcome)
    }

    /// Hands over what waits, as far as it may go now.
    pub fn hand_over_held(self: &Arc<Self>) {
        let mut refused = Vec::new();
        {
            let mut state = self.state.lock();
            while !state.alone_in_flight && self.way.reachability.is_connected() {
                let Some(first) = state.held.first_entry() else { break };
                let alone = first.get().suspect.load(Ordering::Relaxed);
                if alone && state.in_flight > 0 {
                    break;
                }
                let Some((_, entry)) = state.held.pop_first() else { break };
                state.in_flight += 1;
                state.alone_in_flight = alone;
                if let Err((undelivered, entry)) = self.give(&entry) {
                    state.in_flight -= 1;
                    state.alone_in_flight = false;
                    refused.push((undelivered, entry));
                }
            }
        }
        for (undelivered, entry) in refused {
            let failure = undelivered.failure(&entry.record.topic, self.partition);
            entry.settle(Err(failure));
        }
    }

    /// Refuses what waits here.
    pub fn refuse_held(&self, failure: &Failure) {
        let held = std::mem::take(&mut self.state.lock().held);
        for entry in held.into_values() {
            let failure = failure.clone().topic(&entry.record.topic).partition(self.partition);
            entry.settle(Err(failure));
        }
    }

    /// Returns whether anything waits here.
    #[must_use]
    pub fn is_holding(&self) -> bool {
        !self.state.lock().held.is_empty()
    }

    fn give(&self, entry: &Arc<Entry>) -> Result<(), (crate::kafka::context::Undelivered, Arc<Entry>)> {
        self.way.producer.hand_over(&entry.record, self.partition, Arc::clone(entry))
    }
}
