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
    judged::Judge,
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
    last: Option<Route>,
    touched: Vec<Arc<Flow>>,
}

/// Where the records of a topic go.
#[derive(Debug, Clone)]
struct Route {
    flows: Arc<Flows>,
    /// How many partitions the topic has.
    count: u32,
    judge: Judge,
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
        let accepted_ms = now_ms();
        match self.place(&record, accepted_ms).await {
            Ok(flow) => {
                let tenant = record.header(TENANT_HEADER).flatten().map(|tenant| &**tenant);
                if let Err(failure) = share.hold(flow.held(), tenant) {
                    return self.refused(&record, ticket, failure);
                }
                ticket.accepted();
                let mark =
                    flow.push(Item::new(record, (self.content, self.deadline), accepted_ms, ticket, share));
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
                let (partition, deadline) = (failure.failed_partition(), self.deadline);
                let dead = Dead { record, ticket, share, failure, partition, accepted_ms, deadline };
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

    /// Finds the record's partition; `now_ms` is the time, in milliseconds since the epoch.
    async fn place(&mut self, record: &Record, now_ms: i64) -> Result<Arc<Flow>, Failure> {
        let Route { flows, mut count, mut judge } = self.route(&record.topic).await?;
        if !in_range(record.partition, count) {
            // The topic may have grown since the count was cached.
            self.hand_over();
            count = self.sender.lookup_again(&record.topic, self.deadline).await?;
            judge = Judge::by(self.sender.way.topics.rules(&record.topic));
            self.last = None;
        }
        let partition = flows.choose(record, count).ok_or_else(|| out_of_range(count))?;
        if !judge.lets_pass(record, now_ms) {
            self.judge(record, judge).await.map_err(|failure| failure.partition(partition))?;
        }
        flows.flow(self.sender, partition)
    }

    /// Judges a record that may not go as far as is known.
    async fn judge(&mut self, record: &Record, mut judge: Judge) -> Result<(), Failure> {
        if judge.has_to_ask() {
            // What was accepted already does not wait for it.
            self.hand_over();
        }
        let judged = judge.judge(self.sender, record, self.deadline).await;
        if Instant::now() >= self.deadline {
            self.last = None;
            return Err(not_written(&self.sender.way.reachability.now()));
        }
        if let Some(last) = &mut self.last {
            last.judge = judge;
        }
        judged
    }

    /// Finds the partitions of a topic, and what is known of them.
    async fn route(&mut self, topic: &Topic) -> Result<Route, Failure> {
        if let Some(route) = self.last.as_ref().filter(|route| route.flows.topic == *topic) {
            return Ok(route.clone());
        }
        let sender = self.sender;
        if let Some(failure) = refusal(&sender.way.reachability.now()) {
            return Err(failure);
        }
        let (count, rules) = match sender.way.topics.found(topic) {
            Some(found) => found.map(|found| (found.partitions, found.rules))?,
            None => {
                // What was accepted already does not wait for another's topic.
                self.hand_over();
                (sender.lookup(topic, self.deadline).await?, None)
            }
        };
        if Instant::now() >= self.deadline {
            return Err(not_written(&sender.way.reachability.now()));
        }
        let route = Route { flows: sender.flows(topic), count, judge: Judge::by(rules) };
        self.last = Some(route.clone());
        Ok(route)
    }
}
