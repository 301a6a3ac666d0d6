//! Owns what one transaction of a replay carries, and who goes again with whom where Kafka refused one; pure.
//! Must never change the letters' order, nor send one again together with all that failed with it.

use std::ops::Range;

use crate::{dead_letter::Handled, kafka::lane::Culprit, record::Record};

/// What bounds a transaction, in letters and in bytes of them.
const LETTERS_MAX: usize = 500;
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// A letter that is about to be dealt with.
#[derive(Debug)]
pub(super) struct Entry {
    /// Where it lies.
    pub offset: i64,
    /// That offset, and those before it that hold no record.
    pub offsets: Range<i64>,
    /// What is sent, and to which partition; none where nothing is.
    pub outgoing: Option<(Record, i32)>,
}

/// Letters that are dealt with together, in the order of their topic.
#[derive(Debug, Default)]
pub(super) struct Batch {
    entries: Vec<Entry>,
    bytes: usize,
}

/// What follows from a transaction that Kafka refused.
#[derive(Debug)]
pub(super) struct Sorted {
    /// The letter that it was refused for, where it is known.
    pub refused: Option<Entry>,
    /// The others, each group in a transaction of its own, in their order.
    pub again: Vec<Vec<Entry>>,
}

impl Batch {
    /// Takes a letter in, of so many bytes.
    pub fn add(&mut self, entry: Entry, bytes: usize) {
        self.entries.push(entry);
        self.bytes += bytes;
    }

    /// Returns whether it should go before another letter comes.
    pub fn is_full(&self) -> bool {
        self.entries.len() >= LETTERS_MAX || self.bytes >= BYTES_MAX
    }

    /// Takes all out.
    pub fn take(&mut self) -> Vec<Entry> {
        std::mem::take(self).entries
    }
}

/// Returns what is dealt with once these letters are too.
pub(super) fn with(handled: &Handled, entries: &[Entry]) -> Handled {
    let mut handled = handled.clone();
    for Entry { offsets, .. } in entries {
        handled.add(offsets.start, offsets.end);
    }
    handled
}

/// Says who goes again: all but the culprit, or in smaller groups where it is not known for sure.
///
/// A request that is too large in sum looks like one with a record that is too large: so the suspect goes alone, and no group
/// is larger than half of what failed.
pub(super) fn sort_out(mut entries: Vec<Entry>, culprit: Culprit) -> Sorted {
    let count = entries.len();
    let is_there = |place: &usize| *place < count;
    let named = match culprit {
        Culprit::Record(place) => Some(place).filter(is_there),
        Culprit::Offsets(_) | Culprit::Nobody | Culprit::Suspect(_) => (count == 1).then_some(0),
    };
    if let Some(place) = named {
        let refused = entries.remove(place);
        return Sorted { refused: Some(refused), again: in_groups(entries, count) };
    }
    let suspect = match culprit {
        Culprit::Suspect(place) => Some(place).filter(is_there),
        Culprit::Offsets(_) | Culprit::Nobody | Culprit::Record(_) => None,
    };
    let mut again = Vec::new();
    if let Some(place) = suspect {
        let mut from_suspect = entries.split_off(place);
        let behind = from_suspect.split_off(1);
        again.extend(in_groups(entries, count / 2));
        again.push(from_suspect);
        again.extend(in_groups(behind, count / 2));
    } else {
        again.extend(in_groups(entries, count / 2));
    }
    Sorted { refused: None, again }
}

/// Cuts letters into groups of at most so many.
fn in_groups(mut entries: Vec<Entry>, most: usize) -> Vec<Vec<Entry>> {
    let mut groups = Vec::new();
    while !entries.is_empty() {
        let behind = entries.split_off(entries.len().min(most.max(1)));
        groups.push(std::mem::replace(&mut entries, behind));
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letters(offsets: Range<i64>) -> Vec<Entry> {
        offsets.map(|offset| Entry { offset, offsets: offset..offset + 1, outgoing: None }).collect()
    }

    fn told(entries: Vec<Entry>, culprit: Culprit) -> (Option<i64>, Vec<Vec<i64>>) {
        let Sorted { refused, again } = sort_out(entries, culprit);
        let offsets = |group: &Vec<Entry>| group.iter().map(|entry| entry.offset).collect();
        (refused.map(|entry| entry.offset), again.iter().map(offsets).collect())
    }

    #[test]
    fn the_culprit_is_refused_and_the_others_go_together() {
        assert_eq!(told(letters(0..4), Culprit::Record(2)), (Some(2), vec![vec![0, 1, 3]]));
        assert_eq!(told(letters(7..8), Culprit::Record(0)), (Some(7), vec![]));
        assert_eq!(told(letters(7..8), Culprit::Nobody), (Some(7), vec![]), "there is no other");
        assert_eq!(told(letters(7..8), Culprit::Suspect(0)), (Some(7), vec![]));
    }

    #[test]
    fn a_suspect_goes_alone_and_the_others_in_halves_at_most() {
        let all = |groups: &[&[i64]]| (None, groups.iter().map(|group| group.to_vec()).collect());
        assert_eq!(told(letters(0..5), Culprit::Suspect(2)), all(&[&[0, 1], &[2], &[3, 4]]));
        assert_eq!(told(letters(0..5), Culprit::Suspect(4)), all(&[&[0, 1], &[2, 3], &[4]]));
        assert_eq!(told(letters(0..2), Culprit::Suspect(0)), all(&[&[0], &[1]]));
    }

    #[test]
    fn where_nobody_is_named_halves_go_again() {
        let all = |groups: &[&[i64]]| (None, groups.iter().map(|group| group.to_vec()).collect());
        assert_eq!(told(letters(0..4), Culprit::Nobody), all(&[&[0, 1], &[2, 3]]));
        assert_eq!(told(letters(0..3), Culprit::Record(9)), all(&[&[0], &[1], &[2]]));
    }

    #[test]
    fn what_is_refused_is_not_dealt_with() {
        let before = Handled::before(0);
        let Sorted { again, .. } = sort_out(letters(0..4), Culprit::Record(1));
        let after = with(&before, &again[0]);
        assert!(after.has(0) && !after.has(1) && after.has(2) && after.has(3));
    }
}
