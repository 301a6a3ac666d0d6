//! Owns for how long the records of new topics wait for what these take; pure.
//! Must never have them wait for ever: where brokers take records and do not tell, Kafka judges.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use crate::record::Topic;

/// How often it is asked in vain: for one topic, and, where nobody answers, for all of them together.
const TRIES_MAX: u32 = 6;
/// For how long nobody waits after all waited in vain, in milliseconds.
const GIVEN_UP_MS: u64 = 30_000;

/// How often it was asked in vain. Tries count, not time: callers with short deadlines take turns, and nobody asks meanwhile.
#[derive(Debug)]
pub(super) struct Patience {
    tries: HashMap<Topic, u32>,
    topics_max: usize,
    /// How often in turn nobody answered.
    silences: u32,
    given_up: Option<Instant>,
}

impl Patience {
    /// Begins, with the most topics that are counted by themselves.
    pub(super) fn new(topics_max: usize) -> Self {
        Self { tries: HashMap::new(), topics_max, silences: 0, given_up: None }
    }

    /// Begins anew, because what was in vain had a cause that has passed.
    pub(super) fn renew(&mut self) {
        *self = Self::new(self.topics_max);
    }

    /// Returns whether a new topic's records wait at all.
    pub(super) fn is_left(&self, now: Instant) -> bool {
        let bound = Duration::from_millis(GIVEN_UP_MS);
        self.given_up.is_none_or(|since| now.saturating_duration_since(since) >= bound)
    }

    /// Takes in that a topic's rules were told.
    pub(super) fn told(&mut self, topic: &Topic) {
        self.tries.remove(topic);
        self.silences = 0;
        self.given_up = None;
    }

    /// Takes in that they were not, and whether nobody answered at all; returns whether the topic's records wait on.
    pub(super) fn untold(&mut self, topic: &Topic, is_silence: bool, now: Instant) -> bool {
        self.silences += u32::from(is_silence);
        if self.silences >= TRIES_MAX {
            self.renew();
            self.given_up = Some(now);
            return false;
        }
        if self.tries.len() >= self.topics_max && !self.tries.contains_key(topic) {
            self.tries.clear();
        }
        let tries = self.tries.entry(topic.clone()).or_default();
        *tries += 1;
        if *tries < TRIES_MAX {
            return true;
        }
        self.tries.remove(topic);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(number: usize) -> Topic {
        Topic::parse(&format!("orders-{number}")).unwrap()
    }

    #[test]
    fn silence_is_counted_for_all_topics_together_and_given_up_for_a_while() {
        let (mut patience, now) = (Patience::new(100), Instant::now());
        let waits: Vec<_> = (0..6).map(|number| patience.untold(&topic(number), true, now)).collect();
        assert_eq!(waits, [true, true, true, true, true, false]);
        let later = |ms| now + Duration::from_millis(ms);
        assert_eq!(
            [0, GIVEN_UP_MS - 1, GIVEN_UP_MS].map(|ms| patience.is_left(later(ms))),
            [false, false, true]
        );
        patience.told(&topic(7));
        assert!(patience.is_left(now), "somebody answers again");
        assert!(patience.untold(&topic(0), true, now), "it is counted anew");
    }

    #[test]
    fn a_topic_of_which_something_else_is_answered_is_given_up_alone() {
        let (mut patience, now) = (Patience::new(100), Instant::now());
        let waits: Vec<_> = (0..6).map(|_| patience.untold(&topic(0), false, now)).collect();
        assert_eq!(waits, [true, true, true, true, true, false]);
        assert!(patience.is_left(now) && patience.untold(&topic(1), false, now));
    }

    #[test]
    fn an_answer_or_an_outage_has_it_counted_anew() {
        let (mut patience, now) = (Patience::new(100), Instant::now());
        for round in 0..10 {
            for _ in 0..5 {
                assert!(patience.untold(&topic(0), true, now));
            }
            if round % 2 == 0 { patience.told(&topic(0)) } else { patience.renew() }
        }
    }

    #[test]
    fn where_one_topic_is_kept_it_does_not_wait_for_ever() {
        let (mut patience, now) = (Patience::new(1), Instant::now());
        let waits: Vec<_> = (0..6).map(|_| patience.untold(&topic(0), false, now)).collect();
        assert_eq!(waits, [true, true, true, true, true, false]);
    }

    #[test]
    fn no_more_topics_are_counted_than_are_kept() {
        let (mut patience, now) = (Patience::new(10), Instant::now());
        for number in 0..100 {
            patience.untold(&topic(number), false, now);
            assert!(patience.tries.len() <= 10);
        }
    }
}
