//! Owns a dead letter as it is found in its topic: what it says of itself, whether it is asked for, the record that it was.
//! Must never take a record for a dead letter that does not say where it was to go.

use crate::record::{Record, TIMESTAMP_MS_MAX, Topic};

use super::{HEADER_PREFIX, aside};

/// What a dead letter says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// Where its record was to go.
    pub topic: Topic,
    /// Why it failed.
    pub reason: String,
    /// Kafka's name of the error.
    pub kafka_error: Option<String>,
    /// The record's own time, in milliseconds since the epoch; none where that cannot be read, as in letters that have it for their own.
    pub timestamp_ms: Option<i64>,
    /// When it failed, in milliseconds since the epoch; 0 where that cannot be read.
    pub last_ms: i64,
    /// Whose record it was.
    pub tenant: Option<String>,
    /// Whether the record may also be in its topic.
    pub may_be_written: bool,
    /// Which parts are missing, where any is.
    pub cut: Option<String>,
    /// The partition that the caller had asked for.
    pub asked_partition: Option<i32>,
}

/// Which dead letters are asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// Those with one of these reasons; all where there is none.
    pub reasons: Vec<String>,
    /// Those of one of these tenants; all where there is none.
    pub tenants: Vec<String>,
    /// Those that failed then or later, in milliseconds since the epoch.
    pub since_ms: Option<i64>,
    /// Those that failed before, in milliseconds since the epoch.
    pub until_ms: Option<i64>,
}

impl Letter {
    /// Reads what a record says of itself; none where it is no dead letter. The sidecar writes none for Kafka's own topics.
    #[must_use]
    pub fn of(record: &Record, tenant_header: &str) -> Option<Self> {
        let text = |name: &str| {
            let value = record.headers.iter().rev().find(|header| header.name == name)?.value.as_ref()?;
            std::str::from_utf8(value).ok().map(str::to_owned)
        };
        let own = |name: &str| text(&format!("{HEADER_PREFIX}{name}"));
        let time = |name: &str| {
            own(name).and_then(|time| time.parse().ok()).filter(|time| (1..=TIMESTAMP_MS_MAX).contains(time))
        };
        Some(Self {
            topic: Topic::parse(&own("topic")?).ok().filter(|topic| !topic.is_kafkas_own())?,
            reason: own("reason")?,
            kafka_error: own("kafka-error"),
            timestamp_ms: time("timestamp"),
            last_ms: time("last-time").unwrap_or_default(),
            tenant: text(tenant_header),
            may_be_written: own("persisted").as_deref() != Some("NO"),
            cut: own("cut"),
            asked_partition: own("asked-partition").and_then(|partition| partition.parse().ok()),
        })
    }

    /// Makes the record that it was, for its topic.
    #[must_use]
    pub fn revive(&self, record: Record) -> Record {
        let headers = record.headers.into_iter().filter_map(aside::give_back).collect();
        Record {
            topic: self.topic.clone(),
            headers,
            partition: self.asked_partition,
            timestamp_ms: self.timestamp_ms.unwrap_or(record.timestamp_ms),
            ..record
        }
    }
}

impl Filter {
    /// Tells whether a dead letter is asked for.
    #[must_use]
    pub fn takes(&self, letter: &Letter) -> bool {
        let one_of = |wanted: &[String], found: Option<&String>| {
            wanted.is_empty() || found.is_some_and(|found| wanted.contains(found))
        };
        one_of(&self.reasons, Some(&letter.reason))
            && one_of(&self.tenants, letter.tenant.as_ref())
            && self.since_ms.is_none_or(|since| letter.last_ms >= since)
            && self.until_ms.is_none_or(|until| letter.last_ms < until)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        dead_letter::{Death, letter},
        failure::{Failure, Reason},
        record::{Header, TENANT_HEADER},
    };

    fn dead(partition: Option<i32>) -> (Record, Record) {
        let header = |name: &str, value: &str| Header {
            name: name.to_owned(),
            value: Some(Bytes::copy_from_slice(value.as_bytes())),
        };
        let record = Record {
            topic: Topic::parse("orders").unwrap(),
            key: Some("k".into()),
            value: None,
            headers: vec![header(TENANT_HEADER, "t1"), header("x", "y")],
            partition,
            timestamp_ms: 9,
            message_id: None,
        };
        let failure = Failure::new(Reason::RecordRejected, "no").kafka_error("INVALID_RECORD");
        let death = Death { failure: &failure, partition: Some(1), first_ms: 10, last_ms: 20 };
        let letter = letter(&record, Topic::parse("orders.dlq").unwrap(), &death);
        (record, letter)
    }

    #[test]
    fn what_was_buried_can_be_revived() {
        for partition in [None, Some(1)] {
            let (record, buried) = dead(partition);
            let letter = Letter::of(&buried, TENANT_HEADER).unwrap();
            assert_eq!(
                (letter.reason.as_str(), letter.last_ms, letter.may_be_written),
                ("RECORD_REJECTED", 20, false)
            );
            assert_eq!(
                (letter.kafka_error.as_deref(), letter.cut.as_deref()),
                (Some("INVALID_RECORD"), None)
            );
            assert_eq!(letter.revive(buried), record);
        }
        let (record, _) = dead(None);
        assert_eq!(Letter::of(&record, TENANT_HEADER), None, "no dead letter");
    }

    #[test]
    fn what_no_sidecar_writes_is_not_believed() {
        let with = |name: &str, value: &str| {
            let mut letter = dead(None).1;
            let own = letter.headers.iter_mut().find(|header| header.name == name).unwrap();
            own.value = Some(Bytes::copy_from_slice(value.as_bytes()));
            Letter::of(&letter, TENANT_HEADER)
        };
        for topic in ["", "a b", ".", "__consumer_offsets", "__transaction_state"] {
            assert_eq!(with("dlq-topic", topic), None, "{topic:?}");
        }
        for time in
            ["", "x", "0", "-1", "253402300800000", "9223372036854775807", "99999999999999999999", "1.5"]
        {
            assert_eq!(with("dlq-timestamp", time).unwrap().timestamp_ms, None, "{time:?}");
            assert_eq!(with("dlq-last-time", time).unwrap().last_ms, 0, "{time:?}");
        }
        assert_eq!(with("dlq-timestamp", "253402300799999").unwrap().timestamp_ms, Some(TIMESTAMP_MS_MAX));
    }

    #[test]
    fn filters_name_reason_tenant_and_time() {
        let letter = Letter::of(&dead(None).1, TENANT_HEADER).unwrap();
        let text = |text: &str| vec![text.to_owned()];
        let cases = [
            (Filter::default(), true),
            (Filter { reasons: text("RECORD_REJECTED"), ..Filter::default() }, true),
            (Filter { reasons: text("RECORD_TOO_LARGE"), ..Filter::default() }, false),
            (Filter { tenants: text("t1"), ..Filter::default() }, true),
            (Filter { tenants: text("t2"), ..Filter::default() }, false),
            (Filter { since_ms: Some(20), until_ms: Some(21), ..Filter::default() }, true),
            (Filter { since_ms: Some(21), ..Filter::default() }, false),
            (Filter { until_ms: Some(20), ..Filter::default() }, false),
        ];
        for (filter, takes) in cases {
            assert_eq!(filter.takes(&letter), takes, "{filter:?}");
        }
    }
}
