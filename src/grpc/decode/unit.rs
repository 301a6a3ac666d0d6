//! Owns the way from protobuf to [`Unit`]: the rules of ProcessAndForward on group, inputs and outputs, all violations at once.
//! Must never ask Kafka whether the group or its member is real, and never echo librdkafka's bytes or the text beside an offset.

use std::{collections::HashMap, fmt};

use super::{Check, DecodedRecord, Place, RecordLimits, Violations, proto, record};
use crate::{
    failure::Failure,
    offsets::{
        COMMIT_BYTES_MAX, GROUP_TEXT_BYTES_MAX, Group, Input, Membership, OFFSET_METADATA_BYTES_MAX, Unit,
        commit_bytes,
    },
};

/// How librdkafka's consumer group metadata begins; another version would be another format (`rdkafka_cgrp.c`).
const LIBRDKAFKA_MAGIC: &[u8] = b"CGMDv2:";
/// The longest that librdkafka's bytes may be: magic, generation, three texts with their NUL, and whether the last one is null.
const LIBRDKAFKA_BYTES_MAX: usize = LIBRDKAFKA_MAGIC.len() + 4 + 3 * (GROUP_TEXT_BYTES_MAX + 1) + 1;

/// Reads a `ProcessAndForwardRequest`. Violations win over the size.
///
/// Of too many inputs or outputs only the first `inputs_max` and `outputs_max` are looked at. `now_ms` is the timestamp of outputs
/// that have none.
///
/// # Errors
/// `INVALID_RECORD` with all violations, or `RECORD_TOO_LARGE` of the first output that is.
pub fn process_request(
    request: proto::ProcessAndForwardRequest,
    limits: &RecordLimits,
    outputs_max: usize,
    inputs_max: usize,
    now_ms: i64,
) -> Result<Unit, Failure> {
    let mut violations = Violations::default();
    nothing_is_forgotten(&request, &mut violations);
    let group = request.group.and_then(|input| group(input, &mut violations));
    let inputs = inputs(request.inputs, inputs_max, &mut violations);
    if group.as_ref().is_some_and(|group| commit_bytes(group, &inputs) > COMMIT_BYTES_MAX) {
        let description = format_args!(
            "must fit in one commit of offsets, {COMMIT_BYTES_MAX} bytes with their metadata, names and 100 bytes each"
        );
        violations.add("inputs", description);
    }
    let outputs = outputs(request.outputs, limits, outputs_max, now_ms, &mut violations);
    if !violations.is_empty() {
        return Err(violations.into_failure());
    }
    let outputs = outputs.into_iter().map(|(place, decoded)| decoded.fit(place, limits));
    Ok(Unit { group, inputs, outputs: outputs.collect::<Result<_, _>>()? })
}

/// Refuses parts that make no sense without another: what is missing was forgotten, or lost by an older client.
fn nothing_is_forgotten(request: &proto::ProcessAndForwardRequest, violations: &mut Violations) {
    match (&request.group, request.inputs.is_empty()) {
        (None, false) => violations.add("group", "must be set where there are inputs"),
        (Some(_), true) => violations.add("inputs", "must not be empty where there is a group"),
        (None, true) if request.outputs.is_empty() => {
            violations.add("outputs", "must not be empty where there are no inputs");
        }
        (Some(_), false) | (None, true) => {}
    }
}

fn group(input: proto::ConsumerGroup, violations: &mut Violations) -> Option<Group> {
    group_text(&input.group_id, "group.group_id", violations);
    let membership = match input.membership {
        Some(proto::consumer_group::Membership::Member(member)) => of_member(member, violations),
        Some(proto::consumer_group::Membership::LibrdkafkaMetadata(bytes)) => {
            if let Err(fault) = joined(&bytes, &input.group_id) {
                violations.add("group.librdkafka_metadata", fault);
            }
            Membership::Librdkafka(bytes)
        }
        Some(proto::consumer_group::Membership::ManualAssignment(proto::ManualAssignment {})) => {
            Membership::Manual
        }
        None => {
            let description = "must be one of member, librdkafka_metadata and manual_assignment";
            violations.add("group.membership", description);
            return None;
        }
    };
    Some(Group { id: input.group_id, membership })
}

/// Reads a member; Kafka would take one without generation or id as no member at all, and fence nothing.
fn of_member(member: proto::GroupMember, violations: &mut Violations) -> Membership {
    if member.generation_id < 0 {
        violations.add("group.member.generation_id", "must not be negative");
    }
    group_text(&member.member_id, "group.member.member_id", violations);
    if let Some(id) = &member.group_instance_id {
        group_text(id, "group.member.group_instance_id", violations);
    }
    Membership::Member {
        generation: member.generation_id,
        member_id: member.member_id,
        instance_id: member.group_instance_id,
    }
}

fn group_text(text: &str, field: &str, violations: &mut Violations) {
    if text.is_empty() {
        violations.add(field, "must not be empty");
    }
    c_text(text, GROUP_TEXT_BYTES_MAX, field, violations);
}

