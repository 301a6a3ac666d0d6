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

/// Brings a record; returns what was found too, and whether whoever waits was left.
fn bring(
    window: &mut Window<u32, &'static str>,
    id: Digest,
    content: ContentDigest,
) -> (Found<&'static str>, bool) {
    let mut waits = Some(2);
    let found = window.bring(id, content, &mut waits, |_| true);
    (found, waits.is_some())
}

/// Brings a record that is new; returns its key.
fn bring_new(window: &mut Window<u32, &'static str>, id: Digest, content: ContentDigest) -> Key {
    match bring(window, id, content) {
        (Found::New(key), true) => key,
        other => panic!("it is new: {other:?}"),
    }
}

#[test]
fn who_brings_a_record_that_is_on_its_way_waits_for_its_end() {
    let mut window = window();
    let key = bring_new(&mut window, id("a"), A);
    assert!(!window.has_company(key, |_| true));
    assert_eq!(bring(&mut window, id("a"), A), (Found::Attached, false));
    assert_eq!(bring(&mut window, id("a"), B), (Found::Reused, true));
    assert!(window.has_company(key, |_| true));
    assert_eq!(window.end(key, End::Written(written(7))), [2]);
    assert_eq!(bring(&mut window, id("a"), A), (Found::Written(written(7)), true));
    assert_eq!(bring(&mut window, id("a"), B), (Found::Reused, true));
    assert!(window.end(key, End::NotWritten).is_empty(), "it has ended");
}

#[test]
fn who_is_not_awaited_any_more_is_no_company_and_takes_no_room() {
    let mut window = window();
    let key = bring_new(&mut window, id("a"), A);
    for number in 0..1_000 {
        // Of a hundred one waits on.
        let found = window.bring(id("a"), A, &mut Some(number), |number| number.is_multiple_of(100));
        assert_eq!(found, Found::Attached);
    }
    assert!(!window.has_company(key, |_| false) && window.has_company(key, |number| *number == 900));
    let others = window.end(key, End::NotWritten);
    assert!(
        others.len() < 40 && (0..1_000).step_by(100).all(|number| others.contains(&number)),
        "{others:?}"
    );
}

#[test]
fn what_is_not_written_may_be_brought_again_and_what_may_be_may_not() {
    let mut window = window();
    let key = bring_new(&mut window, id("a"), A);
    assert!(window.end(key, End::NotWritten).is_empty());
    // With other content too: nothing of it is anywhere.
    let key = bring_new(&mut window, id("a"), B);
    window.end(key, End::Unknown("maybe"));
    assert_eq!(bring(&mut window, id("a"), B), (Found::Unknown("maybe"), true));
}

#[test]
fn ends_are_forgotten_by_age_and_count_and_what_is_on_its_way_never() {
    let (mut window, now) = (window(), Instant::now());
    let slow = bring_new(&mut window, id("slow"), A);
    for (name, seconds) in [("a", 1), ("b", 2), ("c", 3)] {
        let key = bring_new(&mut window, id(name), A);
        window.end(key, End::Written(written(1)));
        window.age(now + Duration::from_secs(seconds));
    }
    // Three are one too many.
    let first = bring_new(&mut window, id("a"), B);
    assert_eq!(bring(&mut window, id("b"), A).0, Found::Written(written(1)));
    window.age(now + Duration::from_millis(12_999));
    assert_eq!(bring(&mut window, id("c"), A).0, Found::Written(written(1)));
    // It is ten seconds old.
    window.age(now + Duration::from_secs(13));
    let third = bring_new(&mut window, id("c"), B);
    assert_eq!(bring(&mut window, id("slow"), A).0, Found::Attached);
    for key in [slow, first, third] {
        window.end(key, End::NotWritten);
    }
    assert_eq!((window.on_their_way, window.index.len()), (0, 0));
}

