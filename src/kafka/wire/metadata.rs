//! Owns what is known of the cluster: its brokers, and who leads each partition of the topics that were asked for, pure.
//! Must never go back: a leader of an older epoch is never taken, unless the topic is another one.

use std::collections::{BTreeMap, HashMap};

use kafka_protocol::{
    messages::{
        MetadataRequest, MetadataResponse, TopicName,
        metadata_request::MetadataRequestTopic,
        metadata_response::{MetadataResponsePartition, MetadataResponseTopic},
        produce_response::{LeaderIdAndEpoch, NodeEndpoint},
    },
    protocol::StrBytes,
};
use uuid::Uuid;

use super::error::WireError;
use crate::{config::Broker, kafka::code::ErrorCode, record::Topic};

/// Kafka's REBOOTSTRAP_REQUIRED (KIP-1102).
const REBOOTSTRAP_REQUIRED: ErrorCode = ErrorCode::new(129);
/// The epoch of a leader if the broker does not say it.
const NO_EPOCH: i32 = -1;

/// A broker as the cluster names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerNode {
    /// Where it is connected to.
    pub address: Broker,
    /// Its rack or zone, where one is set.
    pub rack: Option<String>,
}

/// What is known of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicView {
    /// Its id; another one is another topic of the same name. None from brokers that do not say it.
    pub id: Option<Uuid>,
    /// Its partitions, by their number.
    pub partitions: Vec<PartitionView>,
}

/// What is known of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionView {
    /// The broker that leads it, if one does.
    pub leader: Option<i32>,
    /// The epoch of that leader; -1 if it is not known.
    pub leader_epoch: i32,
    /// Why it cannot be used, if the broker says so.
    pub error: ErrorCode,
}

/// What an answer changed beyond leaders and brokers.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct MetadataChange {
    /// The topics that are others than before, under the same name.
    pub recreated: Vec<Topic>,
    /// The topics that the broker says nothing else of; what was known of them stays.
    pub failed: Vec<(Topic, ErrorCode)>,
    /// Whether the answer comes from another cluster than those before.
    pub is_other_cluster: bool,
    /// Whether the broker asks us to begin with the configured brokers (KIP-1102); nothing else was taken of its answer.
    pub is_to_rebootstrap: bool,
}

/// What is known of the cluster.
#[derive(Debug, Clone, Default)]
pub struct ClusterView {
    cluster_id: Option<String>,
    brokers: BTreeMap<i32, BrokerNode>,
    topics: HashMap<Topic, TopicView>,
}

/// Makes the question for some topics. `creates` has the broker make those that are not there, if it may.
#[must_use]
pub fn ask_topics<'a>(topics: impl IntoIterator<Item = &'a Topic>, creates: bool) -> MetadataRequest {
    let topics = topics.into_iter().map(|topic| {
        let name = TopicName(StrBytes::from_string(topic.as_str().to_owned()));
        MetadataRequestTopic::default().with_name(Some(name))
    });
    MetadataRequest::default().with_topics(Some(topics.collect())).with_allow_auto_topic_creation(creates)
}

/// Makes the question for the brokers alone.
#[must_use]
pub fn ask_cluster() -> MetadataRequest {
    // An empty list is no topic; none would be all of them.
    MetadataRequest::default().with_topics(Some(Vec::new())).with_allow_auto_topic_creation(false)
}

impl ClusterView {
    /// Returns the cluster's id, once a broker has said it.
    #[must_use]
    pub fn cluster_id(&self) -> Option<&str> {
        self.cluster_id.as_deref()
    }

    /// Returns the brokers by their ids.
    #[must_use]
    pub const fn brokers(&self) -> &BTreeMap<i32, BrokerNode> {
        &self.brokers
    }

    /// Returns what is known of a topic.
    #[must_use]
    pub fn topic(&self, topic: &Topic) -> Option<&TopicView> {
        self.topics.get(topic)
    }

    /// Returns the broker that leads a partition, if it is known.
    #[must_use]
    pub fn leader(&self, topic: &Topic, partition: i32) -> Option<(i32, &BrokerNode)> {
        let leader = self.topics.get(topic)?.partition(partition)?.leader?;
        self.brokers.get(&leader).map(|node| (leader, node))
    }

    /// Forgets a topic that is no longer used.
    pub fn forget(&mut self, topic: &Topic) {
        self.topics.remove(topic);
    }

