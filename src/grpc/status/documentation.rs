//! Owns `docs/errors.md`: rendered from the taxonomy, compared with the file by a test.
//! Must never say what the code does not decide; the sentences are the only thing written here.

use tonic::Code;

use super::{code_and_reason, retry_delay};
use crate::failure::{Failure, Reason};

const HEAD: &str = "\
# Errors

This file is rendered from the source; a test compares them. After a change run
`UPDATE_DOCS=1 cargo test --lib errors_document`.

Every error but UNIMPLEMENTED carries one `google.rpc.ErrorInfo`:

| field | content |
|---|---|
| `domain` | `producer.caas` |
| `reason` | as below; the names of `ErrorReason` in `proto/producer.proto` without their prefix |
| `metadata` | `persisted`; where they apply also `topic`, `partition`, `field`, `kafkaError`, `attempts` (how often the record was handed over to Kafka's client, or in how many transactions the unit was), `committedOffset`, `deadLetterTopic`, `deadLetterPartition` and `deadLetterOffset` (where the record's dead letter is), `deadLetterError` (the reason why there is none), and `violations` (how many there were in all) |

INVALID_RECORD carries a `google.rpc.BadRequest` with the first 20 wrong fields, as far as they fit into 4 KiB of details. Where
sending the same call again is safe and may help there is a `google.rpc.RetryInfo`.

`persisted` says whether the record may be in Kafka:

* `NO`: it surely is not. Sending it again cannot double it.
* `MAYBE`: it may be. Sending it again may double it, unless it is sent with the same `message_id` to the same sidecar within the
  window that GetInfo tells: then it is written once, and the answer is the first's.

An error without this `ErrorInfo`, such as a lost connection or a killed process, is to be read as `MAYBE`. gRPC clients can be set
to retry UNAVAILABLE by themselves; they then also retry lost connections, so switch that on for records with a `message_id` alone. A
sidecar that was started again does not know the ids of before.

The trailer `grpc-retry-pushback-ms` steers such automatic retries: -1 stops them, because a retry cannot help or may double the
record; any other number is the delay in milliseconds. The delays below are those of failures that name no other. A record that is, or may
be, in its dead letter has -1 whatever the reason: sent again it would be in its topic and beside it, and a replay would double it.

| reason | code | persisted | pushback | when |
|---|---|---|---|---|
";

/// Renders `docs/errors.md`: one row for each reason, in the order of the contract's table.
#[must_use]
pub fn errors_markdown() -> String {
    let mut text = HEAD.to_owned();
    for reason in Reason::ALL {
        let (code, _) = code_and_reason(reason);
        let delay = retry_delay(&Failure::new(reason, ""));
        let pushback = delay.map_or_else(|| "-1".to_owned(), |delay| delay.as_millis().to_string());
        let cells = [reason.name(), code_name(code), reason.persisted().name(), &pushback, situation(reason)];
        text.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
    text
}

/// Says when a reason is answered, in a sentence without its stop.
const fn situation(reason: Reason) -> &'static str {
    match reason {
        Reason::InvalidRecord => "fields are wrong; all of them are answered at once",
        Reason::RecordTooLarge => "the record is larger than the sidecar's limit or the topic's",
        Reason::RecordRejected => {
            "the broker rejects the record, or would by a rule of its topic: no key for a compacted topic, a timestamp out of range"
        }
        Reason::MessageIdReused => "the message id was used for other content",
        Reason::TopicNotFound => "Kafka does not know the topic",
        Reason::NotAuthorized => "Kafka forbids topic, group or transactional id to the sidecar's principal",
        Reason::CallerNotAllowed => "the sidecar forbids it to this caller (reserved)",
        Reason::KafkaAuthenticationFailed => "Kafka refuses the sidecar's own credentials, or TLS failed",
        Reason::SpoolNotConfigured => "SPOOLED was asked for and there is no spool",
        Reason::QueueFull => "a queue or limit of the sidecar is full",
        Reason::SpoolFull => "the spool is full (not in this version)",
        Reason::ResponsesNotRead => "the caller does not read its responses",
        Reason::BrokersUnavailable => {
            "brokers are away, too few replicas are in sync, the producer is being replaced, or Kafka cannot be asked whether the topic still refuses such a record"
        }
        Reason::Draining => "the sidecar is stopping",
        Reason::DeadlineNotWritten => {
            "the deadline passed while the record was in the sidecar; it was taken out"
        }
        Reason::DeliveryUnknownAtDeadline => "the deadline passed after the record was handed over",
        Reason::DeliveryUnknown => {
            "the connection was lost, or too few replicas took the record, before any deadline"
        }
        Reason::TransactionAborted => "the transaction was aborted; NO for readers of committed records",
        Reason::ConsumerFenced => "the consumer's generation or member is stale; rejoin first",
        Reason::OffsetMismatch => "the group has committed another offset than expected",
        Reason::ProducerFenced => "another process uses the transactional id",
        Reason::CommitUnknown => "whether the transaction was committed is not known",
        Reason::CancelledByCaller => {
            "the caller cancelled and the record was taken out; in logs and metrics only"
        }
        Reason::Internal => "a fault of the sidecar",
    }
}

/// Returns a code's name as the gRPC documentation writes it.
pub const fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use std::{env, fs};

    use super::*;

    #[test]
    fn the_errors_document_is_what_the_source_says() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/errors.md");
        let rendered = errors_markdown();
        if env::var_os("UPDATE_DOCS").is_some() {
            fs::write(path, &rendered).unwrap();
        }
        let written = fs::read_to_string(path).unwrap_or_default();
        assert_eq!(written, rendered, "run: UPDATE_DOCS=1 cargo test --lib errors_document");
    }
}
