use proptest::prelude::*;

use super::*;

const BOUNDS: RunBounds = RunBounds { records_max: 4, bytes_max: 1_000, join_max: Duration::from_millis(1) };

/// Hands over what may go at that moment; returns the places.
fn go(line: &mut Line<&'static str>, now: Instant) -> Vec<Place> {
    std::iter::from_fn(|| line.start_next(now, &BOUNDS, 1).map(|(place, _)| place)).collect()
}

fn line_of(items: &[&'static str]) -> Line<&'static str> {
    let mut line = Line::default();
    for item in items {
        line.push(*item, 10);
    }
    line
}

#[test]
fn a_run_takes_what_comes_for_a_moment_and_the_next_begins_when_all_its_outcomes_are_known() {
    let now = Instant::now();
    let mut line = line_of(&["a"]);
    assert_eq!(go(&mut line, now), [0]);
    line.push("b", 10);
    assert_eq!(go(&mut line, now + Duration::from_micros(999)), [1]);
    line.push("c", 10);
    let late = now + Duration::from_millis(1);
    assert!(go(&mut line, late).is_empty());
    assert_eq!(line.end(1), Some("b"));
    assert!(go(&mut line, late).is_empty());
    assert_eq!(line.end(0), Some("a"));
    assert!(line.is_idle());
    assert_eq!(go(&mut line, late), [2]);
    assert_eq!((line.end(2), line.end(2)), (Some("c"), None));
    assert!(!line.is_waiting() && line.slots.is_empty());
}

#[test]
fn a_run_is_bounded_in_records_and_bytes_and_a_larger_record_goes_alone() {
    let now = Instant::now();
    let mut line = line_of(&["a", "b", "c", "d", "e"]);
    assert_eq!(go(&mut line, now), [0, 1, 2, 3]);
    for place in 0..4 {
        line.end(place);
    }
    line.push("large", 5_000);
    line.push("small", 10);
    assert_eq!(go(&mut line, now), [4]);
    line.end(4);
    assert_eq!(go(&mut line, now), [5]);
    line.end(5);
    assert_eq!(go(&mut line, now), [6]);
}

#[test]
fn what_waits_can_be_taken_out_and_what_is_in_flight_cannot() {
    let now = Instant::now();
    let mut line = line_of(&["a"]);
    go(&mut line, now);
    let later = now + Duration::from_secs(1);
    for item in ["b", "c", "d"] {
        line.push(item, 10);
    }
    assert_eq!(line.withdraw(0), None);
    assert_eq!((line.withdraw(2), line.withdraw(2)), (Some("c"), None));
    assert_eq!(line.end(2), None);
    line.end(0);
    assert_eq!(go(&mut line, later), [1, 3]);
    line.push("e", 10);
    assert_eq!(line.take_waiting(), ["e"]);
    assert!(!line.is_waiting() && !line.is_idle());
}

/// Plays a topic that refuses every request with a bad record in it; returns the runs and what was refused alone.
fn sort_out(items: &[&'static str], bad: &[&'static str]) -> (Vec<Vec<&'static str>>, Vec<&'static str>) {
    let now = Instant::now();
    let mut line = line_of(items);
    let (mut runs, mut refused) = (Vec::new(), Vec::new());
    while line.is_waiting() {
        let run: Vec<Place> = go(&mut line, now);
        let named: Vec<_> = run.iter().filter_map(|place| line.in_flight(*place).copied()).collect();
        let is_refused = named.iter().any(|item| bad.contains(item));
        for place in run {
            if !is_refused || line.put_back(place).is_none() {
                refused.extend(line.end(place).filter(|_| is_refused));
            }
        }
        runs.push(named);
    }
    (runs, refused)
}

#[test]
fn a_refused_run_is_halved_until_the_culprit_is_alone_and_the_order_stays() {
    let (runs, refused) = sort_out(&["a", "b", "BAD", "d", "e"], &["BAD"]);
    assert_eq!(refused, ["BAD"]);
    let expected: [&[&str]; 5] = [&["a", "b", "BAD", "d"], &["a", "b"], &["BAD", "d"], &["BAD"], &["d"]];
    assert_eq!(runs[..5], expected);
    assert_eq!(runs.last().unwrap(), &["e"]);
    assert_eq!(sort_out(&["BAD"], &["BAD"]), (vec![vec!["BAD"]], vec!["BAD"]));
    assert_eq!(sort_out(&["BAD", "b", "WORSE"], &["BAD", "WORSE"]).1, ["BAD", "WORSE"]);
}

#[test]
fn nothing_goes_behind_a_record_that_came_back() {
    let now = Instant::now();
    let mut line = line_of(&["a", "b"]);
    go(&mut line, now);
    assert!(line.put_back(0).is_some());
    line.push("c", 10);
    assert!(go(&mut line, now).is_empty());
    assert_eq!(line.end(1), Some("b"));
    assert_eq!(go(&mut line, now), [0]);
    assert!(line.put_back(0).is_none(), "it was alone");
}

#[test]
fn places_begin_anew_without_confusion() {
    let now = Instant::now();
    let mut line = Line { next: PLACE_MASK, ..Line::default() };
    assert_eq!((line.push("a", 10), line.push("b", 10)), (PLACE_MASK, 0));
    assert_eq!(go(&mut line, now), [PLACE_MASK, 0]);
    assert_eq!((line.end(PLACE_MASK), line.end(0), line.next), (Some("a"), Some("b"), 1));
}

#[test]
fn a_long_line_gives_its_room_back() {
    let mut line = Line::default();
    for _ in 0..100_000 {
        line.push("a", 10);
    }
    line.take_waiting();
    assert!(line.slots.capacity() <= 2 * CAPACITY_KEPT);
}

#[test]
fn a_run_goes_through_one_producer_and_what_that_did_not_send_goes_through_the_next() {
    let now = Instant::now();
    let mut line = line_of(&["a", "b"]);
    assert_eq!(go(&mut line, now), [0, 1]);
    line.push("c", 10);
    assert!(line.start_next(now, &BOUNDS, 2).is_none(), "the first one has a run still");
    assert!(line.take_back(0).is_some());
    assert_eq!(line.end(1), Some("b"));
    let next = |line: &mut Line<_>| line.start_next(now, &BOUNDS, 2).map(|(place, item)| (place, *item));
    assert_eq!((next(&mut line), next(&mut line), next(&mut line)), (Some((0, "a")), Some((2, "c")), None));
}

#[test]
fn what_a_producer_has_that_is_left_behind_ends_and_the_others_go_on() {
    let now = Instant::now();
    let mut line = line_of(&["a", "b"]);
    go(&mut line, now);
    assert!(line.take_in_flight(2).is_empty(), "another one has them");
    line.push("c", 10);
    assert_eq!(line.take_in_flight(1), ["a", "b"]);
    assert!(line.is_idle() && line.is_waiting());
    assert_eq!(line.end(0), None, "a late report ends nothing twice");
    assert_eq!(line.start_next(now, &BOUNDS, 2).map(|(place, _)| place), Some(2));
}

#[test]
fn what_comes_and_goes_behind_a_run_without_an_answer_takes_no_room() {
    const KEPT_EVERY: usize = 1_000;
    let now = Instant::now();
    let mut line = Line { next: PLACE_MASK - 10, ..Line::default() };
    let first = line.push("in flight", 10);
    assert_eq!(go(&mut line, now), [first]);
    let mut kept = Vec::new();
    for number in 0..100_000_usize {
        let place = line.push("waits", 10);
        if number.is_multiple_of(KEPT_EVERY) {
            kept.push(place);
        } else {
            assert_eq!(line.withdraw(place), Some("waits"));
            assert_eq!(line.withdraw(place), None);
        }
    }
    assert!(line.slots.capacity() <= 4 * kept.len(), "{}", line.slots.capacity());
    assert!(kept.iter().all(|place| line.waiting(*place).is_some()));
    assert_eq!(line.end(first), Some("in flight"));
    // All that still waits goes, in its order.
    let mut gone = Vec::new();
    while line.is_waiting() {
        for place in go(&mut line, now) {
            gone.push(place);
            assert!(line.end(place).is_some());
        }
    }
    assert_eq!(gone, kept);
    assert!(line.slots.is_empty() && line.gone == 0);
}

proptest! {
    /// What is remembered of a place does not depend on which slots were forgotten.
    #[test]
    fn each_place_has_its_own_record_whatever_comes_and_goes(steps in prop::collection::vec((0_u8..5, 0_usize..40), 0..400)) {
        #[derive(Clone, Copy, PartialEq)]
        enum Is {
            Waiting,
            InFlight,
            Gone,
        }
        let (mut line, mut model, now) = (Line::default(), Vec::new(), Instant::now());
        for (step, which) in steps {
            // Often one of the last.
            let place = model.len().saturating_sub(1 + which);
            let at = u64::try_from(place).unwrap();
            let is = model.get(place).copied();
            match step {
                0 | 1 => {
                    prop_assert_eq!(line.push(model.len(), 10), u64::try_from(model.len()).unwrap());
                    model.push(Is::Waiting);
                }
                2 => {
                    let taken = line.withdraw(at);
                    prop_assert_eq!(taken, (is == Some(Is::Waiting)).then_some(place));
                    if taken.is_some() {
                        model[place] = Is::Gone;
                    }
                }
                3 => {
                    let ended = line.end(at);
                    prop_assert_eq!(ended, (is == Some(Is::InFlight)).then_some(place));
                    if ended.is_some() {
                        model[place] = Is::Gone;
                    }
                }
                _ if which % 2 == 0 => {
                    if let Some(item) = line.put_back(at).map(|item| *item) {
                        prop_assert!(is == Some(Is::InFlight) && item == place);
                        model[place] = Is::Waiting;
                    }
                }
                _ => {
                    let first = model.iter().position(|is| *is == Is::Waiting);
                    if let Some((at, item)) = line.start_next(now, &BOUNDS, 1).map(|(at, item)| (at, *item)) {
                        prop_assert_eq!(Some(item), first);
                        prop_assert_eq!(at, u64::try_from(item).unwrap());
                        model[item] = Is::InFlight;
                    }
                }
            }
        }
        let waiting: Vec<_> = (0..model.len()).filter(|place| model[*place] == Is::Waiting).collect();
        prop_assert_eq!(line.waiting_count(), waiting.len());
        prop_assert_eq!(line.first_waiting(), waiting.first());
        for (place, is) in model.iter().enumerate() {
            let at = u64::try_from(place).unwrap();
            prop_assert_eq!(line.waiting(at).copied(), (*is == Is::Waiting).then_some(place));
            prop_assert_eq!(line.in_flight(at).copied(), (*is == Is::InFlight).then_some(place));
        }
    }
}
