//! Owns a record that was taken in, as its caller sees it: waiting for the outcome, or walking away from it.
//! Must never leave a record here that nobody waits for: dropping it takes the record out where that is still possible.

use std::sync::Arc;

use tokio::{
    sync::oneshot,
    time::{Instant, sleep_until},
};

use super::{Outcome, held::Entry};
use crate::{
    failure::{Failure, Reason},
    kafka::reachability::State,
    telemetry::metrics::Metrics,
};

/// A record that was taken in; dropping it withdraws the record where that is still possible.
#[derive(Debug)]
pub struct Pending {
    entry: Arc<Entry>,
    outcome: oneshot::Receiver<Outcome>,
    /// When a record that still waits for a broker is given up; later than the deadline where it was handed over.
    brokers_by: Option<Instant>,
    answered: bool,
    metrics: Arc<Metrics>,
}

// === impl Pending ===

impl Pending {
    /// Makes it of an entry and the channel of its outcome.
    pub(super) fn new(
        entry: Arc<Entry>,
        outcome: oneshot::Receiver<Outcome>,
        brokers_by: Option<Instant>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { entry, outcome, brokers_by, answered: false, metrics }
    }

    /// Waits for the outcome until the deadline; at the deadline the record is taken out, or is left to its way as a maybe.
    ///
    /// # Errors
    /// The record's failure.
    pub async fn outcome(mut self, deadline: Instant) -> Outcome {
        let outcome = self.outcome_by(deadline).await;
        outcome.map_err(|failure| failure.topic(self.entry.topic()))
    }

    async fn outcome_by(&mut self, deadline: Instant) -> Outcome {
        // Most of a batch is known once its first record is: no timer for those.
        if let Ok(outcome) = self.outcome.try_recv() {
            self.answered = true;
            return outcome;
        }
        loop {
            let by = self.brokers_by.map_or(deadline, |by| by.min(deadline));
            tokio::select! {
                biased;
                outcome = &mut self.outcome => {
                    self.answered = true;
                    return outcome.unwrap_or_else(|_| Err(Failure::new(Reason::Internal, "the record's outcome was lost")));
                }
                () = sleep_until(by) => {}
            }
            let state = self.entry.way().reachability.watch().borrow().clone();
            if by >= deadline {
                self.answered = true;
                let withdrawn = self.entry.withdraw(Reason::DeadlineNotWritten);
                return self.at_deadline(withdrawn, &state);
            }
            self.brokers_by = None;
            if state != State::Connected && self.entry.withdraw(Reason::BrokersUnavailable) {
                self.answered = true;
                return Err(no_broker(&state).partition(self.entry.partition()));
            }
        }
    }

    fn at_deadline(&mut self, withdrawn: bool, state: &State) -> Outcome {
        if withdrawn {
            return Err(not_written(state).partition(self.entry.partition()));
        }
        // The report may have come between the deadline and the attempt to take the record out.
        self.outcome.try_recv().unwrap_or_else(|_| {
            let sentence =
                "the deadline passed after the record was handed to Kafka's client; it may be written";
            Err(Failure::new(Reason::DeliveryUnknownAtDeadline, sentence).partition(self.entry.partition()))
        })
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.answered && self.entry.withdraw(Reason::CancelledByCaller) {
            self.metrics.failure(Reason::CancelledByCaller);
            tracing::debug!(topic = %self.entry.topic(), "the caller went away; its record was withdrawn");
        }
    }
}

pub(super) fn no_broker(state: &State) -> Failure {
    Failure::new(Reason::BrokersUnavailable, format!("the record was not written: {}", state.sentence()))
}

pub(super) fn not_written(state: &State) -> Failure {
    let sentence = match state {
        State::Connected => {
            "the deadline passed before the record could be handed over; it was taken out".to_owned()
        }
        State::Connecting | State::Unreachable(_) | State::Refused(_) | State::Fatal(_) => {
            format!("the deadline passed and the record was taken out: {}", state.sentence())
        }
    };
    Failure::new(Reason::DeadlineNotWritten, sentence)
}
