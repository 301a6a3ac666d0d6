//! Owns what Kafka says of the records and batches that a topic takes, and from whom; pure.
//! Must never speak against a record that the topic might take: where that is not certain, Kafka judges.

use std::collections::HashMap;

use super::size;
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

/// What a topic takes. What Kafka does not say is not bounded here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// The most bytes of a batch.
    pub batch_bytes_max: Option<usize>,
    /// The same of a batch with one record; not bounded where it is compressed, since nobody knows its size before.
    record_bytes_max: Option<usize>,
    /// Whether it takes nothing of this principal.
    is_forbidden: bool,
    /// Whether it is compacted, so that each record needs a key.
    is_compacted: bool,
    /// How long before and after its arrival a record's timestamp may be, in milliseconds; not negative.
    before_ms_max: i64,
    after_ms_max: i64,
}

/// What a record breaks of a topic's rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Breach {
    /// The principal may not write to the topic.
    Forbidden,
    /// It is larger, in bytes, than the topic's largest batch.
    Size(usize, usize),
    /// It has no key, which a compacted topic needs.
    Key,
    /// Its timestamp is too far in the past or the future.
    Timestamp,
}

impl Rules {
    /// Those of a topic of which nothing is known.
    pub(super) const UNKNOWN: Self = Self {
        batch_bytes_max: None,
        record_bytes_max: None,
        is_forbidden: false,
        is_compacted: false,
        before_ms_max: i64::MAX,
        after_ms_max: i64::MAX,
    };

    /// Reads a topic's settings, as Kafka writes them.
    #[must_use]
    pub(super) fn read(settings: &HashMap<&'static str, String>, is_compressing: bool) -> Self {
        let text = |name| settings.get(name).map(String::as_str);
        // The broker's time is kept where the topic does not keep the caller's.
        let is_callers = text(TIMESTAMP_TYPE) == Some("CreateTime");
        let bound = |name| {
            let bound: Option<i64> = text(name).filter(|_| is_callers).and_then(|text| text.parse().ok());
            bound.filter(|bound| *bound >= 0).unwrap_or(i64::MAX)
        };
        let batch_bytes_max = text(BATCH_BYTES).and_then(|text| text.parse().ok());
        Self {
            batch_bytes_max,
            record_bytes_max: batch_bytes_max.filter(|_| !is_compressing),
            is_forbidden: false,
            is_compacted: text(CLEANUP)
                .is_some_and(|policies| policies.split(',').any(|one| one == "compact")),
            before_ms_max: bound(TIMESTAMP_BEFORE),
            after_ms_max: bound(TIMESTAMP_AFTER),
        }
    }

    /// Returns whether the principal may not write to the topic.
    #[must_use]
    pub(super) const fn is_forbidden(&self) -> bool {
        self.is_forbidden
    }

    /// Adds whether the principal may write to the topic.
    #[must_use]
    pub(super) const fn forbidden(self, is_forbidden: bool) -> Self {
        Self { is_forbidden, ..self }
    }

    /// Returns what a record that arrives now would surely be refused for, if anything.
    #[must_use]
    pub fn breach(&self, record: &Record, now_ms: i64) -> Option<Breach> {
        if self.is_forbidden {
            return Some(Breach::Forbidden);
        }
        if let Some((most, bytes)) =
            self.record_bytes_max.and_then(|most| Some((most, size::beyond(record, most)?)))
        {
            return Some(Breach::Size(bytes, most));
        }
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
        let rejected = |rule| format!("topic {topic} would reject the record: {rule}");
        let (reason, name, sentence) = match self {
            Self::Forbidden => {
                let sentence = format!("Kafka does not let the sidecar write to topic {topic}");
                (Reason::NotAuthorized, "TOPIC_AUTHORIZATION_FAILED", sentence)
            }
            Self::Size(bytes, most) => {
                let sentence = format!(
                    "the record takes {bytes} bytes in Kafka's format, and topic {topic} allows {most} (max.message.bytes)"
                );
                (Reason::RecordTooLarge, "MSG_SIZE_TOO_LARGE", sentence)
            }
            Self::Key => {
                let sentence = rejected("it is compacted, and takes no record without a key");
                (Reason::RecordRejected, "INVALID_RECORD", sentence)
            }
            Self::Timestamp => {
                let rule = "the record's timestamp, in milliseconds since 1970, is further from now than the topic allows";
                (Reason::RecordRejected, "INVALID_TIMESTAMP", rejected(rule))
            }
        };
        Failure::new(reason, sentence).topic(topic).kafka_error(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: i64 = 3_600_000;
    const NOW_MS: i64 = 1_800_000_000_000;

    fn rules(settings: &[(&'static str, &str)]) -> Rules {
        Rules::read(&settings.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(), false)
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
    fn a_record_is_too_large_where_its_batch_is_and_nobody_compresses_it() {
        let large = Record { value: Some(vec![b'x'; 10_000].into()), ..record(None, NOW_MS) };
        let settings = HashMap::from([(BATCH_BYTES, "10000".to_owned())]);
        let breach = Rules::read(&settings, false).breach(&large, NOW_MS);
        assert!(matches!(breach, Some(Breach::Size(bytes, 10_000)) if bytes > 10_000), "{breach:?}");
        assert_eq!(Rules::read(&settings, false).breach(&record(None, NOW_MS), NOW_MS), None);
        let compressing = Rules::read(&settings, true);
        assert_eq!((compressing.breach(&large, NOW_MS), compressing.batch_bytes_max), (None, Some(10_000)));
        assert_eq!(Rules::UNKNOWN.breach(&large, NOW_MS), None);
    }

    #[test]
    fn nothing_goes_to_a_topic_that_is_forbidden() {
        let any = record(Some("k"), NOW_MS);
        for (is_forbidden, breach) in [(true, Some(Breach::Forbidden)), (false, None)] {
            assert_eq!(Rules::UNKNOWN.forbidden(is_forbidden).breach(&any, NOW_MS), breach);
        }
    }

    #[test]
    fn a_breach_is_told_as_kafka_tells_it() {
        let topic = Topic::parse("orders").unwrap();
        for (breach, reason, name) in [
            (Breach::Forbidden, Reason::NotAuthorized, "TOPIC_AUTHORIZATION_FAILED"),
            (Breach::Size(2, 1), Reason::RecordTooLarge, "MSG_SIZE_TOO_LARGE"),
            (Breach::Key, Reason::RecordRejected, "INVALID_RECORD"),
            (Breach::Timestamp, Reason::RecordRejected, "INVALID_TIMESTAMP"),
        ] {
            let failure = breach.failure(&topic);
            assert_eq!((failure.reason(), failure.kafkas_name()), (reason, Some(name)));
            assert_eq!((failure.failed_topic(), failure.tries()), (Some(&topic), 0));
        }
    }
}
