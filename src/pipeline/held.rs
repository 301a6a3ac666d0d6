//! Owns the records on their way into one partition: hands over what its line lets go, and tells the outcomes.
//! Must never hand a record over twice while its outcome is open; what may go, and when, is decided in `line`.
//!
//! A record waits here while no broker is connected and while an earlier run of its partition is in flight: then it can be
//! taken out, and is surely not written. It also waits while its partition sorts out a run that was refused: Kafka refuses the
//! whole request for one record. Where it says which, the others are sent again; where one is too large it does not, so halves
//! are sent again, and only a record that fails alone is too large.

use std::{fmt, sync::Arc};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    accepting::Content,
    batch::not_written,
    budget::{End, Held, Share},
    dead_letters::Dead,
    line::{Line, Place, RunBounds},
    room::Room,
    ticket::Ticket,
    way::{Mark, Way},
};
use crate::{
    dead_letter,
    failure::{Failure, Reason},
    kafka::{
        context::{Delivery, Undelivered},
        ffi::NativeHeaders,
    },
    record::{Header, Receipt, Record, Topic},
    retry::{Circumstances, Fault, Next, decide},
    telemetry::metrics::TopicMetrics,
};

/// What a record counts in its run beyond its own bytes, in bytes: the framing of Kafka's record format at its longest.
const RECORD_FRAMING_BYTES: usize = 40;
/// The same for each header.
const HEADER_FRAMING_BYTES: usize = 10;

/// How many records are handed over for each reading of the clock: they take microseconds, a reading a good part of one.
const CLOCK_EVERY: usize = 8;

/// A record from its acceptance to its outcome.
pub struct Item {
    record: Record,
    /// Its headers, none while librdkafka has them.
    headers: Option<NativeHeaders>,
    /// What it counts in its run.
    run_bytes: usize,
    content: Content,
    /// When it was accepted, in milliseconds since the epoch.
    accepted_ms: i64,
    /// How often it was handed over to librdkafka.
    attempts: u32,
    /// When its caller has to be told.
    deadline: Instant,
    /// Who is told.
    ticket: Ticket,
    /// Its part of the budget, given back with the outcome.
    share: Share,
}

/// The records of one partition.
#[derive(Debug)]
pub struct Flow {
    number: u32,
    topic: Topic,
    partition: i32,
    bounds: RunBounds,
    /// What bounds the runs of all partitions of the topic.
    room: Arc<Room>,
    metrics: TopicMetrics,
    /// What its records hold of the budget.
    held: Arc<Held>,
    line: Mutex<Line<Item>>,
}

// === impl Item ===

impl Item {
    /// Makes the item of a record. Its headers take librdkafka's form here, by whoever brings it, so that a run is handed
    /// over in one go.
    #[must_use]
    pub fn new(
        mut record: Record,
        (content, deadline): (Content, Instant),
        accepted_ms: i64,
        ticket: Ticket,
        share: Share,
    ) -> Self {
        let headers = std::mem::take(&mut record.headers);
        let framing = RECORD_FRAMING_BYTES + HEADER_FRAMING_BYTES * headers.len();
        let run_bytes = record.bytes() + headers.iter().map(Header::bytes).sum::<usize>() + framing;
        let headers = NativeHeaders::of(&headers);
        Self { record, headers, run_bytes, content, accepted_ms, attempts: 0, deadline, ticket, share }
    }

    /// Notes how it ends. A dead letter is counted with the record that it is of.
    fn ends(&self, end: End) {
        self.share.ends(if self.content == Content::Records { end } else { End::Refused });
    }
}

impl fmt::Debug for Item {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.record, formatter)
    }
}

// === impl Flow ===

impl Flow {
    /// Makes the flow of one partition, found by its number.
    #[must_use]
    pub fn new(
        number: u32,
        topic: Topic,
        partition: i32,
        (bounds, room): (RunBounds, Arc<Room>),
        metrics: TopicMetrics,
    ) -> Arc<Self> {
        let (held, line) = Default::default();
        Arc::new(Self { number, topic, partition, bounds, room, metrics, held, line })
    }

    /// Returns the topic.
    #[must_use]
    pub const fn topic(&self) -> &Topic {
        &self.topic
    }