    /// Takes an answer.
    ///
    /// # Errors
    /// [`WireError::Protocol`] if it makes no sense; nothing is taken of it then.
    pub fn update(&mut self, response: MetadataResponse) -> Result<MetadataChange, WireError> {
        let mut change = MetadataChange::default();
        if ErrorCode::new(response.error_code.into()) == REBOOTSTRAP_REQUIRED {
            change.is_to_rebootstrap = true;
            return Ok(change);
        }
        let brokers = response.brokers.iter();
        let brokers =
            brokers.map(|broker| node(broker.node_id.0, &broker.host, broker.port, broker.rack.as_ref()));
        let brokers: BTreeMap<_, _> = brokers.collect::<Result<_, _>>()?;
        let topics = response.topics.into_iter().map(read_topic);
        let topics: Vec<_> = topics.collect::<Result<_, _>>()?;

        let cluster_id = response.cluster_id.map(|id| id.to_string());
        change.is_other_cluster =
            self.cluster_id.is_some() && cluster_id.is_some() && self.cluster_id != cluster_id;
        if change.is_other_cluster {
            *self = Self::default();
        }
        self.cluster_id = cluster_id.or(self.cluster_id.take());
        // A broker that is about to begin knows none yet, not even itself.
        if !brokers.is_empty() {
            self.brokers = brokers;
        }
        for (topic, error, view) in topics {
            if error.is_error() {
                change.failed.push((topic, error));
            } else if self.merge(&topic, view) {
                change.recreated.push(topic);
            }
        }
        Ok(change)
    }

    /// Takes what a produce response says of a partition's new leader (KIP-951); returns whether it was news. Endpoints that make no
    /// sense are left out.
    pub fn learn_leader(
        &mut self,
        topic: &Topic,
        partition: i32,
        hint: &LeaderIdAndEpoch,
        endpoints: &[NodeEndpoint],
    ) -> bool {
        let (leader, epoch) = (hint.leader_id.0, hint.leader_epoch);
        let known = self.topics.get_mut(topic).and_then(|view| view.partition_mut(partition));
        let Some(known) = known.filter(|_| leader >= 0 && epoch >= 0) else { return false };
        let is_news = epoch > known.leader_epoch || (epoch == known.leader_epoch && known.leader.is_none());
        if is_news {
            *known = PartitionView { leader: Some(leader), leader_epoch: epoch, error: ErrorCode::NO_ERROR };
            let endpoint = endpoints.iter().find(|endpoint| endpoint.node_id.0 == leader);
            let named = endpoint.map(|named| node(leader, &named.host, named.port, named.rack.as_ref()));
            self.brokers.extend(named.and_then(Result::ok));
        }
        is_news
    }

    /// Takes what an answer says of a topic; returns whether it is another topic than before.
    fn merge(&mut self, topic: &Topic, news: TopicView) -> bool {
        let Some(known) = self.topics.get_mut(topic) else {
            self.topics.insert(topic.clone(), news);
            return false;
        };
        if known.id.is_some() && news.id.is_some() && known.id != news.id {
            *known = news;
            return true;
        }
        known.id = news.id.or(known.id);
        let mut news = news.partitions.into_iter();
        for (known, news) in known.partitions.iter_mut().zip(&mut news) {
            if news.leader_epoch >= known.leader_epoch {
                *known = news;
            }
        }
        // Partitions are added and never taken away: a broker that names fewer is behind.
        known.partitions.extend(news);
        false
    }
}

impl TopicView {
    /// Returns what is known of a partition.
    #[must_use]
    pub fn partition(&self, partition: i32) -> Option<&PartitionView> {
        usize::try_from(partition).ok().and_then(|place| self.partitions.get(place))
    }

    fn partition_mut(&mut self, partition: i32) -> Option<&mut PartitionView> {
        usize::try_from(partition).ok().and_then(|place| self.partitions.get_mut(place))
    }
}

fn node(id: i32, host: &str, port: i32, rack: Option<&StrBytes>) -> Result<(i32, BrokerNode), WireError> {
    let port = u16::try_from(port).ok().filter(|port| *port > 0 && !host.is_empty());
    let port = port.ok_or_else(|| {
        WireError::Protocol(format!("broker {id} is named without a host or port that can be connected to"))
    })?;
    let address = Broker { host: host.to_owned(), port };
    Ok((id, BrokerNode { address, rack: rack.map(ToString::to_string) }))
}

fn read_topic(topic: MetadataResponseTopic) -> Result<(Topic, ErrorCode, TopicView), WireError> {
    let MetadataResponseTopic { error_code, name, topic_id, mut partitions, .. } = topic;
    let name = name.as_ref().map_or("", |name| name.0.as_str());
    let name = Topic::parse(name)
        .map_err(|_| WireError::Protocol("metadata has a topic without a name".to_owned()))?;
    partitions.sort_unstable_by_key(|partition| partition.partition_index);
    let is_whole = (0..).zip(&partitions).all(|(number, partition)| partition.partition_index == number);
    if !is_whole {
        return Err(WireError::Protocol(format!("metadata leaves out partitions of {name}")));
    }
    let partitions = partitions.iter().map(read_partition).collect();
    let id = (!topic_id.is_nil()).then_some(topic_id);
    Ok((name, ErrorCode::new(error_code.into()), TopicView { id, partitions }))
}

fn read_partition(partition: &MetadataResponsePartition) -> PartitionView {
    let leader = partition.leader_id.0;
    PartitionView {
        leader: (leader >= 0).then_some(leader),
        leader_epoch: partition.leader_epoch.max(NO_EPOCH),
        error: ErrorCode::new(partition.error_code.into()),
    }
}

#[cfg(test)]
mod tests;
