//! Owns the JSON text of a `google.protobuf.Value`: byte for byte what Node's `JSON.stringify` writes, object keys sorted.
//! Must never echo a value; a fault names only the path, made of property names and positions.

use std::fmt;

use prost_types::value::Kind;

/// The deepest nesting of arrays and objects; below what prost's own limit of 100 messages lets through.
pub const NESTING_MAX: usize = 32;
/// The greatest magnitude of a number: 2^53 - 1, ECMAScript's `Number.MAX_SAFE_INTEGER`. A double from 2^53 on is integral, and
/// may be what became of another integer on its way here: 2^53 + 1 arrives as 2^53.
pub const INTEGER_MAX: f64 = 9_007_199_254_740_991.0;

/// The longest property name that a path shows, in characters; a longer one is cut.
const NAME_CHARACTERS_SHOWN_MAX: usize = 40;
/// Room for a small document, so that it is written into one allocation.
const TEXT_BYTES_EXPECTED: usize = 256;

/// Says why a value has no JSON text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JsonFault {
    /// The value has no kind, as an unset field or one from a later version has.
    #[error("must have a kind (null is said with null_value)")]
    KindUnset,
    /// The number is NaN or infinite.
    #[error("must be a finite number: JSON has neither NaN nor infinity")]
    NotFinite,
    /// The number is beyond 2^53 - 1, where neighbouring integers fall together.
    #[error("must lie within ±(2^53 - 1): beyond, it may have been another number before; send it as text")]
    NotExact,
    /// The value lies deeper than [`NESTING_MAX`].
    #[error("must not nest deeper than {NESTING_MAX} arrays and objects")]
    TooDeep,
}

/// Where a value stands below the document's root; lives on the stack and is rendered only for a fault.
#[derive(Debug, Clone, Copy)]
pub enum JsonPath<'a> {
    /// The document itself.
    Root,
    /// A property of an object.
    Name(&'a Self, &'a str),
    /// An element of an array.
    Position(&'a Self, usize),
}

/// Writes the value as JSON text in UTF-8, and calls `refuse` for each fault; with a fault the text means nothing.
pub fn text(value: &prost_types::Value, refuse: &mut dyn FnMut(&JsonPath<'_>, JsonFault)) -> Vec<u8> {
    let mut writer = Writer { text: Vec::with_capacity(TEXT_BYTES_EXPECTED), refuse };
    writer.value(value, &JsonPath::Root, 0);
    writer.text
}

struct Writer<'a> {
    text: Vec<u8>,
    refuse: &'a mut dyn FnMut(&JsonPath<'_>, JsonFault),
}

impl Writer<'_> {
    /// Writes one value; recursion is bounded by [`NESTING_MAX`].
    fn value(&mut self, value: &prost_types::Value, path: &JsonPath<'_>, depth: usize) {
        match &value.kind {
            None => (self.refuse)(path, JsonFault::KindUnset),
            // The enum is open, and every reader of the well-known type takes any number of it as null.
            Some(Kind::NullValue(_)) => self.text.extend_from_slice(b"null"),
            Some(Kind::BoolValue(true)) => self.text.extend_from_slice(b"true"),
            Some(Kind::BoolValue(false)) => self.text.extend_from_slice(b"false"),
            Some(Kind::NumberValue(number)) => self.number(*number, path),
            Some(Kind::StringValue(text)) => self.string(text),
            Some(Kind::ListValue(_) | Kind::StructValue(_)) if depth == NESTING_MAX => {
                (self.refuse)(path, JsonFault::TooDeep);
            }
            Some(Kind::ListValue(list)) => {
                self.text.push(b'[');
                for (position, element) in list.values.iter().enumerate() {
                    if position > 0 {
                        self.text.push(b',');
                    }
                    self.value(element, &JsonPath::Position(path, position), depth + 1);
                }
                self.text.push(b']');
            }
            Some(Kind::StructValue(object)) => {
                self.text.push(b'{');
                // The map is a BTreeMap of strings, so its order is that of the UTF-8 bytes.
                for (position, (name, property)) in object.fields.iter().enumerate() {
                    if position > 0 {
                        self.text.push(b',');
                    }
                    self.string(name);
                    self.text.push(b':');
                    self.value(property, &JsonPath::Name(path, name), depth + 1);
                }
                self.text.push(b'}');
            }
        }
    }

    /// Writes a number as ECMAScript's `Number::toString` does. Every double beyond the bound is integral, so that nothing is
    /// refused which could be told from an integer that was rounded.
    fn number(&mut self, number: f64, path: &JsonPath<'_>) {
        if !number.is_finite() {
            (self.refuse)(path, JsonFault::NotFinite);
        } else if number.abs() > INTEGER_MAX {
            (self.refuse)(path, JsonFault::NotExact);
        } else {
            let mut buffer = ryu_js::Buffer::new();
            self.text.extend_from_slice(buffer.format_finite(number).as_bytes());
        }
    }

    /// Writes a string as ECMAScript's `QuoteJSONString` does.
    fn string(&mut self, text: &str) {
        self.text.push(b'"');
        let mut rest = text.as_bytes();
        while let Some(place) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f)) {
            let (plain, special) = rest.split_at(place);
            self.text.extend_from_slice(plain);
            self.escape(special[0]);
            rest = &special[1..];
        }
        self.text.extend_from_slice(rest);
        self.text.push(b'"');
    }

    fn escape(&mut self, byte: u8) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let short = match byte {
            b'"' | b'\\' => byte,
            0x08 => b'b',
            0x09 => b't',
            0x0a => b'n',
            0x0c => b'f',
            0x0d => b'r',
            _ => {
                self.text.extend_from_slice(b"\\u00");
                self.text.push(DIGITS[usize::from(byte >> 4)]);
                self.text.push(DIGITS[usize::from(byte & 0x0f)]);
                return;
            }
        };
        self.text.extend_from_slice(&[b'\\', short]);
    }
}

