//! Tests of units: each rule, then arbitrary input.

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::{
    failure::Reason,
    grpc::proto::{
        ConsumerGroup, GroupMember, InputOffset, ManualAssignment, ProcessAndForwardRequest, ProducerRecord,
        consumer_group::Membership as Given, producer_record::Payload,
    },
};

const LIMITS: RecordLimits = RecordLimits { record_bytes_max: 1_000, record_headers_max: 4 };
const INPUTS_MAX: usize = 4;
const OUTPUTS_MAX: usize = 20;
const NOW_MS: i64 = 1_700_000_000_000;

fn input(partition: i32) -> InputOffset {
    InputOffset { topic: "in".to_owned(), partition, next_offset: 20, ..InputOffset::default() }
}

fn output() -> ProducerRecord {
    ProducerRecord {
        topic: "out".to_owned(),
        payload: Some(Payload::ValueText("value".to_owned())),
        ..ProducerRecord::default()
    }
}

fn member() -> GroupMember {
    GroupMember { generation_id: 3, member_id: "consumer-1".to_owned(), group_instance_id: None }
}

fn grouped(membership: impl Into<Option<Given>>) -> ProcessAndForwardRequest {
    let group = ConsumerGroup { group_id: "billing".to_owned(), membership: membership.into() };
    ProcessAndForwardRequest { group: Some(group), inputs: vec![input(0)], outputs: vec![output()] }
}

fn request() -> ProcessAndForwardRequest {
    grouped(Given::Member(member()))
}

fn with_input(input: InputOffset) -> ProcessAndForwardRequest {
    ProcessAndForwardRequest { inputs: vec![input], ..request() }
}

fn read(request: ProcessAndForwardRequest) -> Result<Unit, Failure> {
    process_request(request, &LIMITS, OUTPUTS_MAX, INPUTS_MAX, NOW_MS)
}

/// Returns the fields that are refused, each with why.
fn refused(request: ProcessAndForwardRequest) -> Vec<(String, String)> {
    let failure = read(request).unwrap_err();
    assert_eq!(failure.reason(), Reason::InvalidRecord);
    let (violations, _) = failure.violations();
    violations.iter().map(|violation| (violation.field.clone(), violation.description.clone())).collect()
}

fn refused_fields(request: ProcessAndForwardRequest) -> Vec<String> {
    refused(request).into_iter().map(|(field, _)| field).collect()
}

/// Writes what librdkafka writes.
fn metadata(generation: i32, group: &[u8], member: &[u8], instance: Option<&[u8]>) -> Vec<u8> {
    let mut bytes = b"CGMDv2:".to_vec();
    bytes.extend(generation.to_ne_bytes());
    for text in [group, member] {
        bytes.extend(text);
        bytes.push(0);
    }
    bytes.push(u8::from(instance.is_none()));
    if let Some(text) = instance {
        bytes.extend(text);
        bytes.push(0);
    }
    bytes
}

fn given(bytes: Vec<u8>) -> ProcessAndForwardRequest {
    grouped(Given::LibrdkafkaMetadata(bytes.into()))
}

#[test]
fn inputs_that_one_commit_cannot_hold_are_refused() {
    let of = |count: i32| {
        let each =
            |partition| InputOffset { metadata: "x".repeat(OFFSET_METADATA_BYTES_MAX), ..input(partition) };
        let request = ProcessAndForwardRequest { inputs: (0..count).map(each).collect(), ..request() };
        process_request(request, &LIMITS, OUTPUTS_MAX, 1_000, NOW_MS)
    };
    assert!(of(230).is_ok());
    let failure = of(240).unwrap_err();
    let (violations, total) = failure.violations();
    assert_eq!((violations[0].field.as_str(), total), ("inputs", 1));
}

#[test]
fn a_unit_is_taken_as_it_is() {
    let group_instance_id = Some("pod-0".to_owned());
    let static_member = GroupMember { generation_id: 0, group_instance_id, ..member() };
    let full = ProcessAndForwardRequest {
        inputs: vec![
            InputOffset { expected_offset: Some(0), next_offset: 1, metadata: "note".to_owned(), ..input(7) },
            InputOffset { topic: "other".to_owned(), ..input(7) },
        ],
        outputs: vec![output(), ProducerRecord { partition: Some(5), ..output() }],
        ..grouped(Given::Member(static_member))
    };
    let unit = read(full).unwrap();
    let membership = Membership::Member {
        generation: 0,
        member_id: "consumer-1".to_owned(),
        instance_id: Some("pod-0".to_owned()),
    };
    assert_eq!(unit.group, Some(Group { id: "billing".to_owned(), membership }));
    let inputs: Vec<_> =
        unit.inputs.iter().map(|input| (input.topic.as_str(), input.expected, input.next)).collect();
    assert_eq!(inputs, [("in", Some(0), 1), ("other", None, 20)]);
    assert_eq!((unit.inputs[0].partition, unit.inputs[0].metadata.as_str()), (7, "note"));
    let outputs: Vec<_> = unit.outputs.iter().map(|record| (record.partition, record.timestamp_ms)).collect();
    assert_eq!(outputs, [(None, NOW_MS), (Some(5), NOW_MS)]);
}

