//! Owns the count of a message's parts on the wire, before anything is built: how many records, inputs, headers and JSON values
//! it has, and what it will take in memory.
//! Must never allocate, never recurse deeper than prost, and never count less than prost builds.
//!
//! Two bytes on the wire may become hundreds in memory. What is malformed ends the count where prost's reading ends too.

use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use prost_types::Value;

use super::proto;
use crate::{
    failure::{Failure, Reason, Violation},
    record::{Header, Record},
};

/// The deepest nesting of messages that prost reads.
const DEPTH_MAX: usize = 100;
/// What an allocation costs beside its bytes.
const ALLOCATION_BYTES: usize = 16;
/// A vector that grows has up to twice the room that it needs.
const GROWTH: usize = 2;
/// What a field counts that takes no memory of its own. It takes time to read, and a message may repeat it a million times.
const FIELD_BYTES: usize = 256;
/// A record, its topic and its place among the others, before and after decoding.
const RECORD_BYTES: usize = GROWTH * size_of::<proto::ProducerRecord>() + GROWTH * size_of::<Record>() + 64;
const HEADER_BYTES: usize = GROWTH * size_of::<proto::Header>() + size_of::<Header>() + ALLOCATION_BYTES;
const INPUT_BYTES: usize = 2 * GROWTH * size_of::<proto::InputOffset>() + 128;
/// A value in its list or map, and its text where it is a number.
const VALUE_BYTES: usize = GROWTH * size_of::<Value>() + NUMBER_TEXT_BYTES;
const NUMBER_TEXT_BYTES: usize = 25;
/// A node of a `BTreeMap` has room for 11 entries.
const NODE_BYTES: usize = 11 * (size_of::<String>() + size_of::<Value>()) + 64;
/// How many entries a node has at least, unless it is alone.
const NODE_ENTRIES_MIN: usize = 5;

/// What a message is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parts {
    /// Records, or outputs.
    pub records: usize,
    /// Inputs of a unit.
    pub inputs: usize,
    /// What all of it takes in memory at most, beside the message itself, in bytes.
    pub bytes: usize,
    records_bytes: usize,
    inputs_bytes: usize,
    /// Fields that may be set once, or that are not known, and what they count.
    others: usize,
    others_bytes: usize,
    heaviest: Heaviest,
}

/// The list of a record that takes most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Heaviest {
    record: usize,
    is_json: bool,
    count: usize,
    bytes: usize,
}

/// Which message it is; paths begin as it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// `SendRequest`.
    Send,
    /// `SendBatchRequest`.
    Frame,
    /// `ProcessAndForwardRequest`.
    Unit,
}

/// Counts the parts of a message, until it is known that it takes more than so many bytes, or has more than so many records:
/// what is refused anyway costs no more time.
#[must_use]
pub fn parts(shape: Shape, message: &[u8], (records_max, bytes_max): (usize, usize)) -> Parts {
    let mut parts = Parts::default();
    fields(message, |tag, field| {
        match (shape, tag) {
            (Shape::Send, 1) | (Shape::Frame, 2) | (Shape::Unit, 3) => parts.record(field, bytes_max),
            (Shape::Unit, 2) => parts.input(field),
            (Shape::Send | Shape::Frame | Shape::Unit, _) => parts.other(2 * field.len()),
        }
        parts.records <= records_max && parts.bytes <= bytes_max
    });
    parts
}

impl Parts {
    /// Refuses a message that would take more than that, naming what takes most of it.
    ///
    /// # Errors
    /// `INVALID_RECORD`.
    pub fn fit(&self, shape: Shape, bytes_max: usize) -> Result<(), Failure> {
        if self.bytes <= bytes_max {
            return Ok(());
        }
        if self.others_bytes > self.records_bytes.max(self.inputs_bytes).max(self.heaviest.bytes) {
            let count = self.others;
            let sentence =
                format!("the request has {count} fields that it may have once, or that are not known");
            return Err(Failure::new(Reason::InvalidRecord, sentence));
        }
        let lists = [self.records_bytes, self.inputs_bytes];
        let Heaviest { record, is_json, count, bytes } = self.heaviest;
        let (field, count) = if lists.iter().all(|list| bytes >= *list) {
            let place = match shape {
                Shape::Send => "record".to_owned(),
                Shape::Frame => format!("records[{record}]"),
                Shape::Unit => format!("outputs[{record}]"),
            };
            (format!("{place}.{}", if is_json { "json" } else { "headers" }), count)
        } else if self.inputs_bytes > self.records_bytes {
            ("inputs".to_owned(), self.inputs)
        } else {
            let field = match shape {
                Shape::Send => "record",
                Shape::Frame => "records",
                Shape::Unit => "outputs",
            };
            (field.to_owned(), self.records)
        };
        let description = format!(
            "has too many parts, {count} of them within the limit of {bytes_max} bytes of memory for a decoded request"
        );
        Err(Failure::invalid(vec![Violation { field, description }], 1))
    }

