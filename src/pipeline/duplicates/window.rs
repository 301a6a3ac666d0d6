//! Owns which message ids are remembered, with what content and what end; bounded by count and age, pure.
//! Must never forget a record that is on its way: whoever brings it again would write it twice.

use std::{
    collections::{HashMap, VecDeque, hash_map},
    time::Duration,
};

use tokio::time::Instant;

use super::digest::{ByDigest, Digest};
use crate::record::Receipt;

/// How a record ended, as far as it is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End<F> {
    /// It is in Kafka.
    Written(Receipt),
    /// It may be.
    Unknown(F),
    /// It surely is not: it may be brought again.
    NotWritten,
}

/// What is known of a record that is brought.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<F> {
    /// Nothing: it is on its way from now on.
    New,
    /// One with its id and content is on its way; who waits was noted.
    Attached,
    /// One with its id and content is in Kafka.
    Written(Receipt),
    /// One with its id and content may be.
    Unknown(F),
    /// One with its id has other content.
    Reused,
}

/// The remembered ids; `W` is whoever waits for a record that another brought, `F` is a failure.
#[derive(Debug)]
pub struct Window<W, F> {
    ids_max: usize,
    age_max: Duration,
    entries: HashMap<Digest, Entry<W, F>, ByDigest>,
    /// The ids whose record has ended, in the order of their ends; an id may be here more than once, with the time of each end.
    ended: VecDeque<(Instant, Digest)>,
}

#[derive(Debug)]
struct Entry<W, F> {
    content: Digest,
    state: State<W, F>,
}

#[derive(Debug)]
enum State<W, F> {
    OnItsWay(Vec<W>),
    Ended(Instant, End<F>),
}

impl<W, F: Clone> Window<W, F> {
    /// Makes an empty window of at most so many ended ids, none older than that.
    pub fn new(ids_max: usize, age_max: Duration) -> Self {
        Self { ids_max, age_max, entries: HashMap::default(), ended: VecDeque::new() }
    }

    /// Looks a record up; where one like it is on its way, whoever waits is noted, and else handed back.
    pub fn bring(&mut self, id: Digest, content: Digest, waits: W, now: Instant) -> (Found<F>, Option<W>) {
        self.forget_old(now);
        let entry = match self.entries.entry(id) {
            hash_map::Entry::Occupied(entry) => entry.into_mut(),
            hash_map::Entry::Vacant(place) => {
                place.insert(Entry { content, state: State::OnItsWay(Vec::new()) });
                return (Found::New, Some(waits));
            }
        };
        if entry.content != content {
            return (Found::Reused, Some(waits));
        }
        match &mut entry.state {
            State::OnItsWay(others) => {
                others.push(waits);
                (Found::Attached, None)
            }
            State::Ended(_, End::Written(receipt)) => (Found::Written(receipt.clone()), Some(waits)),
            State::Ended(_, End::Unknown(failure)) => (Found::Unknown(failure.clone()), Some(waits)),
            // Such an end is not remembered.
            State::Ended(_, End::NotWritten) => (Found::New, Some(waits)),
        }
    }

    /// Returns whether others wait for the record that is on its way.
    pub fn has_company(&self, id: Digest) -> bool {
        matches!(self.entries.get(&id), Some(Entry { state: State::OnItsWay(others), .. }) if !others.is_empty())
    }

    /// Notes how the record on its way ended; returns who else waited for it.
    pub fn end(&mut self, id: Digest, end: End<F>, now: Instant) -> Vec<W> {
        let Some(entry) = self.entries.get_mut(&id) else { return Vec::new() };
        let State::OnItsWay(others) = &mut entry.state else { return Vec::new() };
        let others = std::mem::take(others);
        if matches!(end, End::NotWritten) {
            self.entries.remove(&id);
        } else {
            entry.state = State::Ended(now, end);
            self.ended.push_back((now, id));
            self.forget_old(now);
        }
        others
    }

