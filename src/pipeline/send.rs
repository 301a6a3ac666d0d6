//! Owns the way of one record: bounded, its partition chosen, handed over or held, answered by its deadline.
//! Must never answer "not written" for a record that librdkafka has, nor "maybe" for one that it never had.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::RwLock;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::{
    Outcome,
    budget::{Budget, Share},
    held::{Flow, Way},
    pending::{Pending, no_broker, not_written},
};
use crate::{
    config::Config,
    failure::{Failure, Reason, Violation},
    kafka::reachability::State,
    partition::Partitioner,
    record::{Record, TENANT_HEADER, Topic},
    telemetry::metrics::{Metrics, TopicMetrics},
};

/// How long the outcome of a record at the drain's end is waited for, once librdkafka has given it up.
const GIVE_UP_MS_MAX: u64 = 2_000;
/// A cached partition count younger than this is believed when a caller names a partition beyond it.
const COUNT_FRESH_MS: u64 = 1_000;

/// Sends records.
#[derive(Debug)]
pub struct Sender {
    way: Arc<Way>,
    budget: Arc<Budget>,
    topics: RwLock<HashMap<Topic, Arc<Flows>>>,
    partitioner: Partitioner,
    partitioners: HashMap<Topic, Partitioner>,
    brokers_wait: Duration,
    metrics: Arc<Metrics>,
}

/// The partitions of one topic.
#[derive(Debug)]
struct Flows {
    partitioner: Partitioner,
    metrics: TopicMetrics,
    partitions: RwLock<Vec<Arc<Flow>>>,
}

/// What became of the records that had no outcome when draining began. Those refused for what they are count in neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Those that are in Kafka.
    pub delivered: u64,
    /// Those that are not, or may not be.
    pub undelivered: u64,
}

// === impl Sender ===

impl Sender {
    /// Makes the sender over a way to Kafka.
    #[must_use]
    pub fn new(config: &Config, way: Arc<Way>, metrics: Arc<Metrics>) -> Self {
        Self {
            way,
            budget: Budget::new(config.queue.records_max, config.queue.bytes_max),
            topics: RwLock::default(),
            partitioner: config.partitioners.default,
            partitioners: config.partitioners.topics.clone(),
            brokers_wait: config.send.brokers_wait,
            metrics,
        }
    }

    /// Sends a record and waits for its outcome until the deadline.
    ///
    /// Dropping the future withdraws the record where librdkafka does not have it yet; else it goes on without the caller.
    ///
    /// # Errors
    /// A failure that says whether the record may be in Kafka.
    pub async fn send(&self, record: Record, deadline: Instant) -> Outcome {
        self.accept(record, deadline).await?.outcome(deadline).await
    }

    /// Accepts a record behind all that were accepted before it for its partition.
    ///
    /// # Errors
    /// What refused it; it is then surely not written.
    pub async fn accept(&self, record: Record, deadline: Instant) -> Result<Pending, Failure> {
        let topic = record.topic.clone();
        let submitted = async {
            let share = self.budget.take(record.bytes())?;
            self.submit(record, share, deadline).await
        };
        submitted.await.map_err(|failure| {
            self.metrics_of(&topic).error(failure.reason());
            failure.topic(&topic)
        })
    }

    /// Chooses the partition and takes the record in, in the order of calls for each partition.
    async fn submit(&self, record: Record, share: Share, deadline: Instant) -> Result<Pending, Failure> {
        if let Some(failure) = refusal(&self.way.reachability.watch().borrow()) {
            return Err(failure);
        }
        let mut count = match self.way.topics.partitions(&record.topic) {
            Some(answer) => answer?,
            None => self.lookup(&record.topic, deadline).await?,
        };
        if !in_range(record.partition, count) {
            // The topic may have grown since the count was cached.
            count = self.lookup_again(&record.topic, deadline).await?;
        }
        let flows = self.flows(&record.topic);
        let partition = flows.choose(&record, count).ok_or_else(|| out_of_range(count))?;
        if Instant::now() >= deadline {
            return Err(not_written(&self.way.reachability.watch().borrow()));
        }
        let flow = flows.flow(&self.way, partition);
        let connected = self.way.reachability.is_connected();
        let (entry, outcome) = flow.submit(record, share);
        let brokers_by = (!connected).then(|| Instant::now() + self.brokers_wait);
        Ok(Pending::new(entry, outcome, brokers_by, Arc::clone(&self.metrics)))
    }

