//! Owns the way from [`Failure`] to `tonic::Status`, with its details and trailers; the only place that makes a Status.
//! Must never decide anything: reason, persistence and remedy are the failure's, and what does not fit into a trailer is cut and counted.

mod documentation;
mod undecodable;

use std::{collections::HashMap, time::Duration};

use tonic::{
    Code, Status,
    metadata::{MetadataMap, MetadataValue},
};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

pub(super) use self::documentation::code_name;
pub use self::{documentation::errors_markdown, undecodable::undecodable};
use super::proto::{self, ErrorReason, RecordError};
use crate::failure::{Failure, Fault, Reason, Remedy, Violation};

/// The domain of every `ErrorInfo`.
pub const ERROR_DOMAIN: &str = "producer.caas";
/// The trailer that tells a client's automatic retries when to come back; -1 stops them (gRFC A6).
pub const RETRY_PUSHBACK_TRAILER: &str = "grpc-retry-pushback-ms";
/// The most bytes of details, encoded; clients refuse more than about 8 KiB of headers, and these travel as base64.
pub const DETAILS_BYTES_MAX: usize = 4_096;
/// The most bytes of the message once it is percent-encoded for its trailer.
pub const MESSAGE_BYTES_MAX: usize = 1_024;
/// The most bytes of one text in the details: a metadata value, a violation's field or its description.
pub const DETAIL_TEXT_BYTES_MAX: usize = 256;

/// After how long to try again where it is safe and the failure names no delay, in milliseconds.
const RETRY_DELAY_MS_DEFAULT: u64 = 100;
/// After how long to try again where something is full and the failure names no delay, in milliseconds.
const RETRY_WHEN_FULL_DELAY_MS_DEFAULT: u64 = 250;
/// The pushback that stops automatic retries.
const RETRY_PUSHBACK_NEVER: i64 = -1;
const ELLIPSIS: &str = "...";

/// Makes the status of a failure.
#[must_use]
pub fn status(failure: &Failure) -> Status {
    let (code, _) = code_and_reason(failure.reason());
    let message = cut_to_trailer(failure.message());
    let delay = retry_delay(failure);
    let mut violations = failure.violations().0;
    loop {
        let status = Status::with_error_details_and_metadata(
            code,
            message.as_str(),
            details(failure, delay, violations),
            pushback(delay),
        );
        // Everything but the violations is bounded text by text, and fits together.
        match violations.split_last() {
            Some((_, shorter)) if status.details().len() > DETAILS_BYTES_MAX => violations = shorter,
            Some(_) | None => return status,
        }
    }
}

/// Writes a failure as data, for a record of a frame.
#[must_use]
pub fn record_error(failure: &Failure) -> RecordError {
    let (code, reason) = code_and_reason(failure.reason());
    let persisted = match failure.persisted() {
        crate::failure::Persisted::No => proto::Persisted::No,
        crate::failure::Persisted::Maybe => proto::Persisted::Maybe,
    };
    let metadata = failure.metadata().into_iter();
    RecordError {
        code: code.into(),
        reason: reason.into(),
        message: cut(failure.message()),
        persisted: persisted.into(),
        retry_after: retry_delay(failure).and_then(|delay| delay.try_into().ok()),
        metadata: metadata.map(|(name, value)| (name.to_owned(), cut(&value))).collect(),
    }
}

/// Makes the status of a method that this version does not have: the only error without details.
#[must_use]
pub fn unimplemented(method: &str) -> Status {
    Status::unimplemented(format!("{method} is not built in this version"))
}

/// Makes the status of a request in an encoding that this version does not know.
#[must_use]
pub fn unknown_encoding(encoding: &str) -> Status {
    let mut status = Status::unimplemented(cut_to_trailer(&format!(
        "the request is compressed with `{encoding}`, and the sidecar knows gzip alone"
    )));
    status.metadata_mut().insert("grpc-accept-encoding", MetadataValue::from_static("gzip,identity"));
    status
}

