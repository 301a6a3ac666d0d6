//! Owns the way of a record into its partition's flow: bounded, its topic known, its partition chosen.
//! Must never answer "not written" for a record that librdkafka has, nor "maybe" for one that it never had.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::RwLock;
use tokio::time::{Instant, sleep_until};

use super::{
    Outcome,
    accepting::Content,
    batch::{Batch, no_broker, not_written},
    budget::{Budget, Share},
    duplicates::Duplicates,
    held::Flow,
    line::RunBounds,
    room::{BATCH_FRAMING_BYTES, Room},
    way::{FLOWS_MAX, Way},
};
use crate::{
    clock::now_ms,
    config::{Config, librdkafka},
    failure::{Failure, Reason, Violation},
    kafka::reachability::State,
    partition::Partitioner,
    record::{Record, TENANT_HEADER, Topic},
    tasks::Tasks,
    telemetry::metrics::{Metrics, TopicMetrics},
};

/// A cached partition count younger than this is believed when a caller names a partition beyond it.
const COUNT_FRESH_MS: u64 = 1_000;
/// How long a run takes records at most, in milliseconds.
const RUN_MS_MAX: u64 = 1;

/// Sends records.
#[derive(Debug)]
pub struct Sender {
    pub(super) way: Arc<Way>,
    pub(super) budget: Arc<Budget>,
    /// None where deduplication is off.
    pub(super) duplicates: Option<Arc<Duplicates>>,
    topics: RwLock<HashMap<Topic, Arc<Flows>>>,
    partitioner: Partitioner,
    partitioners: HashMap<Topic, Partitioner>,
    brokers_wait: Duration,
    /// How long a dead letter is tried.
    pub(super) letters_wait: Duration,
    runs: RunBounds,
    pub(super) metrics: Arc<Metrics>,
    tasks: Tasks,
}

/// The partitions of one topic.
#[derive(Debug)]
pub(super) struct Flows {
    pub(super) topic: Topic,
    partitioner: Partitioner,
    metrics: TopicMetrics,
    room: Arc<Room>,
    partitions: RwLock<Vec<Arc<Flow>>>,
}

// === impl Sender ===

impl Sender {
    /// Makes the sender over a way to Kafka.
    #[must_use]
    pub fn new(config: &Config, way: Arc<Way>, metrics: Arc<Metrics>, tasks: Tasks) -> Self {
        Self {
            way,
            budget: Budget::new(config.queue.records_max, config.queue.bytes_max),
            duplicates: Duplicates::new(&config.deduplication),
            topics: RwLock::default(),
            partitioner: config.partitioners.default,
            partitioners: config.partitioners.topics.clone(),
            brokers_wait: config.send.brokers_wait,
            letters_wait: config.dead_letters.wait,
            runs: RunBounds {
                records_max: config.kafka.batch_records,
                bytes_max: librdkafka::request_bytes_max(config).saturating_sub(BATCH_FRAMING_BYTES),
                // The rest of the lingering is for the thread that hands over, should the system stop it meanwhile.
                join_max: (config.kafka.linger / 2).min(Duration::from_millis(RUN_MS_MAX)),
            },
            metrics,
            tasks,
        }
    }

