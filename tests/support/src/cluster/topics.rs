//! Makes topics and answers where their partitions are.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Cluster;
use crate::eventually::{eventually, try_eventually};
use crate::folder::random_name;
use crate::wire::state::{self, CoordinatorOf, PartitionState, TopicState};
use crate::wire::topics;

const ASK_BOUND: Duration = Duration::from_secs(60);

/// Where a partition ends. The two differ while a transaction is open on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndOffsets {
    /// Up to here a read_committed consumer sees.
    pub last_stable: i64,
    /// Up to here records are replicated.
    pub high_watermark: i64,
}

impl Cluster {
    /// Makes a topic with a name of its own that starts with `prefix`, replicated to all nodes, and waits until every
    /// node that runs knows its leaders.
    ///
    /// # Panics
    ///
    /// When that takes more than 60 s.
    pub fn create_topic(&self, prefix: &str, partitions: i32, configs: &[(&str, &str)]) -> String {
        let number = self.topics_made.fetch_add(1, Ordering::Relaxed);
        let name = format!("{prefix}-{number}-{}", random_name(6));
        self.create_topic_named(&name, partitions, configs);
        name
    }

    /// Makes a topic of this very name. See [`Cluster::create_topic`].
    pub fn create_topic_named(&self, name: &str, partitions: i32, configs: &[(&str, &str)]) {
        let replicas = i16::try_from(self.nodes.len()).expect("nodes are few");
        self.ask(&format!("{name} to be made"), |node| {
            topics::create(node, name, partitions, replicas, configs)
        });
        self.await_partitions(name, partitions);
    }

    /// Removes a topic and waits until no node that runs knows it.
    pub fn delete_topic(&self, name: &str) {
        self.ask(&format!("{name} to be removed"), |node| topics::delete(node, name));
        self.await_topic(name, &format!("every node forgetting {name}"), |topic| topic.error != 0);
    }

    /// Raises a topic's number of partitions to `total` and waits until every node that runs knows their leaders.
    pub fn add_partitions(&self, name: &str, total: i32) {
        self.ask(&format!("partitions of {name} to be added"), |node| {
            let known = state::metadata(node, Some(name))?;
            let has_all = known.topics.get(name).is_some_and(|topic| has_leaders(topic, total));
            if has_all { Ok(()) } else { topics::add_partitions(node, name, total) }
        });
        self.await_partitions(name, total);
    }

    /// Sets configurations of a topic. Nodes take them over within milliseconds, one after the other.
    pub fn alter_topic_config(&self, name: &str, configs: &[(&str, &str)]) {
        self.ask(&format!("{name} to be configured"), |node| topics::alter_configs(node, name, configs));
    }

    /// Has every partition led by the first of its replicas again, Kafka's own topics included: nodes that were killed or
    /// frozen lead nothing afterwards. All replicas have to be in sync.
    ///
    /// # Panics
    ///
    /// When that takes more than 60 s.
    pub fn spread_leaders(&self) {
        self.ask("leaders to be elected", topics::elect_preferred);
        self.ask("preferred leaders", |node| {
            let known = state::metadata(node, None)?;
            let mut partitions = known.topics.values().flat_map(|topic| &topic.partitions);
            let are_preferred = partitions.all(|state| state.replicas.first() == Some(&state.leader));
            if are_preferred { Ok(()) } else { Err(io::Error::other("others lead")) }
        });
    }

    /// Has every partition of a topic led by the next one of its replicas. All of them have to be in sync.
    ///
    /// # Panics
    ///
    /// When that takes more than 60 s.
    pub fn move_leaders(&self, name: &str) {
        let known = self.ask(&format!("the partitions of {name}"), |node| partitions(node, name));
        let moved = |mut state: PartitionState| {
            state.replicas.rotate_left(1);
            (state.partition, state.replicas)
        };
        self.assign(name, &known.into_iter().map(moved).collect::<Vec<_>>());
    }

    /// Has partitions of a topic replicated by these nodes, and led by the first of them.
    ///
    /// # Panics
    ///
    /// When that takes more than 60 s.
    pub fn assign(&self, name: &str, replicas: &[(i32, Vec<i32>)]) {
        self.ask(&format!("other replicas of {name}"), |node| topics::reassign(node, name, replicas));
        self.ask(&format!("other leaders of {name}"), |node| {
            topics::elect_preferred(node)?;
            let states = partitions(node, name)?;
            let is_so = |(partition, nodes): &(i32, Vec<i32>)| {
                let state = states.iter().find(|state| state.partition == *partition);
                state.is_some_and(|state| state.replicas == *nodes && nodes.first() == Some(&state.leader))
            };
            if replicas.iter().all(is_so) { Ok(()) } else { Err(io::Error::other("others have them")) }
        });
    }

