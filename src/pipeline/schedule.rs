//! Owns which units of ProcessAndForward may start, which of them share a transaction, and who holds which key until its end.
//! Must never let two transactions hold one key, nor a unit overtake another on a key; it decides, and knows no clock and no
//! Kafka.
//!
//! Kafka does not order two open transactions that commit offsets for one partition of a group: where the later commits and
//! the earlier aborts, input is skipped. So a unit starts when all its keys are free and none of them is named by an earlier
//! unit that waits. Many units go into one transaction, because a lane commits only tens of transactions a second. Units that
//! name the same key join only as a chain, each beginning where the one before it ends, since a transaction keeps one offset
//! for each partition: the last.
//!
//! Waiting units are indexed by their keys, and each counts the keys that it misses, so nothing here walks the whole queue.
//! With `k` keys in a unit and `n` units here, `push`, `end`, `withdraw` and `put_back` cost O(k log n) for each unit. `start`
//! looks at the units that it takes, at most [`PASSED_OVER_MAX`] that do not fit, and for each key that it takes at the one
//! unit that waits next for it; each of these costs O(k log n) too.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use crate::record::Topic;

/// The most units that may start and do not fit which one `start` passes over in search of smaller ones.
pub const PASSED_OVER_MAX: usize = 32;
/// Room that is kept when nothing is left here, in units and in keys.
const CAPACITY_KEPT: usize = 1024;

/// A unit's place in the order of arrival; counts up from 0 and never repeats.
pub type Number = u64;

/// What a unit claims, each key once.
pub type Claims = BTreeMap<Key, Claim>;

/// An input partition of a consumer group, which one transaction at a time may commit offsets for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The group's id.
    pub group: Arc<str>,
    /// The input topic.
    pub topic: Topic,
    /// The partition, zero or more.
    pub partition: i32,
}

/// How a unit moves the committed offset of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The offset that was committed before the unit, where its caller says it.
    pub expected: Option<i64>,
    /// The offset to commit: the last processed one plus 1.
    pub next: i64,
}

/// What a unit needs of its transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demand<M> {
    /// Who commits: generation, member and instance. Units that share a key share a transaction only where it is equal.
    pub membership: M,
    /// The keys that the unit holds from its start to its end; empty for a unit without inputs, which waits for nobody.
    pub claims: Claims,
    /// The records to write, a count.
    pub records: usize,
    /// Their size, in bytes.
    pub bytes: usize,
}

/// What bounds one transaction. A unit that is larger by itself goes alone.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// The most units; 0 is read as 1.
    pub units_max: usize,
    /// The most records of all units together.
    pub records_max: usize,
    /// The most bytes of all records together.
    pub bytes_max: usize,
}

/// A unit that was started.
#[derive(Debug)]
pub struct Unit<M, T> {
    /// Its place in the order of arrival, by which it is ended.
    pub number: Number,
    /// What it needs of its transaction.
    pub demand: Arc<Demand<M>>,
    /// What its owner gave along.
    pub item: T,
}

/// The units from their arrival to their end.
#[derive(Debug)]
pub struct Schedule<M, T> {
    next: Number,
    units: HashMap<Number, Entry<M, T>>,
    /// The keys that a unit here names.
    keys: HashMap<Key, Queue>,
    /// The waiting units that miss no key.
    ready: BTreeSet<Number>,
    waiting: usize,
}

#[derive(Debug)]
struct Entry<M, T> {
    demand: Arc<Demand<M>>,
    /// The most units that a transaction with this one may have: fewer after one that was aborted.
    company_max: usize,
    state: State<T>,
}

#[derive(Debug)]
enum State<T> {
    /// `missing` counts the keys that are held, or that an earlier unit waits for.
    Waiting {
        item: T,
        missing: usize,
    },
    Started,
}

#[derive(Debug, Default)]
struct Queue {
    /// How many started units hold the key; all of one transaction.
    held: usize,
    waiting: BTreeSet<Number>,
}

/// A transaction while its units are chosen.
struct Draft<'a, M> {
    bounds: &'a Bounds,
    units: usize,
    records: usize,
    bytes: usize,
    company_max: usize,
    /// The last unit of each key in it.
    ends: HashMap<Key, Arc<Demand<M>>>,
    /// The units that wait next for a key in it, and may carry on its chain.
    followers: BTreeSet<Number>,
}

/// Merges what the units of one transaction claim, in their order, into the offset to commit for each key: the chain's last.
///
/// Where units differ in membership, merge each membership's by itself: their keys differ.
#[must_use]
pub fn merge<'a>(units: impl IntoIterator<Item = &'a Claims>) -> BTreeMap<Key, i64> {
    units.into_iter().flatten().map(|(key, claim)| (key.clone(), claim.next)).collect()
}

