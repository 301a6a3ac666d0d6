//! Owns which trace a record's duration is shown with.
//! Must never show a trace that nobody may have recorded.

use crate::{
    failure::Failure,
    record::Record,
    telemetry::trace_context::{self, TRACEPARENT},
};

/// The first record of a frame whose trace is sampled: its index and the trace's id. One is enough: a frame's records take the
/// same time.
pub type FirstSampled = (usize, u128);

/// Returns the id of a stamped record's trace where that is sampled.
#[must_use]
pub fn trace_id(record: &Record) -> Option<u128> {
    record.header(TRACEPARENT).flatten().and_then(|value| trace_context::sampled_trace_id(value))
}

/// Finds the first record of a frame whose trace is sampled.
pub fn first_sampled(records: &[Result<Record, Failure>]) -> Option<FirstSampled> {
    let records =
        records.iter().enumerate().filter_map(|(index, record)| Some((index, record.as_ref().ok()?)));
    records.into_iter().find_map(|(index, record)| Some((index, trace_id(record)?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        failure::Reason,
        record::{Header, Topic},
    };

    const SAMPLED: &str = "00-11111111111111111111111111111111-2222222222222222-01";
    const UNSAMPLED: &str = "00-11111111111111111111111111111111-2222222222222222-00";
    const ID: u128 = 0x1111_1111_1111_1111_1111_1111_1111_1111;

    fn record(traceparent: Option<&'static str>) -> Record {
        let header = |value: &'static str| Header { name: TRACEPARENT.to_owned(), value: Some(value.into()) };
        Record {
            topic: Topic::parse("orders").unwrap(),
            key: None,
            value: None,
            headers: traceparent.into_iter().map(header).collect(),
            partition: None,
            timestamp_ms: 1,
            message_id: None,
        }
    }

    #[test]
    fn only_a_sampled_trace_is_shown() {
        assert_eq!(trace_id(&record(Some(SAMPLED))), Some(ID));
        for other in [None, Some(UNSAMPLED), Some("garbage"), Some("")] {
            assert_eq!(trace_id(&record(other)), None, "{other:?}");
        }
    }

    #[test]
    fn a_frame_shows_its_first() {
        let refused = Err(Failure::new(Reason::InvalidRecord, "no"));
        let records = [refused, Ok(record(Some(UNSAMPLED))), Ok(record(Some(SAMPLED)))];
        assert_eq!(first_sampled(&records), Some((2, ID)));
        assert_eq!(first_sampled(&records[..2]), None);
    }
}
