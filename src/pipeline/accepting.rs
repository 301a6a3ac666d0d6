//! Owns the acceptance of one caller's records, one after the other: each into its partition's flow, handed over together.
//! Must never hand a record over before an earlier one of the same caller and partition was accepted.

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    Outcome,
    batch::not_written,
    dead_letters::{Dead, now_ms},
    duplicates::Brought,
    held::{Flow, Item},
    send::{Flows, Sender, in_range, out_of_range, refusal},
    ticket::Ticket,
    way::Mark,
};
use crate::{
    failure::Failure,
    record::{Record, TENANT_HEADER, Topic},
};

/// Records of one caller that are accepted one after the other; none is handed over before [`Accepting::hand_over`] or a
/// wait, so that those of one partition go together.
#[derive(Debug)]
pub(super) struct Accepting<'a> {
    sender: &'a Sender,
    content: Content,
    deadline: Instant,
    /// What was found for the record before: the next one is often of the same topic.
    last: Option<(Arc<Flows>, u32)>,
    touched: Vec<Arc<Flow>>,
}

/// What is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Callers' records.
    Records,
    /// Dead letters; of one that fails no other is made.
    DeadLetters,
}

/// What became of a record that was brought.
#[derive(Debug)]
pub(super) enum Accepted {
    /// It is on its way.
    Marked(Mark),
    /// One like it is on its way, or its dead letter, and tells its outcome.
    Attached,
    /// It is not on its way: refused, surely not written, or brought before.
    Answered(Ticket, Outcome),
}

// === impl Accepting ===

impl<'a> Accepting<'a> {
    pub(super) const fn new(sender: &'a Sender, content: Content, deadline: Instant) -> Self {
        Self { sender, content, deadline, last: None, touched: Vec::new() }
    }

    /// Accepts a record behind all that were accepted before it for its partition.
    pub(super) async fn accept(&mut self, record: Record, ticket: Ticket) -> Accepted {
        let brought = match (&self.sender.duplicates, &record.message_id) {
            (Some(duplicates), Some(id)) => duplicates.bring(&record, id, ticket),
            (None, _) | (_, None) => Brought::New(ticket),
        };
        let mut ticket = match brought {
            Brought::New(ticket) => ticket,
            Brought::Attached => {
                self.sender.metrics.duplicate();
                return Accepted::Attached;
            }
            Brought::Answered(ticket, outcome) => {
                match &outcome {
                    Ok(_) => self.sender.metrics.duplicate(),
                    Err(failure) => self.sender.metrics_of(&record.topic).error(failure.reason()),
                }
                return Accepted::Answered(ticket, outcome.map_err(|failure| failure.topic(&record.topic)));
            }
        };
        let mut share = match self.sender.budget.take(record.bytes()) {
            Ok(share) => share,
            Err(failure) => return self.refused(&record, ticket, failure),
        };
        match self.place(&record).await {
            Ok(flow) => {
                let tenant = record.header(TENANT_HEADER).flatten().map(|tenant| &**tenant);
                if let Err(failure) = share.hold(flow.held(), tenant) {
                    return self.refused(&record, ticket, failure);
                }
                ticket.accepted();
                let mark = flow.push(Item::new(record, (self.content, self.deadline), ticket, share));
                if !self.touched.iter().any(|touched| Arc::ptr_eq(touched, &flow)) {
                    self.touched.push(flow);
                }
                Accepted::Marked(mark)
            }
            Err(failure) => {
                let letters = &self.sender.way.dead_letters;
                let is_record = self.content == Content::Records;
                let to = is_record.then(|| letters.destination(&record.topic, &failure, false)).flatten();
                let Some(to) = to else { return self.refused(&record, ticket, failure) };
                self.sender.metrics_of(&record.topic).error(failure.reason());
                ticket.accepted();
                let failure = failure.topic(&record.topic);
                let (accepted_ms, deadline) = (now_ms(), self.deadline);
                let dead = Dead { record, ticket, share, failure, partition: None, accepted_ms, deadline };
                letters.take(dead, to);
                Accepted::Attached
            }
        }
    }

    fn refused(&self, record: &Record, ticket: Ticket, failure: Failure) -> Accepted {
        // Dead letters that fail are counted as such.
        if self.content == Content::Records {
            self.sender.metrics_of(&record.topic).error(failure.reason());
        }
        Accepted::Answered(ticket, Err(failure.topic(&record.topic)))
    }

    /// Hands over what was accepted, as far as it may go now.
    pub(super) fn hand_over(&mut self) {
        for flow in self.touched.drain(..) {
            flow.hand_over(&self.sender.way);
        }
    }

    /// Finds the record's partition.
    async fn place(&mut self, record: &Record) -> Result<Arc<Flow>, Failure> {
        let (flows, mut count) = self.route(&record.topic).await?;
        if !in_range(record.partition, count) {
            // The topic may have grown since the count was cached.
            self.hand_over();
            count = self.sender.lookup_again(&record.topic, self.deadline).await?;
            self.last = None;
        }
        let partition = flows.choose(record, count).ok_or_else(|| out_of_range(count))?;
        flows.flow(self.sender, partition)
    }

    /// Finds the partitions of a topic, and how many it has.
    async fn route(&mut self, topic: &Topic) -> Result<(Arc<Flows>, u32), Failure> {
        if let Some((flows, count)) = self.last.as_ref().filter(|(flows, _)| flows.topic == *topic) {
            return Ok((Arc::clone(flows), *count));
        }
        let sender = self.sender;
        if let Some(failure) = refusal(&sender.way.reachability.now()) {
            return Err(failure);
        }
        let count = match sender.way.topics.partitions(topic) {
            Some(answer) => answer?,
            None => {
                // What was accepted already does not wait for another's topic.
                self.hand_over();
                sender.lookup(topic, self.deadline).await?
            }
        };
        if Instant::now() >= self.deadline {
            return Err(not_written(&sender.way.reachability.now()));
        }
        let flows = sender.flows(topic);
        self.last = Some((Arc::clone(&flows), count));
        Ok((flows, count))
    }
}
