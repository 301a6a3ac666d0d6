//! One partition's records on their way into its log: the queue, the sealed batches, the producer id and its sequences. Pure.
//! Must never send a record again that may be in the log, but in the identical batch under the same sequence; nor let a record pass
//! an earlier one.
//!
//! The broker's task asks for the next batch if its connection can take one, and reports what became of it.
//!
//! ```text
//!            next()               answered(): written
//!  queue ------------> on wire ----------------------------> ended
//!    ^  \                 |  ^
//!    |   \ withdraw(),    |  | next(): the identical batch
//!    |    \ expire()      v  |
//!    |     -> ended     waiting ---> expire(): ended, if in doubt
//!    |                    |
//!    +--------------------+  settle(): nothing is on the wire, and it is surely not written
//! ```
//!
//! A batch is in doubt from an attempt without a certain answer on: connection lost, time-out, an error that may come after the append.
//! Only the broker can say then whether it is in the log, and it does if the identical batch comes again under its sequence. A batch
//! that is not in doubt was refused by each attempt: its records go back to the queue, and its sequence is used again.
//!
//! Each rule with the sequence of events that makes it necessary is in decision 0020.

mod ending;
mod outcome;
mod sealed;

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::Bytes;

pub use self::outcome::{Answer, BatchLimits, Cause, End, Ended, Outgoing};
use self::sealed::{Queued, Refusal, Sealed};
use super::{
    super::code::ErrorCode,
    batch::ProducerId,
    verdict::{Verdict, verdict},
};

/// Sequences begin again at 0 behind the largest `i32`.
const SEQUENCE_MASK: i32 = i32::MAX;
/// A broker that acknowledged a batch this long ago may have forgotten the producer id: `producer.id.expiration.ms` is a day, but can
/// be set lower.
const KNOWN_FOR: Duration = Duration::from_secs(30);

/// A record's place in its partition's order.
pub type Place = u64;

/// The records of one partition.
#[derive(Debug)]
pub struct Partition<T> {
    /// In the order of their places.
    queue: VecDeque<Queued<T>>,
    /// In the order of their sequences; all of them come before the queue.
    sealed: VecDeque<Sealed<T>>,
    next_place: Place,
    next_number: u64,
    producer: Option<ProducerId>,
    next_sequence: i32,
    /// The connection that has what is on the wire.
    connection: u64,
    /// When the leader last acknowledged a batch of this producer id on this connection.
    acknowledged: Option<Instant>,
    /// The broker's next sequence is not the one that is expected here: the producer id cannot be used any more.
    is_broken: bool,
    /// Times that attempts failed since the last that did not.
    failures: u32,
    /// An attempt failed since nothing was on the wire last.
    has_failed: bool,
    /// Nothing is sent before.
    retry_at: Option<Instant>,
}

impl<T> Default for Partition<T> {
    fn default() -> Self {
        Self {
            queue: VecDeque::new(),
            sealed: VecDeque::new(),
            next_place: 0,
            next_number: 0,
            producer: None,
            next_sequence: 0,
            connection: 0,
            acknowledged: None,
            is_broken: false,
            failures: 0,
            has_failed: false,
            retry_at: None,
        }
    }
}

// === impl Partition ===

impl<T> Partition<T> {
    /// Takes a record in behind all others; it is given up at `by` unless it is in the log. `bytes` is what it counts in its batch.
    pub fn push(&mut self, item: T, bytes: usize, by: Instant) -> Place {
        let place = self.next_place;
        self.next_place += 1;
        let (batch_max, attempts, last_error) = (usize::MAX, 0, None);
        self.queue.push_back(Queued { place, bytes, batch_max, attempts, last_error, by, item });
        place
    }

    /// Takes a record out if no byte of it is on its way, and it is surely not in the log.
    pub fn withdraw(&mut self, place: Place) -> Option<T> {
        let index = self.queue.binary_search_by_key(&place, |queued| queued.place).ok()?;
        self.queue.remove(index).map(|queued| queued.item)
    }

    /// Returns the record that waits at that place.
    #[must_use]
    pub fn waiting(&self, place: Place) -> Option<&T> {
        let index = self.queue.binary_search_by_key(&place, |queued| queued.place).ok()?;
        self.queue.get(index).map(|queued| &queued.item)
    }

    /// Returns how many records can be taken out.
    #[must_use]
    pub fn waiting_count(&self) -> usize {
        self.queue.len()
    }