/// Returns a reason's gRPC code and its name on the wire, as the contract's table pairs them.
#[must_use]
pub const fn code_and_reason(reason: Reason) -> (Code, ErrorReason) {
    match reason {
        Reason::InvalidRecord => (Code::InvalidArgument, ErrorReason::InvalidRecord),
        Reason::RecordTooLarge => (Code::InvalidArgument, ErrorReason::RecordTooLarge),
        Reason::RecordRejected => (Code::InvalidArgument, ErrorReason::RecordRejected),
        Reason::MessageIdReused => (Code::AlreadyExists, ErrorReason::MessageIdReused),
        Reason::TopicNotFound => (Code::NotFound, ErrorReason::TopicNotFound),
        Reason::NotAuthorized => (Code::PermissionDenied, ErrorReason::NotAuthorized),
        Reason::CallerNotAllowed => (Code::PermissionDenied, ErrorReason::CallerNotAllowed),
        Reason::KafkaAuthenticationFailed => {
            (Code::FailedPrecondition, ErrorReason::KafkaAuthenticationFailed)
        }
        Reason::SpoolNotConfigured => (Code::FailedPrecondition, ErrorReason::SpoolNotConfigured),
        Reason::QueueFull => (Code::ResourceExhausted, ErrorReason::QueueFull),
        Reason::SpoolFull => (Code::ResourceExhausted, ErrorReason::SpoolFull),
        Reason::ResponsesNotRead => (Code::ResourceExhausted, ErrorReason::ResponsesNotRead),
        Reason::BrokersUnavailable => (Code::Unavailable, ErrorReason::BrokersUnavailable),
        Reason::Draining => (Code::Unavailable, ErrorReason::Draining),
        Reason::DeadlineNotWritten => (Code::DeadlineExceeded, ErrorReason::DeadlineNotWritten),
        Reason::DeliveryUnknownAtDeadline => (Code::DeadlineExceeded, ErrorReason::DeliveryUnknown),
        Reason::DeliveryUnknown => (Code::Unknown, ErrorReason::DeliveryUnknown),
        Reason::TransactionAborted => (Code::Aborted, ErrorReason::TransactionAborted),
        Reason::ConsumerFenced => (Code::Aborted, ErrorReason::ConsumerFenced),
        Reason::OffsetMismatch => (Code::FailedPrecondition, ErrorReason::OffsetMismatch),
        Reason::ProducerFenced => (Code::FailedPrecondition, ErrorReason::ProducerFenced),
        Reason::CommitUnknown => (Code::Unknown, ErrorReason::CommitUnknown),
        Reason::CancelledByCaller => (Code::Cancelled, ErrorReason::CancelledByCaller),
        Reason::Internal => (Code::Internal, ErrorReason::Internal),
    }
}

/// Returns whose fault a call's end is, none for OK; OpenTelemetry's list of a server's errors.
pub(super) const fn fault_of(code: Code) -> Option<Fault> {
    match code {
        Code::Ok => None,
        Code::Unknown
        | Code::DeadlineExceeded
        | Code::Unimplemented
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => Some(Fault::Service),
        Code::Cancelled
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unauthenticated => Some(Fault::Caller),
    }
}

/// Returns after how long the same call may be sent again; `None` where that cannot help, may double a record, or leaves it beside its
/// own dead letter, whose replay would double it.
fn retry_delay(failure: &Failure) -> Option<Duration> {
    if failure.is_set_aside() {
        return None;
    }
    let default_ms = match failure.remedy() {
        Remedy::Retry | Remedy::RetryUnit => RETRY_DELAY_MS_DEFAULT,
        Remedy::RetryAfterDelay => RETRY_WHEN_FULL_DELAY_MS_DEFAULT,
        // An automatic retry doubles what is in Kafka, unless it has a message id and comes in time; only the caller knows.
        Remedy::RetryWithMessageId | Remedy::RetryWithExpectedOffset => return None,
        // The same call, with its stale generation, cannot help.
        Remedy::RetryAfterRejoining => return None,
        Remedy::None => return None,
    };
    Some(failure.delay().unwrap_or(Duration::from_millis(default_ms)))
}

fn pushback(delay: Option<Duration>) -> MetadataMap {
    let delay_ms = delay.map(|delay| i64::try_from(delay.as_millis()).unwrap_or(i64::MAX));
    let mut trailers = MetadataMap::with_capacity(1);
    trailers.insert(RETRY_PUSHBACK_TRAILER, MetadataValue::from(delay_ms.unwrap_or(RETRY_PUSHBACK_NEVER)));
    trailers
}

fn details(failure: &Failure, delay: Option<Duration>, violations: &[Violation]) -> ErrorDetails {
    let mut details = ErrorDetails::new();
    let metadata = failure.metadata().into_iter();
    let metadata: HashMap<_, _> = metadata.map(|(name, value)| (name.to_owned(), cut(&value))).collect();
    details.set_error_info(failure.reason().name(), ERROR_DOMAIN, metadata);
    if delay.is_some() {
        details.set_retry_info(delay);
    }
    if !violations.is_empty() {
        let field =
            |violation: &Violation| FieldViolation::new(cut(&violation.field), cut(&violation.description));
        details.set_bad_request(violations.iter().map(field).collect::<Vec<_>>());
    }
    details
}

/// Cuts a text of the details to [`DETAIL_TEXT_BYTES_MAX`] bytes.
fn cut(text: &str) -> String {
    cut_where(text, DETAIL_TEXT_BYTES_MAX, char::len_utf8)
}

/// Cuts the message so that its trailer holds at most [`MESSAGE_BYTES_MAX`] bytes.
fn cut_to_trailer(message: &str) -> String {
    cut_where(message, MESSAGE_BYTES_MAX, |character| match character {
        // What gRPC leaves as it is; some of these tonic encodes too.
        ' '..='~' if !matches!(character, ' ' | '"' | '#' | '%' | '<' | '>' | '`' | '?' | '{' | '}') => 1,
        _ => 3 * character.len_utf8(),
    })
}

/// Cuts a text between characters so that their sizes add up to at most `size_max`, and marks the cut.
fn cut_where(text: &str, size_max: usize, size_of: impl Fn(char) -> usize) -> String {
    let mut size = 0;
    let mut marked_end = 0;
    for (place, character) in text.char_indices() {
        if size + ELLIPSIS.len() <= size_max {
            marked_end = place;
        }
        size += size_of(character);
        if size > size_max {
            return format!("{}{ELLIPSIS}", &text[..marked_end]);
        }
    }
    text.to_owned()
}

#[cfg(test)]
mod tests;
