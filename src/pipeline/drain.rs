//! Owns the end of the records at a stop: what is on its way ends, then what is left is given up, and all of it is counted.
//! Must never tell a record otherwise than is true of it, nor begin its count twice: a second signal hurries the same drain.

use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};

use super::{budget::End, send::Sender};
use crate::failure::{Failure, Reason};

/// How often it is looked whether all records have their outcome, in milliseconds.
const LOOK_MS: u64 = 5;

/// How many records had ended, and how, when a drain began.
#[derive(Debug, Clone, Copy)]
pub struct Before {
    delivered: u64,
    undelivered: u64,
    refused: u64,
}

/// What became of the records that had no outcome when draining began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Those that are in Kafka. Dead letters are none of them.
    pub delivered: u64,
    /// Those that are not, or may not be, by no fault of their own.
    pub undelivered: u64,
    /// Those that were refused for what they are, or taken out by their callers or at their callers' deadlines.
    pub refused: u64,
}

impl Sender {
    /// Begins a drain's count.
    #[must_use]
    pub fn begin_drain(&self) -> Before {
        Before {
            delivered: self.budget.ended(End::Delivered),
            undelivered: self.budget.ended(End::Undelivered),
            refused: self.budget.ended(End::Refused),
        }
    }

    /// Waits until every accepted record has its outcome, at most until then. May be dropped at any time.
    pub async fn settled_by(&self, by: Instant) {
        while self.budget.records() > 0 && Instant::now() < by {
            sleep_until((Instant::now() + Duration::from_millis(LOOK_MS)).min(by)).await;
        }
    }

    /// Gives up what has no outcome, truthfully: what waits here is not written, of what Kafka's client has its reports say it. Waits
    /// for them at most until then, and for the calls that answer.
    pub async fn give_up_by(&self, calls_ended: impl Future<Output = ()>, by: Instant) {
        self.way().topics.stop();
        let sentence = "the sidecar stopped before the record could be handed over";
        let stopped = Failure::new(Reason::Draining, sentence);
        for flow in self.way().flows.waiting() {
            flow.refuse_waiting(&stopped);
        }
        if self.budget.records() > 0 {
            self.way().give_up();
            self.settled_by(by).await;
        }
        drop(timeout_at(by, calls_ended).await);
    }

    /// Counts what became of the records that had no outcome then.
    #[must_use]
    pub fn drained(&self, before: Before) -> Drained {
        let without_outcome = u64::try_from(self.budget.records()).unwrap_or(u64::MAX);
        let ended = |end: End, before: u64| self.budget.ended(end).saturating_sub(before);
        Drained {
            delivered: ended(End::Delivered, before.delivered),
            undelivered: ended(End::Undelivered, before.undelivered).saturating_add(without_outcome),
            refused: ended(End::Refused, before.refused),
        }
    }
}