// === impl Schedule ===

impl<M, T> Default for Schedule<M, T> {
    fn default() -> Self {
        Self { next: 0, units: HashMap::new(), keys: HashMap::new(), ready: BTreeSet::new(), waiting: 0 }
    }
}

impl<M: Eq, T> Schedule<M, T> {
    /// Takes a unit in behind all others and returns its number.
    pub fn push(&mut self, demand: Demand<M>, item: T) -> Number {
        let number = self.next;
        self.next += 1;
        let mut missing = 0;
        for key in demand.claims.keys() {
            let queue = self.keys.entry(key.clone()).or_default();
            queue.waiting.insert(number);
            if queue.turn() != Some(number) {
                missing += 1;
            }
        }
        if missing == 0 {
            self.ready.insert(number);
        }
        self.waiting += 1;
        let state = State::Waiting { item, missing };
        self.units.insert(number, Entry { demand: Arc::new(demand), company_max: usize::MAX, state });
        number
    }

    /// Starts the units of one transaction and returns them in the order of arrival; their keys are held from now on.
    ///
    /// The first is the oldest that may start, whatever its size. Empty where none may.
    pub fn start(&mut self, bounds: &Bounds) -> Vec<Unit<M, T>> {
        let mut draft = Draft::new(bounds);
        let mut started = Vec::new();
        let (mut from, mut passed_over) = (0, 0);
        while !draft.is_full() && passed_over < PASSED_OVER_MAX {
            // A follower is younger than the unit it follows: the numbers go up, and nobody is looked at twice.
            let ready = self.ready.range(from..).next();
            let Some(number) = ready.into_iter().chain(draft.followers.first()).min().copied() else { break };
            from = number + 1;
            draft.followers.remove(&number);
            let Some(entry) = self.units.get(&number).filter(|entry| self.may_join(number, entry, &draft))
            else {
                continue;
            };
            if draft.has_room(entry) {
                started.extend(self.take(number, &mut draft));
            } else {
                passed_over += 1;
            }
        }
        started
    }

    /// Ends a started unit: others may have its keys. Nothing is done where none of that number is started.
    ///
    /// Units of one transaction that share a key free it with the last of them.
    pub fn end(&mut self, number: Number) {
        let Some(entry) = self.units.get(&number).filter(|entry| matches!(entry.state, State::Started))
        else {
            return;
        };
        let demand = Arc::clone(&entry.demand);
        self.units.remove(&number);
        self.release(&demand);
        self.tidy();
    }

    /// Takes a unit out if it waits here.
    pub fn withdraw(&mut self, number: Number) -> Option<T> {
        let State::Waiting { .. } = self.units.get(&number)?.state else { return None };
        let entry = self.units.remove(&number)?;
        self.ready.remove(&number);
        self.waiting -= 1;
        for key in entry.demand.claims.keys() {
            let Some(queue) = self.keys.get_mut(key) else { continue };
            let had_its_turn = queue.turn() == Some(number);
            queue.waiting.remove(&number);
            if had_its_turn {
                self.pass_on(key);
            }
        }
        self.tidy();
        match entry.state {
            State::Waiting { item, missing: _ } => Some(item),
            State::Started => None,
        }
    }

    /// Puts started units back to wait in their old places, because their transaction was aborted, and frees their keys.
    ///
    /// From now on none of them shares a transaction of more than `company_max` units (0 is read as 1), whoever starts it: so
    /// that the one to blame is found by halves. All units of a transaction have to come back or end before the next `start`,
    /// else a chain's beginning could come after its end. A unit that is not started is dropped.
    pub fn put_back(&mut self, units: Vec<Unit<M, T>>, company_max: usize) {
        for Unit { number, demand: _, item } in units {
            let Some(entry) = self.units.get_mut(&number) else { continue };
            let State::Started = entry.state else { continue };
            let demand = Arc::clone(&entry.demand);
            // It misses all keys, its own too, until they are released.
            entry.state = State::Waiting { item, missing: demand.claims.len() };
            entry.company_max = entry.company_max.min(company_max.max(1));
            self.waiting += 1;
            if demand.claims.is_empty() {
                self.ready.insert(number);
            }
            for key in demand.claims.keys() {
                self.keys.entry(key.clone()).or_default().waiting.insert(number);
            }
            self.release(&demand);
        }
    }

    /// Returns how many units wait.
    #[must_use]
    pub const fn waiting(&self) -> usize {
        self.waiting
    }

    /// Returns how many units are started and not ended.
    #[must_use]
    pub fn started(&self) -> usize {
        self.units.len() - self.waiting
    }