    fn forget_old(&mut self, now: Instant) {
        while let Some((ended, id)) = self.ended.front() {
            let is_old = now.saturating_duration_since(*ended) >= self.age_max;
            if !is_old && self.ended.len() <= self.ids_max {
                return;
            }
            // One that was brought again since has a later end, or is on its way.
            if let hash_map::Entry::Occupied(entry) = self.entries.entry(*id)
                && matches!(entry.get().state, State::Ended(at, _) if at == *ended)
            {
                entry.remove();
            }
            self.ended.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Topic;

    /// The digest of a short name, for one.
    fn id(name: &str) -> Digest {
        name.bytes().fold(0, |digest, byte| digest << 8 | Digest::from(byte))
    }

    fn receipt(offset: i64) -> Receipt {
        let topic = Topic::parse("orders").unwrap();
        Receipt { topic, partition: 0, offset: Some(offset), timestamp_ms: 1, duplicate: false }
    }

    fn window() -> Window<u32, &'static str> {
        Window::new(2, Duration::from_secs(10))
    }

    const A: Digest = 1;
    const B: Digest = 2;

    #[test]
    fn who_brings_a_record_that_is_on_its_way_waits_for_its_end() {
        let (mut window, now) = (window(), Instant::now());
        assert_eq!(window.bring(id("a"), A, 1, now), (Found::New, Some(1)));
        assert!(!window.has_company(id("a")));
        assert_eq!(window.bring(id("a"), A, 2, now), (Found::Attached, None));
        assert_eq!(window.bring(id("a"), B, 3, now), (Found::Reused, Some(3)));
        assert!(window.has_company(id("a")));
        assert_eq!(window.end(id("a"), End::Written(receipt(7)), now), [2]);
        assert_eq!(window.bring(id("a"), A, 4, now), (Found::Written(receipt(7)), Some(4)));
        assert_eq!(window.bring(id("a"), B, 5, now), (Found::Reused, Some(5)));
        assert!(window.end(id("a"), End::NotWritten, now).is_empty(), "it has ended");
    }

    #[test]
    fn what_is_not_written_may_be_brought_again_and_what_may_be_may_not() {
        let (mut window, now) = (window(), Instant::now());
        window.bring(id("a"), A, 1, now);
        assert!(window.end(id("a"), End::NotWritten, now).is_empty());
        // With other content too: nothing of it is anywhere.
        assert_eq!(window.bring(id("a"), B, 2, now), (Found::New, Some(2)));
        window.end(id("a"), End::Unknown("maybe"), now);
        assert_eq!(window.bring(id("a"), B, 3, now), (Found::Unknown("maybe"), Some(3)));
    }

    #[test]
    fn ends_are_forgotten_by_age_and_count_and_what_is_on_its_way_never() {
        let (mut window, now) = (window(), Instant::now());
        window.bring(id("slow"), A, 1, now);
        for (name, seconds) in [("a", 0), ("b", 1), ("c", 2)] {
            let at = now + Duration::from_secs(seconds);
            window.bring(id(name), A, 2, at);
            window.end(id(name), End::Written(receipt(1)), at);
        }
        let at = now + Duration::from_secs(3);
        assert_eq!(window.bring(id("a"), B, 3, at).0, Found::New, "three are one too many");
        assert_eq!(window.bring(id("b"), A, 3, at).0, Found::Written(receipt(1)));
        let at = now + Duration::from_secs(12);
        assert_eq!(window.bring(id("c"), B, 3, at).0, Found::New, "it is ten seconds old");
        assert_eq!(window.bring(id("slow"), A, 3, at).0, Found::Attached);
        window.end(id("slow"), End::NotWritten, at);
        window.end(id("a"), End::NotWritten, at);
        window.end(id("c"), End::NotWritten, at);
        assert!(window.entries.is_empty() && window.ended.is_empty());
    }
}
