//! Owns records that were accepted together, as their caller sees them: waiting for the outcomes, or walking away.
//! Must never leave a record behind that nobody waits for: dropping it takes out those that still can be taken out.

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    Outcome,
    accepting::{Accepted, Accepting, Content},
    held::Flow,
    line::Place,
    send::Sender,
    ticket::Answers,
    way::{Mark, Way},
};
use crate::{
    failure::{Failure, Reason},
    kafka::reachability::State,
    record::Record,
    telemetry::metrics::Metrics,
};

/// Records that were accepted together, in their order; a record's failure is data.
#[derive(Debug)]
pub struct Batch {
    answers: Answers,
    /// Where each record is; none where it was refused at once.
    marks: Vec<Option<Mark>>,
    /// What is said at the deadline of those whose dead letters are on their way: they never were themselves. In their order.
    buried: Vec<(usize, Failure)>,
    deadline: Instant,
    /// When records that still wait for a broker are given up, where none was connected.
    brokers_by: Option<Instant>,
    way: Arc<Way>,
    metrics: Arc<Metrics>,
}

impl Batch {
    /// Accepts records in order: for one partition, each is handed over behind the one before it. What is refused already
    /// keeps its place; `path` names a record's field, for failures that name one. Waits only for topics that are not known
    /// yet, and for the rules of one that would refuse a record, at most until the deadline.
    pub async fn accept(
        sender: &Sender,
        records: Vec<Result<Record, Failure>>,
        path: impl Fn(usize) -> String,
        (content, deadline): (Content, Instant),
    ) -> Self {
        let mut batch = Self {
            answers: Answers::new(records.len(), sender.duplicates.clone()),
            marks: Vec::with_capacity(records.len()),
            buried: Vec::new(),
            deadline,
            brokers_by: sender.brokers_by(),
            way: Arc::clone(sender.way()),
            metrics: Arc::clone(sender.metrics()),
        };
        let mut accepting = Accepting::new(sender, content, deadline);
        let mut records = records.into_iter();
        while !records.as_slice().is_empty() {
            let first = batch.marks.len();
            let tickets = accepting.bring(records.as_slice(), (&batch.answers, first), &path);
            // The tickets go first: where there are no more, no record is taken.
            for (ticket, record) in tickets.into_iter().zip(records.by_ref()) {
                let index = batch.marks.len();
                batch.marks.push(match (ticket, record) {
                    (None, _) => None,
                    (Some(ticket), Ok(record)) => match accepting.accept(record, ticket).await {
                        Accepted::Marked(mark) => Some(mark),
                        Accepted::Buried(failure) => {
                            batch.buried.push((index, failure));
                            None
                        }
                        Accepted::Refused(ticket, failure) => {
                            ticket.tell(Err(failure.within(&path(index))));
                            None
                        }
                    },
                    (Some(ticket), Err(failure)) => {
                        ticket.tell(Err(failure));
                        None
                    }
                });
            }
        }
        accepting.hand_over();
        batch
    }

    /// Waits for the outcome of every record until the deadline; then what waits is taken out, and what is on its way is
    /// answered as a maybe and goes on. Dropping the future withdraws what still can be.
    pub async fn outcomes(mut self) -> Vec<Outcome> {
        loop {
            let by = self.brokers_by.map_or(self.deadline, |by| by.min(self.deadline));
            if self.answers.all_told_by(by).await {
                break;
            }
            let state = self.way.reachability.now();
            if by >= self.deadline {
                self.withdraw(|| not_written(&state));
                break;
            }
            self.brokers_by = None;
            if state != State::Connected {
                self.withdraw(|| no_broker(&state));
            }
        }
        self.answers.take(|index| self.unknown(index))
    }

    /// Takes out the records that still wait; returns how many.
    fn withdraw(&self, failure: impl Fn() -> Failure) -> usize {
        let open = self.answers.open().into_iter();
        let found = open.filter_map(|index| self.find(index));
        found.filter(|(flow, place)| flow.withdraw(*place, &failure)).count()
    }

    fn find(&self, index: usize) -> Option<(Arc<Flow>, Place)> {
        self.way.flows.find((*self.marks.get(index)?)?)
    }

    /// Answers for a record that is still on its way at the deadline.
    fn unknown(&self, index: usize) -> Failure {
        if let Ok(place) = self.buried.binary_search_by_key(&index, |(buried, _)| *buried) {
            return self.buried[place].1.clone();
        }
        let sentence = "the deadline passed after the record was handed to Kafka's client; it may be written";
        let failure = Failure::new(Reason::DeliveryUnknownAtDeadline, sentence);
        match self.find(index) {
            Some((flow, _)) => failure.topic(flow.topic()).partition(flow.partition()),
            None => failure,
        }
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        let cancelled = || Failure::new(Reason::CancelledByCaller, "the caller went away");
        let withdrawn = self.withdraw(cancelled);
        for _ in 0..withdrawn {
            self.metrics.failure(Reason::CancelledByCaller);
        }
        if withdrawn > 0 {
            tracing::debug!(records = withdrawn, "the caller went away; its records were withdrawn");
        }
    }
}

/// Says that no broker came in time.
pub(super) fn no_broker(state: &State) -> Failure {
    Failure::new(Reason::BrokersUnavailable, format!("the record was not written: {}", state.sentence()))
}

/// Says that the deadline passed before the record could be handed over.
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