    /// Counts a field outside of the lists.
    fn other(&mut self, bytes: usize) {
        self.others += 1;
        self.others_bytes += bytes + FIELD_BYTES;
        self.bytes += bytes + FIELD_BYTES;
    }

    fn record(&mut self, record: &[u8], bytes_max: usize) {
        let mut own = RECORD_BYTES;
        let (mut headers, mut headers_bytes) = (0, 0);
        let mut json = Json::default();
        fields(record, |tag, field| {
            match tag {
                // Topic and message id are copied twice, text once.
                1 | 11 => own += 2 * (field.len() + ALLOCATION_BYTES) + FIELD_BYTES,
                3 | 5 => own += field.len() + ALLOCATION_BYTES + FIELD_BYTES,
                6 => json.value(field, 0, bytes_max),
                8 => {
                    headers += 1;
                    headers_bytes += HEADER_BYTES;
                    fields(field, |tag, content| {
                        if matches!(tag, 1 | 3) {
                            headers_bytes += content.len() + ALLOCATION_BYTES;
                        }
                        true
                    });
                }
                _ => own += FIELD_BYTES,
            }
            own + headers_bytes + json.bytes <= bytes_max
        });
        for (is_json, count, bytes) in [(false, headers, headers_bytes), (true, json.values, json.bytes)] {
            if bytes > self.heaviest.bytes {
                self.heaviest = Heaviest { record: self.records, is_json, count, bytes };
            }
        }
        self.records += 1;
        self.records_bytes += own;
        self.bytes += own + headers_bytes + json.bytes;
    }

    fn input(&mut self, input: &[u8]) {
        let mut own = INPUT_BYTES;
        fields(input, |_, text| {
            own += 2 * (text.len() + ALLOCATION_BYTES) + FIELD_BYTES;
            true
        });
        self.inputs += 1;
        self.inputs_bytes += own;
        self.bytes += own;
    }
}

/// What a JSON document has and takes.
#[derive(Debug, Default)]
struct Json {
    values: usize,
    bytes: usize,
}

impl Json {
    fn value(&mut self, value: &[u8], depth: usize, bytes_max: usize) {
        self.values += 1;
        self.bytes += VALUE_BYTES;
        if depth >= DEPTH_MAX {
            return;
        }
        fields(value, |tag, field| {
            match tag {
                3 => self.text(field),
                5 => self.object(field, depth + 1, bytes_max),
                6 => {
                    self.bytes += FIELD_BYTES / 4;
                    fields(field, |tag, element| {
                        if tag == 1 {
                            self.value(element, depth + 2, bytes_max);
                        }
                        self.bytes <= bytes_max
                    });
                }
                _ => self.bytes += FIELD_BYTES,
            }
            self.bytes <= bytes_max
        });
    }

    fn object(&mut self, object: &[u8], depth: usize, bytes_max: usize) {
        let mut entries = 0;
        fields(object, |tag, entry| {
            if tag == 1 {
                if entries % NODE_ENTRIES_MIN == 0 {
                    // Nodes above the leaves are fewer by the same factor.
                    self.bytes += NODE_BYTES + NODE_BYTES / NODE_ENTRIES_MIN;
                }
                entries += 1;
                self.entry(entry, depth + 2, bytes_max);
            }
            self.bytes <= bytes_max
        });
    }

    fn entry(&mut self, entry: &[u8], depth: usize, bytes_max: usize) {
        let mut is_set = false;
        fields(entry, |tag, field| {
            match tag {
                1 => self.text(field),
                2 => {
                    is_set = true;
                    self.value(field, depth, bytes_max);
                }
                _ => {}
            }
            self.bytes <= bytes_max
        });
        if !is_set {
            self.values += 1;
            self.bytes += VALUE_BYTES;
        }
    }

    /// Counts a string and its JSON text, escaped.
    fn text(&mut self, text: &[u8]) {
        let escapes: usize = text
            .iter()
            .map(|byte| match byte {
                0..=0x1f => 5,
                b'"' | b'\\' => 1,
                _ => 0,
            })
            .sum();
        self.bytes += text.len() + ALLOCATION_BYTES + GROWTH * (text.len() + escapes + 4);
    }
}

/// Goes through the fields of a message that have a length, as prost reads them, while `each` says so; ends at the first that is
/// malformed.
fn fields<'a>(mut message: &'a [u8], mut each: impl FnMut(u32, &'a [u8]) -> bool) {
    while !message.is_empty() {
        let Ok((tag, wire_type)) = decode_key(&mut message) else { return };
        if wire_type != WireType::LengthDelimited {
            if skip_field(wire_type, tag, &mut message, DecodeContext::default()).is_err() {
                return;
            }
            continue;
        }
        let length = decode_varint(&mut message).ok().and_then(|length| usize::try_from(length).ok());
        let Some((field, rest)) = length.and_then(|length| message.split_at_checked(length)) else { return };
        message = rest;
        if !each(tag, field) {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
