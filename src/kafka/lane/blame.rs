//! Owns the search for what ended a transaction, among what librdkafka tells of its records.
//! Must never blame a record that only went with another one.

use super::{Culprit, Work};
use crate::kafka::{
    classify,
    code::ErrorCode,
    ffi::Transactional,
    transaction::{CallClass, CallError, Undelivered},
};

/// Finds the largest of the records that were refused for their size: one too large takes the others of its request with it.
pub(super) fn largest_refused(work: &Work, undelivered: &[Undelivered]) -> Option<(usize, ErrorCode)> {
    let refused = undelivered.iter().filter(|undelivered| classify::is_too_large(undelivered.code));
    let placed = refused.filter_map(|refused| Some((usize::try_from(refused.place).ok()?, refused.code)));
    placed.max_by_key(|(place, _)| work.records.get(*place).map(|(record, _)| record.bytes()))
}

/// Finds the record that the broker rejected; nobody where librdkafka tells the same of several, of which one alone may be at fault.
pub(super) fn rejected(work: &Work, undelivered: &[Undelivered]) -> Option<(Culprit, ErrorCode)> {
    let destination = |failed: &Undelivered| {
        let (record, partition) = work.records.get(usize::try_from(failed.place).ok()?)?;
        Some((&record.topic, *partition))
    };
    let rejected = || undelivered.iter().filter(|failed| classify::is_rejected(failed.code));
    let first = rejected().min_by_key(|failed| failed.place)?;
    // A request holds records of one partition.
    let is_known = |failed: &&Undelivered| {
        let with_it = |other: &&Undelivered| destination(other) == destination(failed);
        undelivered.iter().filter(with_it).any(|other| classify::is_anothers(other.code))
            || rejected().filter(with_it).count() == 1
    };
    let known = rejected().filter(is_known).min_by_key(|failed| failed.place);
    let place = known.and_then(|failed| usize::try_from(failed.place).ok());
    Some((place.map_or(Culprit::Nobody, Culprit::Record), first.code))
}

/// Finds what failed a transaction: its failure purges what is queued, and then deliveries tell only of that.
pub(super) fn cause(producer: &Transactional, culprit: Culprit, error: CallError) -> (Culprit, CallError) {
    if let Some(fatal) = producer.fatal_error() {
        return (Culprit::Nobody, fatal);
    }
    if !classify::is_consequence(error.code) {
        return (culprit, error);
    }
    // In a failed transaction this begins nothing and repeats the transaction's own error.
    match producer.begin() {
        Err(own) if own.class == CallClass::Abortable => (Culprit::Nobody, own),
        Ok(()) | Err(_) => (culprit, error),
    }
}