    /// Sends a record and waits for its outcome until the deadline; `path` names it, for failures that name a field.
    ///
    /// Dropping the future withdraws the record where librdkafka does not have it yet; else it goes on without the caller.
    ///
    /// # Errors
    /// A failure that says whether the record may be in Kafka.
    pub fn send<'a>(
        &'a self,
        record: Record,
        path: &'a str,
        deadline: Instant,
    ) -> impl Future<Output = Outcome> + use<'a> {
        self.send_alone(record, path, (Content::Records, deadline))
    }

    /// The same for a dead letter, of which no other is made.
    pub(super) async fn send_letter(&self, letter: Record, deadline: Instant) -> Outcome {
        self.send_alone(letter, "letter", (Content::DeadLetters, deadline)).await
    }

    /// The state of accepting a record is several times that of waiting for it, and many records may wait for long: so it is
    /// kept apart, for as long as it lasts.
    async fn send_alone(&self, record: Record, path: &str, content: (Content, Instant)) -> Outcome {
        let accepting = Batch::accept(self, vec![Ok(record)], |_| path.to_owned(), content);
        only(Box::pin(accepting).await).await
    }

    /// Counts the age of message ids, for as long as the sidecar runs; ends at once where deduplication is off.
    pub async fn age_message_ids(self: Arc<Self>) {
        if let Some(duplicates) = &self.duplicates {
            duplicates.age().await;
        }
    }

    pub(super) const fn way(&self) -> &Arc<Way> {
        &self.way
    }

    pub(super) const fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Returns the owner of the tasks that are started for records.
    #[must_use]
    pub const fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// Returns when records that are accepted now are given up for want of a broker; none while one is connected.
    pub(super) fn brokers_by(&self) -> Option<Instant> {
        (!self.way.reachability.is_connected()).then(|| Instant::now() + self.brokers_wait)
    }

    /// Takes a record's part of the budget.
    pub(super) fn share(&self, record_bytes: usize) -> Result<Share, Failure> {
        self.budget.take(record_bytes)
    }

    /// Chooses a record's partition.
    pub(super) async fn locate(&self, record: &Record, deadline: Instant) -> Result<i32, Failure> {
        let asked = record.partition.unwrap_or(0);
        let count = self.partition_count(&record.topic, asked, deadline).await?;
        self.flows(&record.topic).choose(record, count).ok_or_else(|| out_of_range(count))
    }

    /// Returns a topic's partition count; asks again where the partition is beyond what is known.
    pub(super) async fn partition_count(
        &self,
        topic: &Topic,
        partition: i32,
        deadline: Instant,
    ) -> Result<u32, Failure> {
        if let Some(failure) = refusal(&self.way.reachability.now()) {
            return Err(failure);
        }
        let count = match self.way.topics.found(topic) {
            Some(found) => found?.partitions,
            None => self.lookup(topic, deadline).await?,
        };
        if in_range(Some(partition), count) { Ok(count) } else { self.lookup_again(topic, deadline).await }
    }

    /// Waits for a topic's partition count, while it helps to wait.
    pub(super) async fn lookup(&self, topic: &Topic, deadline: Instant) -> Result<u32, Failure> {
        self.counted(self.way.topics.lookup(topic), deadline).await
    }

    /// The same where what is known may be out of date.
    pub(super) async fn lookup_again(&self, topic: &Topic, deadline: Instant) -> Result<u32, Failure> {
        let age = Duration::from_millis(COUNT_FRESH_MS);
        self.counted(self.way.topics.lookup_again(topic, age), deadline).await
    }

    async fn counted(
        &self,
        asked: impl Future<Output = Result<u32, Failure>>,
        deadline: Instant,
    ) -> Result<u32, Failure> {
        let mut state = self.way.reachability.watch();
        let brokers_by = Instant::now() + self.brokers_wait;
        let mut by = deadline;
        if !self.way.reachability.is_connected() {
            by = by.min(brokers_by);
        }
        tokio::pin!(asked);
        loop {
            tokio::select! {
                biased;
                answer = &mut asked => return answer,
                refused = state.wait_for(|state| refusal(state).is_some()) => {
                    let Ok(state) = refused else { return Err(Failure::new(Reason::Draining, "the sidecar is stopping")) };
                    if let Some(failure) = refusal(&state) {
                        return Err(failure);
                    }
                }
                () = sleep_until(by) => {
                    if by >= deadline {
                        return Err(not_written(&self.way.reachability.now()));
                    }
                    if !self.way.reachability.is_connected() {
                        return Err(no_broker(&self.way.reachability.now()));
                    }
                    by = deadline;
                }
            }
        }
    }

    pub(super) fn flows(&self, topic: &Topic) -> Arc<Flows> {
        if let Some(flows) = self.topics.read().get(topic) {
            return Arc::clone(flows);
        }
        let mut topics = self.topics.write();
        let flows = topics.entry(topic.clone()).or_insert_with(|| {
            Arc::new(Flows {
                topic: topic.clone(),
                partitioner: self.partitioners.get(topic).copied().unwrap_or(self.partitioner),
                metrics: self.metrics.topic(topic),
                room: Arc::new(Room::new(self.runs.bytes_max)),
                partitions: RwLock::default(),
            })
        });
        Arc::clone(flows)
    }

    /// Returns the metrics of a topic; those of all others where it was never written.
    #[must_use]
    pub fn metrics_of(&self, topic: &Topic) -> TopicMetrics {
        let known = self.topics.read().get(topic).map(|flows| flows.metrics.clone());
        known.unwrap_or_else(|| self.metrics.other_topics())
    }

    /// Follows the connection for as long as the sidecar runs: hands over what waited, or refuses it where waiting is in vain.
    pub async fn follow_connection(&self) {
        let mut state = self.way.reachability.watch();
        loop {
            let now = state.borrow_and_update().clone();
            let flows = self.way.flows.waiting();
            if now == State::Connected {
                for flow in &flows {
                    flow.hand_over(&self.way);
                }
            } else if let Some(failure) = refusal(&now) {
                for flow in &flows {
                    flow.refuse_waiting(&failure);
                }
            }
            if state.changed().await.is_err() {
                return;
            }
        }
    }

    /// Returns how many records are accepted and without outcome, and their bytes.
    #[must_use]
    pub fn outstanding(&self) -> (usize, usize) {
        (self.budget.records(), self.budget.bytes())
    }

    /// Returns how many records wait in the partitions' lines to be handed over, and how old the oldest of them is.
    #[must_use]
    pub fn waiting(&self) -> (usize, Duration) {
        let (mut records, mut oldest_ms) = (0, i64::MAX);
        for (waiting, since_ms) in self.way.flows.waiting().iter().filter_map(|flow| flow.waiting_since()) {
            records += waiting;
            oldest_ms = oldest_ms.min(since_ms);
        }
        // The clock may have been set back meanwhile.
        let age_ms = u64::try_from(now_ms().saturating_sub(oldest_ms)).unwrap_or(0);
        (records, Duration::from_millis(age_ms))
    }
}

