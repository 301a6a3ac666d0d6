//! Owns the acceptance of one caller's records, one after the other: each into its partition's flow, handed over together.
//! Must never hand a record over before an earlier one of the same caller and partition was accepted.

use std::{sync::Arc, time::Duration};

use smallvec::SmallVec;
use tokio::time::{Instant, sleep_until};

use super::{
    batch::not_written,
    budget::{End, Share},
    dead_letters::{Dead, until_told},
    held::{Flow, Item},
    judged::{Judge, untold},
    send::{Flows, Sender, in_range, out_of_range, refusal},
    ticket::{Answers, Ticket},
    way::Mark,
};
use crate::{
    clock::now_ms,
    failure::{Failure, LetterEnd},
    kafka::topics::Verdict,
    record::{Record, TENANT_HEADER, Topic},
};

/// How often it is asked whether a dead letter's topic takes it, while nobody answers, in milliseconds.
const LETTER_ASKED_EVERY_MS: u64 = 200;

/// Records of one caller that are accepted one after the other; none is handed over before [`Accepting::hand_over`] or a
/// wait, so that those of one partition go together.
#[derive(Debug)]
pub(super) struct Accepting<'a> {
    sender: &'a Sender,
    content: Content,
    deadline: Instant,
    /// What was found for the record before: the next one is often of the same topic.
    last: Option<Route>,
    /// Whether the last record was refused for rules that may be out of date.
    was_untold: bool,
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
    /// Its dead letter is, which tells its outcome; until then it is this.
    Buried(Failure),
    /// It is not on its way: refused.
    Refused(Ticket, Failure),
}

/// The tickets of records, as far as they go their way.
pub(super) type Tickets = SmallVec<[Option<Ticket>; 1]>;

// === impl Accepting ===

impl<'a> Accepting<'a> {
    pub(super) const fn new(sender: &'a Sender, content: Content, deadline: Instant) -> Self {
        Self { sender, content, deadline, last: None, was_untold: false, touched: Vec::new() }
    }

    /// Makes the tickets of the first records, as far as they are of one topic, and looks them up by their message ids: none for
    /// those that are told or will be, because one like them came before. `first` is the number of the first of them in
    /// `answers`, `path` names a record by that number.
    pub(super) fn bring(
        &self,
        records: &[Result<Record, Failure>],
        (answers, first): (&Answers, usize),
        path: impl Fn(usize) -> String,
    ) -> Tickets {
        let topic = records.iter().flatten().map(|record| &record.topic).next();
        let count = self.of_one_topic(records, topic);
        let mut tickets: Tickets = (first..first + count).map(|index| Some(answers.ticket(index))).collect();
        let (Some(duplicates), Some(topic)) = (&self.sender.duplicates, topic) else { return tickets };
        let answered = duplicates.bring(&records[..count], &mut tickets);
        for _ in tickets.iter().filter(|ticket| ticket.is_none()) {
            self.sender.metrics.duplicate();
        }
        for (place, outcome) in answered {
            match &outcome {
                Ok(_) => self.sender.metrics.duplicate(),
                Err(_) => self.sender.metrics_of(topic).error(),
            }
            let located = |failure: Failure| failure.topic(topic).within(&path(first + place));
            if let Some(ticket) = tickets.get_mut(place).and_then(Option::take) {
                ticket.tell(outcome.map_err(located));
            }
        }
        tickets
    }

    /// Returns how many of the first records are brought together. Where their topic has to be looked up first only one is: who
    /// brings one like the others does not have to wait for that.
    fn of_one_topic(&self, records: &[Result<Record, Failure>], topic: Option<&Topic>) -> usize {
        let is_known = || topic.is_none_or(|topic| self.sender.way.topics.found(topic).is_some());
        if records.len() == 1 || !is_known() {
            return 1;
        }
        let is_of_it = |record: &Result<Record, Failure>| match record {
            Ok(record) => Some(&record.topic) == topic,
            Err(_) => true,
        };
        records.iter().take_while(|record| is_of_it(record)).count()
    }

