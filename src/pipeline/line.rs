//! Owns the order of one partition's records: which wait here, which librdkafka has, and which may go next.
//! Must never let a record go before an earlier one that waits, nor read a clock; it decides, `held` acts.
//!
//! Records go in runs. A run is what librdkafka will put into one request: it begins when nothing of the partition is in
//! flight, takes records for a moment, and the next one begins when all its outcomes are known. With never two requests of a
//! partition in flight none of them can arrive out of sequence, to which librdkafka would answer by numbering all
//! partitions anew, and so double what another partition has on its way (decision 0008).

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

/// The bits of a [`Place`]: at a million records a second they repeat after 203 days, when the first is long forgotten.
pub const PLACE_BITS: u32 = 44;
/// Room that is kept when a line runs empty, and for slots that hold nothing any more, in records; little in tests of the line, so
/// that they come to its end.
const CAPACITY_KEPT: usize = if cfg!(test) { 8 } else { 1024 };

const PLACE_MASK: u64 = (1 << PLACE_BITS) - 1;

/// A record's place in the order of its partition; counts up and begins anew after [`PLACE_BITS`].
pub type Place = u64;

/// What bounds one run.
#[derive(Debug, Clone, Copy)]
pub struct RunBounds {
    /// The most records.
    pub records_max: usize,
    /// The most bytes, as they are counted for [`Line::push`]; a larger record goes alone.
    pub bytes_max: usize,
    /// How long after its first record a run takes more; shorter than librdkafka lingers, so that all go in one request.
    pub join_max: Duration,
}

/// The records of one partition from their acceptance to their outcome.
#[derive(Debug)]
pub struct Line<T> {
    /// The place of the next record.
    next: Place,
    /// In the order of their places. Behind a run that gets no answer records come and are taken out for as long as that lasts.
    slots: VecDeque<Slot<T>>,
    /// How many slots hold nothing any more.
    gone: usize,
    /// How many slots from the front on do not wait; those behind may.
    gone_over: usize,
    waiting: usize,
    in_flight: usize,
    run: Option<Run>,
}

#[derive(Debug)]
struct Slot<T> {
    place: Place,
    state: SlotState<T>,
    bytes: usize,
    /// The most records that a run with this one may have: fewer after each run that was refused for its size.
    company_max: usize,
}

#[derive(Debug)]
enum SlotState<T> {
    Waiting(T),
    InFlight(T),
    Gone,
}

/// The records in flight.
#[derive(Debug)]
struct Run {
    /// The producer that has them.
    by: u64,
    begun: Instant,
    records: usize,
    bytes: usize,
    company_max: usize,
    /// Whether one of it came back, behind which nothing may go.
    closed: bool,
    /// Whether those that were refused for others' sake are told apart from those at fault.
    told_apart: bool,
}

// === impl Line ===

impl<T> Default for Line<T> {
    fn default() -> Self {
        Self { next: 0, slots: VecDeque::new(), gone: 0, gone_over: 0, waiting: 0, in_flight: 0, run: None }
    }
}

impl<T> Line<T> {
    /// Takes a record in behind all others; `bytes` is what it counts in its run.
    pub fn push(&mut self, item: T, bytes: usize) -> Place {
        let place = self.next;
        self.next = place.wrapping_add(1) & PLACE_MASK;
        self.slots.push_back(Slot { place, state: SlotState::Waiting(item), bytes, company_max: usize::MAX });
        self.waiting += 1;
        place
    }

    /// Returns the record that may be handed over now, if any, and counts it as in flight.
    ///
    /// `by` is the number of the producer that it goes to: a run goes through one.
    pub fn start_next(&mut self, now: Instant, bounds: &RunBounds, by: u64) -> Option<(Place, &mut T)> {
        if self.waiting == 0 {
            return None;
        }
        while self.slots.get(self.gone_over).is_some_and(|slot| !slot.is_waiting()) {
            self.gone_over += 1;
        }
        let slot = self.slots.get_mut(self.gone_over)?;
        let run = match &mut self.run {
            Some(run) if run.by != by || !run.takes(slot.bytes, slot.company_max, now, bounds) => {
                return None;
            }
            Some(run) => run,
            None => self.run.insert(Run {
                by,
                begun: now,
                records: 0,
                bytes: 0,
                company_max: usize::MAX,
                closed: false,
                told_apart: false,
            }),
        };
        run.records += 1;
        run.bytes += slot.bytes;
        run.company_max = run.company_max.min(slot.company_max);
        self.waiting -= 1;
        self.in_flight += 1;
        let place = slot.place;
        self.gone_over += 1;
        let slot = self.slots.get_mut(self.gone_over - 1)?;
        if let SlotState::Waiting(item) = std::mem::replace(&mut slot.state, SlotState::Gone) {
            slot.state = SlotState::InFlight(item);
        }
        match &mut slot.state {
            SlotState::InFlight(item) => Some((place, item)),
            SlotState::Waiting(_) | SlotState::Gone => None,
        }
    }