    /// Returns the partition.
    #[must_use]
    pub const fn partition(&self) -> i32 {
        self.partition
    }

    /// Returns what its records hold of the budget.
    #[must_use]
    pub const fn held(&self) -> &Arc<Held> {
        &self.held
    }

    /// Takes a record in behind all earlier ones; it goes with the next [`Flow::hand_over`] that may take it.
    pub fn push(&self, item: Item) -> Mark {
        let run_bytes = item.run_bytes;
        Mark::new(self.number, self.line.lock().push(item, run_bytes))
    }

    /// Hands over what may go now; never blocks.
    pub fn hand_over(&self, way: &Way) {
        let mut refused = Vec::new();
        {
            let mut line = self.line.lock();
            // The state of the connection is read under the lock: whoever follows it calls this after it came up.
            if !way.reachability.is_connected() {
                return;
            }
            let producer = way.handle.current();
            let bytes_max =
                self.room.bytes_max(way.topics.rules(&self.topic).and_then(|rules| rules.batch_bytes_max));
            let bounds = RunBounds { bytes_max, ..self.bounds };
            let (mut now, mut handed) = (Instant::now(), 0_usize);
            while let Some((place, item)) = line.start_next(now, &bounds, producer.serial()) {
                let number = Mark::new(self.number, place).number();
                let headers = item.headers.take();
                item.attempts = item.attempts.saturating_add(1);
                match producer.hand_over(&item.record, headers, self.partition, number) {
                    Ok(()) if item.attempts > 1 => self.metrics.retry(),
                    Ok(()) => {}
                    // The producer is at its end; the next one will take it.
                    Err(mut undelivered) if undelivered.fault() == Fault::Unsent => {
                        if let Some(item) = line.take_back(place) {
                            item.headers = undelivered.take_headers();
                            item.attempts -= 1;
                        }
                        break;
                    }
                    Err(undelivered) => {
                        refused.extend(line.end(place).map(|item| (item, undelivered)));
                    }
                }
                handed += 1;
                if handed.is_multiple_of(CLOCK_EVERY) {
                    now = Instant::now();
                }
            }
        }
        for (item, undelivered) in refused {
            self.settle(way, item, Err(undelivered));
        }
    }

    /// Takes in the report of a record; runs on the polling thread.
    pub fn reported(&self, way: &Way, place: Place, mut delivery: Delivery) {
        let (item, next, is_idle) = {
            let mut line = self.line.lock();
            let next = delivery
                .as_ref()
                .map_or_else(|failed| self.decide(way, &mut line, place, failed), |_| Next::End);
            let back = match next {
                Next::Again => line.take_back(place),
                Next::AgainInHalves => line.put_back(place),
                Next::End | Next::EndForAnothers => None,
            };
            let item = match back {
                Some(item) => {
                    item.headers = delivery.as_mut().err().and_then(Undelivered::take_headers);
                    None
                }
                None => line.end(place),
            };
            (item, next, line.is_idle() && line.is_waiting())
        };
        match item {
            // Its deadline has passed.
            Some(item) if next == Next::EndForAnothers => {
                self.refuse(item, not_written(&way.reachability.now()));
            }
            Some(item) => self.settle(way, item, delivery),
            None => {}
        }
        if is_idle {
            self.hand_over(way);
        }
    }

    /// Decides what follows for a record that came back, and notes what its run has shown.
    fn decide(&self, way: &Way, line: &mut Line<Item>, place: Place, failed: &Undelivered) -> Next {
        let fault = failed.fault();
        if fault == Fault::Anothers {
            line.tell_apart();
        }
        if fault == Fault::TooLarge && line.is_in_company() {
            self.room.refused(line.run_bytes());
            way.topics.refused(&self.topic);
        }
        let circumstances = Circumstances {
            is_awaited: line.in_flight(place).is_some_and(|item| item.ticket.is_awaited()),
            is_ending: way.is_ending(),
            is_in_company: line.is_in_company(),
            is_told_apart: line.is_told_apart(),
        };
        decide(fault, circumstances)
    }

    /// Ends all records in flight that a producer has whose reports will not come; they may be written.
    pub fn left_behind(&self, way: &Way, producer: u64) {
        let in_flight = self.line.lock().take_in_flight(producer);
        for item in in_flight {
            self.settle(way, item, Err(Undelivered::left_behind()));
        }
        self.hand_over(way);
    }

