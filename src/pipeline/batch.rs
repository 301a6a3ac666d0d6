//! Owns the way of many records at once: accepted in order, answered in order; a record's failure is data.
//! Must never be a second way to Kafka: each record goes the way that `send` goes.

use tokio::time::Instant;

use super::{Outcome, pending::Pending, send::Sender};
use crate::{failure::Failure, record::Record};

/// Records that were accepted together, in their order; dropping it withdraws those that can still be taken out.
#[derive(Debug)]
pub struct Batch {
    records: Vec<Result<Pending, Failure>>,
    deadline: Instant,
}

impl Batch {
    /// Accepts records in order: for one partition, each is handed over behind the one before it. What is refused already
    /// keeps its place; `list` is the name of their field, for failures that name one. Waits only for topics that are not known yet, at most until the deadline.
    pub async fn accept(
        sender: &Sender,
        list: &str,
        records: impl IntoIterator<Item = Result<Record, Failure>>,
        deadline: Instant,
    ) -> Self {
        let records = records.into_iter();
        let mut accepted = Vec::with_capacity(records.size_hint().0);
        for (index, record) in records.enumerate() {
            accepted.push(match record {
                Ok(record) => {
                    let accepted = sender.accept(record, deadline).await;
                    accepted.map_err(|failure| failure.within(&format!("{list}[{index}]")))
                }
                Err(failure) => Err(failure),
            });
        }
        Self { records: accepted, deadline }
    }

    /// Waits for the outcome of every record, in order, until the deadline.
    pub async fn outcomes(self) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(self.records.len());
        for accepted in self.records {
            outcomes.push(match accepted {
                Ok(pending) => pending.outcome(self.deadline).await,
                Err(failure) => Err(failure),
            });
        }
        outcomes
    }
}