#[test]
fn the_places_are_few_whatever_ends_how() {
    const IDS_MAX: usize = 100;
    const ON_THEIR_WAY: usize = 50;
    const SLOW: usize = 20;
    let mut window: Window<u32, &'static str> = Window::new(IDS_MAX, Duration::from_secs(10));
    let (mut waiting, mut slow) = (VecDeque::new(), VecDeque::new());
    for number in 0..10_000_u32 {
        let key = bring_new(&mut window, Digest::from(number), A);
        // One in a hundred is overtaken by two thousand; nine of ten are not written, for a while.
        let is_slow = number.is_multiple_of(100);
        if is_slow { &mut slow } else { &mut waiting }.push_back((number, key));
        let due = [(&mut waiting, ON_THEIR_WAY), (&mut slow, SLOW)];
        for (queue, _) in due.into_iter().filter(|(queue, most)| queue.len() > *most) {
            let Some((number, key)) = queue.pop_front() else { continue };
            let is_written = number > 5_000 || number.is_multiple_of(10);
            let end = if is_written { End::Written(written(i64::from(number))) } else { End::NotWritten };
            window.end(key, end);
        }
        assert_eq!(window.on_their_way, waiting.len() + slow.len());
    }
    let needed = ON_THEIR_WAY + SLOW + 1 + IDS_MAX;
    assert!(window.places.len() <= needed + needed / 4 + SPARE, "{} places", window.places.len());
    assert_eq!(bring(&mut window, Digest::from(9_940_u32), A).0, Found::Written(written(9_940)));
    assert_eq!(size_of::<Place<u32, crate::failure::Failure>>(), 64, "a line of the cache");
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
    /// With the time that was told first after the end.
    ended: Vec<(Digest, ContentDigest, Option<Instant>, End<&'static str>)>,
}

impl Plain {
    fn age(&mut self, now: Instant) {
        self.ended.retain_mut(|(.., at, _)| now - *at.get_or_insert(now) < Duration::from_secs(10));
    }

    fn bring(&mut self, id: Digest, content: ContentDigest, waits: u32) -> Found<&'static str> {
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

    fn end(&mut self, id: Digest, end: &End<&'static str>) -> Vec<u32> {
        let Some(place) = self.on_their_way.iter().position(|one| one.0 == id) else { return Vec::new() };
        let (_, content, others) = self.on_their_way.remove(place);
        if *end != End::NotWritten {
            self.ended.push((id, content, None, end.clone()));
            self.ended.drain(..self.ended.len().saturating_sub(2));
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
        window.ends = if near_the_end { u32::MAX - 3 } else { 0 };
        window.old = window.ends;
        let mut keys = HashMap::new();
        for (step, (name, happens, seconds)) in (0..).zip(story) {
            if seconds > 0 {
                now += Duration::from_secs(seconds);
                window.age(now);
                plain.age(now);
            }
            // Some share their hash.
            let id = Digest::from(name / 2) | Digest::from(name) << 100;
            let end = match happens {
                Happens::Brought(content) => {
                    let mut waits = Some(step);
                    let mut found = window.bring(id, content, &mut waits, |_| true);
                    prop_assert_eq!(waits.is_none(), found == Found::Attached);
                    if let Found::New(key) = &mut found {
                        keys.insert(id, std::mem::replace(key, Key(0)));
                    }
                    prop_assert_eq!(found, plain.bring(id, content, step));
                    continue;
                }
                Happens::Written => End::Written(written(i64::from(step))),
                Happens::Unknown => End::Unknown("maybe"),
                Happens::NotWritten => End::NotWritten,
            };
            let Some(key) = keys.remove(&id) else { continue };
            let has_company = window.has_company(key, |_| true);
            let others = window.end(key, end.clone());
            prop_assert_eq!(has_company, !others.is_empty());
            prop_assert_eq!(others, plain.end(id, &end));
            let taken = window.places.iter().filter(|place| !matches!(place.state, State::Free)).count();
            prop_assert_eq!(window.index.len(), taken);
            prop_assert_eq!(window.on_their_way, plain.on_their_way.len());
        }
    }
}
