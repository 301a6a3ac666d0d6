//! Owns the way of a record that can never be delivered to its dead-letter topic, and the word about it to the caller.
//! Must never keep a caller beyond its deadline, nor lose a failure: it is told whatever becomes of the dead letter.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};

use super::{
    budget::{End, Share},
    send::Sender,
    ticket::Ticket,
};
use crate::{
    dead_letter::{self, Death, Destinations},
    failure::{Failure, LetterEnd, Reason},
    record::{Record, Topic},
};

/// How long before its deadline a caller is told of a failure whose dead letter is still on its way, in milliseconds.
const TOLD_BEFORE_MS: u64 = 20;

/// A record that failed for good, whose caller has not been told.
#[derive(Debug)]
pub struct Dead {
    /// The record, its headers included.
    pub record: Record,
    /// Who is told.
    pub ticket: Ticket,
    /// Its part of the budget, kept until the dead letter's outcome is known.
    pub share: Share,
    /// Why it failed.
    pub failure: Failure,
    /// Its partition, where one was chosen.
    pub partition: Option<i32>,
    /// When it was accepted, in milliseconds since the epoch.
    pub accepted_ms: i64,
    /// When its caller has to be told.
    pub deadline: Instant,
}

/// Takes in records that failed for good. What waits here has its part of the budget, which bounds it.
#[derive(Debug)]
pub struct DeadLetters {
    destinations: Destinations,
    queue: mpsc::UnboundedSender<(Dead, Topic)>,
}

/// What was taken in, for [`Sender::write_dead_letters`].
pub type DeadQueue = mpsc::UnboundedReceiver<(Dead, Topic)>;

// === impl DeadLetters ===

impl DeadLetters {
    /// Makes the intake, and the queue behind it.
    #[must_use]
    pub fn new(destinations: Destinations) -> (Self, DeadQueue) {
        let (queue, taken) = mpsc::unbounded_channel();
        (Self { destinations, queue }, taken)
    }

    /// Returns where the dead letter of a record goes that failed so; none where it gets none.
    #[must_use]
    pub fn destination(&self, topic: &Topic, failure: &Failure, is_out_of_retries: bool) -> Option<Topic> {
        dead_letter::is_for(failure, is_out_of_retries).then(|| self.destinations.of(topic)).flatten()
    }

    /// Takes a record in; never blocks. Its caller is told in any case.
    pub fn take(&self, dead: Dead, to: Topic) {
        if let Err(mpsc::error::SendError((dead, _))) = self.queue.send((dead, to)) {
            dead.ticket.tell(Err(dead.failure));
        }
    }
}

impl Sender {
    /// Writes dead letters for as long as the sidecar runs.
    pub async fn write_dead_letters(self: Arc<Self>, mut queue: DeadQueue) {
        while let Some((dead, to)) = queue.recv().await {
            // Each by itself: one whose topic has to be looked up holds up no other.
            self.tasks().spawn("dead letter", Arc::clone(&self).bury(dead, to));
        }
    }

    /// Writes a dead letter and tells the caller of it, or at the caller's deadline that it is on its way.
    async fn bury(self: Arc<Self>, dead: Dead, to: Topic) {
        let Dead { record, ticket, share, failure, partition, accepted_ms, deadline } = dead;
        let (written_to, cause) = (to.clone(), failure.clone());
        let letters = Arc::clone(&self);
        let writing = self.tasks().spawn("dead letter", async move {
            let death = Death { failure: &cause, partition, first_ms: accepted_ms, last_ms: now_ms() };
            let end = letters.write_letter(&record, &written_to, &death).await;
            share.ends(end_of(&end));
            drop(share);
            end
        });
        let by = deadline.checked_sub(Duration::from_millis(TOLD_BEFORE_MS)).unwrap_or(deadline);
        let end = match timeout_at(by, writing).await {
            Ok(Ok(Some(end))) => end,
            Ok(Ok(None) | Err(_)) => LetterEnd::Failed(Reason::Internal),
            Err(_) => LetterEnd::Open,
        };
        ticket.tell(Err(failure.dead_letter(to, end)));
    }

    /// Writes a dead letter, and where Kafka finds it too large one that is cut.
    async fn write_letter(&self, record: &Record, to: &Topic, death: &Death<'_>) -> LetterEnd {
        let by = Instant::now() + self.letters_wait;
        let mut is_cut = false;
        let mut outcome = self.send_letter(dead_letter::letter(record, to.clone(), death), by).await;
        if outcome.as_ref().is_err_and(|failure| failure.reason() == Reason::RecordTooLarge) {
            is_cut = true;
            outcome = self.send_letter(dead_letter::cut(record, to.clone(), death), by).await;
        }
        let end = match &outcome {
            Ok(receipt) => LetterEnd::from(receipt),
            Err(failure) => LetterEnd::Failed(failure.reason()),
        };
        self.metrics.dead_letter(outcome.is_ok(), is_cut);
        match outcome {
            Ok(_) => {
                tracing::debug!(topic = %record.topic, dead_letter_topic = %to, is_cut, "dead letter written");
            }
            Err(failure) => {
                tracing::warn!(topic = %record.topic, dead_letter_topic = %to, "no dead letter: {failure}");
            }
        }
        end
    }
}

/// Returns how a record ended with its dead letter: one that is lost is left behind, though the record was refused.
const fn end_of(letter: &LetterEnd) -> End {
    match letter {
        LetterEnd::Written { .. } => End::Refused,
        LetterEnd::Failed(reason) => End::of(*reason),
        LetterEnd::Open => End::Undelivered,
    }
}

/// Returns the time, in milliseconds since the epoch.
pub(super) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