    /// Waits for a topic's partition count, while it helps to wait.
    async fn lookup(&self, topic: &Topic, deadline: Instant) -> Result<u32, Failure> {
        let mut state = self.way.reachability.watch();
        let brokers_by = Instant::now() + self.brokers_wait;
        let mut by = deadline;
        if !self.way.reachability.is_connected() {
            by = by.min(brokers_by);
        }
        let asked = self.way.topics.lookup(topic);
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
                        return Err(not_written(&self.way.reachability.watch().borrow()));
                    }
                    if !self.way.reachability.is_connected() {
                        return Err(no_broker(&self.way.reachability.watch().borrow()));
                    }
                    by = deadline;
                }
            }
        }
    }

    async fn lookup_again(&self, topic: &Topic, deadline: Instant) -> Result<u32, Failure> {
        self.way.topics.forget_older(topic, Duration::from_millis(COUNT_FRESH_MS));
        self.lookup(topic, deadline).await
    }

    fn flows(&self, topic: &Topic) -> Arc<Flows> {
        if let Some(flows) = self.topics.read().get(topic) {
            return Arc::clone(flows);
        }
        let mut topics = self.topics.write();
        let flows = topics.entry(topic.clone()).or_insert_with(|| {
            Arc::new(Flows {
                partitioner: self.partitioners.get(topic).copied().unwrap_or(self.partitioner),
                metrics: self.metrics.topic(topic),
                partitions: RwLock::default(),
            })
        });
        Arc::clone(flows)
    }

    /// Observes how long a call took from its arrival to its answer.
    pub fn observe(&self, topic: &Topic, took: Duration) {
        self.metrics_of(topic).duration(took);
    }

    fn metrics_of(&self, topic: &Topic) -> TopicMetrics {
        let known = self.topics.read().get(topic).map(|flows| flows.metrics.clone());
        known.unwrap_or_else(|| self.metrics.other_topics())
    }

    /// Follows the connection for as long as the sidecar runs: hands over what waited, or refuses it where waiting is in vain.
    pub async fn follow_connection(&self) {
        let mut state = self.way.reachability.watch();
        loop {
            let now = state.borrow_and_update().clone();
            let flows = self.holding();
            if now == State::Connected {
                for flow in &flows {
                    flow.hand_over_held();
                }
            } else if let Some(failure) = refusal(&now) {
                for flow in &flows {
                    flow.refuse_held(&failure);
                }
            }
            if state.changed().await.is_err() {
                return;
            }
        }
    }

    fn holding(&self) -> Vec<Arc<Flow>> {
        let topics = self.topics.read();
        let flows = topics.values().flat_map(|flows| flows.partitions.read().clone());
        flows.filter(|flow| flow.is_holding()).collect()
    }

    /// Returns how many records are accepted and without outcome, and their bytes.
    #[must_use]
    pub fn outstanding(&self) -> (usize, usize) {
        (self.budget.records(), self.budget.bytes())
    }

    /// Waits until the calls in progress have ended and every accepted record has its outcome, at most until the deadline;
    /// then gives up the rest, truthfully.
    pub async fn drain(&self, calls_ended: impl Future<Output = ()>, deadline: Instant) -> Drained {
        // Both only grow, and count outcomes: nothing is missed or counted twice, whatever ends meanwhile.
        let (delivered, undelivered) = (self.metrics.delivered(), self.metrics.undelivered());
        // Past the deadline the rest is given up all the same.
        drop(timeout_at(deadline, calls_ended).await);
        self.settled_by(deadline).await;
        self.way.topics.stop();
        let stopped =
            Failure::new(Reason::Draining, "the sidecar stopped before the record could be handed over");
        for flow in self.holding() {
            flow.refuse_held(&stopped);
        }
        if self.budget.records() > 0 {
            self.way.producer.give_up();
            self.settled_by(Instant::now() + Duration::from_millis(GIVE_UP_MS_MAX)).await;
        }
        let without_outcome = u64::try_from(self.budget.records()).unwrap_or(u64::MAX);
        Drained {
            delivered: self.metrics.delivered() - delivered,
            undelivered: self.metrics.undelivered() - undelivered + without_outcome,
        }
    }

    async fn settled_by(&self, deadline: Instant) {
        const STEP_MS: u64 = 5;
        while self.budget.records() > 0 && Instant::now() < deadline {
            sleep_until((Instant::now() + Duration::from_millis(STEP_MS)).min(deadline)).await;
        }
    }
}

// === impl Flows ===

impl Flows {
    /// Chooses the partition; `None` where the caller's own is out of range.
    fn choose(&self, record: &Record, count: u32) -> Option<i32> {
        if let Some(partition) = record.partition {
            return in_range(Some(partition), count).then_some(partition);
        }
        let tenant = record.header(TENANT_HEADER).flatten();
        let tenant = tenant.map(|tenant| &**tenant);
        let chosen = self.partitioner.choose(tenant, record.key.as_deref(), count, rand::random());
        i32::try_from(chosen).ok()
    }

    fn flow(&self, way: &Arc<Way>, partition: i32) -> Arc<Flow> {
        let index = usize::try_from(partition).unwrap_or(0);
        if let Some(flow) = self.partitions.read().get(index) {
            return Arc::clone(flow);
        }
        let mut partitions = self.partitions.write();
        while partitions.len() <= index {
            let next = i32::try_from(partitions.len()).unwrap_or(i32::MAX);
            partitions.push(Flow::new(Arc::clone(way), next, self.metrics.clone()));
        }
        Arc::clone(&partitions[index])
    }
}

/// Returns why waiting is in vain, where it is.
fn refusal(state: &State) -> Option<Failure> {
    let reason = match state {
        State::Connecting | State::Connected | State::Unreachable(_) => return None,
        State::Refused(_) => Reason::KafkaAuthenticationFailed,
        State::Fatal(_) => Reason::BrokersUnavailable,
    };
    Some(Failure::new(reason, state.sentence()))
}

fn in_range(partition: Option<i32>, count: u32) -> bool {
    partition.is_none_or(|partition| u32::try_from(partition).is_ok_and(|partition| partition < count))
}

fn out_of_range(count: u32) -> Failure {
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
    fn waiting_is_in_vain_after_a_refusal_or_a_fatal_error_alone() {
        for hopeful in [State::Connecting, State::Connected, State::Unreachable("no route".into())] {
            assert_eq!(refusal(&hopeful), None);
        }
        let told = |state| refusal(&state).map(|failure| (failure.reason(), failure.persisted()));
        let no = crate::failure::Persisted::No;
        assert_eq!(told(State::Refused("password".into())), Some((Reason::KafkaAuthenticationFailed, no)));
        assert_eq!(told(State::Fatal("fenced".into())), Some((Reason::BrokersUnavailable, no)));
    }
}
