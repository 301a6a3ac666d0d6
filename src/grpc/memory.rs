//! Owns the bytes that requests may take of the process, all connections together: one budget in four pools.
//! Must never grant more than a pool has (save one message to an empty pool), nor keep what its owner dropped.
//!
//! A message takes its bytes before they are read, so that HTTP/2's windows hold its caller back. The pools are taken in one
//! order (body, unpacked, built), and who holds of a later one never waits for an earlier one: no two messages can wait for
//! each other. Small bodies have a pool of their own, so that they get through while large ones wait.
//!
//! ```text
//! take -> fair and free: granted
//!      -> else: waits in order of arrival -> granted by who gives back
//!                                         -> dropped: leaves the line
//! ```
//! A stream holds at most as much of a pool as is free, a connection three times that (the dynamic thresholds of
//! `pipeline/budget.rs`); one message is always fair, and so is a connection's equal share. Who asks for no more than that and finds no
//! room has bodies give way that do not become whole, and a place in a full line.

mod unfinished;

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::oneshot::{self, error::TryRecvError},
    time::timeout,
};

use self::unfinished::Unfinished;

/// The largest body that counts as small, in bytes: HTTP/2's own default window.
const SMALL_BYTES_MAX: usize = 65_536;
/// What a body counts at least, in bytes: its buffer and what stands around it.
const BODY_BYTES_MIN: usize = 256;
/// The budget is divided into so many parts; [`Kind::parts`] says who has how many.
const PARTS: usize = 8;
/// How many times as much as is free one stream may hold.
const STREAM_FACTOR: usize = 1;
/// How many times as much as is free one connection may hold.
const CONNECTION_FACTOR: usize = 3;
/// How often who is within its share looks again for bodies that have to give way.
const LOOK: Duration = Duration::from_millis(50);

/// What bytes are taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    SmallBody,
    LargeBody,
    Unpacked,
    Built,
}

/// The budget of all requests.
#[derive(Debug)]
pub struct Memory {
    /// In the order of [`Kind`].
    pools: [Arc<Pool>; 4],
    streams: AtomicU64,
}

/// Who holds bytes: a stream, its connection, both or nobody; by their numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Owner {
    stream: Option<u64>,
    connection: Option<u64>,
}

/// Bytes of a pool, given back when dropped.
#[derive(Debug)]
pub struct Permit {
    pool: Arc<Pool>,
    owner: Owner,
    bytes: usize,
}

/// Hears that a body has to give way; dropped once the body is whole.
#[derive(Debug)]
pub struct GivesWay {
    pool: Arc<Pool>,
    number: u64,
    asked: oneshot::Receiver<()>,
}

/// More requests wait for memory than may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyWait;

/// One pool of the budget.
#[derive(Debug)]
pub struct Pool {
    bytes_max: usize,
    waiting_max: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    taken: usize,
    /// What streams and connections hold, of those that hold anything.
    by_stream: HashMap<u64, usize>,
    by_connection: HashMap<u64, usize>,
    waiting: VecDeque<Waiter>,
    unfinished: Unfinished,
    next: u64,
}

#[derive(Debug)]
struct Waiter {
    number: u64,
    bytes: usize,
    owner: Owner,
    grant: oneshot::Sender<Permit>,
}

/// A place in a pool's line, left when dropped.
struct Place<'a> {
    pool: &'a Pool,
    number: u64,
}

// === impl Memory ===

impl Memory {
    /// Makes a budget of so many bytes, for whose pools at most so many requests each may wait.
    #[must_use]
    pub fn new(bytes_max: usize, waiting_max: usize) -> Arc<Self> {
        let pool = |kind: Kind| {
            let bytes_max = bytes_max / PARTS * kind.parts();
            Arc::new(Pool { bytes_max, waiting_max, state: Mutex::default() })
        };
        let pools = [Kind::SmallBody, Kind::LargeBody, Kind::Unpacked, Kind::Built].map(pool);
        Arc::new(Self { pools, streams: AtomicU64::default() })
    }

    /// Takes the bytes of a body, before it is read; it may have to give way until it is whole.
    ///
    /// # Errors
    /// Where too many wait already.
    pub async fn body(&self, owner: Owner, bytes: usize) -> Result<(Permit, GivesWay), TooManyWait> {
        let kind = if bytes <= SMALL_BYTES_MAX { Kind::SmallBody } else { Kind::LargeBody };
        let permit = self.pool(kind).take(owner, bytes.max(BODY_BYTES_MIN)).await?;
        let pool = Arc::clone(&permit.pool);
        let (number, asked) = pool.state.lock().unfinished.begin(owner.connection, permit.bytes);
        Ok((permit, GivesWay { pool, number, asked }))
    }

