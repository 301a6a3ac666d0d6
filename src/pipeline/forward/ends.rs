//! Owns what a transaction's end means for its units: who is told what, and who goes again.
//! Must never tell a unit more than its own offsets show, where the end itself is not known.

use std::{sync::Arc, time::Duration};

use super::{
    Forwarder,
    cargo::Cargo,
    lanes::Started,
    outcome,
    seen::{Asked, OFFSETS_MS_MAX, Seen},
};
use crate::{
    failure::Failure,
    kafka::{classify, context::Delivered, lane::Culprit, transaction::CallError},
    offsets::{Decision, decide},
    pipeline::schedule::Number,
};

/// How often a unit is tried in a transaction that is aborted for no fault of its own.
const ATTEMPTS_MAX: u32 = 10;

/// The units of a transaction by what becomes of them.
#[derive(Debug, Default)]
pub(super) struct Sorted {
    /// Their callers were told; their keys are free once nothing of the transaction can happen any more.
    pub told: Vec<Number>,
    /// Those that go again.
    pub retried: Vec<Started>,
    /// Those that go again, each in a transaction of its own.
    pub alone: Vec<Started>,
}

impl Forwarder {
    pub(super) fn committed(&self, units: Vec<Started>, delivered: &[Delivered]) -> Sorted {
        let mut told = Vec::with_capacity(units.len());
        let mut rest = delivered;
        for unit in units {
            let placed = Arc::clone(&unit.item.placed);
            if let Some(group) = &placed.unit.group {
                let mut known = self.known.lock();
                for input in &placed.unit.inputs {
                    known.note(group, &input.topic, input.partition, input.next);
                }
            }
            let (own, others) = rest.split_at(placed.unit.outputs.len().min(rest.len()));
            rest = others;
            told.push(unit.number);
            outcome::tell(unit.item, outcome::committed(&placed, own));
        }
        Sorted { told, ..Sorted::default() }
    }

    /// Answers the culprits of an aborted transaction; the others go again.
    pub(super) fn aborted(
        &self,
        units: Vec<Started>,
        cargo: &Cargo,
        culprit: Culprit,
        error: &CallError,
    ) -> Sorted {
        self.forget(&units);
        let only = units.len() == 1;
        // Another producer has taken its place by the time that they run again.
        let is_of_producer = classify::is_of_producer(error.code) && !classify::is_fenced(error.code);
        // One of several units' offsets may be at fault alone: each goes by itself, and hears of its own.
        let is_shared = classify::is_of_one_unit(error.code)
            && matches!(culprit, Culprit::Offsets(entry) if cargo.of_offsets.get(entry).is_some_and(|of| of.len() > 1));
        let mut sorted = Sorted::default();
        for (place, mut unit) in units.into_iter().enumerate() {
            let placed = Arc::clone(&unit.item.placed);
            let failure = match culprit {
                _ if is_of_producer => None,
                Culprit::Offsets(_) if cargo.is_of_offsets(culprit, place) && !is_shared => {
                    Some(outcome::of_offsets(&placed, error))
                }
                Culprit::Record(record) => match cargo.of_records.get(record) {
                    Some((of, output)) if *of == place => {
                        Some(outcome::of_record(&placed, *output, error).attempts(unit.item.tries))
                    }
                    Some(_) | None => None,
                },
                Culprit::Nobody | Culprit::Suspect(_) if only => Some(outcome::of_nobody(&placed, error)),
                Culprit::Nobody | Culprit::Suspect(_) | Culprit::Offsets(_) => None,
            };
            let is_suspect = matches!(culprit, Culprit::Suspect(record)
                if cargo.of_records.get(record).is_some_and(|(of, _)| *of == place))
                || is_shared && cargo.is_of_offsets(culprit, place);
            // A search that halves its units each time ends by itself, and must not stop before.
            let is_search = culprit == Culprit::Nobody && !only && classify::is_rejected(error.code);
            unit.item.attempts += u32::from(!is_search);
            let spent = unit.item.attempts >= ATTEMPTS_MAX;
            match failure.or_else(|| spent.then(|| outcome::of_nobody(&placed, error))) {
                Some(failure) => {
                    self.known.lock().note_failed(&placed.unit);
                    sorted.told.push(unit.number);
                    outcome::tell(unit.item, Err(failure));
                }
                None if is_suspect => sorted.alone.push(unit),
                None => sorted.retried.push(unit),
            }
        }
        sorted
    }

    /// Finds out by the committed offsets what became of the units of a transaction, of which nothing can happen any more.
    ///
    /// An offset that is still what a unit expects shows that nothing of the transaction is committed. One that is beyond shows
    /// that this unit is, be it by this transaction or by another sidecar's; of the others it shows nothing.
    pub(super) async fn resolve(&self, units: Vec<Started>, error: Option<&CallError>) -> Sorted {
        self.forget(&units);
        let wait = Duration::from_millis(OFFSETS_MS_MAX);
        let asked = Asked::of(&units, |_, _| true).read(self, |_| wait);
        let mut seen = Seen::default();
        for (group, partitions, reading) in asked {
            seen.note(group, partitions, reading.await.unwrap_or_else(|_| Err(super::lost())));
        }
        let found = |unit: &Started| {
            let placed = &unit.item.placed;
            let committed = seen.committed_of(placed).ok().flatten()?;
            Some(decide(&placed.unit.inputs, &committed))
        };
        let found: Vec<_> = units.iter().map(found).collect();
        let none_committed = found.contains(&Some(Decision::Run));
        let mut sorted = Sorted::default();
        for (unit, found) in units.into_iter().zip(found) {
            let answer = match found {
                Some(Decision::AlreadyCommitted) => outcome::already_committed(),
                // Those of a chain behind its first expect what that one will have committed.
                Some(Decision::Run | Decision::Mismatch { .. }) | None if none_committed => {
                    sorted.retried.push(unit);
                    continue;
                }
                Some(Decision::Run | Decision::Mismatch { .. }) | None => {
                    Err(error.map_or_else(outcome::unanswered, outcome::unknown))
                }
            };
            if answer.is_err() {
                self.known.lock().note_failed(&unit.item.placed.unit);
            }
            sorted.told.push(unit.number);
            outcome::tell(unit.item, answer);
        }
        sorted
    }

    fn forget(&self, units: &[Started]) {
        let mut known = self.known.lock();
        for group in units.iter().filter_map(|unit| unit.item.placed.unit.group.as_ref()) {
            known.forget(&group.id);
        }
    }
}

/// Tells all units the same.
pub(super) fn tell_all(units: Vec<Started>, failure: &Failure) -> Sorted {
    let told = units.iter().map(|unit| unit.number).collect();
    units.into_iter().for_each(|unit| outcome::tell(unit.item, Err(failure.clone())));
    Sorted { told, ..Sorted::default() }
}
