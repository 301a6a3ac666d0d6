//! The count of a message's parts on the wire: whatever the bytes are, it never counts less than prost builds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use producer_sidecar::grpc::{
    proto::{ProcessAndForwardRequest, ProducerRecord, SendBatchRequest, SendRequest},
    scan::{self, Shape},
};
use prost::Message as _;

const NO_LIMITS: (usize, usize) = (usize::MAX, usize::MAX);

fuzz_target!(|input: &[u8]| {
    let Some((kind, message)) = input.split_first() else { return };
    let headers =
        |records: &[ProducerRecord]| records.iter().map(|record| record.headers.len()).sum::<usize>();
    let (counted, records, inputs, headers) = match kind % 3 {
        0 => {
            let counted = scan::parts(Shape::Send, message, NO_LIMITS);
            let Ok(request) = SendRequest::decode(message) else { return };
            let record = Vec::from_iter(request.record);
            (counted, record.len(), 0, headers(&record))
        }
        1 => {
            let counted = scan::parts(Shape::Frame, message, NO_LIMITS);
            let Ok(request) = SendBatchRequest::decode(message) else { return };
            (counted, request.records.len(), 0, headers(&request.records))
        }
        _ => {
            let counted = scan::parts(Shape::Unit, message, NO_LIMITS);
            let Ok(request) = ProcessAndForwardRequest::decode(message) else { return };
            (counted, request.outputs.len(), request.inputs.len(), headers(&request.outputs))
        }
    };
    assert!(counted.records >= records && counted.inputs >= inputs);
    let parts =
        records * size_of::<ProducerRecord>() + headers * size_of::<producer_sidecar::grpc::proto::Header>();
    assert!(counted.bytes >= parts, "{} bytes counted, {parts} built", counted.bytes);
});