    /// Returns whether it has no record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.sealed.is_empty()
    }

    /// Returns whether it has something that is not on the wire.
    #[must_use]
    pub fn has_something_to_send(&self) -> bool {
        !self.queue.is_empty() || self.sealed.iter().any(|batch| !batch.is_on_wire)
    }

    /// Returns whether it needs a producer id before anything can be sent.
    #[must_use]
    pub fn needs_producer_id(&self) -> bool {
        self.producer.is_none() && self.sealed.is_empty() && !self.queue.is_empty()
    }

    /// Takes a fresh producer id into use, if one is needed.
    pub fn use_producer_id(&mut self, producer: ProducerId) {
        if self.producer.is_none() && self.sealed.is_empty() {
            (self.producer, self.next_sequence, self.acknowledged) = (Some(producer), 0, None);
        }
    }

    /// Drops the producer id, because the topic is no longer the one that it wrote to; what is in doubt cannot be settled any more.
    pub fn renew(&mut self, ended: &mut Vec<Ended<T>>) {
        self.is_broken = true;
        self.settle(ended);
    }

    /// Returns how many attempts failed since the last that did not, for the pause before the next one.
    #[must_use]
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    /// Sends nothing before that.
    pub const fn pause_until(&mut self, retry_at: Instant) {
        self.retry_at = Some(retry_at);
    }

    /// Returns until when nothing is sent.
    #[must_use]
    pub const fn paused_until(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Returns the next batch for a connection, and counts it as on the wire. `seal` encodes records in their order.
    pub fn next(
        &mut self,
        connection: u64,
        (now, limits): (Instant, &BatchLimits),
        seal: impl FnOnce(&mut dyn Iterator<Item = &T>, ProducerId, i32) -> Bytes,
    ) -> Option<Outgoing> {
        if self.retry_at.is_some_and(|at| now < at) || self.is_broken {
            return None;
        }
        let on_wire = self.sealed.iter().filter(|batch| batch.is_on_wire).count();
        if self.connection != connection {
            // What another connection has may still arrive, after what would go by this one.
            if on_wire > 0 {
                return None;
            }
            (self.connection, self.acknowledged) = (connection, None);
        }
        // A leader that does not know the producer id takes any sequence: of two batches the second alone could be written.
        let is_known = self.acknowledged.is_some_and(|at| now.saturating_duration_since(at) < KNOWN_FOR);
        if on_wire >= if is_known { limits.in_flight_max } else { 1 } {
            return None;
        }
        match self.sealed.iter().position(|batch| !batch.is_on_wire) {
            // Those behind it are on the wire still: their answers come first.
            Some(index) if index < on_wire => None,
            Some(index) => self.send_again(index),
            None => self.send_new(limits, seal),
        }
    }

    fn send_again(&mut self, index: usize) -> Option<Outgoing> {
        let batch = self.sealed.get_mut(index).filter(|batch| batch.refusal.is_none())?;
        batch.go();
        Some(Outgoing { number: batch.number, bytes: batch.bytes.clone() })
    }

    fn send_new(
        &mut self,
        limits: &BatchLimits,
        seal: impl FnOnce(&mut dyn Iterator<Item = &T>, ProducerId, i32) -> Bytes,
    ) -> Option<Outgoing> {
        let producer = self.producer?;
        let count = self.batch_count(limits);
        if count == 0 {
            return None;
        }
        let records: Vec<_> = self.queue.drain(..count).collect();
        let (number, base_sequence) = (self.next_number, self.next_sequence);
        let bytes = seal(&mut records.iter().map(|queued| &queued.item), producer, base_sequence);
        self.next_number += 1;
        self.next_sequence = behind(base_sequence, records.len());
        let mut batch = Sealed {
            number,
            bytes: bytes.clone(),
            base_sequence,
            records,
            is_on_wire: false,
            is_in_doubt: false,
            last_error: None,
            refusal: None,
        };
        batch.go();
        self.sealed.push_back(batch);
        Some(Outgoing { number, bytes })
    }

    /// Returns how many records of the queue the next batch takes.
    fn batch_count(&self, limits: &BatchLimits) -> usize {
        let (mut count, mut bytes, mut records_max) = (0, 0, limits.records_max.max(1));
        for queued in &self.queue {
            records_max = records_max.min(queued.batch_max);
            if count >= records_max || (count > 0 && bytes + queued.bytes > limits.bytes_max) {
                break;
            }
            (count, bytes) = (count + 1, bytes + queued.bytes);
        }
        count
    }

    /// Takes in what a response says of a batch; an answer to none that is on the wire is ignored.
    pub fn answered(&mut self, number: u64, answer: &Answer<'_>, now: Instant, ended: &mut Vec<Ended<T>>) {
        let Some(index) = self.on_wire(number) else { return };
        let verdict = verdict(answer.code);
        let was_in_doubt = self.sealed[index].is_in_doubt;
        if verdict == Verdict::Written || (verdict == Verdict::WrittenBefore && was_in_doubt) {
            self.written(index, answer, now, ended);
            return self.settle(ended);
        }
        let is_first = index == 0;
        let batch = &mut self.sealed[index];
        batch.is_on_wire = false;
        batch.last_error = Some(answer.code);
        match verdict {
            Verdict::InDoubt => batch.is_in_doubt = true,
            // It was never sent before: the broker has something else under this sequence.
            Verdict::Written | Verdict::WrittenBefore => (batch.is_in_doubt, self.is_broken) = (true, true),
            // With an earlier batch open, that one is what the broker misses.
            Verdict::OutOfSequence if is_first => self.is_broken = true,
            Verdict::RefusedForNow | Verdict::OutOfSequence => {}
            Verdict::TooLarge => batch.refusal = Some(Refusal::TooLarge),
            Verdict::RecordsRefused => batch.refusal = Some(Refusal::Records(batch.named(answer.refused))),
            Verdict::RefusedForGood => batch.refusal = Some(Refusal::ForGood),
        }
        self.fail(ended);
    }

    fn written(&mut self, index: usize, answer: &Answer<'_>, now: Instant, ended: &mut Vec<Ended<T>>) {
        // The broker took a later batch than one that it refused: it did not know the producer id, and has other sequences now.
        self.is_broken |= self.sealed.range(..index).any(|batch| !batch.is_on_wire && !batch.is_in_doubt);
        let base = answer.base_offset.filter(|_| answer.code == ErrorCode::NO_ERROR);
        if let Some(batch) = self.sealed.remove(index) {
            ended.extend((0_i64..).zip(batch.records).map(|(place, queued)| {
                let offset = base.map(|base| base.saturating_add(place));
                queued.end(End::Written { offset, append_ms: answer.append_ms })
            }));
        }
        (self.acknowledged, self.failures, self.has_failed, self.retry_at) = (Some(now), 0, false, None);
    }

    /// Takes in that no answer to a batch will come: its connection is lost, or it took too long.
    pub fn lost(&mut self, number: u64, ended: &mut Vec<Ended<T>>) {
        let Some(index) = self.on_wire(number) else { return };
        let batch = &mut self.sealed[index];
        (batch.is_on_wire, batch.is_in_doubt) = (false, true);
        self.fail(ended);
    }

    /// Takes in that no byte of a batch was written to the socket.
    pub fn unsent(&mut self, number: u64, ended: &mut Vec<Ended<T>>) {
        let Some(index) = self.on_wire(number) else { return };
        let batch = &mut self.sealed[index];
        batch.is_on_wire = false;
        for queued in &mut batch.records {
            queued.attempts -= 1;
        }
        self.settle(ended);
    }

    fn fail(&mut self, ended: &mut Vec<Ended<T>>) {
        (self.acknowledged, self.has_failed) = (None, true);
        self.settle(ended);
    }

    fn on_wire(&self, number: u64) -> Option<usize> {
        self.sealed.iter().position(|batch| batch.number == number && batch.is_on_wire)
    }

    /// Decides about the sealed batches once none is on the wire: those that may be in the log stay, to be sent again as they are; those
    /// behind them go back to the queue.
    fn settle(&mut self, ended: &mut Vec<Ended<T>>) {
        if self.sealed.iter().any(|batch| batch.is_on_wire) {
            return;
        }
        if std::mem::take(&mut self.has_failed) {
            self.failures = self.failures.saturating_add(1);
        }
        let is_broken = std::mem::take(&mut self.is_broken);
        let mut back = Vec::new();
        let (mut kept, mut gap) = (VecDeque::new(), is_broken);
        let mut next_sequence = self.next_sequence;
        for mut batch in std::mem::take(&mut self.sealed) {
            let refusal = batch.refusal.take();
            if batch.is_in_doubt && (gap || refusal.is_some()) {
                // It cannot be sent again under its sequence, so that it will not be known.
                self.producer = None;
                gap = true;
                ended.extend(batch.end_all(End::InDoubt));
            } else if let Some(refusal) = refusal {
                if !gap {
                    (gap, next_sequence) = (true, batch.base_sequence);
                }
                batch.refused(&refusal, &mut back, ended);
            } else if gap {
                back.extend(batch.into_records());
            } else {
                kept.push_back(batch);
            }
        }
        // Behind the last one in doubt nothing is.
        while kept.back().is_some_and(|batch: &Sealed<T>| !batch.is_in_doubt) {
            let Some(batch) = kept.pop_back() else { break };
            next_sequence = batch.base_sequence;
            back.splice(..0, batch.into_records());
        }
        if is_broken {
            self.producer = None;
        }
        (self.sealed, self.next_sequence) = (kept, next_sequence);
        for queued in back.into_iter().rev() {
            self.queue.push_front(queued);
        }
    }
}

/// Returns the sequence behind so many records.
fn behind(sequence: i32, records: usize) -> i32 {
    let records = i32::try_from(records).unwrap_or(i32::MAX);
    sequence.wrapping_add(records) & SEQUENCE_MASK
}

#[cfg(test)]
mod tests;
