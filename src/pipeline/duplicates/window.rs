//! Owns which message ids are remembered, with what content and what end; bounded by count and age, pure.
//! Must never forget a record that is on its way: whoever brings it again would write it twice.
//!
//! A record keeps its place from its arrival until it is forgotten, so that its end is one write and no search. A hand goes round
//! over the places and takes those that are not needed any more: so records that come one after the other lie one after the other,
//! and what they touch of the memory was fetched with the one before. Only the index is looked up at random, and it is small
//! (decision 0010).

use std::{collections::VecDeque, time::Duration};

use hashbrown::HashTable;
use tokio::time::Instant;

use super::digest::{ContentDigest, Digest, low};

/// How many places the hand looks at before the window grows instead, where it may.
const LOOKED_AT_MAX: usize = 4;
/// How many places the hand frees at once.
const FREED_AT_ONCE: usize = 16;
/// The places that a window may have beyond a quarter more than those that are needed, so that a small one has some too; few in
/// tests, so that the hand comes round.
const SPARE: usize = if cfg!(test) { 1 } else { 16 };

/// Where a record is in its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// The partition.
    pub partition: i32,
    /// The offset, where the broker said it.
    pub offset: Option<i64>,
    /// Milliseconds since the epoch.
    pub timestamp_ms: i64,
}

/// How a record ended that was brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End<F> {
    /// It is in Kafka.
    Written(Written),
    /// It may be.
    Unknown(F),
    /// It surely is not: it may be brought again.
    NotWritten,
}

/// What is known of a record that is brought.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<F> {
    /// Nothing: it is on its way from now on, under that key.
    New(Key),
    /// One with its id and content is on its way; who waits was noted.
    Attached,
    /// One with its id and content is in Kafka.
    Written(Written),
    /// One with its id and content may be.
    Unknown(F),
    /// One with its id has other content.
    Reused,
}

/// A record on its way, until its end: its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key(u32);

/// The remembered ids; `W` is whoever waits for a record that another brought, `F` is a failure.
#[derive(Debug)]
pub struct Window<W, F> {
    ids_max: u32,
    age_max: Duration,
    /// How many had ended by when, the last one behind.
    ages: VecDeque<(u32, Instant)>,
    /// How many have ended that are too old now.
    old: u32,
    places: Vec<Place<W, F>>,
    /// The place that is looked at next.
    hand: usize,
    on_their_way: usize,
    /// How many have ended that are or were remembered; begins anew after 2^32, when the first is long forgotten.
    ends: u32,
    /// Where each id is, as far as it is anywhere.
    index: HashTable<u32>,
}

/// One line of the processor's cache.
#[derive(Debug)]
#[repr(align(64))]
struct Place<W, F> {
    id: Digest,
    content: ContentDigest,
    state: State<W, F>,
}

#[derive(Debug)]
enum State<W, F> {
    Free,
    /// With those who wait besides; few records have any.
    OnItsWay(Option<Box<Others<W>>>),
    Written {
        /// How many had ended before.
        before: u32,
        partition: i32,
        /// Below zero where it is not known.
        offset: i64,
        timestamp_ms: i64,
    },
    Unknown {
        before: u32,
        failure: F,
    },
}

#[derive(Debug)]
struct Others<W>(Vec<W>);

// === impl Window ===

impl<W, F: Clone> Window<W, F> {
    /// Makes an empty window of that many ended ids, none older than that. Age counts from the first [`Window::age`]
    /// after the end, which spares the ends a look at the clock.
    pub fn new(ids_max: usize, age_max: Duration) -> Self {
        Self {
            ids_max: u32::try_from(ids_max).unwrap_or(u32::MAX / 4),
            age_max,
            ages: VecDeque::new(),
            old: 0,
            places: Vec::new(),
            hand: 0,
            on_their_way: 0,
            ends: 0,
            index: HashTable::new(),
        }
    }

    /// Looks a record up; where one like it is on its way, whoever waits is taken. Of those taken before them whoever is not
    /// `awaited` any more is forgotten now and then.
    pub fn bring(
        &mut self,
        id: Digest,
        content: ContentDigest,
        waits: &mut Option<W>,
        awaited: impl Fn(&W) -> bool,
    ) -> Found<F> {
        let Self { places, index, .. } = self;
        let known =
            index.find(low(id), |number| place_at(places, *number).is_some_and(|place| place.id == id));
        if let Some(number) = known.copied() {
            if !self.is_to_spare(number) {
                return self.known(number, content, waits, awaited);
            }
            self.free(number);
        }
        let number = self.take_place();
        let Self { places, index, .. } = self;
        if let Some(place) = place_at_mut(places, number) {
            *place = Place { id, content, state: State::OnItsWay(None) };
        }
        let hash = |number: &u32| place_at(places, *number).map_or(0, |place| low(place.id));
        index.insert_unique(low(id), number, hash);
        self.on_their_way += 1;
        Found::New(Key(number))
    }

    /// Tells the window the time, for the age of those that have ended.
    pub fn age(&mut self, now: Instant) {
        self.ages.push_back((self.ends, now));
        while let Some((ends, at)) = self.ages.front() {
            if now.saturating_duration_since(*at) < self.age_max {
                return;
            }
            self.old = *ends;
            self.ages.pop_front();
        }
    }