    /// Takes out a record whose outcome is known.
    pub fn end(&mut self, place: Place) -> Option<T> {
        let slot = self.slot(place)?;
        if !matches!(slot.state, SlotState::InFlight(_)) {
            return None;
        }
        let item = slot.take();
        self.gone += 1;
        self.landed();
        item
    }

    /// Puts a record back to wait in its place, because the run that it was in was refused for another's sake or for its size, and returns it.
    ///
    /// Its next run has at most half as many records; `None`, and nothing is done, where it was alone already.
    pub fn put_back(&mut self, place: Place) -> Option<&mut T> {
        let records = self.run.as_ref().map(|run| run.records).filter(|records| *records > 1)?;
        self.wait_again(place, records / 2)
    }

    /// Puts a record back to wait in its place, because its producer did not send it, and returns it.
    pub fn take_back(&mut self, place: Place) -> Option<&mut T> {
        let company_max = self.slots.get(self.index(place)?)?.company_max;
        self.wait_again(place, company_max)
    }

    /// Takes out all records in flight, in order, if that producer has them.
    pub fn take_in_flight(&mut self, by: u64) -> Vec<T> {
        if self.run.take_if(|run| run.by == by).is_none() {
            return Vec::new();
        }
        let in_flight = self.slots.iter_mut().filter(|slot| matches!(slot.state, SlotState::InFlight(_)));
        let taken: Vec<_> = in_flight.filter_map(Slot::take).collect();
        self.in_flight = 0;
        self.gone += taken.len();
        self.tidy();
        taken
    }

    fn wait_again(&mut self, place: Place, company_max: usize) -> Option<&mut T> {
        let slot = self.slot(place)?;
        let SlotState::InFlight(_) = slot.state else { return None };
        if let SlotState::InFlight(item) = std::mem::replace(&mut slot.state, SlotState::Gone) {
            slot.state = SlotState::Waiting(item);
        }
        slot.company_max = company_max;
        self.waiting += 1;
        self.gone_over = self.gone_over.min(self.index(place)?);
        if let Some(run) = &mut self.run {
            run.closed = true;
        }
        self.landed();
        match &mut self.slot(place)?.state {
            SlotState::Waiting(item) => Some(item),
            SlotState::InFlight(_) | SlotState::Gone => None,
        }
    }

    /// Returns whether the records in flight were handed over together with others.
    #[must_use]
    pub fn is_in_company(&self) -> bool {
        self.run.as_ref().is_some_and(|run| run.records > 1)
    }

    /// Notes that in the run in flight those at fault are told apart from the others.
    pub fn tell_apart(&mut self) {
        if let Some(run) = &mut self.run {
            run.told_apart = true;
        }
    }

    /// Returns whether that was noted.
    #[must_use]
    pub fn is_told_apart(&self) -> bool {
        self.run.as_ref().is_some_and(|run| run.told_apart)
    }

    /// Returns the bytes of the run in flight, as they were counted for [`Line::push`].
    #[must_use]
    pub fn run_bytes(&self) -> usize {
        self.run.as_ref().map_or(0, |run| run.bytes)
    }

    /// Returns the record in flight at that place.
    #[must_use]
    pub fn in_flight(&self, place: Place) -> Option<&T> {
        match &self.slots.get(self.index(place)?)?.state {
            SlotState::InFlight(item) => Some(item),
            SlotState::Waiting(_) | SlotState::Gone => None,
        }
    }

