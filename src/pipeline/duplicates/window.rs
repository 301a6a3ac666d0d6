//! Owns which message ids are remembered, with what content and what end; bounded by count and age, pure.
//! Must never forget a record that is on its way: whoever brings it again would write it twice.
//!
//! What is on its way lies in a slab, and what has ended in the order of the ends, so that most of the memory that a record
//! touches was touched just before; only the index is looked up at random, and it is small (decision 0010).

use std::{collections::VecDeque, time::Duration};

use hashbrown::HashTable;
use slab::Slab;
use tokio::time::Instant;

use super::digest::{ContentDigest, Digest, low};

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

/// A record on its way, until its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key(u32);

/// The remembered ids; `W` is whoever waits for a record that another brought, `F` is a failure.
#[derive(Debug)]
pub struct Window<W, F> {
    ids_max: usize,
    age_max: Duration,
    records: Records<W, F>,
    /// Where all of them lie, by their ids; each id once.
    index: HashTable<Place>,
}

#[derive(Debug)]
struct Records<W, F> {
    on_their_way: Slab<OnItsWay<W>>,
    /// In the order of their ends.
    ended: VecDeque<Ended<F>>,
    /// The number of the first of them; the others count up from it, and begin anew after [`NUMBER_MASK`].
    first: u32,
}

#[derive(Debug)]
struct OnItsWay<W> {
    id: Digest,
    content: ContentDigest,
    /// Those who wait besides; few records have any, and all are to be small.
    others: Option<Box<Others<W>>>,
}

#[derive(Debug)]
struct Others<W>(Vec<W>);

#[derive(Debug)]
struct Ended<F> {
    id: Digest,
    content: ContentDigest,
    at: Instant,
    end: Remembered<F>,
}

#[derive(Debug)]
enum Remembered<F> {
    Written(Written),
    Unknown(F),
}

const NUMBER_MASK: u32 = u32::MAX >> 1;

/// The number of what has ended, or with the highest bit set the key of what is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place(u32);

impl Place {
    const fn on_its_way(key: Key) -> Self {
        Self(key.0 | !NUMBER_MASK)
    }

    const fn key(self) -> Option<Key> {
        if self.0 > NUMBER_MASK { Some(Key(self.0 & NUMBER_MASK)) } else { None }
    }
}

impl Key {
    fn in_slab(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

// === impl Window ===

impl<W, F: Clone> Window<W, F> {
    /// Makes an empty window of at most so many ended ids, none older than that.
    pub fn new(ids_max: usize, age_max: Duration) -> Self {
        let records = Records { on_their_way: Slab::new(), ended: VecDeque::new(), first: 0 };
        Self { ids_max, age_max, records, index: HashTable::new() }
    }

    /// Looks a record up; where one like it is on its way, whoever waits is noted, and else handed back.
    pub fn bring(
        &mut self,
        id: Digest,
        content: ContentDigest,
        waits: W,
        now: Instant,
    ) -> (Found<F>, Option<W>) {
        self.forget_old(now);
        let Self { records, index, .. } = self;
        let Some(place) = index.find(low(id), |place| records.id(*place) == Some(id)).copied() else {
            let key = records.take_in(OnItsWay { id, content, others: None });
            index.insert_unique(low(id), Place::on_its_way(key), |place| records.hash(*place));
            return (Found::New(key), Some(waits));
        };
        if let Some(before) = place.key().and_then(|key| records.on_their_way.get_mut(key.in_slab())) {
            if before.content != content {
                return (Found::Reused, Some(waits));
            }
            before.others.get_or_insert_with(|| Box::new(Others(Vec::new()))).0.push(waits);
            return (Found::Attached, None);
        }
        let found = match records.ended(place) {
            Some(ended) if ended.content != content => Found::Reused,
            Some(Ended { end: Remembered::Written(written), .. }) => Found::Written(*written),
            Some(Ended { end: Remembered::Unknown(failure), .. }) => Found::Unknown(failure.clone()),
            // The index has nothing else.
            None => Found::Reused,
        };
        (found, Some(waits))
    }

    /// Returns whether others wait for the record that is on its way.
    pub fn has_company(&self, key: Key) -> bool {
        self.records.on_their_way.get(key.in_slab()).is_some_and(|record| record.others.is_some())
    }

    /// Notes how the record on its way ended, whose key is no more; returns who else waited for it.
    pub fn end(&mut self, key: Key, end: End<F>, now: Instant) -> Vec<W> {
        let Self { records, index, .. } = self;
        let Some(record) = records.on_their_way.try_remove(key.in_slab()) else { return Vec::new() };
        let OnItsWay { id, content, others } = record;
        let place = index.find_entry(low(id), |place| *place == Place::on_its_way(key));
        let end = match end {
            End::Written(written) => Some(Remembered::Written(written)),
            End::Unknown(failure) => Some(Remembered::Unknown(failure)),
            End::NotWritten => None,
        };
        match (place, end) {
            (Ok(mut place), Some(end)) => {
                *place.get_mut() = records.push(Ended { id, content, at: now, end });
            }
            (Ok(place), None) => drop(place.remove()),
            (Err(_), _) => {}
        }
        self.forget_old(now);
        others.map(|others| others.0).unwrap_or_default()
    }

    fn forget_old(&mut self, now: Instant) {
        let Self { records, index, .. } = self;
        while let Some(oldest) = records.ended.front() {
            let is_old = now.saturating_duration_since(oldest.at) >= self.age_max;
            if !is_old && records.ended.len() <= self.ids_max {
                return;
            }
            let first = Place(records.first);
            if let Ok(place) = index.find_entry(low(oldest.id), |place| *place == first) {
                place.remove();
            }
            records.ended.pop_front();
            records.first = records.first.wrapping_add(1) & NUMBER_MASK;
        }
    }
}

// === impl Records ===

impl<W, F> Records<W, F> {
    fn take_in(&mut self, record: OnItsWay<W>) -> Key {
        // No more are on their way than the queue takes, which is far less.
        Key(u32::try_from(self.on_their_way.insert(record)).unwrap_or(NUMBER_MASK) & NUMBER_MASK)
    }

    fn push(&mut self, ended: Ended<F>) -> Place {
        let behind = u32::try_from(self.ended.len()).unwrap_or(NUMBER_MASK);
        self.ended.push_back(ended);
        Place(self.first.wrapping_add(behind) & NUMBER_MASK)
    }

    fn ended(&self, place: Place) -> Option<&Ended<F>> {
        self.ended.get(usize::try_from(place.0.wrapping_sub(self.first) & NUMBER_MASK).ok()?)
    }

    fn id(&self, place: Place) -> Option<Digest> {
        match place.key() {
            Some(key) => self.on_their_way.get(key.in_slab()).map(|record| record.id),
            None => self.ended(place).map(|ended| ended.id),
        }
    }

    fn hash(&self, place: Place) -> u64 {
        self.id(place).map_or(0, low)
    }
}

#[cfg(test)]
mod tests;
