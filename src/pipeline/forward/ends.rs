//! Owns what a transaction's end means for its units: who is told what, and who goes again.
//! Must never tell a unit more than its own offsets show, where the end itself is not known.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    Forwarder,
    cargo::Cargo,
    lanes::{OFFSETS_MS_MAX, Started},
    outcome,
};
use crate::{
    failure::Failure,
    kafka::{context::Delivered, lane::Culprit, transaction::CallError},
    offsets::{Decision, decide},
    pipeline::schedule::Number,
};

/// How often a unit is tried in a transaction that is aborted for no fault of its own.
const ATTEMPTS_MAX: u32 = 10;

impl Forwarder {
    pub(super) fn committed(&self, units: Vec<Started>, delivered: &[Delivered]) -> Vec<Number> {
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
        told
    }

    /// Answers the culprits of an aborted transaction; the others go again.
    pub(super) fn aborted(
        &self,
        units: Vec<Started>,
        cargo: &Cargo,
        culprit: Culprit,
        error: &CallError,
    ) -> (Vec<Started>, Vec<Number>) {
        self.forget(&units);
        let only = units.len() == 1;
        let (mut retried, mut told) = (Vec::new(), Vec::new());
        for (place, mut unit) in units.into_iter().enumerate() {
            let placed = Arc::clone(&unit.item.placed);
            let failure = match culprit {
                Culprit::Offsets(entry)
                    if cargo.of_offsets.get(entry).is_some_and(|of| of.contains(&place)) =>
                {
                    Some(outcome::of_offsets(&placed, error))
                }
                Culprit::Record(record) => match cargo.of_records.get(record) {
                    Some((of, output)) if *of == place => Some(outcome::of_record(&placed, *output, error)),
                    Some(_) | None => None,
                },
                Culprit::Nobody if only => Some(outcome::of_nobody(&placed, error)),
                Culprit::Nobody | Culprit::Offsets(_) => None,
            };
            unit.item.attempts += 1;
            let spent = unit.item.attempts >= ATTEMPTS_MAX;
            match failure.or_else(|| spent.then(|| outcome::of_nobody(&placed, error))) {
                Some(failure) => {
                    self.known.lock().note_failed(&placed.unit);
                    told.push(unit.number);
                    outcome::tell(unit.item, Err(failure));
                }
                None => retried.push(unit),
            }
        }
        (retried, told)
    }

    /// Finds out by the committed offsets what became of the units of a transaction, of which nothing can happen any more.
    ///
    /// An offset that is still what a unit expects shows that nothing of the transaction is committed. One that is beyond shows
    /// that this unit is, be it by this transaction or by another sidecar's; of the others it shows nothing.
    pub(super) async fn resolve(
        &self,
        units: Vec<Started>,
        error: Option<&CallError>,
    ) -> (Vec<Started>, Vec<Number>) {
        self.forget(&units);
        let mut found = Vec::with_capacity(units.len());
        let by = Instant::now() + Duration::from_millis(OFFSETS_MS_MAX);
        for unit in &units {
            let inputs = &unit.item.placed.unit.inputs;
            let says_all = !inputs.is_empty() && inputs.iter().all(|input| input.expected.is_some());
            let group = unit.item.placed.unit.group.as_ref().filter(|_| says_all);
            let left = by.saturating_duration_since(Instant::now());
            found.push(match group {
                Some(group) => self.read(group, inputs, left).await.ok().map(|read| decide(inputs, &read)),
                None => None,
            });
        }
        let none_committed = found.contains(&Some(Decision::Run));
        let (mut retried, mut told) = (Vec::new(), Vec::new());
        for (unit, found) in units.into_iter().zip(found) {
            let answer = match found {
                Some(Decision::AlreadyCommitted) => outcome::already_committed(),
                Some(Decision::Mismatch { input, committed }) if none_committed => {
                    Err(outcome::mismatch(&unit.item.placed, input, committed))
                }
                Some(Decision::Run | Decision::Mismatch { .. }) | None if none_committed => {
                    retried.push(unit);
                    continue;
                }
                Some(Decision::Run | Decision::Mismatch { .. }) | None => {
                    Err(error.map_or_else(outcome::unanswered, outcome::unknown))
                }
            };
            if answer.is_err() {
                self.known.lock().note_failed(&unit.item.placed.unit);
            }
            told.push(unit.number);
            outcome::tell(unit.item, answer);
        }
        (retried, told)
    }

    fn forget(&self, units: &[Started]) {
        let mut known = self.known.lock();
        for group in units.iter().filter_map(|unit| unit.item.placed.unit.group.as_ref()) {
            known.forget(&group.id);
        }
    }
}

/// Tells all units the same.
pub(super) fn tell_all(units: Vec<Started>, failure: &Failure) -> Vec<Number> {
    let told = units.iter().map(|unit| unit.number).collect();
    units.into_iter().for_each(|unit| outcome::tell(unit.item, Err(failure.clone())));
    told
}