// === impl Flows ===

impl Flows {
    /// Chooses the partition; `None` where the caller's own is out of range.
    pub(super) fn choose(&self, record: &Record, count: u32) -> Option<i32> {
        if let Some(partition) = record.partition {
            return in_range(Some(partition), count).then_some(partition);
        }
        let tenant = record.header(TENANT_HEADER).flatten();
        let tenant = tenant.map(|tenant| &**tenant);
        let chosen = self.partitioner.choose(tenant, record.key.as_deref(), count, rand::random());
        i32::try_from(chosen).ok()
    }

    pub(super) fn flow(&self, sender: &Sender, partition: i32) -> Result<Arc<Flow>, Failure> {
        let index = usize::try_from(partition).unwrap_or(0);
        if let Some(flow) = self.partitions.read().get(index) {
            return Ok(Arc::clone(flow));
        }
        let mut partitions = self.partitions.write();
        while partitions.len() <= index {
            let next = i32::try_from(partitions.len()).unwrap_or(i32::MAX);
            let make = |number| {
                let bounds = (sender.runs, Arc::clone(&self.room));
                Flow::new(number, self.topic.clone(), next, bounds, self.metrics.clone())
            };
            let flow = sender.way.flows.add(make).ok_or_else(too_many_partitions)?;
            partitions.push(flow);
        }
        Ok(Arc::clone(&partitions[index]))
    }
}

/// Waits for the only outcome of a batch.
async fn only(batch: Batch) -> Outcome {
    let lost = || Err(Failure::new(Reason::Internal, "the record's outcome was lost"));
    batch.outcomes().await.pop().unwrap_or_else(lost)
}

fn too_many_partitions() -> Failure {
    let sentence = format!(
        "records went to {FLOWS_MAX} partitions since the start, and no further one is taken before a restart"
    );
    Failure::new(Reason::QueueFull, sentence)
}

/// Returns why waiting is in vain, where it is.
pub(super) fn refusal(state: &State) -> Option<Failure> {
    match state {
        // After a fatal error another producer is about to take over, as another broker after an outage.
        State::Connecting | State::Connected | State::Unreachable(_) | State::Fatal(_) => None,
        State::Refused(_) => Some(Failure::new(Reason::KafkaAuthenticationFailed, state.sentence())),
    }
}

pub(super) fn in_range(partition: Option<i32>, count: u32) -> bool {
    partition.is_none_or(|partition| u32::try_from(partition).is_ok_and(|partition| partition < count))
}

pub(super) fn out_of_range(count: u32) -> Failure {
    let description = format!("must be less than the topic's {count} partitions");
    Failure::invalid(vec![Violation { field: "partition".to_owned(), description }], 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_in_range_from_zero_to_one_less_than_the_count() {
        assert!(in_range(None, 3) && in_range(Some(0), 3) && in_range(Some(2), 3));
        assert!(!in_range(Some(3), 3) && !in_range(Some(-1), 3));
    }

    #[test]
    fn waiting_is_in_vain_after_a_refusal_alone() {
        let away = [State::Unreachable("no route".into()), State::Fatal("fenced".into())];
        for hopeful in [State::Connecting, State::Connected].into_iter().chain(away) {
            assert_eq!(refusal(&hopeful), None);
        }
        let told = |state| refusal(&state).map(|failure| (failure.reason(), failure.persisted()));
        let no = crate::failure::Persisted::No;
        assert_eq!(told(State::Refused("password".into())), Some((Reason::KafkaAuthenticationFailed, no)));
    }
}
