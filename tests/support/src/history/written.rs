//! Records: what is acknowledged is there (I1), what is there was sent and not denied (I2), and none is there too often
//! (I3, I4).

use std::collections::{BTreeMap, HashMap};

use super::{Attempt, Found, History, Kind, Outcome, Violation, shown};

pub(super) fn violations(history: &History) -> Vec<Violation> {
    let records = Records::of(history);
    let mut violations = Vec::new();
    for (value, record) in &records.by_value {
        if record.attempts.is_empty() {
            violations.push(Violation::new(
                Kind::Phantom,
                format!("{} at {:?}: nobody sent it", shown(value), record.found[0].place),
            ));
            continue;
        }
        violations.extend(record.lost(history));
        violations.extend(record.too_many(history));
    }
    violations
}

/// What was sent and found, by value.
struct Records<'a> {
    by_value: BTreeMap<&'a str, Record<'a>>,
}

/// All tries of one record, as they were begun, and all places where it is.
#[derive(Default)]
pub(super) struct Record<'a> {
    pub(super) attempts: Vec<&'a Attempt>,
    pub(super) found: Vec<&'a Found>,
}

impl<'a> Records<'a> {
    fn of(history: &'a History) -> Self {
        let mut by_value: BTreeMap<&str, Record<'_>> = BTreeMap::new();
        for attempt in &history.attempts {
            by_value.entry(&attempt.value).or_default().attempts.push(attempt);
        }
        for found in &history.found {
            by_value.entry(&found.value).or_default().found.push(found);
        }
        for record in by_value.values_mut() {
            record.attempts.sort_by_key(|attempt| (attempt.begun_ms, attempt.position));
        }
        Self { by_value }
    }
}

impl Record<'_> {
    fn name(&self) -> &str {
        shown(&self.attempts[0].value)
    }

    /// Whether the topic was deleted after this record may have been written.
    fn may_be_gone(&self, history: &History) -> bool {
        history.deletions.iter().any(|deletion| {
            self.attempts.iter().any(|attempt| {
                attempt.topic == deletion.topic
                    && attempt.begun_ms < deletion.made_again_ms
                    && !matches!(attempt.outcome, Outcome::No(_))
            })
        })
    }

    fn lost(&self, history: &History) -> Option<Violation> {
        if self.may_be_gone(history) {
            return None;
        }
        let missing = self.attempts.iter().find(|attempt| {
            let Outcome::Ok { partition, offset, .. } = attempt.outcome else { return false };
            !self.found.iter().any(|found| {
                let place = &found.place;
                place.topic == attempt.topic
                    && place.partition == partition
                    && offset.is_none_or(|offset| offset == place.offset)
            })
        })?;
        let places: Vec<_> = self.found.iter().map(|found| &found.place).collect();
        let what =
            format!("{}: {:?} of life {}, found at {places:?}", self.name(), missing.outcome, missing.life);
        Some(Violation::new(Kind::LostAck, what))
    }

    fn too_many(&self, history: &History) -> Option<Violation> {
        let first = self.attempts[0];
        let places: Vec<_> = self.found.iter().map(|found| &found.place).collect();
        let outcomes: Vec<_> =
            self.attempts.iter().map(|attempt| (attempt.life, attempt.begun_ms, &attempt.outcome)).collect();
        let told = || format!("{}: found at {places:?}, told {outcomes:?}", self.name());
        let is_other = |found: &&Found| found.place.topic != first.topic || found.key != first.key;
        if self.found.iter().any(is_other) {
            return Some(Violation::new(Kind::Phantom, format!("{}; with another key or topic", told())));
        }
        let writers: Vec<_> =
            self.attempts.iter().copied().filter(|attempt| attempt.outcome.may_have_written()).collect();
        if writers.is_empty() {
            // An answer that means an earlier record says that this one is there; where none is, the answer is judged.
            let is_denied = self.attempts.iter().all(|attempt| !attempt.outcome.is_ok());
            return (is_denied && !self.found.is_empty()).then(|| Violation::new(Kind::Phantom, told()));
        }
        let may = if first.message_id.is_some() {
            times_remembered(&writers, history.message_id_window_ms)
        } else {
            writers.len()
        };
        if self.found.len() <= may {
            return None;
        }
        let is_unknown = writers.iter().any(|attempt| !attempt.outcome.is_ok());
        let kind = match (&first.message_id, is_unknown) {
            (None, true) => Kind::DishonestUnknown,
            (None, false) | (Some(_), _) => Kind::Duplicate,
        };
        Some(Violation::new(kind, told()))
    }
}

/// How often a record with an id may be written: once by each life of the sidecar, because ids are remembered in memory, and
/// once more where its id had been forgotten by its age.
fn times_remembered(writers: &[&Attempt], window_ms: u64) -> usize {
    let mut last_end: HashMap<usize, u64> = HashMap::new();
    let mut times = 0;
    for writer in writers {
        let is_remembered = last_end
            .get(&writer.life)
            .is_some_and(|ended| writer.begun_ms <= ended.saturating_add(window_ms));
        times += usize::from(!is_remembered);
        let end = last_end.entry(writer.life).or_default();
        *end = writer.ended_ms.max(*end);
    }
    times
}