#[test]
fn outputs_alone_and_inputs_alone_are_units_too() {
    let outputs = ProcessAndForwardRequest { outputs: vec![output()], ..ProcessAndForwardRequest::default() };
    let unit = read(outputs).unwrap();
    assert_eq!((unit.group, unit.inputs.len(), unit.outputs.len()), (None, 0, 1));
    let inputs = ProcessAndForwardRequest { outputs: Vec::new(), ..request() };
    assert_eq!(read(inputs).unwrap().outputs, []);
}

#[test]
fn what_is_forgotten_is_refused() {
    assert_eq!(refused_fields(ProcessAndForwardRequest::default()), ["outputs"]);
    assert_eq!(refused_fields(ProcessAndForwardRequest { group: None, ..request() }), ["group"]);
    assert_eq!(refused_fields(ProcessAndForwardRequest { inputs: Vec::new(), ..request() }), ["inputs"]);
    let only_a_group = ProcessAndForwardRequest { inputs: Vec::new(), outputs: Vec::new(), ..request() };
    assert_eq!(refused_fields(only_a_group), ["inputs"]);
    assert_eq!(refused_fields(grouped(None)), ["group.membership"]);
}

#[test]
fn every_wrong_field_is_named_at_once() {
    let group = ConsumerGroup {
        group_id: String::new(),
        membership: Some(Given::Member(GroupMember {
            generation_id: -1,
            member_id: String::new(),
            group_instance_id: Some(String::new()),
        })),
    };
    let wrong = ProcessAndForwardRequest {
        group: Some(group),
        inputs: vec![
            input(0),
            InputOffset { next_offset: 0, ..input(-1) },
            InputOffset { topic: "__consumer_offsets".to_owned(), expected_offset: Some(-1), ..input(2) },
            InputOffset { metadata: "a\0b".to_owned(), ..input(0) },
        ],
        outputs: vec![output(), ProducerRecord::default()],
    };
    let expected = [
        "group.group_id",
        "group.member.generation_id",
        "group.member.member_id",
        "group.member.group_instance_id",
        "inputs[1].partition",
        "inputs[1].next_offset",
        "inputs[2].topic",
        "inputs[2].expected_offset",
        "inputs[3].metadata",
        "inputs[3].partition",
        "outputs[1].topic",
        "outputs[1].payload",
    ];
    assert_eq!(refused_fields(wrong), expected);
}

#[test]
fn offsets_go_forward() {
    let of =
        |expected_offset, next_offset| with_input(InputOffset { expected_offset, next_offset, ..input(0) });
    for (expected, next) in [(None, 1), (None, i64::MAX), (Some(0), 1), (Some(i64::MAX - 1), i64::MAX)] {
        assert!(read(of(expected, next)).is_ok(), "{expected:?} to {next}");
    }
    let cases = [
        (None, 0, &["inputs[0].next_offset"][..]),
        (None, -1, &["inputs[0].next_offset"]),
        (Some(5), 5, &["inputs[0].next_offset"]),
        (Some(5), 4, &["inputs[0].next_offset"]),
        (Some(-1), 4, &["inputs[0].expected_offset"]),
        (Some(i64::MIN), i64::MIN, &["inputs[0].expected_offset", "inputs[0].next_offset"]),
    ];
    for (expected, next, fields) in cases {
        assert_eq!(refused_fields(of(expected, next)), fields, "{expected:?} to {next}");
    }
}

#[test]
fn a_partition_stands_in_a_unit_once() {
    let inputs = vec![input(0), input(1), InputOffset { topic: "other".to_owned(), ..input(1) }, input(1)];
    let doubled = ProcessAndForwardRequest { inputs, ..request() };
    let description = "must not be that of inputs[1] again".to_owned();
    assert_eq!(refused(doubled), [("inputs[3].partition".to_owned(), description)]);
}

