//! Owns the way of an outcome into protobuf.
//! Must never make a Status, nor name a code; that is `status`.

use super::{proto, status};
use crate::{pipeline::Outcome, record::Receipt};

/// Writes a receipt.
#[must_use]
pub fn receipt(receipt: Receipt) -> proto::Receipt {
    let (seconds, milliseconds) =
        (receipt.timestamp_ms.div_euclid(1_000), receipt.timestamp_ms.rem_euclid(1_000));
    let nanos = i32::try_from(milliseconds * 1_000_000).unwrap_or(0);
    proto::Receipt {
        topic: receipt.topic.to_string(),
        partition: Some(receipt.partition),
        offset: receipt.offset,
        timestamp: Some(prost_types::Timestamp { seconds, nanos }),
        durability: proto::Durability::Replicated.into(),
        duplicate: receipt.duplicate,
    }
}

/// Writes what became of one record of a frame.
#[must_use]
pub fn result(outcome: Outcome) -> proto::RecordResult {
    let result = match outcome {
        Ok(told) => proto::record_result::Result::Receipt(receipt(told)),
        Err(failure) => proto::record_result::Result::Error(status::record_error(&failure)),
    };
    proto::RecordResult { result: Some(result) }
}
