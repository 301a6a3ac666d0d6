//! Owns how often failures alike are logged: the first at once, then one line a period that says how many there were.
//! Must stay pure: the caller brings the time.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// The most kinds that are told apart; those beyond share one line.
const KINDS_MAX: usize = 256;

/// What was logged lately, by kind.
#[derive(Debug)]
pub struct Repeats<K> {
    period: Duration,
    kinds: HashMap<Option<K>, Told>,
}

#[derive(Debug, Clone, Copy)]
struct Told {
    at: Instant,
    /// How many came since, and were not told.
    untold: u64,
}

impl<K: std::hash::Hash + Eq + Clone> Repeats<K> {
    /// Tells each kind at most once a period; a period of zero tells all.
    #[must_use]
    pub fn new(period: Duration) -> Self {
        Self { period, kinds: HashMap::new() }
    }

    /// Takes one more; returns how many of its kind were not told before it, where it is to be told itself.
    pub fn one(&mut self, kind: K, now: Instant) -> Option<u64> {
        if self.period.is_zero() {
            return Some(0);
        }
        let kind = Some(kind);
        let kind = if self.kinds.len() < KINDS_MAX || self.kinds.contains_key(&kind) { kind } else { None };
        match self.kinds.get_mut(&kind) {
            Some(told) if now.saturating_duration_since(told.at) < self.period => {
                told.untold += 1;
                None
            }
            Some(told) => {
                let untold = told.untold;
                *told = Told { at: now, untold: 0 };
                Some(untold)
            }
            None => {
                self.kinds.insert(kind, Told { at: now, untold: 0 });
                Some(0)
            }
        }
    }

    /// Returns all kinds with what was not told of them, and forgets them.
    pub fn all(&mut self) -> Vec<(Option<K>, u64)> {
        let all = self.kinds.drain().filter(|(_, told)| told.untold > 0);
        all.map(|(kind, told)| (kind, told.untold)).collect()
    }

    /// Returns the kinds whose period is over with what was not told of them, and forgets those; `None` stands for those beyond
    /// the most.
    pub fn over(&mut self, now: Instant) -> Vec<(Option<K>, u64)> {
        let period = self.period;
        let is_over = |told: &Told| now.saturating_duration_since(told.at) >= period;
        let over = self.kinds.extract_if(|_, told| is_over(told));
        over.filter(|(_, told)| told.untold > 0).map(|(kind, told)| (kind, told.untold)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_secs(10);

    #[test]
    fn the_first_is_told_and_the_others_counted() {
        let (mut repeats, begin) = (Repeats::new(PERIOD), Instant::now());
        assert_eq!(repeats.one("a", begin), Some(0));
        assert_eq!(repeats.one("b", begin), Some(0));
        for _ in 0..3 {
            assert_eq!(repeats.one("a", begin + PERIOD / 2), None);
        }
        assert_eq!(repeats.one("a", begin + PERIOD), Some(3));
        assert_eq!(repeats.one("a", begin + PERIOD), None);
        assert_eq!(repeats.over(begin + PERIOD), []);
        assert_eq!(repeats.over(begin + 2 * PERIOD), [(Some("a"), 1)]);
        assert_eq!(repeats.over(begin + 3 * PERIOD), []);
        assert_eq!(repeats.one("b", begin + 3 * PERIOD), Some(0));
        assert_eq!(repeats.one("b", begin + 3 * PERIOD), None);
        assert_eq!((repeats.all(), repeats.all()), (vec![(Some("b"), 1)], vec![]));
        assert_eq!(repeats.one("a", begin + 3 * PERIOD), Some(0));
    }

    #[test]
    fn a_period_of_zero_tells_all() {
        let (mut repeats, now) = (Repeats::new(Duration::ZERO), Instant::now());
        assert!((0..3).all(|_| repeats.one("a", now) == Some(0)));
        assert_eq!(repeats.over(now), []);
    }

    #[test]
    fn kinds_beyond_the_most_share_one_line() {
        let (mut repeats, now) = (Repeats::new(PERIOD), Instant::now());
        for kind in 0..KINDS_MAX {
            assert_eq!(repeats.one(kind, now), Some(0));
        }
        assert_eq!(repeats.one(KINDS_MAX, now), Some(0));
        assert_eq!(repeats.one(KINDS_MAX + 1, now), None);
        assert_eq!(repeats.over(now + PERIOD), [(None, 1)]);
    }
}