#[test]
fn texts_fit_into_c_strings_and_into_kafka() {
    let long = "g".repeat(GROUP_TEXT_BYTES_MAX + 1);
    for bad in ["a\0b", &long] {
        let mut named = request();
        named.group = named.group.map(|group| ConsumerGroup { group_id: bad.to_owned(), ..group });
        assert_eq!(refused_fields(named), ["group.group_id"]);
        let of_member = GroupMember { member_id: bad.to_owned(), ..member() };
        assert_eq!(refused_fields(grouped(Given::Member(of_member))), ["group.member.member_id"]);
        let of_instance = GroupMember { group_instance_id: Some(bad.to_owned()), ..member() };
        assert_eq!(refused_fields(grouped(Given::Member(of_instance))), ["group.member.group_instance_id"]);
    }
    let noted = |bytes| with_input(InputOffset { metadata: "m".repeat(bytes), ..input(0) });
    assert!(read(noted(OFFSET_METADATA_BYTES_MAX)).is_ok());
    assert_eq!(refused_fields(noted(OFFSET_METADATA_BYTES_MAX + 1)), ["inputs[0].metadata"]);
}

#[test]
fn inputs_and_outputs_are_so_many_and_no_more() {
    let sized = |inputs, outputs| ProcessAndForwardRequest {
        inputs: (0..inputs).map(input).collect(),
        outputs: vec![output(); outputs],
        ..request()
    };
    assert!(read(sized(4, OUTPUTS_MAX)).is_ok());
    let expected = [("inputs", "must be at most 4"), ("outputs", "must be at most 20")];
    let expected = expected.map(|(field, description)| (field.to_owned(), description.to_owned()));
    assert_eq!(refused(sized(5, OUTPUTS_MAX + 1)), expected);
}

#[test]
fn the_first_output_that_is_too_large_is_named_once_nothing_else_is_wrong() {
    let large = || ProducerRecord { payload: Some(Payload::Value(vec![0; 1_001].into())), ..output() };
    let sized = ProcessAndForwardRequest { outputs: vec![output(), large(), large()], ..request() };
    let failure = read(sized.clone()).unwrap_err();
    assert_eq!(failure.reason(), Reason::RecordTooLarge);
    assert!(failure.metadata().contains(&("field", "outputs[1]".to_owned())));
    let invalid = ProcessAndForwardRequest { group: None, ..sized };
    assert_eq!(refused_fields(invalid), ["group"]);
}

#[test]
fn librdkafkas_bytes_are_taken_unchanged() {
    for instance in [None, Some(&b"pod-0"[..])] {
        let bytes = metadata(3, b"billing", b"consumer-1", instance);
        let unit = read(given(bytes.clone())).unwrap();
        assert_eq!(unit.group.unwrap().membership, Membership::Librdkafka(Bytes::from(bytes)));
    }
    assert!(read(grouped(Given::ManualAssignment(ManualAssignment {}))).is_ok());
}

#[test]
fn bytes_that_librdkafka_did_not_write_or_that_fence_nothing_are_refused() {
    let good = metadata(3, b"billing", b"consumer-1", Some(b"pod-0"));
    let with = |extra: &[u8]| [&good[..], extra].concat();
    let magic = |text: &[u8]| [text, &good[7..]].concat();
    let long = metadata(3, b"billing", &vec![b'm'; LIBRDKAFKA_BYTES_MAX], None);
    let cases = [
        (Vec::new(), MetadataFault::Magic),
        (b"CGMDv2".to_vec(), MetadataFault::Magic),
        (magic(b"CGMDv1:"), MetadataFault::Magic),
        (magic(b"CGMDv3:"), MetadataFault::Magic),
        (long, MetadataFault::TooLong),
        (with(b"\0"), MetadataFault::Unreadable),
        (metadata(3, b"billing", "ä".as_bytes(), None), MetadataFault::Unreadable),
        (metadata(3, b"billing", b"a\nb", None), MetadataFault::Unreadable),
        (metadata(3, b"billing-2", b"consumer-1", None), MetadataFault::OtherGroup),
        (metadata(3, b"", b"consumer-1", None), MetadataFault::OtherGroup),
        (metadata(-1, b"billing", b"consumer-1", None), MetadataFault::NotJoined),
        (metadata(0, b"billing", b"", None), MetadataFault::NotJoined),
        (metadata(-1, b"billing", b"", Some(b"pod-0")), MetadataFault::NotJoined),
    ];
    for (bytes, fault) in cases {
        let refused = refused(given(bytes));
        assert_eq!(refused, [("group.librdkafka_metadata".to_owned(), fault.to_string())]);
    }
    for end in 7..good.len() {
        assert_eq!(joined(&good[..end], "billing"), Err(MetadataFault::Unreadable), "{end} bytes");
    }
}