/// Checks a text that becomes a C string, which a NUL would cut.
fn c_text(text: &str, bytes_max: usize, field: impl fmt::Display, violations: &mut Violations) {
    if text.contains('\0') {
        violations.add(&field, "must not hold a NUL character");
    }
    if text.len() > bytes_max {
        violations.add(&field, format_args!("must have at most {bytes_max} bytes"));
    }
}

fn inputs(inputs: Vec<proto::InputOffset>, count_max: usize, violations: &mut Violations) -> Vec<Input> {
    if inputs.len() > count_max {
        violations.add("inputs", format_args!("must be at most {count_max}"));
    }
    let mut seen = HashMap::new();
    let mut read = Vec::with_capacity(inputs.len().min(count_max));
    for (position, input) in inputs.into_iter().take(count_max).enumerate() {
        let mut check = Check { place: Place::Inputs(position), violations };
        let topic = check.topic(&input.topic);
        check.partition(Some(input.partition));
        check.offsets(input.expected_offset, input.next_offset);
        let field = format_args!("inputs[{position}].metadata");
        c_text(&input.metadata, OFFSET_METADATA_BYTES_MAX, field, check.violations);
        let Some(topic) = topic else { continue };
        let first = *seen.entry((topic.clone(), input.partition)).or_insert(position);
        if first < position {
            check.refuse("partition", format_args!("must not be that of inputs[{first}] again"));
        }
        read.push(Input {
            topic,
            partition: input.partition,
            expected: input.expected_offset,
            next: input.next_offset,
            metadata: input.metadata,
        });
    }
    read
}

fn outputs(
    inputs: Vec<proto::ProducerRecord>,
    limits: &RecordLimits,
    count_max: usize,
    now_ms: i64,
    violations: &mut Violations,
) -> Vec<(Place, DecodedRecord)> {
    if inputs.len() > count_max {
        violations.add("outputs", format_args!("must be at most {count_max}"));
    }
    let inputs = inputs.into_iter().take(count_max).enumerate();
    let decoded = inputs.filter_map(|(position, input)| {
        let place = Place::Outputs(position);
        Some((place, record(input, place, limits, now_ms, violations)?))
    });
    decoded.collect()
}

impl Check<'_> {
    fn offsets(&mut self, expected: Option<i64>, next: i64) {
        if expected.is_some_and(|expected| expected < 0) {
            self.refuse("expected_offset", "must not be negative");
        }
        if next < 1 {
            self.refuse("next_offset", "must be at least 1");
        } else if expected.is_some_and(|expected| next <= expected) {
            self.refuse("next_offset", "must be greater than expected_offset");
        }
    }
}

/// Says why librdkafka's bytes are none of a consumer that has joined the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum MetadataFault {
    #[error("must begin with 'CGMDv2:', as librdkafka's consumer group metadata does")]
    Magic,
    #[error("must have at most {LIBRDKAFKA_BYTES_MAX} bytes")]
    TooLong,
    #[error("must be librdkafka's consumer group metadata, complete and unchanged")]
    Unreadable,
    #[error("must be of the group that group_id names")]
    OtherGroup,
    #[error("must be of a consumer that has joined its group")]
    NotJoined,
}

/// Reads librdkafka's bytes: `CGMDv2:`, the generation in this machine's byte order, group NUL, member NUL, whether the instance is
/// null, and if it is not, instance NUL.
///
/// As strict as `rd_kafka_consumer_group_metadata_read`, and stricter where that one reads beyond the end. Before it has joined, a
/// consumer gives generation -1 and no member: Kafka would take that as no member at all, and fence nothing.
fn joined(bytes: &[u8], group_id: &str) -> Result<(), MetadataFault> {
    let rest = bytes.strip_prefix(LIBRDKAFKA_MAGIC).ok_or(MetadataFault::Magic)?;
    if bytes.len() > LIBRDKAFKA_BYTES_MAX {
        return Err(MetadataFault::TooLong);
    }
    let (generation, rest) = rest.split_first_chunk().ok_or(MetadataFault::Unreadable)?;
    let (group, rest) = printable(rest)?;
    let (member, rest) = printable(rest)?;
    let rest = match rest.split_first().ok_or(MetadataFault::Unreadable)? {
        (0, rest) => printable(rest)?.1,
        (_, rest) => rest,
    };
    if !rest.is_empty() {
        return Err(MetadataFault::Unreadable);
    }
    if group != group_id.as_bytes() {
        return Err(MetadataFault::OtherGroup);
    }
    if i32::from_ne_bytes(*generation) < 0 || member.is_empty() {
        return Err(MetadataFault::NotJoined);
    }
    Ok(())
}

/// Splits off a text that ends with NUL; librdkafka takes printable ASCII only.
fn printable(bytes: &[u8]) -> Result<(&[u8], &[u8]), MetadataFault> {
    let end = bytes.iter().position(|byte| *byte == 0).ok_or(MetadataFault::Unreadable)?;
    let (text, rest) = bytes.split_at(end);
    let is_printable = |byte: &u8| matches!(byte, b' '..=b'~');
    if text.iter().all(is_printable) { Ok((text, &rest[1..])) } else { Err(MetadataFault::Unreadable) }
}

#[cfg(test)]
mod tests;
