//! Progress: within a bound after a cure everything succeeds again, and the process says that it is ready (I11).

use super::{Attempt, History, Kind, LifeEnd, Violation, shown};

/// The cure of a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Healing {
    /// Of which fault.
    pub fault: String,
    /// When all was well again.
    pub at_ms: u64,
    /// How long it may take until everything succeeds.
    pub within_ms: u64,
    /// Until when nothing else was broken.
    pub until_ms: u64,
    /// How many callers had no success from then to there.
    pub unserved: usize,
}

pub(super) fn violations(history: &History) -> Vec<Violation> {
    let died = history.lives.iter().enumerate().filter(|(_, life)| life.end == Some(LifeEnd::Died));
    let died = died.map(|(life, _)| format!("life {life} ended by itself"));
    let after_cures = history.healings.iter().flat_map(|healing| of_cure(history, healing));
    died.chain(after_cures).map(|what| Violation::new(Kind::NoProgress, what)).collect()
}

fn of_cure(history: &History, healing: &Healing) -> Vec<String> {
    let Healing { fault, at_ms, within_ms, until_ms, unserved } = healing;
    let well_ms = at_ms + within_ms;
    let mut told = Vec::new();
    let failed = failures(history, healing).filter(|attempt| attempt.begun_ms > well_ms);
    if let Some(failed) = failed.max_by_key(|attempt| attempt.begun_ms) {
        let (value, after) = (shown(&failed.value), failed.begun_ms - at_ms);
        told.push(format!("{value}, brought {after} ms after {fault} was cured: {:?}", failed.outcome));
    }
    let mut brought = brought(history, healing);
    if !brought.any(|attempt| attempt.outcome.is_ok() && attempt.begun_ms <= well_ms) {
        told.push(format!("nothing succeeds in the {within_ms} ms after {fault} was cured"));
    }
    if *unserved > 0 {
        told.push(format!(
            "{unserved} callers have no success in the {} ms after {fault} was cured",
            until_ms - at_ms
        ));
    }
    let samples = history.samples.iter().filter(|sample| (*at_ms..=*until_ms).contains(&sample.at_ms));
    let last = samples.clone().max_by_key(|sample| sample.at_ms);
    let unready = samples.filter(|sample| !sample.is_ready && sample.at_ms > well_ms).chain(last);
    if let Some(unready) = unready.into_iter().find(|sample| !sample.is_ready) {
        told.push(format!("not ready {} ms after {fault} was cured", unready.at_ms - at_ms));
    }
    told
}

/// The tries between the cure and the next fault that should succeed.
fn brought<'a>(history: &'a History, healing: &'a Healing) -> impl Iterator<Item = &'a Attempt> {
    let window = healing.at_ms..healing.until_ms;
    history.attempts.iter().filter(move |attempt| !attempt.is_doomed && window.contains(&attempt.begun_ms))
}

fn failures<'a>(history: &'a History, healing: &'a Healing) -> impl Iterator<Item = &'a Attempt> {
    // What was not at its end before the next fault says nothing of this cure.
    brought(history, healing)
        .filter(|attempt| !attempt.outcome.is_ok() && attempt.ended_ms < healing.until_ms)
}

pub(super) fn recovery_ms(history: &History, healing: &Healing) -> u64 {
    failures(history, healing).map(|attempt| attempt.begun_ms - healing.at_ms).max().unwrap_or(0)
}