#[test]
fn what_is_too_much_to_name_is_counted() {
    let wrong = ProcessAndForwardRequest { outputs: vec![ProducerRecord::default(); 20], ..request() };
    let failure = read(wrong).unwrap_err();
    assert_eq!((failure.violations().0.len(), failure.violations().1), (20, 40));
}

fn any_membership() -> impl Strategy<Value = Given> {
    let bytes = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        (any::<i32>(), prop::collection::vec(any::<u8>(), 0..9), prop::option::of(Just(&b"pod-0"[..])))
            .prop_map(|(generation, member, instance)| metadata(generation, b"g", &member, instance)),
    ];
    let instance = prop::option::of("[a-z\0]{0,3}");
    let member =
        (-2..5_i32, "[a-z\0]{0,3}", instance).prop_map(|(generation_id, member_id, group_instance_id)| {
            GroupMember { generation_id, member_id, group_instance_id }
        });
    prop_oneof![
        bytes.prop_map(|bytes| Given::LibrdkafkaMetadata(bytes.into())),
        member.prop_map(Given::Member),
        Just(Given::ManualAssignment(ManualAssignment {})),
    ]
}

fn any_request() -> impl Strategy<Value = ProcessAndForwardRequest> {
    let group =
        (prop_oneof![Just("g".to_owned()), "[g\0]{0,2}"], prop::option::weighted(0.9, any_membership()))
            .prop_map(|(group_id, membership)| ConsumerGroup { group_id, membership });
    let input = ("[a-b]{0,2}", -1..4_i32, prop::option::of(-1..5_i64), -1..9_i64, "[a-z\0]{0,2}").prop_map(
        |(topic, partition, expected_offset, next_offset, metadata)| InputOffset {
            topic,
            partition,
            expected_offset,
            next_offset,
            metadata,
        },
    );
    let output = "[a-b.]{0,2}".prop_map(|topic| ProducerRecord { topic, ..output() });
    let inputs = prop::collection::vec(input, 0..6);
    (prop::option::weighted(0.8, group), inputs, prop::collection::vec(output, 0..22))
        .prop_map(|(group, inputs, outputs)| ProcessAndForwardRequest { group, inputs, outputs })
}

proptest! {
    #[test]
    fn what_is_taken_keeps_the_rules_and_loses_nothing(request in any_request()) {
        let (inputs, outputs) = (request.inputs.len(), request.outputs.len());
        match read(request) {
            Ok(unit) => {
                prop_assert_eq!((unit.inputs.len(), unit.outputs.len()), (inputs, outputs));
                prop_assert!(inputs <= INPUTS_MAX && outputs <= OUTPUTS_MAX && inputs + outputs > 0);
                prop_assert_eq!(unit.group.is_some(), inputs > 0);
                for (position, input) in unit.inputs.iter().enumerate() {
                    prop_assert!(input.partition >= 0 && input.next >= 1);
                    prop_assert!(input.expected.is_none_or(|expected| (0..input.next).contains(&expected)));
                    prop_assert!(!input.metadata.contains('\0'));
                    let same = |other: &Input| (&other.topic, other.partition) == (&input.topic, input.partition);
                    prop_assert!(!unit.inputs[..position].iter().any(same));
                }
                if let Some(group) = &unit.group {
                    prop_assert!(!group.id.is_empty() && !group.id.contains('\0'));
                    if let Membership::Member { generation, member_id, instance_id } = &group.membership {
                        prop_assert!(*generation >= 0 && !member_id.is_empty() && !member_id.contains('\0'));
                        prop_assert!(instance_id.as_ref().is_none_or(|id| !id.is_empty()));
                    }
                }
            }
            Err(failure) => prop_assert!(failure.violations().1 > 0),
        }
    }

    #[test]
    fn no_damage_on_the_wire_panics(request in any_request(), place: prop::sample::Index, byte: u8) {
        let mut bytes = request.encode_to_vec();
        if !bytes.is_empty() {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if let Ok(request) = ProcessAndForwardRequest::decode(bytes.as_slice()) {
            let _refused_or_not = read(request).is_ok();
        }
    }
}