    /// Takes the bytes that a body may unpack to, before it is unpacked.
    ///
    /// # Errors
    /// Where too many wait already.
    pub async fn unpacked(&self, owner: Owner, bytes: usize) -> Result<Permit, TooManyWait> {
        self.pool(Kind::Unpacked).take(owner, bytes).await
    }

    /// Takes what a message takes once it is decoded, before it is.
    ///
    /// # Errors
    /// Where too many wait already.
    pub async fn built(&self, owner: Owner, bytes: usize) -> Result<Permit, TooManyWait> {
        self.pool(Kind::Built).take(owner, bytes).await
    }

    /// Makes the owner of a new stream on that connection, where it is known.
    #[must_use]
    pub fn stream(&self, connection: Option<u64>) -> Owner {
        Owner { stream: Some(self.streams.fetch_add(1, Ordering::Relaxed)), ..Owner::of_call(connection) }
    }

    /// Returns the most that a decoded message may take: all that there is for such.
    #[must_use]
    pub fn built_bytes_max(&self) -> usize {
        self.pool(Kind::Built).bytes_max
    }

    /// Returns how many bytes are taken, and how many requests wait for some.
    #[must_use]
    pub fn taken(&self) -> (usize, usize) {
        let each = self.pools.iter().map(|pool| {
            let state = pool.state.lock();
            (state.taken, state.waiting.len())
        });
        each.fold((0, 0), |sum, each| (sum.0 + each.0, sum.1 + each.1))
    }

    fn pool(&self, kind: Kind) -> &Arc<Pool> {
        &self.pools[kind as usize]
    }
}

impl Kind {
    const fn parts(self) -> usize {
        match self {
            Self::SmallBody | Self::Built => 2,
            Self::LargeBody => 3,
            Self::Unpacked => 1,
        }
    }
}

// === impl Owner ===

impl Owner {
    /// Makes the owner of a call on that connection, where it is known.
    #[must_use]
    pub const fn of_call(connection: Option<u64>) -> Self {
        Self { stream: None, connection }
    }
}

// === impl Pool ===

impl Pool {
    async fn take(self: &Arc<Self>, owner: Owner, bytes: usize) -> Result<Permit, TooManyWait> {
        let (number, mut granted, is_within_share) = {
            let mut state = self.state.lock();
            // Nobody who waits is passed by.
            if state.waiting.is_empty() && self.fits(&state, bytes) && self.is_fair(&state, owner, bytes) {
                return Ok(self.grant(&mut state, owner, bytes));
            }
            let is_within_share = self.is_within_share(&state, owner, bytes);
            if state.waiting.len() >= self.waiting_max && !(is_within_share && state.displace(owner)) {
                return Err(TooManyWait);
            }
            let (grant, granted) = oneshot::channel();
            let number = state.next;
            state.next += 1;
            state.waiting.push_back(Waiter { number, bytes, owner, grant });
            (number, granted, is_within_share)
        };
        let _place = Place { pool: self, number };
        // Those who wait may be waiting for their own alone.
        self.serve();
        if !is_within_share {
            return granted.await.map_err(|_| TooManyWait);
        }
        loop {
            match granted.try_recv() {
                Ok(permit) => return Ok(permit),
                Err(TryRecvError::Closed) => return Err(TooManyWait),
                Err(TryRecvError::Empty) => self.have_others_give_way(bytes),
            }
            if let Ok(granted) = timeout(LOOK, &mut granted).await {
                return granted.map_err(|_| TooManyWait);
            }
        }
    }

    fn have_others_give_way(&self, bytes: usize) {
        let mut state = self.state.lock();
        let State { taken, by_connection, unfinished, .. } = &mut *state;
        unfinished.give_way(taken.saturating_add(bytes).saturating_sub(self.bytes_max), by_connection);
    }

    fn fits(&self, state: &State, bytes: usize) -> bool {
        state.taken == 0 || state.taken.saturating_add(bytes) <= self.bytes_max
    }

