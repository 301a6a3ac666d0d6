//! Owns what tonic refuses before a handler sees the call: its statuses in the contract's words.
//! Must never touch a status that has details already, or one whose message tonic 0.14 does not write.

use tonic::{Code, Status};

use super::status;
use crate::failure::{Failure, Reason, Violation};

/// What tonic 0.14 writes (`codec/decode.rs`, `server/grpc.rs`, `status.rs`; prost's `error.rs`).
const TOO_LARGE: &str = "Error, decoded message length too large: ";
const TOO_LARGE_DECOMPRESSED: &str = "Error decompressing: size limit, ";
const NOT_DECODED: &str = "failed to decode Protobuf message: ";
const NOT_DECOMPRESSED: &str = "Error decompressing: ";
const WRONG_FLAG: &str = "protocol error: received message with ";
const NO_MESSAGE: &str = "Missing request message.";
const HALF_A_MESSAGE: &str = "Unexpected EOF decoding stream.";
const TOO_MANY_REQUESTS: &str = "Too many active requests for the connection";
const TIMED_OUT: &str = "Timeout expired";

/// Returns the status with the contract's code and details where tonic itself refused the call; any other as it is.
///
/// UNIMPLEMENTED stays, as the contract has it: the only error without details.
#[must_use]
pub fn refused_by_transport(refused: Status) -> Status {
    if !refused.details().is_empty() {
        return refused;
    }
    match failure_of(refused.code(), refused.message()) {
        Some(failure) => status(&failure),
        None => refused,
    }
}

fn failure_of(code: Code, message: &str) -> Option<Failure> {
    let invalid = |text: &str| Some(Failure::new(Reason::InvalidRecord, text));
    match code {
        Code::OutOfRange => {
            let sizes = message.strip_prefix(TOO_LARGE)?;
            Some(Failure::new(Reason::RecordTooLarge, format!("the request is too large: {sizes}")))
        }
        Code::ResourceExhausted if message.starts_with(TOO_LARGE_DECOMPRESSED) => {
            Some(Failure::new(Reason::RecordTooLarge, "the request is too large once it is decompressed"))
        }
        Code::ResourceExhausted if message == TOO_MANY_REQUESTS => {
            Some(Failure::new(Reason::QueueFull, "too many requests of this connection are in progress"))
        }
        Code::Internal if message.starts_with(NOT_DECOMPRESSED) => {
            invalid("the request cannot be decompressed")
        }
        Code::Internal if message.starts_with(WRONG_FLAG) => {
            invalid("the request's compression flag does not fit its grpc-encoding")
        }
        Code::Internal if message == NO_MESSAGE => invalid("the call ended without a request"),
        Code::Internal if message == HALF_A_MESSAGE => invalid("the call ended in the middle of a request"),
        Code::Internal => Some(undecodable(message.strip_prefix(NOT_DECODED)?)),
        // tonic's own timer ends calls whose handler may have handed the record over already.
        Code::Cancelled if message == TIMED_OUT => Some(Failure::new(
            Reason::DeliveryUnknownAtDeadline,
            "the deadline passed before the outcome was known",
        )),
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::InvalidArgument
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::Unimplemented
        | Code::Unavailable
        | Code::DataLoss
        | Code::Unauthenticated => None,
    }
}

/// Reads prost's text, `Message.field: ` for each level from the innermost out, then what is wrong.
fn undecodable(text: &str) -> Failure {
    let mut rest = text;
    let mut levels = Vec::new();
    while let Some((level, after)) = rest.split_once(": ") {
        let Some((message, field)) = level.split_once('.') else { break };
        levels.push((message, field));
        rest = after;
    }
    let mut path = Vec::new();
    for (position, (message, field)) in levels.iter().enumerate().rev() {
        path.extend(field_name(message, field, position == 0));
    }
    if path.is_empty() {
        return Failure::new(Reason::InvalidRecord, format!("the request is not valid protobuf: {rest}"));
    }
    let description = format!("is not valid protobuf: {rest}");
    Failure::invalid(vec![Violation { field: path.join("."), description }], 1)
}

