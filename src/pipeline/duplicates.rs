//! Owns deduplication: whether a record with a message id is on its way or written already, and who is told its end.
//! Must never be taken across pods or restarts: it remembers in memory, for this process alone.

mod digest;
mod window;

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;

use self::{
    digest::{Digest, Keys},
    window::{End, Found, Key, Window, Written},
};
use super::{Outcome, ticket::Ticket};
use crate::{
    config::Deduplication,
    failure::{Failure, Persisted, Reason},
    record::{Receipt, Record},
};

/// How many windows share the ids, so that threads seldom wait for each other.
const WINDOWS: usize = 16;
/// The fewest ids of a window where there are several: each forgets its own oldest, some a little earlier than others.
const WINDOW_IDS_MIN: usize = 1_000;

/// The records with message ids, by their ids.
#[derive(Debug)]
pub struct Duplicates {
    keys: Keys,
    windows: Vec<Mutex<Window<Ticket, Failure>>>,
}

/// The duty to say how a record with a message id ended, to all who brought it.
#[derive(Debug)]
pub struct Claim {
    duplicates: Arc<Duplicates>,
    window: u8,
    key: Key,
    /// Whether it is on its way, and lost where nobody says how it ended.
    is_accepted: bool,
    is_settled: bool,
}

/// What a record with a message id came to.
#[derive(Debug)]
pub enum Brought {
    /// It goes its way.
    New(Ticket),
    /// The one before it, which is on its way, tells its ticket.
    Attached,
    /// The one before it has ended, or is another.
    Answered(Ticket, Outcome),
}

impl Duplicates {
    /// Makes the memory; none where it is switched off.
    #[must_use]
    pub fn new(settings: &Deduplication) -> Option<Arc<Self>> {
        if settings.ids_max == 0 {
            return None;
        }
        let count = (settings.ids_max / WINDOW_IDS_MIN).clamp(1, WINDOWS);
        let window = || Mutex::new(Window::new(settings.ids_max.div_ceil(count), settings.window));
        let windows = std::iter::repeat_with(window).take(count).collect();
        Some(Arc::new(Self { keys: Keys::draw(), windows }))
    }

    /// Looks a record up by its message id; `id` is the record's.
    pub fn bring(self: &Arc<Self>, record: &Record, id: &str, ticket: Ticket) -> Brought {
        let id = self.keys.id(record.topic.as_str(), id);
        let content = self.keys.content(record.key.as_deref(), record.value.as_deref());
        let window = self.window_of(id);
        let (found, ticket) = self.window(window).lock().bring(id, content, ticket, Instant::now());
        let Some(ticket) = ticket else { return Brought::Attached };
        let outcome = match found {
            Found::New(key) => {
                let duplicates = Arc::clone(self);
                let claim = Claim { duplicates, window, key, is_accepted: false, is_settled: false };
                return Brought::New(ticket.with(claim));
            }
            Found::Attached => return Brought::Attached,
            Found::Written(Written { partition, offset, timestamp_ms }) => {
                Ok(Receipt { topic: record.topic.clone(), partition, offset, timestamp_ms, duplicate: true })
            }
            Found::Unknown(failure) => Err(failure),
            Found::Reused => {
                let sentence = "a record with the same message_id and another key or payload came before";
                Err(Failure::new(Reason::MessageIdReused, sentence).field("message_id"))
            }
        };
        Brought::Answered(ticket, outcome)
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

impl Claim {
    /// Says how the record ended, to all others who brought it.
    pub fn settle(mut self, outcome: &Outcome) {
        self.say(outcome);
    }

    /// Notes that the record is on its way.
    pub const fn accepted(&mut self) {
        self.is_accepted = true;
    }

    /// Returns whether others wait for the record too.
    #[must_use]
    pub fn has_company(&self) -> bool {
        self.duplicates.window(self.window).lock().has_company(self.key)
    }

    fn say(&mut self, outcome: &Outcome) {
        self.is_settled = true;
        let end = match outcome {
            Ok(Receipt { partition, offset, timestamp_ms, topic: _, duplicate: _ }) => {
                End::Written(Written { partition: *partition, offset: *offset, timestamp_ms: *timestamp_ms })
            }
            Err(failure) if failure.persisted() == Persisted::Maybe => End::Unknown(failure.clone()),
            Err(_) => End::NotWritten,
        };
        let others = self.duplicates.window(self.window).lock().end(self.key, end, Instant::now());
        for other in others {
            other.tell(outcome.clone().map(Receipt::of_duplicate));
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.is_settled {
            return;
        }
        let failure = if self.is_accepted {
            Failure::new(Reason::Internal, "the record's outcome was lost")
        } else {
            let sentence = "the call that brought the record before went away before it could be handed over";
            Failure::new(Reason::DeadlineNotWritten, sentence)
        };
        self.say(&Err(failure));
    }
}
