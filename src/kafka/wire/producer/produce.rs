//! The produce request and its response, pure.
//! Must never take a response's order for granted: each partition is found by its topic and number.

use std::collections::HashMap;

use bytes::Bytes;
use kafka_protocol::{
    messages::{
        ProduceRequest, ProduceResponse, TopicName,
        produce_request::{PartitionProduceData, TopicProduceData},
        produce_response::PartitionProduceResponse,
    },
    protocol::StrBytes,
};
use uuid::Uuid;

use crate::record::Topic;

/// The records are in the log once all replicas in sync have them.
const ACKS_ALL: i16 = -1;
/// Produce names topics by their ids from this version on (KIP-516).
const TOPIC_IDS_SINCE: i16 = 13;

/// One partition's batch in a request.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub topic: Topic,
    /// The topic's id, which requests that name topics by it need.
    pub topic_id: Option<Uuid>,
    pub partition: i32,
    pub batch: Bytes,
}

/// Makes a request of batches, at most one for each partition.
pub(super) fn request(parts: &[Part], version: i16, timeout_ms: i32) -> ProduceRequest {
    let mut topics: Vec<TopicProduceData> = Vec::new();
    let mut places: HashMap<&Topic, usize> = HashMap::new();
    for part in parts {
        let place = *places.entry(&part.topic).or_insert_with(|| {
            let topic = TopicProduceData::default();
            topics.push(if version >= TOPIC_IDS_SINCE {
                topic.with_topic_id(part.topic_id.unwrap_or_default())
            } else {
                topic.with_name(TopicName(StrBytes::from_string(part.topic.as_str().to_owned())))
            });
            topics.len() - 1
        });
        let data = PartitionProduceData::default().with_index(part.partition);
        topics[place].partition_data.push(data.with_records(Some(part.batch.clone())));
    }
    ProduceRequest::default().with_acks(ACKS_ALL).with_timeout_ms(timeout_ms).with_topic_data(topics)
}

/// Finds what a response says of each part of its request; nothing, if it leaves one out.
pub(super) fn answers(
    parts: &[Part],
    version: i16,
    response: ProduceResponse,
) -> Vec<Option<PartitionProduceResponse>> {
    let mut said = HashMap::new();
    for topic in response.responses {
        for partition in topic.partition_responses {
            let name =
                if version >= TOPIC_IDS_SINCE { Err(topic.topic_id) } else { Ok(topic.name.0.clone()) };
            said.insert((name, partition.index), partition);
        }
    }
    let answer = |part: &Part| {
        let name = if version >= TOPIC_IDS_SINCE {
            Err(part.topic_id.unwrap_or_default())
        } else {
            Ok(StrBytes::from_string(part.topic.as_str().to_owned()))
        };
        said.remove(&(name, part.partition))
    };
    parts.iter().map(answer).collect()
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::produce_response::TopicProduceResponse;

    use super::*;

    fn part(topic: &str, id: u128, partition: i32) -> Part {
        let topic = Topic::parse(topic).unwrap();
        Part { topic, topic_id: Some(Uuid::from_u128(id)), partition, batch: Bytes::from_static(b"batch") }
    }

    fn topic(name: &str, id: u128, partitions: &[i32]) -> TopicProduceResponse {
        let partitions =
            partitions.iter().map(|index| PartitionProduceResponse::default().with_index(*index));
        TopicProduceResponse::default()
            .with_name(TopicName(StrBytes::from_string(name.to_owned())))
            .with_topic_id(Uuid::from_u128(id))
            .with_partition_responses(partitions.collect())
    }

    #[test]
    fn a_request_has_each_topic_once() {
        let parts = [part("a", 1, 0), part("b", 2, 0), part("a", 1, 2)];
        for (version, named) in [(9, true), (13, false)] {
            let request = request(&parts, version, 1_000);
            assert_eq!((request.acks, request.topic_data.len()), (-1, 2));
            let first = &request.topic_data[0];
            assert_eq!((!first.name.0.is_empty(), !first.topic_id.is_nil()), (named, !named));
            assert_eq!(first.partition_data.iter().map(|data| data.index).collect::<Vec<_>>(), [0, 2]);
        }
    }

    #[test]
    fn answers_are_found_in_any_order_and_may_be_missing() {
        let parts = [part("a", 1, 0), part("b", 2, 0), part("a", 1, 2)];
        for version in [9, 13] {
            let responses = vec![topic("b", 2, &[7, 0]), topic("a", 1, &[2]), topic("c", 3, &[0])];
            let response = ProduceResponse::default().with_responses(responses);
            let answers = answers(&parts, version, response);
            let indexes: Vec<_> =
                answers.iter().map(|answer| answer.as_ref().map(|answer| answer.index)).collect();
            assert_eq!(indexes, [None, Some(0), Some(2)]);
        }
    }
}