    /// Returns how many units may start. Those that would carry on the chain of one of them are not counted.
    #[must_use]
    pub fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Tells whether a transaction is to begin now: as many units may start as run already, or as one may have.
    ///
    /// So callers who wait for each other's transactions fall into two halves that take turns, in few large transactions.
    #[must_use]
    pub fn is_worth_a_start(&self, bounds: &Bounds) -> bool {
        self.ready() >= self.started().min(bounds.units_max)
    }

    /// Tells whether the unit may start with what the draft holds: each key is its own to take, or continues a chain.
    fn may_join(&self, number: Number, entry: &Entry<M, T>, draft: &Draft<'_, M>) -> bool {
        entry.demand.claims.iter().all(|(key, claim)| {
            let Some(queue) = self.keys.get(key) else { return false };
            let continues = || draft.ends.get(key).is_some_and(|before| entry.continues(before, key, *claim));
            queue.waiting.first() == Some(&number) && (queue.held == 0 || continues())
        })
    }

    fn take(&mut self, number: Number, draft: &mut Draft<'_, M>) -> Option<Unit<M, T>> {
        let entry = self.units.get_mut(&number)?;
        let State::Waiting { item, missing: _ } = std::mem::replace(&mut entry.state, State::Started) else {
            return None;
        };
        self.ready.remove(&number);
        self.waiting -= 1;
        let demand = Arc::clone(&entry.demand);
        draft.count(entry);
        for key in demand.claims.keys() {
            let Some(queue) = self.keys.get_mut(key) else { continue };
            queue.waiting.remove(&number);
            queue.held += 1;
            draft.followers.extend(queue.waiting.first());
            draft.ends.insert(key.clone(), Arc::clone(&demand));
        }
        Some(Unit { number, demand, item })
    }

    fn release(&mut self, demand: &Demand<M>) {
        for key in demand.claims.keys() {
            let Some(queue) = self.keys.get_mut(key) else { continue };
            queue.held = queue.held.saturating_sub(1);
            if queue.held == 0 {
                self.pass_on(key);
            }
        }
    }

    /// Gives a key that came free to the unit whose turn it is, or forgets it.
    fn pass_on(&mut self, key: &Key) {
        let Some(number) = self.keys.get(key).and_then(Queue::turn) else {
            self.keys.remove(key);
            return;
        };
        if let Some(Entry { state: State::Waiting { missing, .. }, .. }) = self.units.get_mut(&number) {
            *missing -= 1;
            if *missing == 0 {
                self.ready.insert(number);
            }
        }
    }

    /// Gives room back after a rush.
    fn tidy(&mut self) {
        if self.units.is_empty() {
            self.units.shrink_to(CAPACITY_KEPT);
            self.keys.shrink_to(CAPACITY_KEPT);
        }
    }
}

// === impl Entry ===

impl<M: Eq, T> Entry<M, T> {
    /// Tells whether this unit carries on, for that key, where the one before it in the transaction ends.
    fn continues(&self, before: &Demand<M>, key: &Key, claim: Claim) -> bool {
        let reached = before.claims.get(key).map(|before| before.next);
        claim.expected.is_some() && claim.expected == reached && self.demand.membership == before.membership
    }
}

// === impl Queue ===

impl Queue {
    /// Returns the unit that may have the key now; none while it is held.
    fn turn(&self) -> Option<Number> {
        if self.held == 0 { self.waiting.first().copied() } else { None }
    }
}

// === impl Draft ===

impl<'a, M> Draft<'a, M> {
    fn new(bounds: &'a Bounds) -> Self {
        let (ends, followers) = (HashMap::new(), BTreeSet::new());
        Self { bounds, units: 0, records: 0, bytes: 0, company_max: usize::MAX, ends, followers }
    }

    fn is_full(&self) -> bool {
        self.units >= self.bounds.units_max.min(self.company_max).max(1)
    }

    /// Tells whether the unit fits; the first always does.
    fn has_room<T>(&self, entry: &Entry<M, T>) -> bool {
        self.units == 0
            || (self.units < entry.company_max
                && self.records.saturating_add(entry.demand.records) <= self.bounds.records_max
                && self.bytes.saturating_add(entry.demand.bytes) <= self.bounds.bytes_max)
    }

    fn count<T>(&mut self, entry: &Entry<M, T>) {
        self.units += 1;
        self.records = self.records.saturating_add(entry.demand.records);
        self.bytes = self.bytes.saturating_add(entry.demand.bytes);
        self.company_max = self.company_max.min(entry.company_max);
    }
}

#[cfg(test)]
mod tests;
