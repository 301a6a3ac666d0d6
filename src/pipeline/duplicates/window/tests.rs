use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

/// The digest of a short name, for one.
fn id(name: &str) -> Digest {
    name.bytes().fold(0, |digest, byte| digest << 8 | Digest::from(byte))
}

fn written(offset: i64) -> Written {
    Written { partition: 0, offset: Some(offset), timestamp_ms: 1 }
}

fn window() -> Window<u32, &'static str> {
    Window::new(2, Duration::from_secs(10))
}

const A: ContentDigest = 1;
const B: ContentDigest = 2;

/// Brings a record that is new; returns its key.
fn bring_new(
    window: &mut Window<u32, &'static str>,
    id: Digest,
    content: ContentDigest,
    now: Instant,
) -> Key {
    match window.bring(id, content, 1, now) {
        (Found::New(key), Some(1)) => key,
        other => panic!("it is new: {other:?}"),
    }
}

#[test]
fn who_brings_a_record_that_is_on_its_way_waits_for_its_end() {
    let (mut window, now) = (window(), Instant::now());
    let key = bring_new(&mut window, id("a"), A, now);
    assert!(!window.has_company(key));
    assert_eq!(window.bring(id("a"), A, 2, now), (Found::Attached, None));
    assert_eq!(window.bring(id("a"), B, 3, now), (Found::Reused, Some(3)));
    assert!(window.has_company(key));
    assert_eq!(window.end(key, End::Written(written(7)), now), [2]);
    assert_eq!(window.bring(id("a"), A, 4, now), (Found::Written(written(7)), Some(4)));
    assert_eq!(window.bring(id("a"), B, 5, now), (Found::Reused, Some(5)));
    assert!(window.end(key, End::NotWritten, now).is_empty(), "it has ended");
}

#[test]
fn what_is_not_written_may_be_brought_again_and_what_may_be_may_not() {
    let (mut window, now) = (window(), Instant::now());
    let key = bring_new(&mut window, id("a"), A, now);
    assert!(window.end(key, End::NotWritten, now).is_empty());
    // With other content too: nothing of it is anywhere.
    let key = bring_new(&mut window, id("a"), B, now);
    window.end(key, End::Unknown("maybe"), now);
    assert_eq!(window.bring(id("a"), B, 3, now), (Found::Unknown("maybe"), Some(3)));
}

#[test]
fn ends_are_forgotten_by_age_and_count_and_what_is_on_its_way_never() {
    let (mut window, now) = (window(), Instant::now());
    let slow = bring_new(&mut window, id("slow"), A, now);
    for (name, seconds) in [("a", 0), ("b", 1), ("c", 2)] {
        let at = now + Duration::from_secs(seconds);
        let key = bring_new(&mut window, id(name), A, at);
        window.end(key, End::Written(written(1)), at);
    }
    let at = now + Duration::from_secs(3);
    // Three are one too many.
    let first = bring_new(&mut window, id("a"), B, at);
    assert_eq!(window.bring(id("b"), A, 3, at).0, Found::Written(written(1)));
    let at = now + Duration::from_secs(12);
    // It is ten seconds old.
    let third = bring_new(&mut window, id("c"), B, at);
    assert_eq!(window.bring(id("slow"), A, 3, at).0, Found::Attached);
    for key in [slow, first, third] {
        window.end(key, End::NotWritten, at);
    }
    let left = (window.records.on_their_way.len(), window.records.ended.len(), window.index.len());
    assert_eq!(left, (0, 0, 0));
}

/// What happens to one of a few ids.
#[derive(Debug, Clone, Copy)]
enum Happens {
    Brought(ContentDigest),
    Written,
    Unknown,
    NotWritten,
}

/// The window as it would be written without a thought of speed: all ids in one list, the last one behind.
#[derive(Default)]
struct Plain {
    on_their_way: Vec<(Digest, ContentDigest, Vec<u32>)>,
    ended: Vec<(Digest, ContentDigest, Instant, End<&'static str>)>,
}

impl Plain {
    fn forget_old(&mut self, now: Instant) {
        self.ended.retain(|(.., at, _)| now - *at < Duration::from_secs(10));
        self.ended.drain(..self.ended.len().saturating_sub(2));
    }

    fn bring(&mut self, id: Digest, content: ContentDigest, waits: u32, now: Instant) -> Found<&'static str> {
        self.forget_old(now);
        if let Some((_, before, _, end)) = self.ended.iter().find(|ended| ended.0 == id) {
            return match end {
                _ if *before != content => Found::Reused,
                End::Written(written) => Found::Written(*written),
                End::Unknown(failure) => Found::Unknown(failure),
                End::NotWritten => Found::New(Key(0)),
            };
        }
        match self.on_their_way.iter_mut().find(|one| one.0 == id) {
            Some((_, before, _)) if *before != content => Found::Reused,
            Some((.., others)) => {
                others.push(waits);
                Found::Attached
            }
            None => {
                self.on_their_way.push((id, content, Vec::new()));
                Found::New(Key(0))
            }
        }
    }

    fn end(&mut self, id: Digest, end: &End<&'static str>, now: Instant) -> Vec<u32> {
        let Some(place) = self.on_their_way.iter().position(|one| one.0 == id) else { return Vec::new() };
        let (_, content, others) = self.on_their_way.remove(place);
        if *end != End::NotWritten {
            self.ended.push((id, content, now, end.clone()));
            self.forget_old(now);
        }
        others
    }
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        3 => (A..=B).prop_map(Happens::Brought),
        2 => Just(Happens::Written),
        1 => Just(Happens::Unknown),
        1 => Just(Happens::NotWritten),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_it_is_as_if_all_were_in_one_list(
        story in prop::collection::vec((0..6_u8, happens(), 0..4_u64), 0..200),
        near_the_end in any::<bool>(),
    ) {
        let (mut window, mut plain, mut now) = (window(), Plain::default(), Instant::now());
        window.records.first = if near_the_end { NUMBER_MASK - 3 } else { 0 };
        let mut keys = HashMap::new();
        for (step, (name, happens, seconds)) in (0..).zip(story) {
            now += Duration::from_secs(seconds);
            // Some share their hash.
            let id = Digest::from(name / 2) | Digest::from(name) << 100;
            let end = match happens {
                Happens::Brought(content) => {
                    let (mut found, waits) = window.bring(id, content, step, now);
                    prop_assert_eq!(waits.is_none(), found == Found::Attached);
                    if let Found::New(key) = &mut found {
                        keys.insert(id, std::mem::replace(key, Key(0)));
                    }
                    prop_assert_eq!(found, plain.bring(id, content, step, now));
                    continue;
                }
                Happens::Written => End::Written(written(i64::from(step))),
                Happens::Unknown => End::Unknown("maybe"),
                Happens::NotWritten => End::NotWritten,
            };
            let Some(key) = keys.remove(&id) else { continue };
            let has_company = window.has_company(key);
            let others = window.end(key, end.clone(), now);
            prop_assert_eq!(has_company, !others.is_empty());
            prop_assert_eq!(others, plain.end(id, &end, now));
            let records = &window.records;
            prop_assert_eq!(window.index.len(), records.ended.len() + records.on_their_way.len());
        }
    }
}