    /// Accepts a record behind all that were accepted before it for its partition.
    pub(super) async fn accept(&mut self, record: Record, mut ticket: Ticket) -> Accepted {
        let mut share = match self.share(&record) {
            Ok(share) => share,
            Err(failure) => return self.refused(&record, ticket, failure),
        };
        let accepted_ms = now_ms();
        self.was_untold = false;
        match self.place(&record, accepted_ms).await {
            Ok(flow) => {
                // A letter that is refused is lost.
                if self.content == Content::Records
                    && let Err(failure) = share.hold_of_partition(flow.held())
                {
                    return self.refused(&record, ticket, failure);
                }
                ticket.accepted();
                share.accepted();
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
                let Some(to) = to else {
                    share.ends(self.end_of(&failure));
                    return self.refused(&record, ticket, failure);
                };
                self.sender.metrics_of(&record.topic).error();
                ticket.accepted();
                share.accepted();
                let failure = failure.topic(&record.topic);
                let until_told = until_told(failure.clone(), &to, LetterEnd::Open);
                let (partition, deadline) = (failure.failed_partition(), self.deadline);
                let dead = Dead { record, ticket, share, failure, partition, accepted_ms, deadline };
                letters.take(dead, to);
                Accepted::Buried(until_told)
            }
        }
    }

    /// Takes the record's part of the budget, and of its tenant's: a record that waits for its topic holds them already.
    fn share(&self, record: &Record) -> Result<Share, Failure> {
        let budget = &self.sender.budget;
        match self.content {
            Content::DeadLetters => Ok(budget.take_for_letter(record.queued_bytes())),
            Content::Records => {
                let mut share = budget.take(record.queued_bytes())?;
                if let Some(tenant) = record.header(TENANT_HEADER).flatten() {
                    share.hold_of_tenant(tenant)?;
                }
                Ok(share)
            }
        }
    }

    /// Returns how a record ends that was not accepted: a dead letter is counted with the record that it is of, and one that its
    /// topic does not take, so far as is known, is not left behind.
    fn end_of(&self, failure: &Failure) -> End {
        match self.content {
            Content::Records if !self.was_untold => End::of(failure.reason()),
            Content::Records | Content::DeadLetters => End::Refused,
        }
    }

    fn refused(&self, record: &Record, ticket: Ticket, failure: Failure) -> Accepted {
        // Dead letters that fail are counted as such.
        if self.content == Content::Records {
            self.sender.metrics_of(&record.topic).error();
        }
        Accepted::Refused(ticket, failure.topic(&record.topic))
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
        let mut verdict = judge.verdict(record);
        if verdict == Verdict::Untold {
            // What was accepted already does not wait for it.
            self.hand_over();
            verdict = judge.ask(self.sender, record, self.deadline).await;
        }
        // Of a dead letter nobody would bring another.
        while self.content == Content::DeadLetters
            && verdict == Verdict::Untold
            && !self.sender.way.is_ending()
            && Instant::now() < self.deadline
        {
            let next = Instant::now() + Duration::from_millis(LETTER_ASKED_EVERY_MS);
            sleep_until(next.min(self.deadline)).await;
            if self.sender.way.topics.found(&record.topic).is_none() {
                self.sender.lookup(&record.topic, self.deadline).await?;
            }
            verdict = judge.ask(self.sender, record, self.deadline).await;
        }
        if Instant::now() >= self.deadline {
            self.last = None;
            return Err(not_written(&self.sender.way.reachability.now()));
        }
        if let Some(last) = &mut self.last {
            last.judge = judge;
        }
        match verdict {
            Verdict::Goes => Ok(()),
            Verdict::Refused(breach) => Err(breach.failure(&record.topic)),
            Verdict::Untold => {
                self.was_untold = true;
                Err(untold(&record.topic))
            }
        }
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
                (sender.lookup(topic, self.deadline).await?, sender.way.topics.rules(topic))
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