    /// Returns the record that waits at that place.
    #[must_use]
    pub fn waiting(&self, place: Place) -> Option<&T> {
        match &self.slots.get(self.index(place)?)?.state {
            SlotState::Waiting(item) => Some(item),
            SlotState::InFlight(_) | SlotState::Gone => None,
        }
    }

    /// Takes a record out if it waits here.
    pub fn withdraw(&mut self, place: Place) -> Option<T> {
        let slot = self.slot(place)?;
        if !slot.is_waiting() {
            return None;
        }
        let item = slot.take();
        self.waiting -= 1;
        self.gone += 1;
        self.tidy();
        item
    }

    /// Takes out all records that wait here, in order.
    pub fn take_waiting(&mut self) -> Vec<T> {
        let waiting = self.slots.iter_mut().filter(|slot| slot.is_waiting());
        let taken: Vec<_> = waiting.filter_map(Slot::take).collect();
        self.waiting = 0;
        self.gone += taken.len();
        self.tidy();
        taken
    }

    /// Returns whether any record waits here.
    #[must_use]
    pub const fn is_waiting(&self) -> bool {
        self.waiting > 0
    }

    /// Returns how many records wait here.
    #[must_use]
    pub const fn waiting_count(&self) -> usize {
        self.waiting
    }

    /// Returns the first of the records that wait here.
    #[must_use]
    pub fn first_waiting(&self) -> Option<&T> {
        self.slots.iter().skip(self.gone_over).find_map(|slot| match &slot.state {
            SlotState::Waiting(item) => Some(item),
            SlotState::InFlight(_) | SlotState::Gone => None,
        })
    }

    /// Returns whether nothing is in flight, so that the next run may begin.
    #[must_use]
    pub const fn is_idle(&self) -> bool {
        self.in_flight == 0
    }

    fn landed(&mut self) {
        self.in_flight -= 1;
        if self.in_flight == 0 {
            self.run = None;
        }
        self.tidy();
    }

    /// Forgets the slots at the front whose records are gone; all others too once they are the most.
    fn tidy(&mut self) {
        while self.slots.front().is_some_and(|slot| matches!(slot.state, SlotState::Gone)) {
            self.slots.pop_front();
            self.gone -= 1;
            self.gone_over = self.gone_over.saturating_sub(1);
        }
        if self.gone > CAPACITY_KEPT.max(self.slots.len() / 2) {
            self.slots.retain(|slot| !matches!(slot.state, SlotState::Gone));
            self.slots.shrink_to(2 * self.slots.len().max(CAPACITY_KEPT));
            (self.gone, self.gone_over) = (0, 0);
        }
        if self.slots.is_empty() && self.slots.capacity() > CAPACITY_KEPT {
            self.slots.shrink_to(CAPACITY_KEPT);
        }
    }

    fn index(&self, place: Place) -> Option<usize> {
        let first = self.slots.front()?.place;
        let behind = |place: Place| place.wrapping_sub(first) & PLACE_MASK;
        // That is where it lies unless slots before it were forgotten.
        let index = usize::try_from(behind(place)).ok()?;
        if self.slots.get(index).is_some_and(|slot| slot.place == place) {
            return Some(index);
        }
        self.slots.binary_search_by_key(&behind(place), |slot| behind(slot.place)).ok()
    }

    fn slot(&mut self, place: Place) -> Option<&mut Slot<T>> {
        let index = self.index(place)?;
        self.slots.get_mut(index)
    }
}

// === impl Slot ===

impl<T> Slot<T> {
    const fn is_waiting(&self) -> bool {
        matches!(self.state, SlotState::Waiting(_))
    }

    fn take(&mut self) -> Option<T> {
        match std::mem::replace(&mut self.state, SlotState::Gone) {
            SlotState::Waiting(item) | SlotState::InFlight(item) => Some(item),
            SlotState::Gone => None,
        }
    }
}

// === impl Run ===

impl Run {
    fn takes(&self, bytes: usize, company_max: usize, now: Instant, bounds: &RunBounds) -> bool {
        !self.closed
            && now.saturating_duration_since(self.begun) < bounds.join_max
            && self.records < bounds.records_max.min(self.company_max).min(company_max)
            && self.bytes.saturating_add(bytes) <= bounds.bytes_max
    }
}

#[cfg(test)]
mod tests;
