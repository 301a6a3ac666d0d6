//! Calls as they come from the wire: whatever the bytes are, a record that is accepted keeps every bound of the contract.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use producer_sidecar::{
    grpc::{
        decode::{self, RecordLimits},
        proto::{ProcessAndForwardRequest, SendBatchRequest, SendRequest},
    },
    offsets::{GROUP_TEXT_BYTES_MAX, Membership, OFFSET_METADATA_BYTES_MAX, Unit},
    record::{MESSAGE_ID_BYTES_MAX, Record, TENANT_HEADER, TIMESTAMP_MS_MAX, Topic},
};
use prost::Message as _;

const LIMITS: RecordLimits = RecordLimits { record_bytes_max: 2_000, record_headers_max: 8 };
const OUTPUTS_MAX: usize = 8;
const INPUTS_MAX: usize = 4;
const NOW_MS: i64 = 1_700_000_000_000;
/// What `content-type` adds, which does not count against the limits.
const CONTENT_TYPE_BYTES: usize = "content-type".len() + "application/json".len();

fuzz_target!(|input: &[u8]| {
    let Some((kind, message)) = input.split_first() else { return };
    let message = Bytes::copy_from_slice(message);
    match kind % 3 {
        0 => {
            let Ok(request) = SendRequest::decode(message) else { return };
            if let Ok(record) = decode::send_request(request, &LIMITS, NOW_MS) {
                check(&record);
            }
        }
        1 => {
            let Ok(request) = SendBatchRequest::decode(message) else { return };
            let count = request.records.len();
            let records = decode::frame(request, &LIMITS, NOW_MS);
            assert_eq!(records.len(), count);
            records.iter().flatten().for_each(check);
        }
        _ => {
            let Ok(request) = ProcessAndForwardRequest::decode(message) else { return };
            if let Ok(unit) = decode::process_request(request, &LIMITS, OUTPUTS_MAX, INPUTS_MAX, NOW_MS) {
                check_unit(&unit);
            }
        }
    }
});

fn check(record: &Record) {
    let topic = record.topic.as_str();
    assert!(Topic::parse(topic).is_ok() && !topic.starts_with("__"));
    assert!(record.bytes() <= LIMITS.record_bytes_max + CONTENT_TYPE_BYTES);
    assert!(record.headers.len() <= LIMITS.record_headers_max + 1);
    assert!(record.headers.iter().all(|header| !header.name.is_empty()));
    assert!(record.headers.iter().filter(|header| header.name == TENANT_HEADER).count() <= 1);
    assert!(record.partition.is_none_or(|partition| partition >= 0));
    assert!((1..=TIMESTAMP_MS_MAX).contains(&record.timestamp_ms));
    assert!(record.message_id.as_ref().is_none_or(|id| (1..=MESSAGE_ID_BYTES_MAX).contains(&id.len())));
}

fn check_unit(unit: &Unit) {
    assert!(!unit.inputs.is_empty() || !unit.outputs.is_empty());
    assert!(unit.outputs.len() <= OUTPUTS_MAX && unit.inputs.len() <= INPUTS_MAX);
    assert_eq!(unit.group.is_some(), !unit.inputs.is_empty());
    unit.outputs.iter().for_each(check);
    for (place, input) in unit.inputs.iter().enumerate() {
        assert!(input.partition >= 0 && input.next >= 1);
        assert!(input.expected.is_none_or(|expected| (0..input.next).contains(&expected)));
        assert!(input.metadata.len() <= OFFSET_METADATA_BYTES_MAX && !input.metadata.contains('\0'));
        let is_same = |other: &producer_sidecar::offsets::Input| {
            other.topic == input.topic && other.partition == input.partition
        };
        assert!(!unit.inputs[place + 1..].iter().any(is_same), "each partition once");
    }
    let Some(group) = &unit.group else { return };
    let is_text = |text: &str| (1..=GROUP_TEXT_BYTES_MAX).contains(&text.len()) && !text.contains('\0');
    assert!(is_text(&group.id));
    if let Membership::Member { generation, member_id, instance_id } = &group.membership {
        assert!(*generation >= 0 && is_text(member_id));
        assert!(instance_id.as_ref().is_none_or(|id| is_text(id)));
    }
}
