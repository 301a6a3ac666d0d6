//! Owns which dead letters of a partition are dealt with: all before an offset, and ranges beyond it.
//! Must never forget one that was dealt with, else it would be replayed twice; the text of it is what Kafka keeps as the
//! committed offset's metadata.

use std::collections::BTreeMap;

/// The longest text, in bytes: Kafka's `offset.metadata.max.bytes`, 4096 by default, less some room.
pub const TEXT_BYTES_MAX: usize = 4000;

/// Which offsets of a partition are dealt with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Handled {
    /// All before this one are.
    first_open: i64,
    /// Those beyond it that are: from each key up to its value, which is not. They neither touch nor overlap.
    ranges: BTreeMap<i64, i64>,
}

impl Handled {
    /// Nothing from that offset on is dealt with.
    #[must_use]
    pub fn before(offset: i64) -> Self {
        Self { first_open: offset, ranges: BTreeMap::new() }
    }

    /// Reads a committed offset and the text beside it; a text that is none of ours counts as empty.
    #[must_use]
    pub fn read(first_open: i64, text: &str) -> Self {
        let first_open = first_open.max(0);
        let mut handled = Self::before(first_open);
        for range in text.split(',') {
            let Some((gap, length)) = range.split_once('+') else { continue };
            let (Ok(gap), Ok(length)) = (gap.parse::<i64>(), length.parse::<i64>()) else { continue };
            if gap >= 0 && length > 0 {
                let from = first_open.saturating_add(gap);
                handled.add(from, from.saturating_add(length));
            }
        }
        handled
    }

    /// Writes what stands beside the offset; `None` where it is longer than `TEXT_BYTES_MAX`.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        let mut text = String::new();
        for (from, to) in &self.ranges {
            if !text.is_empty() {
                text.push(',');
            }
            text.push_str(&format!("{}+{}", from - self.first_open, to - from));
        }
        (text.len() <= TEXT_BYTES_MAX).then_some(text)
    }

    /// Returns the first offset that is not dealt with.
    #[must_use]
    pub const fn first_open(&self) -> i64 {
        self.first_open
    }

    /// Tells whether an offset is dealt with.
    #[must_use]
    pub fn has(&self, offset: i64) -> bool {
        let before = self.ranges.range(..=offset).next_back();
        offset < self.first_open || before.is_some_and(|(_, to)| offset < *to)
    }

    /// Adds the offsets from one up to another, which is not added.
    pub fn add(&mut self, from: i64, to: i64) {
        let (mut from, mut to) = (from.max(self.first_open), to);
        if from >= to {
            return;
        }
        // Those that it touches become part of it.
        let touched: Vec<_> = self
            .ranges
            .range(..=to)
            .filter(|(_, end)| **end >= from)
            .map(|(start, end)| (*start, *end))
            .collect();
        for (start, end) in touched {
            self.ranges.remove(&start);
            (from, to) = (from.min(start), to.max(end));
        }
        if from <= self.first_open {
            self.first_open = to;
        } else {
            self.ranges.insert(from, to);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_grow_together_and_move_the_first_open_one() {
        let mut handled = Handled::before(10);
        handled.add(12, 14);
        handled.add(20, 21);
        handled.add(14, 15);
        assert_eq!((handled.first_open(), handled.text().unwrap().as_str()), (10, "2+3,10+1"));
        assert!(handled.has(9) && !handled.has(10) && handled.has(14) && !handled.has(15) && handled.has(20));
        handled.add(5, 12);
        assert_eq!((handled.first_open(), handled.text().unwrap().as_str()), (15, "5+1"));
        handled.add(0, 3);
        assert_eq!(Handled::read(15, "5+1"), handled);
        assert_eq!(Handled::read(3, "by another program, 4+x,-1+2"), Handled::before(3));
        assert_eq!(Handled::read(-7, ""), Handled::before(0));
    }

    #[test]
    fn what_is_too_long_is_said() {
        let mut handled = Handled::before(0);
        for offset in 1..2_000 {
            handled.add(2 * offset, 2 * offset + 1);
        }
        assert_eq!(handled.text(), None);
    }

    proptest! {
        #[test]
        fn it_is_a_set(ranges in prop::collection::vec((0_i64..60, 1_i64..9), 0..20)) {
            let mut handled = Handled::before(5);
            let mut model: std::collections::BTreeSet<i64> = (0..5).collect();
            for (from, length) in ranges {
                handled.add(from, from + length);
                model.extend(from..from + length);
            }
            let read = Handled::read(handled.first_open(), &handled.text().unwrap());
            for offset in 0..80 {
                prop_assert_eq!(handled.has(offset), model.contains(&offset));
                prop_assert_eq!(read.has(offset), model.contains(&offset));
            }
            prop_assert!(!handled.has(handled.first_open()));
        }
    }
}
