//! Owns deduplication: whether a record with a message id is on its way or written already, and who is told its end.
//! Must never be taken across pods or restarts: it remembers in memory, for this process alone.

mod digest;
mod window;

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::time::{Instant, MissedTickBehavior, interval};

use self::{
    digest::{ContentDigest, Digest, Keys},
    window::{End, Found, Key, Window, Written},
};
use super::{Outcome, ticket::Ticket};
use crate::{
    config::Deduplication,
    failure::{Failure, Persisted, Reason},
    record::{Receipt, Record},
};

/// The most windows that share the ids: threads seldom wait for each other, and none for long while a window grows.
const WINDOWS_MAX: usize = 256;
/// The fewest ids of a window where there are several: each forgets its own oldest, some a little earlier than others.
const WINDOW_IDS_MIN: usize = 3_000;
/// How many ages of those that have ended are told apart.
const AGES: u32 = 100;

/// The records with message ids, by their ids.
#[derive(Debug)]
pub struct Duplicates {
    keys: Keys,
    age_max: Duration,
    windows: Vec<Mutex<Window<Ticket, Failure>>>,
}

/// The duty to say how a record with a message id ended, to all who brought it; its ticket does.
#[derive(Debug)]
pub struct Claim {
    window: u8,
    key: Key,
    /// Whether it is on its way, and lost where nobody says how it ended.
    is_accepted: bool,
}

/// A record as it is looked up.
#[derive(Debug, Clone, Copy)]
struct Digested {
    window: u8,
    /// Its place among those that it is brought with.
    place: usize,
    id: Digest,
    content: ContentDigest,
}

impl Claim {
    /// Notes that the record is on its way.
    pub const fn accepted(&mut self) {
        self.is_accepted = true;
    }
}

impl Duplicates {
    /// Makes the memory; none where it is switched off.
    #[must_use]
    pub fn new(settings: &Deduplication) -> Option<Arc<Self>> {
        if settings.ids_max == 0 {
            return None;
        }
        let count = (settings.ids_max / WINDOW_IDS_MIN).clamp(1, WINDOWS_MAX);
        let window = || Mutex::new(Window::new(settings.ids_max.div_ceil(count), settings.window));
        let windows = std::iter::repeat_with(window).take(count).collect();
        Some(Arc::new(Self { keys: Keys::draw(), age_max: settings.window, windows }))
    }

    /// Looks up records of one topic that come together, in their order, as far as they have message ids. The ticket of one that
    /// goes its way gets a claim, and of one that attaches to another is taken. Returns those that have ended before or are
    /// others, with their places.
    pub fn bring(
        &self,
        records: &[Result<Record, Failure>],
        tickets: &mut [Option<Ticket>],
    ) -> Vec<(usize, Outcome)> {
        let digested = self.digest(records);
        let mut answered = Vec::new();
        // All of one window under one lock: what they wait for of the memory comes at once.
        for digested in digested.chunk_by(|one, next| one.window == next.window) {
            let Some(number) = digested.first().map(|first| first.window) else { continue };
            let mut window = self.window(number).lock();
            for Digested { place, id, content, .. } in digested.iter().copied() {
                let (Some(ticket), Some(Ok(record))) = (tickets.get_mut(place), records.get(place)) else {
                    continue;
                };
                match window.bring(id, content, ticket, Ticket::is_awaited) {
                    Found::New(key) => {
                        if let Some(ticket) = ticket {
                            ticket.claims(Claim { window: number, key, is_accepted: false });
                        }
                    }
                    Found::Attached => {}
                    Found::Written(written) => answered.push((place, Ok(receipt(record, written)))),
                    Found::Unknown(failure) => answered.push((place, Err(failure))),
                    Found::Reused => answered.push((place, Err(reused()))),
                }
            }
        }
        answered
    }

    /// Digests records, those of one window one after the other.
    fn digest(&self, records: &[Result<Record, Failure>]) -> SmallVec<[Digested; 1]> {
        let mut topics = records.iter().flatten().map(|record| &record.topic);
        let Some(topic) = topics.next() else { return SmallVec::new() };
        let keys = self.keys.of_topic(topic.as_str());
        let digest = |(place, record): (usize, &Result<Record, Failure>)| {
            let record = record.as_ref().ok()?;
            let id = keys.id(record.message_id.as_deref()?);
            let content = keys.content(record.key.as_deref(), record.value.as_deref());
            Some(Digested { window: self.window_of(id), place, id, content })
        };
        let mut digested: SmallVec<[Digested; 1]> = records.iter().enumerate().filter_map(digest).collect();
        digested.sort_unstable_by_key(|digested| (digested.window, digested.place));
        digested
    }

    /// Counts the age of those that have ended, for as long as the sidecar runs; they are kept up to two hundredths longer than that.
    pub async fn age(&self) {
        let mut due = interval(self.age_max / AGES);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            due.tick().await;
            // Not the time that was due: what ended since is not older than that.
            let now = Instant::now();
            for window in &self.windows {
                window.lock().age(now);
            }
        }
    }

    /// Says how a record ended, to all others who brought it.
    pub fn settle(&self, claim: &Claim, outcome: &Outcome) {
        let end = match outcome {
            Ok(Receipt { partition, offset, timestamp_ms, topic: _, duplicate: _ }) => {
                End::Written(Written { partition: *partition, offset: *offset, timestamp_ms: *timestamp_ms })
            }
            Err(failure) if failure.persisted() == Persisted::Maybe => End::Unknown(failure.clone()),
            Err(_) => End::NotWritten,
        };
        let others = self.window(claim.window).lock().end(claim.key, end);
        for other in others {
            other.tell(outcome.clone().map(Receipt::of_duplicate));
        }
    }

    /// Says to all others that nobody will say how a record ended.
    pub fn lost(&self, claim: &Claim) {
        let failure = if claim.is_accepted {
            Failure::new(Reason::Internal, "the record's outcome was lost")
        } else {
            let sentence = "the call that brought the record before went away before it could be handed over";
            Failure::new(Reason::DeadlineNotWritten, sentence)
        };
        self.settle(claim, &Err(failure));
    }

    /// Returns whether others wait for a record too.
    #[must_use]
    pub fn has_company(&self, claim: &Claim) -> bool {
        self.window(claim.window).lock().has_company(claim.key, Ticket::is_awaited)
    }

    /// Returns the number of an id's window. The index takes the lowest bits, this the highest.
    fn window_of(&self, id: Digest) -> u8 {
        let place = usize::try_from(id >> (Digest::BITS - 16)).unwrap_or_default() % self.windows.len();
        u8::try_from(place).unwrap_or_default()
    }

    fn window(&self, number: u8) -> &Mutex<Window<Ticket, Failure>> {
        &self.windows[usize::from(number)]
    }
}

fn receipt(record: &Record, written: Written) -> Receipt {
    let Written { partition, offset, timestamp_ms } = written;
    Receipt { topic: record.topic.clone(), partition, offset, timestamp_ms, duplicate: true }
}

fn reused() -> Failure {
    let sentence = "a record with the same message_id and another key or payload came before";
    Failure::new(Reason::MessageIdReused, sentence).field("message_id")
}

#[cfg(test)]
mod tests;
