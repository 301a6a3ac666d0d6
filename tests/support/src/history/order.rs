//! Order: what one source brought lies in each partition as it was brought (I5).

use std::collections::HashMap;

use super::{Attempt, Found, History, Kind, Outcome, Violation, shown};

pub(super) fn violations(history: &History) -> Vec<Violation> {
    let mut attempts: HashMap<&str, Vec<&Attempt>> = HashMap::new();
    for attempt in &history.attempts {
        attempts.entry(&attempt.value).or_default().push(attempt);
    }
    let mut copies: HashMap<&str, usize> = HashMap::new();
    for found in &history.found {
        *copies.entry(&found.value).or_default() += 1;
    }
    let mut partitions: HashMap<Line<'_>, Vec<Laid<'_>>> = HashMap::new();
    for found in &history.found {
        let tries = attempts.get(found.value.as_str()).map_or(&[][..], Vec::as_slice);
        // One that is there more often than it may is told as that.
        let writers = tries.iter().filter(|attempt| attempt.outcome.may_have_written()).count();
        if copies[found.value.as_str()] > writers {
            continue;
        }
        if let Some((line, laid)) = laid(found, tries) {
            partitions.entry(line).or_default().push(laid);
        }
    }
    partitions.into_values().filter_map(misplaced).collect()
}

/// A source's records of one partition, while one process took them.
type Line<'a> = (usize, usize, &'a str, i32);

/// A record in its partition, and which of the source's tries may have written it: from the first to the last position.
struct Laid<'a> {
    offset: i64,
    first: u64,
    last: u64,
    value: &'a str,
}

/// Finds the tries that may have written what lies here; none where they are of several sources.
fn laid<'a>(found: &'a Found, tries: &[&Attempt]) -> Option<(Line<'a>, Laid<'a>)> {
    let place = &found.place;
    let tells_this = |attempt: &&&Attempt| {
        let Outcome::Ok { partition, offset, duplicate } = attempt.outcome else { return false };
        !duplicate && partition == place.partition && offset.is_none_or(|offset| offset == place.offset)
    };
    let mut writers: Vec<_> = tries.iter().filter(tells_this).collect();
    if writers.is_empty() {
        writers = tries.iter().filter(|attempt| matches!(attempt.outcome, Outcome::Maybe(_))).collect();
    }
    let first = writers.first()?;
    let line = (first.source, first.life, place.topic.as_str(), place.partition);
    if writers.iter().any(|attempt| (attempt.source, attempt.life) != (first.source, first.life)) {
        return None;
    }
    let positions = || writers.iter().map(|attempt| attempt.position);
    let laid = Laid {
        offset: place.offset,
        first: positions().min()?,
        last: positions().max()?,
        value: &found.value,
    };
    Some((line, laid))
}

fn misplaced(mut partition: Vec<Laid<'_>>) -> Option<Violation> {
    partition.sort_by_key(|laid| laid.offset);
    let mut latest: Option<Laid<'_>> = None;
    for laid in partition {
        if let Some(latest) = &latest
            && latest.first > laid.last
        {
            let what = format!(
                "{} was brought as number {} and lies at {}, {} as number {} and lies behind it at {}",
                shown(latest.value),
                latest.first,
                latest.offset,
                shown(laid.value),
                laid.last,
                laid.offset,
            );
            return Some(Violation::new(Kind::Disorder, what));
        }
        if latest.as_ref().is_none_or(|latest| laid.first > latest.first) {
            latest = Some(laid);
        }
    }
    None
}
