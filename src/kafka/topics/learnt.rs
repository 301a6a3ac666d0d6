//! Owns what was learnt of a topic's rules, part by part, and until when it may be believed; pure.
//! Must never believe what is old where it speaks against a record, nor forget what is old because asking was in vain.

use std::time::Duration;

use tokio::time::Instant;

use super::rules::{self, Breach, Rules};
use crate::{
    kafka::{classify, ffi::TopicAnswers},
    record::Record,
};

/// What was told since so long is believed where it speaks against a record, in milliseconds.
pub(super) const FRESH_MS: u64 = 1_000;
/// After so long settings are asked for again that the principal could not see, in milliseconds.
const HIDDEN_MS: u64 = 600_000;

/// What was learnt of a topic's rules.
#[derive(Debug, Clone, Copy)]
pub struct Learnt {
    rules: Rules,
    /// When the settings were told, or that nobody tells them.
    settings: Option<Instant>,
    /// When the right to write was told.
    right: Option<Instant>,
    /// Since when it is known that nobody tells the settings.
    hidden: Option<Instant>,
}

/// What is said of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing speaks against it.
    Goes,
    /// Kafka would surely refuse it.
    Refused(Breach),
    /// It would not be taken as far as was told; that was some time ago.
    Untold,
}

impl Learnt {
    /// What is known where nothing is.
    const NOTHING: Self = Self { rules: Rules::UNKNOWN, settings: None, right: None, hidden: None };

    /// Returns the settings that are to be asked for.
    pub(super) fn asked_for(known: Option<Self>, now: Instant) -> &'static [&'static str] {
        let hidden = known.and_then(|known| known.hidden);
        if hidden.is_some_and(|since| is_younger(since, now, HIDDEN_MS)) { &[] } else { rules::SETTINGS }
    }

    /// Adds to what was known what is told now; none where neither part is.
    pub(super) fn taught(known: Option<Self>, answers: &TopicAnswers, is_compressing: bool) -> Option<Self> {
        let known = known.unwrap_or(Self::NOTHING);
        let may_write = match answers.may_write {
            Ok(told) => Some(told.unwrap_or(true)),
            Err(code) if classify::is_unsupported(code) => Some(true),
            // Write includes Describe.
            Err(code) if classify::is_denied(code) => Some(false),
            Err(_) => None,
        };
        let now = answers.settings_told;
        let was_hidden = Self::asked_for(Some(known), now).is_empty();
        let (settings, hidden) = match &answers.settings {
            Ok(_) if was_hidden => (Some(Rules::UNKNOWN), known.hidden),
            Ok(told) => (Some(Rules::read(told, is_compressing)), None),
            Err(code) if classify::is_unsupported(*code) => (Some(Rules::UNKNOWN), Some(now)),
            Err(code) if classify::is_denied(*code) => match may_write {
                Some(true) => (Some(Rules::UNKNOWN), Some(now)),
                // Where all is denied that may pass, and says nothing of this right; nor does it matter meanwhile.
                Some(false) => (None, None),
                None => (None, known.hidden),
            },
            Err(_) => (None, known.hidden),
        };
        let is_forbidden = may_write.map_or_else(|| known.rules.is_forbidden(), |may_write| !may_write);
        (settings.is_some() || may_write.is_some()).then(|| Self {
            rules: settings.unwrap_or(known.rules).forbidden(is_forbidden),
            settings: settings.map(|_| now).or(known.settings),
            right: may_write.map(|_| answers.right_told).or(known.right),
            hidden,
        })
    }

    /// Returns the rules, however old.
    #[must_use]
    pub const fn rules(&self) -> Rules {
        self.rules
    }

    /// Returns whether all of it was told a moment ago, or enough to refuse every record.
    fn is_fresh(&self, now: Instant) -> bool {
        let is_fresh = |told: Option<Instant>| told.is_some_and(|told| is_younger(told, now, FRESH_MS));
        is_fresh(self.right) && (self.rules.is_forbidden() || is_fresh(self.settings))
    }

    /// Judges a record that arrives now, which is `now_ms` in milliseconds since the epoch.
    #[must_use]
    pub fn verdict(&self, record: &Record, (now, now_ms): (Instant, i64)) -> Verdict {
        let Some(breach) = self.rules.breach(record, now_ms) else { return Verdict::Goes };
        let told = match breach {
            Breach::Forbidden => self.right,
            Breach::Size(..) | Breach::Key | Breach::Timestamp => self.settings,
        };
        if told.is_some_and(|told| is_younger(told, now, FRESH_MS)) {
            Verdict::Refused(breach)
        } else {
            Verdict::Untold
        }
    }
}

/// Returns whether all of a topic's rules was told a moment ago.
pub(super) fn is_told_now(learnt: Option<Learnt>) -> bool {
    learnt.is_some_and(|learnt| learnt.is_fresh(Instant::now()))
}

