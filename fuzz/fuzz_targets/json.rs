//! JSON values: the text is read back by another JSON library as the same value, and what is refused breaks a rule.
#![no_main]

use std::collections::BTreeMap;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use producer_sidecar::grpc::json::{self, INTEGER_MAX, NESTING_MAX};
use prost_types::{ListValue, Struct, Value, value::Kind};

#[derive(Debug, Arbitrary)]
enum Given {
    Unset,
    Null(i32),
    Boolean(bool),
    Number(f64),
    /// Numbers near the bound are rare among all doubles.
    Integer(i64),
    Text(String),
    List(Vec<Given>),
    Object(BTreeMap<String, Given>),
    Nested(u8, Box<Given>),
}

fuzz_target!(|given: Given| {
    let value = made(given);
    let mut faults = 0_usize;
    let text = json::text(&value, &mut |path, fault| {
        assert!(path.to_string().len() + fault.to_string().len() < 100_000);
        faults += 1;
    });
    if faults > 0 {
        assert!(!is_valid(&value, 0), "nothing is wrong with it");
        return;
    }
    assert!(is_valid(&value, 0), "it breaks a rule");
    let read: serde_json::Value = serde_json::from_slice(&text).expect("it is JSON");
    assert!(is_same(&value, &read), "{read}");
});

fn made(given: Given) -> Value {
    let kind = match given {
        Given::Unset => return Value { kind: None },
        Given::Null(number) => Kind::NullValue(number),
        Given::Boolean(boolean) => Kind::BoolValue(boolean),
        Given::Number(number) => Kind::NumberValue(number),
        Given::Integer(number) => Kind::NumberValue(number as f64),
        Given::Text(text) => Kind::StringValue(text),
        Given::List(values) => Kind::ListValue(ListValue { values: values.into_iter().map(made).collect() }),
        Given::Object(fields) => {
            let fields = fields.into_iter().map(|(name, value)| (name, made(value))).collect();
            Kind::StructValue(Struct { fields })
        }
        Given::Nested(levels, inner) => {
            let list = |value| Value { kind: Some(Kind::ListValue(ListValue { values: vec![value] })) };
            return (0..levels % 40).fold(made(*inner), |value, _| list(value));
        }
    };
    Value { kind: Some(kind) }
}

fn is_valid(value: &Value, depth: usize) -> bool {
    match &value.kind {
        None => false,
        Some(Kind::NullValue(_) | Kind::BoolValue(_) | Kind::StringValue(_)) => true,
        Some(Kind::NumberValue(number)) => number.abs() <= INTEGER_MAX,
        Some(Kind::ListValue(list)) => {
            depth < NESTING_MAX && list.values.iter().all(|value| is_valid(value, depth + 1))
        }
        Some(Kind::StructValue(object)) => {
            depth < NESTING_MAX && object.fields.values().all(|value| is_valid(value, depth + 1))
        }
    }
}

fn is_same(value: &Value, read: &serde_json::Value) -> bool {
    match (&value.kind, read) {
        (Some(Kind::NullValue(_)), serde_json::Value::Null) => true,
        (Some(Kind::BoolValue(value)), serde_json::Value::Bool(read)) => value == read,
        (Some(Kind::NumberValue(value)), serde_json::Value::Number(read)) => {
            // serde_json may miss a double by its last digits, the smallest by more; the standard library does not.
            let text = json::text(&Value { kind: Some(Kind::NumberValue(*value)) }, &mut |_, _| ());
            let exact = String::from_utf8(text).ok().and_then(|text| text.parse().ok()) == Some(*value);
            let is_near = |read: f64| (read - value).abs() <= value.abs() * 1e-9 + f64::MIN_POSITIVE;
            exact && read.as_f64().is_some_and(is_near)
        }
        (Some(Kind::StringValue(value)), serde_json::Value::String(read)) => value == read,
        (Some(Kind::ListValue(value)), serde_json::Value::Array(read)) => {
            value.values.len() == read.len()
                && value.values.iter().zip(read).all(|(value, read)| is_same(value, read))
        }
        (Some(Kind::StructValue(value)), serde_json::Value::Object(read)) => {
            value.fields.len() == read.len()
                && value
                    .fields
                    .iter()
                    .all(|(name, value)| read.get(name).is_some_and(|read| is_same(value, read)))
        }
        _ => false,
    }
}