    /// The node that leads a partition now; waits while there is none.
    pub fn leader(&self, topic: &str, partition: i32) -> i32 {
        self.ask(&format!("a leader of {topic}/{partition}"), |node| {
            let states = partitions(node, topic)?;
            let state = states.iter().find(|state| state.partition == partition);
            let leader = state.map(|state| state.leader).filter(|leader| *leader > 0);
            leader.ok_or_else(|| io::Error::other("it has no leader"))
        })
    }

    /// Waits until a partition has that many replicas in sync in the eyes of every node that runs, as after the loss of one.
    ///
    /// # Panics
    ///
    /// When that takes more than 60 s.
    pub fn wait_in_sync(&self, topic: &str, partition: i32, count: usize) {
        self.await_topic(topic, &format!("{count} replicas of {topic}/{partition} in sync"), |state| {
            state.partitions.iter().any(|found| found.partition == partition && found.in_sync.len() == count)
        });
    }

    /// Whether the cluster has a topic of that name, Kafka's own included.
    pub fn has_topic(&self, topic: &str) -> bool {
        let known = self.ask("the topics", |node| state::metadata(node, None));
        known.topics.contains_key(topic)
    }

    /// How many partitions a topic has.
    pub fn partition_count(&self, topic: &str) -> usize {
        self.ask(&format!("the partitions of {topic}"), |node| Ok(partitions(node, topic)?.len()))
    }

    /// Where a partition ends now, as its leader says.
    pub fn end_offsets(&self, topic: &str, partition: i32) -> EndOffsets {
        let what = format!("the end of {topic}/{partition}");
        eventually(ASK_BOUND, &what, || {
            let leader = self.node(self.leader(topic, partition)).plaintext();
            let high_watermark = state::end_offset(leader, topic, partition, false).ok()?;
            let last_stable = state::end_offset(leader, topic, partition, true).ok()?;
            Some(EndOffsets { last_stable, high_watermark })
        })
    }

    /// The node that coordinates the transactions of a transactional id.
    pub fn transaction_coordinator(&self, transactional_id: &str) -> i32 {
        self.ask("a transaction coordinator", |node| {
            state::coordinator(node, CoordinatorOf::Transaction, transactional_id)
        })
    }

    /// The node that coordinates a consumer group.
    pub fn group_coordinator(&self, group: &str) -> i32 {
        self.ask("a group coordinator", |node| state::coordinator(node, CoordinatorOf::Group, group))
    }

    /// Asks one running node after the other until one does what is asked.
    pub(super) fn ask<T>(&self, what: &str, request: impl Fn(SocketAddr) -> io::Result<T>) -> T {
        let mut last_error = None;
        let answer = try_eventually(ASK_BOUND, || {
            self.answering()
                .into_iter()
                .find_map(|node| request(node).map_err(|error| last_error = Some(error)).ok())
        });
        answer.unwrap_or_else(|| panic!("not within {ASK_BOUND:?}: {what}: {last_error:?}"))
    }

    fn await_partitions(&self, name: &str, total: i32) {
        let what = format!("every node knowing {total} leaders of {name}");
        self.await_topic(name, &what, |topic| has_leaders(topic, total));
    }

    fn await_topic(&self, name: &str, what: &str, is_so: impl Fn(&TopicState) -> bool) {
        eventually(ASK_BOUND, what, || {
            let agreed = self.answering().into_iter().all(|node| {
                let metadata = state::metadata(node, Some(name));
                metadata.is_ok_and(|metadata| metadata.topics.get(name).is_some_and(&is_so))
            });
            agreed.then_some(())
        });
    }
}

fn has_leaders(topic: &TopicState, total: i32) -> bool {
    topic.error == 0
        && i32::try_from(topic.partitions.len()) == Ok(total)
        && topic.partitions.iter().all(|state| state.leader > 0)
}

fn partitions(node: SocketAddr, topic: &str) -> io::Result<Vec<PartitionState>> {
    let mut metadata = state::metadata(node, Some(topic))?;
    let known = metadata.topics.remove(topic).filter(|topic| topic.error == 0);
    known.map(|topic| topic.partitions).ok_or_else(|| io::Error::other(format!("there is no topic {topic}")))
}