    /// Returns whether others wait for the record that is on its way, and are `awaited` themselves.
    pub fn has_company(&self, key: Key, awaited: impl Fn(&W) -> bool) -> bool {
        match place_at(&self.places, key.0).map(|place| &place.state) {
            Some(State::OnItsWay(Some(others))) => others.0.iter().any(awaited),
            Some(State::OnItsWay(None) | State::Written { .. } | State::Unknown { .. } | State::Free)
            | None => false,
        }
    }

    /// Notes how the record on its way ended, whose key is no more; returns who else waited for it.
    pub fn end(&mut self, key: Key, end: End<F>) -> Vec<W> {
        let before = self.ends;
        let Some(place) = place_at_mut(&mut self.places, key.0) else { return Vec::new() };
        let State::OnItsWay(others) = &mut place.state else { return Vec::new() };
        let others = others.take();
        self.on_their_way -= 1;
        place.state = match end {
            End::Written(Written { partition, offset, timestamp_ms }) => {
                State::Written { before, partition, offset: offset.unwrap_or(-1), timestamp_ms }
            }
            End::Unknown(failure) => State::Unknown { before, failure },
            End::NotWritten => {
                self.free(key.0);
                return waiting(others);
            }
        };
        self.ends = self.ends.wrapping_add(1);
        waiting(others)
    }

    /// Says what is known of a record that is on its way or has ended.
    fn known(
        &mut self,
        number: u32,
        content: ContentDigest,
        waits: &mut Option<W>,
        awaited: impl Fn(&W) -> bool,
    ) -> Found<F> {
        let place = place_at_mut(&mut self.places, number).filter(|place| place.content == content);
        match place.map(|place| &mut place.state) {
            Some(State::OnItsWay(others)) => {
                let others = &mut others.get_or_insert_with(|| Box::new(Others(Vec::new()))).0;
                // Before there is to be more room, which doubles: each is looked at a few times at most.
                if others.len() == others.capacity() {
                    others.retain(awaited);
                    others.reserve(others.len().max(1));
                }
                others.extend(waits.take());
                Found::Attached
            }
            Some(State::Written { partition, offset, timestamp_ms, .. }) => {
                let offset = (*offset >= 0).then_some(*offset);
                Found::Written(Written { partition: *partition, offset, timestamp_ms: *timestamp_ms })
            }
            Some(State::Unknown { failure, .. }) => Found::Unknown(failure.clone()),
            // The index has no place that is free.
            Some(State::Free) | None => Found::Reused,
        }
    }

    /// Finds a place for one more record, and forgets what was there.
    fn take_place(&mut self) -> u32 {
        // Of so many places a fifth can be spared, so the hand does not go far.
        let needed = self.on_their_way + usize::try_from(self.ids_max).unwrap_or(usize::MAX / 2);
        let places_max = needed + needed / 4 + SPARE;
        for looked_at in 0.. {
            let count = self.places.len();
            if looked_at >= count.min(LOOKED_AT_MAX) && count < places_max {
                break;
            }
            if self.hand >= count {
                self.hand = 0;
            }
            let number = u32::try_from(self.hand).unwrap_or(u32::MAX);
            self.hand += 1;
            if self.is_to_spare(number) {
                self.free_from(number);
                return number;
            }
        }
        let number = u32::try_from(self.places.len()).unwrap_or(u32::MAX);
        self.places.push(Place { id: 0, content: 0, state: State::Free });
        number
    }

    /// Returns whether a place is free, or what has ended there is too old or too many have ended since.
    fn is_to_spare(&self, number: u32) -> bool {
        match place_at(&self.places, number).map(|place| &place.state) {
            Some(State::Free) => true,
            Some(State::OnItsWay(_)) | None => false,
            Some(State::Written { before, .. } | State::Unknown { before, .. }) => {
                let young = self.ends.wrapping_sub(self.old);
                self.ends.wrapping_sub(*before) > young.min(self.ids_max)
            }
        }
    }

    /// Frees a place that can be spared, where it is not yet, and some behind it: what they wait for of the memory comes at once.
    fn free_from(&mut self, number: u32) {
        if place_at(&self.places, number).is_some_and(|place| matches!(place.state, State::Free)) {
            return;
        }
        for next in (number..).take(FREED_AT_ONCE) {
            if !self.is_to_spare(next) {
                return;
            }
            self.free(next);
        }
    }

    /// Frees a place; what was there is not found any more.
    fn free(&mut self, number: u32) {
        let Some(place) = place_at_mut(&mut self.places, number) else { return };
        if matches!(place.state, State::Free) {
            return;
        }
        place.state = State::Free;
        if let Ok(indexed) = self.index.find_entry(low(place.id), |indexed| *indexed == number) {
            indexed.remove();
        }
    }
}

fn place_at<W, F>(places: &[Place<W, F>], number: u32) -> Option<&Place<W, F>> {
    places.get(usize::try_from(number).ok()?)
}

fn place_at_mut<W, F>(places: &mut [Place<W, F>], number: u32) -> Option<&mut Place<W, F>> {
    places.get_mut(usize::try_from(number).ok()?)
}

fn waiting<W>(others: Option<Box<Others<W>>>) -> Vec<W> {
    others.map(|others| others.0).unwrap_or_default()
}

#[cfg(test)]
mod tests;
