//! The bytes in which librdkafka's consumers write down their group: what is accepted is of the group that is named, and complete.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use producer_sidecar::{
    grpc::{
        decode::{self, RecordLimits},
        proto::{ConsumerGroup, InputOffset, ProcessAndForwardRequest, consumer_group},
    },
    offsets::Membership,
};

const LIMITS: RecordLimits = RecordLimits { record_bytes_max: 1_000, record_headers_max: 1 };
const GROUP: &str = "g";

fuzz_target!(|input: &[u8]| {
    // The magic is known: what stands behind it is what is tried.
    let bytes = match input.split_first() {
        Some((0, rest)) => Bytes::copy_from_slice(rest),
        Some((_, rest)) => [&b"CGMDv2:"[..], rest].concat().into(),
        None => return,
    };
    let input = InputOffset { topic: "in".to_owned(), next_offset: 1, ..InputOffset::default() };
    let membership = Some(consumer_group::Membership::LibrdkafkaMetadata(bytes.clone()));
    let group = ConsumerGroup { group_id: GROUP.to_owned(), membership };
    let request = ProcessAndForwardRequest { group: Some(group), inputs: vec![input], outputs: Vec::new() };
    let Ok(unit) = decode::process_request(request, &LIMITS, 1, 1, 1) else { return };
    let Some(Membership::Librdkafka(kept)) = unit.group.map(|group| group.membership) else {
        panic!("it is librdkafka's")
    };
    assert_eq!(kept, bytes);
    check(&bytes);
});

/// Writes down again what the bytes say, as librdkafka does, and compares.
fn check(bytes: &[u8]) {
    let rest = bytes.strip_prefix(b"CGMDv2:").expect("the magic");
    let (generation, rest) = rest.split_first_chunk::<4>().expect("the generation");
    assert!(i32::from_ne_bytes(*generation) >= 0, "it has joined");
    let mut texts = rest.split(|byte| *byte == 0);
    assert_eq!(texts.next(), Some(GROUP.as_bytes()));
    let member = texts.next().expect("the member");
    assert!(!member.is_empty());
    let behind = &rest[GROUP.len() + 1 + member.len() + 1..];
    match behind.split_first().expect("whether there is an instance") {
        (0, instance) => assert_eq!(instance.iter().position(|byte| *byte == 0), Some(instance.len() - 1)),
        (_, rest) => assert!(rest.is_empty()),
    }
}