    /// Takes a record out if it still waits here, and tells that failure as its outcome; returns whether it did.
    pub fn withdraw(&self, place: Place, failure: impl FnOnce() -> Failure) -> bool {
        let withdrawn = {
            let mut line = self.line.lock();
            // Others brought the same record, and wait for it.
            if line.waiting(place).is_some_and(|item| item.ticket.has_company()) {
                return false;
            }
            line.withdraw(place)
        };
        let Some(item) = withdrawn else { return false };
        self.refuse(item, failure());
        true
    }

    /// Refuses all that waits here.
    pub fn refuse_waiting(&self, failure: &Failure) {
        let waiting = self.line.lock().take_waiting();
        for item in waiting {
            self.refuse(item, failure.clone());
        }
    }

    /// Returns whether anything waits here.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.line.lock().is_waiting()
    }

    /// Returns how many records wait here, and since when the first does, in milliseconds since the epoch.
    #[must_use]
    pub fn waiting_since(&self) -> Option<(usize, i64)> {
        let line = self.line.lock();
        line.first_waiting().map(|first| (line.waiting_count(), first.accepted_ms))
    }

    /// Counts and tells an outcome. The share goes first: whoever hears of the outcome finds its room free.
    fn settle(&self, way: &Way, item: Item, delivery: Delivery) {
        match delivery {
            Ok(delivered) => {
                self.metrics.success();
                item.ends(End::Delivered);
                drop(item.share);
                item.ticket.tell(Ok(Receipt {
                    topic: self.topic.clone(),
                    partition: self.partition,
                    offset: delivered.offset,
                    timestamp_ms: delivered.timestamp_ms.unwrap_or(item.record.timestamp_ms),
                    duplicate: false,
                }));
            }
            Err(mut undelivered) => {
                let failure = undelivered.failure(&self.topic, self.partition);
                self.learn(way, &failure);
                let is_out = undelivered.is_out_of_retries();
                self.fail(way, item, undelivered.take_headers(), (failure, is_out));
            }
        }
    }

    /// Takes in what a failure says of others' records.
    fn learn(&self, way: &Way, failure: &Failure) {
        let reason = failure.reason();
        if reason == Reason::TopicNotFound {
            way.topics.forget(&self.topic);
        } else if dead_letter::is_for(failure, false) {
            way.topics.refused(&self.topic);
        }
        if reason == Reason::NotAuthorized {
            // They would be refused as well, one run after the other (decision 0008).
            let waiting = {
                let mut line = self.line.lock();
                // Each of its run tells this, and the line may be long.
                if line.is_waiting() { line.take_waiting() } else { Vec::new() }
            };
            for item in waiting {
                self.fail(way, item, None, (failure.clone(), false));
            }
        }
    }

    /// Ends a record that failed for good: its dead letter tells its caller, where it gets one.
    fn fail(
        &self,
        way: &Way,
        item: Item,
        headers: Option<NativeHeaders>,
        (failure, is_out): (Failure, bool),
    ) {
        let to = match item.content {
            Content::Records => way.dead_letters.destination(&self.topic, &failure, is_out),
            Content::DeadLetters => None,
        };
        match to {
            Some(to) => way.dead_letters.take(self.dead(item, headers, failure), to),
            None => self.refuse(item, failure),
        }
    }

    /// Makes what dead letters are made of.
    fn dead(&self, item: Item, headers: Option<NativeHeaders>, failure: Failure) -> Dead {
        self.metrics.error();
        // Those that librdkafka never took over are still here.
        let Item { mut record, headers: own, accepted_ms, attempts, deadline, ticket, share, .. } = item;
        record.headers = headers.or(own).map(|headers| headers.read()).unwrap_or_default();
        let (failure, partition) = (failure.attempts(attempts), Some(self.partition));
        Dead { record, ticket, share, failure, partition, accepted_ms, deadline }
    }

    fn refuse(&self, item: Item, failure: Failure) {
        if item.content == Content::Records {
            self.metrics.error();
        }
        item.ends(End::of(failure.reason()));
        drop(item.share);
        let failure = failure.topic(&self.topic).partition(self.partition).attempts(item.attempts);
        item.ticket.tell(Err(failure));
    }
}
