//! Asks one node what it knows: brokers, partitions, offsets, coordinators.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;

use super::{Request, check};

const LIST_OFFSETS: i16 = 2;
const METADATA: i16 = 3;
const FIND_COORDINATOR: i16 = 10;
const LATEST: i64 = -1;

/// What one broker says about the cluster.
#[derive(Debug)]
pub(crate) struct Metadata {
    pub(crate) brokers: Vec<i32>,
    pub(crate) topics: BTreeMap<String, TopicState>,
}

/// One topic in a broker's metadata; `error` is Kafka's code, zero for none.
#[derive(Debug)]
pub(crate) struct TopicState {
    pub(crate) error: i16,
    pub(crate) partitions: Vec<PartitionState>,
}

/// One partition in a broker's metadata; `leader` is -1 while there is none.
#[derive(Clone, Debug)]
pub(crate) struct PartitionState {
    pub(crate) partition: i32,
    pub(crate) leader: i32,
    pub(crate) replicas: Vec<i32>,
    pub(crate) in_sync: Vec<i32>,
}

/// What a coordinator is looked for; the values are the protocol's key types.
#[derive(Clone, Copy, Debug)]
pub(crate) enum CoordinatorOf {
    Group = 0,
    Transaction = 1,
}

/// Asks for the metadata of one topic, or of all.
pub(crate) fn metadata(node: SocketAddr, topic: Option<&str>) -> io::Result<Metadata> {
    let mut request = Request::new(METADATA, 1);
    match topic {
        Some(topic) => request.array(1).string(Some(topic)),
        None => request.i32(-1),
    };
    let mut answer = request.send(node)?;
    let brokers = answer.array(|broker| {
        let id = broker.i32()?;
        broker.string()?;
        broker.i32()?;
        broker.string()?;
        Ok(id)
    })?;
    answer.i32()?;
    let topics = answer.array(|topic| {
        let error = topic.i16()?;
        let name = topic.string()?.unwrap_or_default();
        topic.bool()?;
        let mut partitions = topic.array(|partition| {
            partition.i16()?;
            Ok(PartitionState {
                partition: partition.i32()?,
                leader: partition.i32()?,
                replicas: partition.array(super::Cursor::i32)?,
                in_sync: partition.array(super::Cursor::i32)?,
            })
        })?;
        partitions.sort_by_key(|state| state.partition);
        Ok((name, TopicState { error, partitions }))
    })?;
    Ok(Metadata { brokers, topics: topics.into_iter().collect() })
}

/// Asks a partition's leader for its end: the last stable offset if `committed`, else the high watermark.
pub(crate) fn end_offset(
    leader: SocketAddr,
    topic: &str,
    partition: i32,
    committed: bool,
) -> io::Result<i64> {
    let mut request = Request::new(LIST_OFFSETS, 2);
    request.i32(-1).bool(committed);
    request.array(1).string(Some(topic));
    request.array(1).i32(partition).i64(LATEST);
    let mut answer = request.send(leader)?;
    answer.i32()?;
    let topics = answer.array(|topic| {
        topic.string()?;
        topic.array(|partition| {
            partition.i32()?;
            check("ListOffsets", partition.i16()?, None)?;
            partition.i64()?;
            partition.i64()
        })
    })?;
    let offset = topics.into_iter().flatten().next();
    offset.ok_or_else(|| io::Error::other("ListOffsets answered for no partition"))
}

/// Asks which node coordinates a group or a transactional id. Makes the internal topic on first use, and fails until it
/// is there.
pub(crate) fn coordinator(node: SocketAddr, of: CoordinatorOf, key: &str) -> io::Result<i32> {
    let mut request = Request::new(FIND_COORDINATOR, 1);
    request.string(Some(key)).i8(of as i8);
    let mut answer = request.send(node)?;
    answer.i32()?;
    let code = answer.i16()?;
    let message = answer.string()?;
    check("FindCoordinator", code, message.as_deref())?;
    answer.i32()
}
