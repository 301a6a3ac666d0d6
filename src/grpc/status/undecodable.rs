//! Owns what is said of a message that is not valid protobuf: prost's text in the contract's words.
//! Must never echo what prost may quote of the message.

use prost::DecodeError;

use crate::failure::{Failure, Reason, Violation};

/// What prost 0.14 writes before everything else (`error.rs`).
const NOT_DECODED: &str = "failed to decode Protobuf message: ";

/// Says what prost refused: the field and why.
#[must_use]
pub fn undecodable(error: &DecodeError) -> Failure {
    let text = error.to_string();
    of_text(text.strip_prefix(NOT_DECODED).unwrap_or(&text))
}

/// Reads prost's text, `Message.field: ` for each level from the innermost out, then what is wrong.
fn of_text(text: &str) -> Failure {
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

    /// Returns what is said of these bytes: reason and field.
    fn refused(bytes: &[u8]) -> (Reason, Option<String>) {
        let failure = undecodable(&proto::SendRequest::decode(bytes).unwrap_err());
        assert_eq!(failure.persisted(), crate::failure::Persisted::No);
        (failure.reason(), failure.violations().0.first().map(|violation| violation.field.clone()))
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
            let expected = (Reason::InvalidRecord, Some(expected.to_owned()));
            assert_eq!(refused(&field(1, &record)), expected);
        }
    }

    #[test]
    fn what_is_no_protobuf_at_all_is_invalid_without_a_field() {
        assert_eq!(refused(&[0xff]), (Reason::InvalidRecord, None));
        assert_eq!(refused(&[0x02]), (Reason::InvalidRecord, None));
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
        assert_eq!(refused(&bytes), (Reason::InvalidRecord, Some("record.json".to_owned())));
    }
}