/// Returns the contract's name of a field; prost names a oneof where its member is meant, and the insides of well-known types.
fn field_name<'a>(message: &str, field: &'a str, is_innermost: bool) -> Option<&'a str> {
    match (message, field) {
        // Of a oneof's members only text can be wrong by itself; a message inside has a level of its own.
        ("ProducerRecord", "record_key") => Some("key_text"),
        ("ProducerRecord", "payload") if is_innermost => Some("value_text"),
        ("ProducerRecord", "payload") => Some("json"),
        ("Header", "content") => Some("value_text"),
        ("Value" | "Struct" | "ListValue", _) => None,
        _ => Some(field.strip_prefix("r#").unwrap_or(field)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::proto;
    use prost::Message as _;
    use tonic::codec::{Codec as _, CompressionEncoding, Streaming};
    use tonic_prost::ProstCodec;
    use tonic_types::StatusExt as _;

    /// Returns what tonic answers for these bytes, mapped: reason and field.
    fn refused(bytes: &[u8]) -> (String, Option<String>) {
        let error = proto::SendRequest::decode(bytes).unwrap_err();
        let mapped = refused_by_transport(Status::internal(error.to_string()));
        assert_eq!(mapped.code(), Code::InvalidArgument);
        let details = mapped.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!(info.metadata["persisted"], "NO");
        (info.reason.clone(), details.bad_request().map(|bad| bad.field_violations[0].field.clone()))
    }

    /// Wraps bytes as a length-delimited field, one byte of tag and one of length.
    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        let mut field = vec![number << 3 | 2, u8::try_from(bytes.len()).unwrap()];
        field.extend_from_slice(bytes);
        field
    }

    #[test]
    fn what_is_not_utf8_is_named_as_the_contract_names_it() {
        let bad = b"\xff";
        let json_string = field(6, &field(3, bad));
        let json_name = field(6, &field(5, &field(1, &field(1, bad))));
        let cases = [
            (field(1, bad), "record.topic"),
            (field(3, bad), "record.key_text"),
            (field(5, bad), "record.value_text"),
            (json_string, "record.json"),
            (json_name, "record.json"),
            (field(8, &field(1, bad)), "record.headers.name"),
            (field(8, &field(3, bad)), "record.headers.value_text"),
            (field(11, bad), "record.message_id"),
        ];
        for (record, expected) in cases {
            let expected = ("INVALID_RECORD".to_owned(), Some(expected.to_owned()));
            assert_eq!(refused(&field(1, &record)), expected);
        }
    }

    #[test]
    fn what_is_no_protobuf_at_all_is_invalid_without_a_field() {
        assert_eq!(refused(&[0xff]), ("INVALID_RECORD".to_owned(), None));
        assert_eq!(refused(&[0x02]), ("INVALID_RECORD".to_owned(), None));
    }

    #[test]
    fn nesting_beyond_prosts_limit_is_invalid() {
        let mut value = prost_types::Value::default();
        for _ in 0..60 {
            let list = prost_types::ListValue { values: vec![value] };
            value = prost_types::Value { kind: Some(prost_types::value::Kind::ListValue(list)) };
        }
        let payload = Some(proto::producer_record::Payload::Json(value));
        let record = Some(proto::ProducerRecord { payload, ..proto::ProducerRecord::default() });
        let bytes = proto::SendRequest { record, durability: 0 }.encode_to_vec();
        assert_eq!(refused(&bytes), ("INVALID_RECORD".to_owned(), Some("record.json".to_owned())));
    }

    #[test]
    fn tonics_other_refusals_are_in_the_table() {
        let flag = "protocol error: received message with invalid compression flag: 7 (valid flags are 0 and 1), while sending request";
        let no_encoding =
            "protocol error: received message with compressed-flag but no grpc-encoding was specified";
        let large = "Error, decoded message length too large: found 9 bytes, the limit is: 8 bytes";
        let decompressed =
            "Error decompressing: size limit, of 8 bytes, exceeded while decompressing message";
        let cases = [
            (Status::out_of_range(large), Code::InvalidArgument, "RECORD_TOO_LARGE"),
            (Status::resource_exhausted(decompressed), Code::InvalidArgument, "RECORD_TOO_LARGE"),
            (Status::resource_exhausted(TOO_MANY_REQUESTS), Code::ResourceExhausted, "QUEUE_FULL"),
            (
                Status::internal("Error decompressing: corrupt, while sending request"),
                Code::InvalidArgument,
                "INVALID_RECORD",
            ),
            (Status::internal(flag), Code::InvalidArgument, "INVALID_RECORD"),
            (Status::internal(no_encoding), Code::InvalidArgument, "INVALID_RECORD"),
            (Status::internal(NO_MESSAGE), Code::InvalidArgument, "INVALID_RECORD"),
            (Status::internal(HALF_A_MESSAGE), Code::InvalidArgument, "INVALID_RECORD"),
            (Status::cancelled(TIMED_OUT), Code::DeadlineExceeded, "DELIVERY_UNKNOWN"),
        ];
        for (refused, code, reason) in cases {
            let message = refused.message().to_owned();
            let mapped = refused_by_transport(refused);
            let details = mapped.get_error_details();
            let info = details.error_info().unwrap();
            assert_eq!((mapped.code(), info.reason.as_str()), (code, reason), "{message}");
        }
    }

    /// Returns what tonic's own reader says of a body, at most 8 bytes a message.
    async fn said_by_tonic(body: &str, encoding: Option<CompressionEncoding>) -> Status {
        let decoder = ProstCodec::<proto::SendRequest, proto::SendRequest>::default().decoder();
        let mut messages = Streaming::new_request(decoder, body.to_owned(), encoding, Some(8));
        messages.message().await.unwrap_err()
    }

    #[tokio::test]
    async fn tonic_still_writes_what_is_looked_for() {
        let gzip = Some(CompressionEncoding::Gzip);
        let cases = [
            ("\0\0\0\0\x09", None, "RECORD_TOO_LARGE"),
            ("\0\0\0\0\x01\x02", None, "INVALID_RECORD"),
            ("\0\0\0\0\x05ab", None, "INVALID_RECORD"),
            ("\x07\0\0\0\0", None, "INVALID_RECORD"),
            ("\x01\0\0\0\0", None, "INVALID_RECORD"),
            ("\x01\0\0\0\x03abc", gzip, "INVALID_RECORD"),
        ];
        for (body, encoding, reason) in cases {
            let mapped = refused_by_transport(said_by_tonic(body, encoding).await);
            let details = mapped.get_error_details();
            assert_eq!(details.error_info().map(|info| info.reason.as_str()), Some(reason), "{mapped:?}");
        }
    }

    #[test]
    fn a_size_that_tonic_refuses_is_named() {
        let large = "Error, decoded message length too large: found 9 bytes, the limit is: 8 bytes";
        let mapped = refused_by_transport(Status::out_of_range(large));
        assert_eq!(mapped.message(), "the request is too large: found 9 bytes, the limit is: 8 bytes");
    }

    #[test]
    fn all_other_statuses_stay() {
        let ours = status(&Failure::new(Reason::Internal, "failed to decode Protobuf message: x"));
        let details = ours.details().to_vec();
        assert_eq!(refused_by_transport(ours).details(), details);
        for other in [
            Status::unimplemented(""),
            Status::not_found("unknown service"),
            Status::internal("h2 protocol error: x"),
        ] {
            let (code, message) = (other.code(), other.message().to_owned());
            let same = refused_by_transport(other);
            assert_eq!((same.code(), same.message(), same.details().len()), (code, message.as_str(), 0));
        }
    }
}