    fn is_fair(&self, state: &State, owner: Owner, bytes: usize) -> bool {
        let free = self.bytes_max.saturating_sub(state.taken);
        let of_stream = owner.stream.and_then(|number| state.by_stream.get(&number));
        let of_connection = owner.connection.and_then(|number| state.by_connection.get(&number));
        // One who holds nothing is always fair.
        let is_within = |held: Option<&usize>, factor: usize| {
            held.is_none_or(|held| held.saturating_add(bytes) <= free.saturating_mul(factor))
        };
        let is_fair = is_within(of_stream, STREAM_FACTOR) && is_within(of_connection, CONNECTION_FACTOR);
        is_fair || self.is_within_share(state, owner, bytes)
    }

    /// Returns whether a connection would hold no more than each does if all of them hold the same.
    fn is_within_share(&self, state: &State, owner: Owner, bytes: usize) -> bool {
        let Some(connection) = owner.connection else { return false };
        let held = state.by_connection.get(&connection);
        let share = self.bytes_max / (state.by_connection.len() + 1);
        held.is_none_or(|held| held.saturating_add(bytes) <= share)
    }

    fn grant(self: &Arc<Self>, state: &mut State, owner: Owner, bytes: usize) -> Permit {
        state.taken += bytes;
        if let Some(number) = owner.stream {
            *state.by_stream.entry(number).or_default() += bytes;
        }
        if let Some(number) = owner.connection {
            *state.by_connection.entry(number).or_default() += bytes;
        }
        Permit { pool: Arc::clone(self), owner, bytes }
    }

    fn give_back(self: &Arc<Self>, owner: Owner, bytes: usize) {
        {
            let mut state = self.state.lock();
            state.taken = state.taken.saturating_sub(bytes);
            give_back(&mut state.by_stream, owner.stream, bytes);
            give_back(&mut state.by_connection, owner.connection, bytes);
            if state.waiting.is_empty() {
                return;
            }
        }
        self.serve();
    }

    /// Grants what can be granted, in order of arrival. Who has its fair part already is passed by; who finds no room is not.
    fn serve(self: &Arc<Self>) {
        let mut granted = Vec::new();
        {
            let mut state = self.state.lock();
            let mut index = 0;
            while let Some(waiter) = state.waiting.get(index) {
                if !self.is_fair(&state, waiter.owner, waiter.bytes) {
                    index += 1;
                } else if self.fits(&state, waiter.bytes) {
                    let Some(Waiter { bytes, owner, grant, .. }) = state.waiting.remove(index) else { break };
                    granted.push((grant, self.grant(&mut state, owner, bytes)));
                } else {
                    break;
                }
            }
        }
        // Outside of the lock: what nobody waits for any more drops, and is given back.
        for (grant, permit) in granted {
            drop(grant.send(permit));
        }
    }
}

impl State {
    /// Takes the last place in the line from another connection, from the one that has most; returns whether one has several.
    fn displace(&mut self, owner: Owner) -> bool {
        let mut places: HashMap<Option<u64>, (usize, usize)> = HashMap::new();
        for (index, waiter) in self.waiting.iter().enumerate() {
            let (count, last) = places.entry(waiter.owner.connection).or_default();
            (*count, *last) = (*count + 1, index);
        }
        places.remove(&owner.connection);
        let most = places.into_values().max().filter(|(count, _)| *count > 1);
        most.and_then(|(_, last)| self.waiting.remove(last)).is_some()
    }
}

fn give_back(holders: &mut HashMap<u64, usize>, number: Option<u64>, bytes: usize) {
    let Some(number) = number else { return };
    if let Some(held) = holders.get_mut(&number) {
        *held = held.saturating_sub(bytes);
        if *held == 0 {
            holders.remove(&number);
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.pool.state.lock().waiting.retain(|waiter| waiter.number != self.number);
    }
}

// === impl GivesWay ===

impl GivesWay {
    /// Waits until the body has to give way; for ever, if it need not.
    pub async fn asked(&mut self) {
        if (&mut self.asked).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for GivesWay {
    fn drop(&mut self) {
        self.pool.state.lock().unfinished.end(self.number);
    }
}

// === impl Permit ===

impl Permit {
    /// Gives back all but so many bytes.
    pub fn shrink_to(&mut self, bytes: usize) {
        if let Some(more) = self.bytes.checked_sub(bytes).filter(|more| *more > 0) {
            self.bytes = bytes;
            self.pool.give_back(self.owner, more);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.pool.give_back(self.owner, self.bytes);
    }
}

#[cfg(test)]
mod tests;
