//! Owns what a topic's configuration says of the records and batches that it takes; pure.
//! Must never speak against a record that the topic might take: where that is not certain, Kafka judges.

use std::collections::HashMap;

use crate::{
    failure::{Failure, Reason},
    record::{Record, Topic},
};

/// The settings of a topic that are asked for.
pub(super) const SETTINGS: &[&str] =
    &[BATCH_BYTES, CLEANUP, TIMESTAMP_TYPE, TIMESTAMP_BEFORE, TIMESTAMP_AFTER];
/// How far the clocks of brokers and sidecar may be apart before a timestamp is refused wrongly, in milliseconds: a day.
const CLOCKS_APART_MS: i64 = 86_400_000;

const BATCH_BYTES: &str = "max.message.bytes";
const CLEANUP: &str = "cleanup.policy";
const TIMESTAMP_TYPE: &str = "message.timestamp.type";
const TIMESTAMP_BEFORE: &str = "message.timestamp.before.max.ms";
const TIMESTAMP_AFTER: &str = "message.timestamp.after.max.ms";

/// What a topic takes. What its configuration does not say is not bounded here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// The most bytes of a batch.
    pub batch_bytes_max: Option<usize>,
    /// Whether it is compacted, so that each record needs a key.
    is_compacted: bool,
    /// How long before and after its arrival a record's timestamp may be, in milliseconds; not negative.
    before_ms_max: i64,
    after_ms_max: i64,
}

/// What a record breaks of a topic's rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Breach {
    /// It has no key, which a compacted topic needs.
    Key,
    /// Its timestamp is too far in the past or the future.
    Timestamp,
}

impl Rules {
    /// Reads a topic's settings, as Kafka writes them.
    #[must_use]
    pub(super) fn read(settings: &HashMap<&'static str, String>) -> Self {
        let text = |name| settings.get(name).map(String::as_str);
        // The broker's time is kept where the topic does not keep the caller's.
        let is_callers = text(TIMESTAMP_TYPE) == Some("CreateTime");
        let bound = |name| {
            let bound: Option<i64> = text(name).filter(|_| is_callers).and_then(|text| text.parse().ok());
            bound.filter(|bound| *bound >= 0).unwrap_or(i64::MAX)
        };
        Self {
            batch_bytes_max: text(BATCH_BYTES).and_then(|text| text.parse().ok()),
            is_compacted: text(CLEANUP)
                .is_some_and(|policies| policies.split(',').any(|one| one == "compact")),
            before_ms_max: bound(TIMESTAMP_BEFORE),
            after_ms_max: bound(TIMESTAMP_AFTER),
        }
    }

    /// Returns what a record that arrives now would surely be refused for, if anything.
    #[must_use]
    pub fn breach(&self, record: &Record, now_ms: i64) -> Option<Breach> {
        if self.is_compacted && record.key.is_none() {
            return Some(Breach::Key);
        }
        let ahead_ms = record.timestamp_ms.saturating_sub(now_ms);
        let is_too_late = ahead_ms > self.after_ms_max.saturating_add(CLOCKS_APART_MS);
        let is_too_early = ahead_ms.saturating_neg() > self.before_ms_max.saturating_add(CLOCKS_APART_MS);
        (is_too_late || is_too_early).then_some(Breach::Timestamp)
    }
}

impl Breach {
    /// Says what Kafka would say.
    #[must_use]
    pub fn failure(self, topic: &Topic) -> Failure {
        let (name, rule) = match self {
            Self::Key => ("INVALID_RECORD", "it is compacted, and takes no record without a key"),
            Self::Timestamp => {
                let rule = "the record's timestamp, in milliseconds since 1970, is further from now than the topic allows";
                ("INVALID_TIMESTAMP", rule)
            }
        };
        Failure::new(Reason::RecordRejected, format!("topic {topic} would reject the record: {rule}"))
            .topic(topic)
            .kafka_error(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: i64 = 3_600_000;
    const NOW_MS: i64 = 1_800_000_000_000;

    fn rules(settings: &[(&'static str, &str)]) -> Rules {
        Rules::read(&settings.iter().map(|(name, value)| (*name, (*value).to_owned())).collect())
    }

    fn record(key: Option<&'static str>, timestamp_ms: i64) -> Record {
        Record {
            topic: Topic::parse("orders").unwrap(),
            key: key.map(|key| key.as_bytes().into()),
            value: None,
            headers: Vec::new(),
            partition: None,
            timestamp_ms,
            message_id: None,
        }
    }

    #[test]
    fn a_compacted_topic_needs_keys_and_no_other_does() {
        for (policy, needs) in [("compact", true), ("delete,compact", true), ("delete", false), ("", false)] {
            let rules = rules(&[(CLEANUP, policy)]);
            assert_eq!(rules.breach(&record(None, NOW_MS), NOW_MS), needs.then_some(Breach::Key), "{policy}");
            assert_eq!(rules.breach(&record(Some(""), NOW_MS), NOW_MS), None, "an empty key is one");
        }
    }

    #[test]
    fn timestamps_are_refused_a_day_beyond_what_the_topic_says() {
        let asked = |kind, before: &str, after: &str| {
            rules(&[(TIMESTAMP_TYPE, kind), (TIMESTAMP_BEFORE, before), (TIMESTAMP_AFTER, after)])
        };
        let refused = |rules: Rules, ahead_ms: i64| {
            rules.breach(&record(Some("k"), NOW_MS + ahead_ms), NOW_MS) == Some(Breach::Timestamp)
        };
        let hour = asked("CreateTime", "3600000", "3600000");
        let last = HOUR_MS + CLOCKS_APART_MS;
        let answers = [-last - 1, -last, 0, last, last + 1].map(|ahead_ms| refused(hour, ahead_ms));
        assert_eq!(answers, [true, false, false, false, true]);
        // Microseconds instead of milliseconds.
        assert!(refused(hour, 999 * NOW_MS));
        let ages = [i64::MIN + 2 * NOW_MS, i64::MAX - NOW_MS];
        for free in [
            asked("LogAppendTime", "1", "1"),
            asked("CreateTime", "9223372036854775807", "9223372036854775807"),
            asked("CreateTime", "-1", "unknown"),
            rules(&[]),
        ] {
            assert_eq!(ages.map(|ahead_ms| refused(free, ahead_ms)), [false; 2], "{free:?}");
        }
    }

    #[test]
    fn a_batchs_bytes_are_read_and_what_is_no_number_is_not_known() {
        assert_eq!(rules(&[(BATCH_BYTES, "10000")]).batch_bytes_max, Some(10_000));
        assert_eq!(rules(&[(BATCH_BYTES, "many")]).batch_bytes_max, None);
        assert_eq!(rules(&[]).batch_bytes_max, None);
    }

    #[test]
    fn a_breach_is_told_as_kafka_tells_it() {
        let topic = Topic::parse("orders").unwrap();
        for (breach, name) in [(Breach::Key, "INVALID_RECORD"), (Breach::Timestamp, "INVALID_TIMESTAMP")] {
            let failure = breach.failure(&topic);
            assert_eq!((failure.reason(), failure.kafkas_name()), (Reason::RecordRejected, Some(name)));
            assert_eq!((failure.failed_topic(), failure.tries()), (Some(&topic), 0));
        }
    }
}
