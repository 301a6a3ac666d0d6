//! Owns the headers that the sidecar adds to a record where the caller gave none of that name.
//! Must never change or repeat a header of the caller's, and never take anything else from the call's metadata.

use bytes::Bytes;

use crate::{
    record::{Header, Record},
    telemetry::trace_context::{TRACEPARENT, TRACESTATE, TraceContext},
};

/// The header with the trace's id alone: 32 lower-case hexadecimal digits.
pub const TRACE_ID_HEADER: &str = "trace-id";
/// The header with the record's timestamp: milliseconds since the epoch, decimal text.
pub const TIMESTAMP_HEADER: &str = "timestamp";
/// The header with the caller's message id.
pub const MESSAGE_ID_HEADER: &str = "message-id";
/// The most headers that a record may gain: these, `traceparent`, `tracestate` and `content-type`.
pub const HEADERS_ADDED_MAX: usize = 6;

/// Stamps the records of one call or frame.
#[derive(Debug)]
pub struct Stamper {
    context: TraceContext,
    propagates: bool,
}

impl Stamper {
    /// Stamps with a trace's context; its id alone where contexts are not to be propagated.
    #[must_use]
    pub const fn new(context: TraceContext, propagates: bool) -> Self {
        Self { context, propagates }
    }

    /// Adds trace context, timestamp and message id where they are absent.
    ///
    /// The record's own `traceparent` stays, and decides `trace-id`; one that cannot be read stays too, as the caller's
    /// content, and then `trace-id` is that of the call. `tracestate` belongs to its `traceparent` and is only added with it.
    pub fn stamp(&self, record: &mut Record) {
        match record.header(TRACEPARENT) {
            Some(own) => {
                let own = own.and_then(|value| std::str::from_utf8(value).ok()).and_then(TraceContext::parse);
                let context = own.as_ref().unwrap_or(&self.context);
                add(record, TRACE_ID_HEADER, || context.trace_id_text().into());
            }
            None => {
                if self.propagates {
                    add(record, TRACEPARENT, || self.context.traceparent().into());
                    if let Some(state) = self.context.tracestate() {
                        add(record, TRACESTATE, || Bytes::copy_from_slice(state.as_bytes()));
                    }
                }
                add(record, TRACE_ID_HEADER, || self.context.trace_id_text().into());
            }
        }
        let timestamp_ms = record.timestamp_ms;
        add(record, TIMESTAMP_HEADER, || timestamp_ms.to_string().into());
        if let Some(id) = record.message_id.clone() {
            add(record, MESSAGE_ID_HEADER, || Bytes::copy_from_slice(id.as_bytes()));
        }
    }
}

fn add(record: &mut Record, name: &str, value: impl FnOnce() -> Bytes) {
    if record.header(name).is_none() {
        record.headers.push(Header { name: name.to_owned(), value: Some(value()) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Topic;

    const OWN: &str = "00-11111111111111111111111111111111-2222222222222222-01";

    fn record(headers: &[(&str, Option<&'static str>)]) -> Record {
        let header = |&(name, value): &(&str, Option<&'static str>)| Header {
            name: name.to_owned(),
            value: value.map(|text| Bytes::from_static(text.as_bytes())),
        };
        Record {
            topic: Topic::parse("orders").unwrap(),
            key: None,
            value: None,
            headers: headers.iter().map(header).collect(),
            partition: None,
            timestamp_ms: 1_700_000_000_123,
            message_id: Some("order-7".into()),
        }
    }

    fn call() -> TraceContext {
        let traceparent = "00-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-bbbbbbbbbbbbbbbb-01";
        TraceContext::from_headers(Some(traceparent), ["vendor=1"]).unwrap()
    }

    fn stamped(headers: &[(&str, Option<&'static str>)]) -> Vec<(String, Option<String>)> {
        let mut record = record(headers);
        Stamper::new(call(), true).stamp(&mut record);
        let text = |value: Bytes| String::from_utf8(value.to_vec()).unwrap();
        record.headers.into_iter().map(|header| (header.name, header.value.map(text))).collect()
    }

    fn expected(headers: &[(&str, Option<&str>)]) -> Vec<(String, Option<String>)> {
        headers.iter().map(|(name, value)| ((*name).to_owned(), value.map(ToOwned::to_owned))).collect()
    }

    const TIMESTAMP: (&str, Option<&str>) = ("timestamp", Some("1700000000123"));
    const MESSAGE_ID: (&str, Option<&str>) = ("message-id", Some("order-7"));

    #[test]
    fn a_bare_record_gains_the_calls_context() {
        let expected = expected(&[
            ("traceparent", Some("00-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-bbbbbbbbbbbbbbbb-01")),
            ("tracestate", Some("vendor=1")),
            ("trace-id", Some("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")),
            TIMESTAMP,
            MESSAGE_ID,
        ]);
        assert_eq!(stamped(&[]), expected);
        assert!(expected.len() < HEADERS_ADDED_MAX);
    }

    #[test]
    fn the_records_own_context_wins() {
        let own = ("traceparent", Some(OWN));
        let trace_id = ("trace-id", Some("11111111111111111111111111111111"));
        assert_eq!(stamped(&[own]), expected(&[own, trace_id, TIMESTAMP, MESSAGE_ID]));
    }

    #[test]
    fn an_unreadable_context_stays_and_gains_no_second_one() {
        let trace_id = ("trace-id", Some("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"));
        for own in [("traceparent", Some("garbage")), ("traceparent", None)] {
            assert_eq!(stamped(&[own]), expected(&[own, trace_id, TIMESTAMP, MESSAGE_ID]));
        }
    }

    #[test]
    fn what_the_caller_gave_stays_as_it_is() {
        let own = [
            ("message-id", Some("mine")),
            ("timestamp", None),
            ("trace-id", Some("mine")),
            ("tracestate", Some("mine=1")),
            ("traceparent", Some(OWN)),
        ];
        assert_eq!(stamped(&own), expected(&own));
    }

    #[test]
    fn names_are_compared_exactly() {
        let other = ("Traceparent", Some(OWN));
        assert_eq!(stamped(&[other]).iter().filter(|(name, _)| name == "traceparent").count(), 1);
    }

    #[test]
    fn without_propagation_the_trace_has_its_id_alone() {
        let mut record = record(&[]);
        Stamper::new(call(), false).stamp(&mut record);
        let names: Vec<_> = record.headers.iter().map(|header| header.name.as_str()).collect();
        assert_eq!(names, ["trace-id", "timestamp", "message-id"]);
    }
}
