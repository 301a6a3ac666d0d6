//! Owns the way of a record that can never be delivered to its dead-letter topic, and the word about it to the caller.
//! Must never keep a caller beyond its deadline, nor lose a failure: it is told whatever becomes of the dead letter.

use std::{fmt, sync::Arc, time::Duration};

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
    clock::now_ms,
    dead_letter::{self, Death, Destinations, Unnameable},
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
    queue: mpsc::UnboundedSender<(Dead, LettersTopic)>,
}

/// Where a dead letter goes, or why there can be none.
pub type LettersTopic = Result<Topic, Unnameable>;

/// What was taken in, for [`Sender::write_dead_letters`].
pub type DeadQueue = mpsc::UnboundedReceiver<(Dead, LettersTopic)>;

// === impl DeadLetters ===

impl DeadLetters {
    /// Makes the intake, and the queue behind it.
    #[must_use]
    pub fn new(destinations: Destinations) -> (Self, DeadQueue) {
        let (queue, taken) = mpsc::unbounded_channel();
        (Self { destinations, queue }, taken)
    }

    /// Returns where the dead letter of a record goes that failed so; none if it gets none.
    #[must_use]
    pub fn destination(
        &self,
        topic: &Topic,
        failure: &Failure,
        is_out_of_retries: bool,
    ) -> Option<LettersTopic> {
        let is_for = dead_letter::is_for(failure, is_out_of_retries);
        is_for.then(|| self.destinations.of(topic).transpose()).flatten()
    }

    /// Takes a record in; never blocks. Its caller is told in any case.
    pub fn take(&self, dead: Dead, to: LettersTopic) {
        if let Err(mpsc::error::SendError((dead, to))) = self.queue.send((dead, to)) {
            // Who writes them has ended, which only a fault of the sidecar makes happen.
            let end = LetterEnd::Failed(Reason::Internal);
            let failure = until_told(dead.failure, &to, end);
            tracing::error!(topic = %dead.record.topic, "no dead letter: {failure}");
            dead.ticket.tell(Err(failure));
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
    async fn bury(self: Arc<Self>, dead: Dead, to: LettersTopic) {
        let Dead { record, ticket, share, failure, partition, accepted_ms, deadline } = dead;
        let to = match to {
            Ok(to) => to,
            Err(unnameable) => {
                self.lost(&record.topic, None, &unnameable);
                share.ends(End::of(Reason::TopicNotFound));
                drop((record, share));
                return ticket.tell(Err(until_told(failure, &Err(unnameable), LetterEnd::Open)));
            }
        };
        let (topic, written_to, cause) = (record.topic.clone(), to.clone(), failure.clone());
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
            Ok(Ok(None) | Err(_)) => {
                self.lost(&topic, Some(&to), &"its writing ended without a word");
                LetterEnd::Failed(Reason::Internal)
            }
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
        match outcome {
            Ok(_) => {
                self.metrics.dead_letter(true, is_cut);
                tracing::debug!(topic = %record.topic, dead_letter_topic = %to, is_cut, "dead letter written");
            }
            Err(failure) => self.lost(&record.topic, Some(to), &failure),
        }
        end
    }

    /// Counts and logs a record that should have a dead letter and has none.
    fn lost(&self, topic: &Topic, to: Option<&Topic>, why: &impl fmt::Display) {
        self.metrics.dead_letter(false, false);
        let dead_letter_topic = to.map(Topic::as_str);
        tracing::warn!(%topic, dead_letter_topic, "no dead letter: {why}");
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

/// Adds to a failure what its caller hears of the dead letter, as long as no more is known.
pub(super) fn until_told(failure: Failure, to: &LettersTopic, end: LetterEnd) -> Failure {
    match to {
        Ok(to) => failure.dead_letter(to.clone(), end),
        Err(unnameable) => failure.without_dead_letter(Reason::TopicNotFound, unnameable),
    }
}