fn is_younger(instant: Instant, now: Instant, bound_ms: u64) -> bool {
    now.saturating_duration_since(instant) < Duration::from_millis(bound_ms)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::{kafka::code::ErrorCode as Code, record::Topic};

    const COMPACTED: Result<&str, Code> = Ok("compact");
    const SILENCE: Code = Code::LOCAL_TIMED_OUT;
    const DENIED: Code = Code::TOPIC_AUTHORIZATION_FAILED;

    fn taught(
        known: Option<Learnt>,
        cleanup: Result<&str, Code>,
        may_write: Result<Option<bool>, Code>,
        now: Instant,
    ) -> Option<Learnt> {
        let settings = cleanup.map(|policy| HashMap::from([("cleanup.policy", policy.to_owned())]));
        let answers = TopicAnswers { may_write, right_told: now, settings, settings_told: now };
        Learnt::taught(known, &answers, false)
    }

    /// What is said of a record without a key.
    fn verdict(learnt: Option<Learnt>, now: Instant) -> Verdict {
        let record = Record {
            topic: Topic::parse("orders").unwrap(),
            key: None,
            value: None,
            headers: Vec::new(),
            partition: None,
            timestamp_ms: 1,
            message_id: None,
        };
        learnt.unwrap().verdict(&record, (now, 1))
    }

    fn is_fresh(learnt: Option<Learnt>, now: Instant) -> bool {
        learnt.unwrap().is_fresh(now)
    }

    fn later(instant: Instant, ms: u64) -> Instant {
        instant + Duration::from_millis(ms)
    }

    #[test]
    fn what_was_told_a_moment_ago_is_believed_and_what_is_old_is_kept() {
        let now = Instant::now();
        let learnt = taught(None, COMPACTED, Ok(Some(true)), now);
        let last = later(now, FRESH_MS - 1);
        assert_eq!((verdict(learnt, last), is_fresh(learnt, last)), (Verdict::Refused(Breach::Key), true));
        let now = later(now, FRESH_MS);
        assert_eq!((verdict(learnt, now), is_fresh(learnt, now)), (Verdict::Untold, false));
        assert!(taught(learnt, Err(SILENCE), Err(SILENCE), now).is_none(), "nothing was told");
        assert_eq!(verdict(taught(learnt, Ok("delete"), Ok(None), now), now), Verdict::Goes);
    }

    #[test]
    fn each_part_is_believed_by_itself() {
        let begun = Instant::now();
        let learnt = taught(None, COMPACTED, Ok(Some(false)), begun);
        assert_eq!(verdict(learnt, begun), Verdict::Refused(Breach::Forbidden));
        let silent = taught(None, Err(SILENCE), Ok(Some(false)), begun);
        assert_eq!(
            (verdict(silent, begun), is_fresh(silent, begun)),
            (Verdict::Refused(Breach::Forbidden), true)
        );
        // The right is there again, and of the settings nothing is told.
        let now = later(begun, FRESH_MS);
        let right = taught(learnt, Err(SILENCE), Ok(Some(true)), now);
        assert_eq!((verdict(right, now), is_fresh(right, now)), (Verdict::Untold, false));
        let settings = taught(right, COMPACTED, Err(SILENCE), now);
        assert_eq!(verdict(settings, now), Verdict::Refused(Breach::Key));
        // Of a topic of which only the right is told nothing else is bounded.
        let only = taught(None, Err(Code::UNKNOWN), Ok(Some(true)), now);
        assert_eq!((verdict(only, now), is_fresh(only, now)), (Verdict::Goes, false));
    }

    #[test]
    fn settings_that_nobody_tells_are_asked_for_again_much_later() {
        let begun = Instant::now();
        let hidden = taught(None, Err(DENIED), Ok(Some(true)), begun);
        assert_eq!((verdict(hidden, begun), is_fresh(hidden, begun)), (Verdict::Goes, true));
        let last = later(begun, HIDDEN_MS - 1);
        assert!(Learnt::asked_for(hidden, last).is_empty());
        let still = taught(hidden, Ok(""), Ok(Some(true)), last);
        assert!(Learnt::asked_for(still, last).is_empty() && is_fresh(still, last));
        let now = later(begun, HIDDEN_MS);
        assert_eq!(Learnt::asked_for(still, now), rules::SETTINGS);
        assert_eq!(verdict(taught(still, COMPACTED, Ok(None), now), now), Verdict::Refused(Breach::Key));
        for unsupported in [Code::LOCAL_UNSUPPORTED_FEATURE, Code::UNSUPPORTED_VERSION] {
            let old = taught(None, Err(unsupported), Err(unsupported), now);
            assert!(Learnt::asked_for(old, now).is_empty() && is_fresh(old, now));
        }
    }

    #[test]
    fn an_access_that_is_lost_as_a_whole_hides_no_settings() {
        let now = Instant::now();
        let known = taught(None, COMPACTED, Ok(Some(true)), now);
        for right in [Ok(Some(false)), Err(DENIED)] {
            let lost = taught(known, Err(DENIED), right, now);
            assert_eq!(
                (verdict(lost, now), is_fresh(lost, now)),
                (Verdict::Refused(Breach::Forbidden), true)
            );
            assert_eq!(Learnt::asked_for(lost, now), rules::SETTINGS);
            let back = taught(lost, Err(SILENCE), Ok(Some(true)), now);
            assert_eq!(verdict(back, now), Verdict::Refused(Breach::Key), "what was known is");
            let later = later(now, FRESH_MS);
            let lost = taught(known, Err(DENIED), right, later);
            let back = taught(lost, Err(SILENCE), Ok(Some(true)), later);
            assert_eq!(verdict(back, later), Verdict::Untold, "and as old as it was");
        }
    }
}
