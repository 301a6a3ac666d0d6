//! Makes, changes and removes topics. Any node takes these and passes them to the controller.

use std::io;
use std::net::SocketAddr;

use super::{Request, check};

const CREATE_TOPICS: i16 = 19;
const DELETE_TOPICS: i16 = 20;
const CREATE_PARTITIONS: i16 = 37;
const INCREMENTAL_ALTER_CONFIGS: i16 = 44;
const ELECT_LEADERS: i16 = 43;
const ALTER_PARTITION_REASSIGNMENTS: i16 = 45;
const TIMEOUT_MS: i32 = 10_000;
const TOPIC_ALREADY_EXISTS: i16 = 36;
const UNKNOWN_TOPIC: i16 = 3;
const ELECTION_NOT_NEEDED: i16 = 84;
const PREFERRED: i8 = 0;
const ALL_PARTITIONS: i32 = -1;
const RESOURCE_TOPIC: i8 = 2;
const SET: i8 = 0;

/// Makes a topic; one of that name may be there already, as after an answer that was lost.
pub(crate) fn create(
    node: SocketAddr,
    name: &str,
    partitions: i32,
    replicas: i16,
    configs: &[(&str, &str)],
) -> io::Result<()> {
    let mut request = Request::new(CREATE_TOPICS, 2);
    request.array(1).string(Some(name)).i32(partitions);
    request.i16(replicas).array(0).array(configs.len());
    for (config, value) in configs {
        request.string(Some(config)).string(Some(value));
    }
    request.i32(TIMEOUT_MS).bool(false);
    let mut answer = request.send(node)?;
    answer.i32()?;
    answer.array(|topic| {
        topic.string()?;
        let code = topic.i16()?;
        let message = topic.string()?;
        match code {
            TOPIC_ALREADY_EXISTS => Ok(()),
            code => check("CreateTopics", code, message.as_deref()),
        }
    })?;
    Ok(())
}

/// Removes a topic; it may be gone already.
pub(crate) fn delete(node: SocketAddr, name: &str) -> io::Result<()> {
    let mut request = Request::new(DELETE_TOPICS, 1);
    request.array(1).string(Some(name)).i32(TIMEOUT_MS);
    let mut answer = request.send(node)?;
    answer.i32()?;
    answer.array(|topic| {
        topic.string()?;
        match topic.i16()? {
            UNKNOWN_TOPIC => Ok(()),
            code => check("DeleteTopics", code, None),
        }
    })?;
    Ok(())
}

/// Raises a topic's number of partitions to `total`.
pub(crate) fn add_partitions(node: SocketAddr, name: &str, total: i32) -> io::Result<()> {
    let mut request = Request::new(CREATE_PARTITIONS, 0);
    request.array(1).string(Some(name)).i32(total).i32(-1);
    request.i32(TIMEOUT_MS).bool(false);
    let mut answer = request.send(node)?;
    answer.i32()?;
    answer.array(|topic| {
        topic.string()?;
        let code = topic.i16()?;
        let message = topic.string()?;
        check("CreatePartitions", code, message.as_deref())
    })?;
    Ok(())
}

/// Sets configurations of a topic and leaves its others.
pub(crate) fn alter_configs(node: SocketAddr, name: &str, configs: &[(&str, &str)]) -> io::Result<()> {
    let mut request = Request::new(INCREMENTAL_ALTER_CONFIGS, 0);
    request.array(1).i8(RESOURCE_TOPIC).string(Some(name));
    request.array(configs.len());
    for (config, value) in configs {
        request.string(Some(config)).i8(SET).string(Some(value));
    }
    request.bool(false);
    let mut answer = request.send(node)?;
    answer.i32()?;
    answer.array(|resource| {
        let code = resource.i16()?;
        let message = resource.string()?;
        check("IncrementalAlterConfigs", code, message.as_deref())
    })?;
    Ok(())
}

/// Has every partition led by the first of its replicas.
pub(crate) fn elect_preferred(node: SocketAddr) -> io::Result<()> {
    let mut request = Request::new(ELECT_LEADERS, 1);
    request.i8(PREFERRED).i32(ALL_PARTITIONS).i32(TIMEOUT_MS);
    let mut answer = request.send(node)?;
    answer.i32()?;
    check("ElectLeaders", answer.i16()?, None)?;
    answer.array(|topic| {
        topic.string()?;
        topic.array(|partition| {
            partition.i32()?;
            let code = partition.i16()?;
            let message = partition.string()?;
            match code {
                ELECTION_NOT_NEEDED => Ok(()),
                code => check("ElectLeaders", code, message.as_deref()),
            }
        })
    })?;
    Ok(())
}

/// Gives partitions of a topic other replicas, the one that is to lead first. The same ones in another order take effect at
/// once, but lead only after [`elect_preferred`].
pub(crate) fn reassign(node: SocketAddr, name: &str, replicas: &[(i32, Vec<i32>)]) -> io::Result<()> {
    let mut request = Request::flexible(ALTER_PARTITION_REASSIGNMENTS, 0);
    request.i32(TIMEOUT_MS);
    request.compact_length(1).compact_bytes(name.as_bytes());
    request.compact_length(replicas.len());
    for (partition, replicas) in replicas {
        request.i32(*partition).compact_length(replicas.len());
        for replica in replicas {
            request.i32(*replica);
        }
        request.no_tags();
    }
    request.no_tags().no_tags();
    let mut answer = request.send(node)?;
    answer.i32()?;
    let code = answer.i16()?;
    let message = answer.compact_string()?;
    check("AlterPartitionReassignments", code, message.as_deref())?;
    answer.compact_array(|topic| {
        topic.compact_string()?;
        topic.compact_array(|partition| {
            partition.i32()?;
            let code = partition.i16()?;
            let message = partition.compact_string()?;
            partition.skip_tags()?;
            check("AlterPartitionReassignments", code, message.as_deref())
        })?;
        topic.skip_tags()
    })?;
    Ok(())
}