impl fmt::Display for JsonPath<'_> {
    /// Prints `.name`, `["odd name"]` and `[3]`, from the root on; nothing for the root.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Position(parent, position) => write!(formatter, "{parent}[{position}]"),
            Self::Name(parent, name) => {
                let (shown, cut) = match name.char_indices().nth(NAME_CHARACTERS_SHOWN_MAX) {
                    Some((end, _)) => (&name[..end], "..."),
                    None => (*name, ""),
                };
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
                if !shown.is_empty() && shown.bytes().all(plain) {
                    write!(formatter, "{parent}.{shown}{cut}")
                } else {
                    write!(formatter, "{parent}[{shown:?}{cut}]")
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use prost::Message as _;
    use prost_types::{ListValue, Struct, Value};

    fn value(kind: Kind) -> Value {
        Value { kind: Some(kind) }
    }

    fn number(number: f64) -> Value {
        value(Kind::NumberValue(number))
    }

    fn string(text: &str) -> Value {
        value(Kind::StringValue(text.to_owned()))
    }

    fn list(values: Vec<Value>) -> Value {
        value(Kind::ListValue(ListValue { values }))
    }

    fn object<const N: usize>(fields: [(&str, Value); N]) -> Value {
        let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        value(Kind::StructValue(Struct { fields }))
    }

    fn written(value: &Value) -> Result<String, Vec<(String, JsonFault)>> {
        let mut faults = Vec::new();
        let text = text(value, &mut |path, fault| faults.push((path.to_string(), fault)));
        if faults.is_empty() { Ok(String::from_utf8(text).unwrap()) } else { Err(faults) }
    }

    /// The texts are those that Node 20 printed for the same numbers.
    #[test]
    fn numbers_are_written_as_node_writes_them() {
        let vectors = [
            (0.0, "0"),
            (-0.0, "0"),
            (1.0, "1"),
            (-1.0, "-1"),
            (0.1, "0.1"),
            (-0.1, "-0.1"),
            (100.0, "100"),
            (1e-6, "0.000001"),
            (1e-7, "1e-7"),
            (1.5e-7, "1.5e-7"),
            (5e-324, "5e-324"),
            (2.225_073_858_507_201_4e-308, "2.2250738585072014e-308"),
            (9_007_199_254_740_991.0, "9007199254740991"),
            (-9_007_199_254_740_991.0, "-9007199254740991"),
            (4_503_599_627_370_495.5, "4503599627370495.5"),
            (123_456_789.125, "123456789.125"),
            (0.1 + 0.2, "0.30000000000000004"),
            (1.0 / 3.0, "0.3333333333333333"),
            (1e15, "1000000000000000"),
            (1.23e-18, "1.23e-18"),
            (0.000_001_234, "0.000001234"),
        ];
        for (input, expected) in vectors {
            assert_eq!(written(&number(input)).as_deref(), Ok(expected));
        }
    }

    /// The texts are those that Node 20 printed for the same strings.
    #[test]
    fn strings_are_written_as_node_writes_them() {
        let vectors = [
            ("", r#""""#),
            ("plain", r#""plain""#),
            ("\"quoted\" \\ back/slash", r#""\"quoted\" \\ back/slash""#),
            ("\u{8}\u{c}\n\r\t", r#""\b\f\n\r\t""#),
            ("\0\u{1}\u{1f}\u{7f}", "\"\\u0000\\u0001\\u001f\u{7f}\""),
            ("\u{2028}\u{2029}", "\"\u{2028}\u{2029}\""),
            ("ä€😀", "\"ä€😀\""),
            ("</script>", "\"</script>\""),
        ];
        for (input, expected) in vectors {
            assert_eq!(written(&string(input)).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn a_document_is_written_with_its_keys_sorted() {
        let null = || value(Kind::NullValue(0));
        let document = object([
            ("a", list(vec![number(1.0), object([("b", null()), ("c", list(vec![]))])])),
            ("", object([])),
            ("ä", value(Kind::BoolValue(true))),
            ("z", value(Kind::BoolValue(false))),
            ("B", string("x")),
            ("\n", number(1.5)),
        ]);
        let expected = r#"{"":{},"\n":1.5,"B":"x","a":[1,{"b":null,"c":[]}],"z":false,"ä":true}"#;
        assert_eq!(written(&document).as_deref(), Ok(expected));
        assert_eq!(written(&null()).as_deref(), Ok("null"));
    }

    #[test]
    fn every_fault_is_found_with_its_path() {
        let document = object([
            ("a", list(vec![number(0.0), object([("b", number(f64::NAN))])])),
            ("b c", number(f64::NEG_INFINITY)),
            ("c", Value { kind: None }),
            ("d", number(9_007_199_254_740_992.0)),
            ("e", number(-9_007_199_254_740_992.0)),
            ("f", number(-1e21)),
            ("g", number(1e300)),
        ]);
        let expected = [
            (".a[1].b", JsonFault::NotFinite),
            ("[\"b c\"]", JsonFault::NotFinite),
            (".c", JsonFault::KindUnset),
            (".d", JsonFault::NotExact),
            (".e", JsonFault::NotExact),
            (".f", JsonFault::NotExact),
            (".g", JsonFault::NotExact),
        ];
        assert_eq!(written(&document), Err(expected.map(|(path, fault)| (path.to_owned(), fault)).to_vec()));
    }

    fn nested(levels: usize, wrap: impl Fn(Value) -> Value) -> Value {
        (0..levels).fold(number(1.0), |inner, _| wrap(inner))
    }

    #[test]
    fn nesting_is_bounded_before_prosts_own_limit() {
        let wraps: [fn(Value) -> Value; 2] = [|inner| list(vec![inner]), |inner| object([("n", inner)])];
        for wrap in wraps {
            assert!(written(&nested(NESTING_MAX, wrap)).is_ok());
            let faults = written(&nested(NESTING_MAX + 1, wrap)).unwrap_err();
            assert_eq!(faults[0].1, JsonFault::TooDeep);
            // Two messages stand around the value in a SendRequest.
            let around = list(vec![nested(NESTING_MAX, wrap)]);
            assert_eq!(Value::decode(around.encode_to_vec().as_slice()), Ok(around));
        }
    }

    #[test]
    fn long_names_are_cut_in_paths() {
        let name = "n".repeat(1000);
        let faults = written(&object([(&name, number(f64::NAN))])).unwrap_err();
        assert_eq!(faults[0].0, format!(".{}...", "n".repeat(NAME_CHARACTERS_SHOWN_MAX)));
    }

    proptest! {
        #[test]
        fn numbers_read_back_as_they_were(number: f64) {
            match written(&super::tests::number(number)) {
                Ok(text) => prop_assert_eq!(text.parse::<f64>().unwrap(), number),
                Err(_) => prop_assert!(!number.is_finite() || number.abs() > INTEGER_MAX),
            }
        }

        #[test]
        fn strings_are_written_as_serde_json_writes_them(text in any::<String>()) {
            prop_assert_eq!(written(&string(&text)).unwrap(), serde_json::to_string(&text).unwrap());
        }
    }
}
