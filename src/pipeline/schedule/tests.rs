mod model;

use super::*;

const WIDE: Bounds = Bounds { units_max: 100, records_max: 1_000, bytes_max: 1_000_000 };

type Units = Schedule<&'static str, &'static str>;

/// A key of the only group and topic.
fn key(partition: i32) -> Key {
    Key { group: "g".into(), topic: Topic::parse("in").unwrap(), partition }
}

/// A unit of one record and ten bytes: for each partition what was committed and what is to be.
fn demand(claims: &[(i32, Option<i64>, i64)]) -> Demand<&'static str> {
    let claims = claims
        .iter()
        .map(|(partition, expected, next)| (key(*partition), Claim { expected: *expected, next: *next }));
    Demand { membership: "member", claims: claims.collect(), records: 1, bytes: 10 }
}

/// A unit of that size without inputs.
fn sized(records: usize, bytes: usize) -> Demand<&'static str> {
    Demand { records, bytes, ..demand(&[]) }
}

fn schedule(demands: impl IntoIterator<Item = Demand<&'static str>>) -> Units {
    let mut schedule = Units::default();
    for demand in demands {
        schedule.push(demand, "item");
    }
    schedule
}

fn numbers(units: &[Unit<&'static str, &'static str>]) -> Vec<Number> {
    units.iter().map(|unit| unit.number).collect()
}

fn start(schedule: &mut Units) -> Vec<Number> {
    numbers(&schedule.start(&WIDE))
}

/// Starts and ends one transaction after the other until none starts; returns their units.
fn play(schedule: &mut Units, bounds: &Bounds) -> Vec<Vec<Number>> {
    let transactions = std::iter::from_fn(|| {
        let started = numbers(&schedule.start(bounds));
        started.iter().for_each(|number| schedule.end(*number));
        (!started.is_empty()).then_some(started)
    });
    transactions.collect()
}

#[test]
fn who_may_start_together() {
    type Claimed = &'static [(i32, Option<i64>, i64)];
    let cases: [(&str, &[Claimed], &[Number]); 13] = [
        ("nobody waits", &[], &[]),
        ("no inputs", &[&[], &[]], &[0, 1]),
        ("other keys", &[&[(0, None, 5)], &[(1, None, 5)]], &[0, 1]),
        ("the same key, nothing expected", &[&[(0, None, 5)], &[(0, None, 9)]], &[0]),
        ("a chain", &[&[(0, None, 5)], &[(0, Some(5), 9)], &[(0, Some(9), 12)]], &[0, 1, 2]),
        ("a gap", &[&[(0, None, 5)], &[(0, Some(6), 9)]], &[0]),
        ("a step back", &[&[(0, None, 5)], &[(0, Some(4), 9)]], &[0]),
        (
            "a chain on one of two shared keys",
            &[&[(0, None, 5), (1, None, 5)], &[(0, Some(5), 9), (1, None, 9)]],
            &[0],
        ),
        (
            "chains of two units in one",
            &[&[(0, None, 5)], &[(1, None, 7)], &[(0, Some(5), 9), (1, Some(7), 8)]],
            &[0, 1, 2],
        ),
        ("a chain and a free key", &[&[(0, None, 5)], &[(0, Some(5), 9), (1, None, 1)]], &[0, 1]),
        ("a broken chain ends there", &[&[(0, None, 5)], &[(0, Some(6), 9)], &[(0, Some(5), 9)]], &[0]),
        (
            "who waits blocks its other keys",
            &[&[(0, None, 5)], &[(0, None, 9), (1, None, 9)], &[(1, None, 1)], &[(2, None, 1)]],
            &[0, 3],
        ),
        (
            "a chain behind one that waits",
            &[&[(0, None, 5)], &[(0, None, 9), (1, None, 9)], &[(1, Some(9), 10)]],
            &[0],
        ),
    ];
    for (what, units, expected) in cases {
        let mut schedule = schedule(units.iter().map(|claims| demand(claims)));
        assert_eq!(start(&mut schedule), expected, "{what}");
        assert_eq!(
            (schedule.waiting(), schedule.started()),
            (units.len() - expected.len(), expected.len()),
            "{what}"
        );
        play(&mut schedule, &WIDE);
        expected.iter().for_each(|number| schedule.end(*number));
        play(&mut schedule, &WIDE);
        assert!(schedule.units.is_empty() && schedule.keys.is_empty() && schedule.ready.is_empty(), "{what}");
    }
}

#[test]
fn a_key_is_a_group_a_topic_and_a_partition() {
    let elsewhere = [
        Key { group: "h".into(), ..key(0) },
        Key { topic: Topic::parse("other").unwrap(), ..key(0) },
        key(1),
    ];
    for other in elsewhere {
        let claims = Claims::from([(other.clone(), Claim { expected: None, next: 5 })]);
        let mut schedule = schedule([demand(&[(0, None, 5)]), Demand { claims, ..demand(&[]) }]);
        assert_eq!(start(&mut schedule), [0, 1], "{other:?}");
    }
}

#[test]
fn another_member_waits_for_the_shared_key_alone() {
    let other = |claims| Demand { membership: "other", ..demand(claims) };
    let mut schedule = schedule([demand(&[(0, None, 5)]), other(&[(0, Some(5), 9)]), other(&[(1, None, 5)])]);
    assert_eq!(play(&mut schedule, &WIDE), [vec![0, 2], vec![1]]);
}

#[test]
fn keys_are_held_until_the_last_unit_that_shares_them_ends() {
    let mut schedule = schedule([demand(&[(0, None, 5)]), demand(&[(0, Some(5), 9)])]);
    assert_eq!(start(&mut schedule), [0, 1]);
    // What is held by another transaction is out of reach, contiguous or not.
    schedule.push(demand(&[(0, Some(9), 12)]), "item");
    schedule.push(demand(&[(1, None, 1)]), "item");
    assert_eq!(start(&mut schedule), [3]);
    schedule.end(0);
    schedule.end(0);
    schedule.end(2);
    assert!(start(&mut schedule).is_empty());
    schedule.end(1);
    assert_eq!(start(&mut schedule), [2]);
}

#[test]
fn a_transaction_is_bounded_and_a_larger_unit_goes_alone() {
    type Sizes = &'static [(usize, usize)];
    let bounds = Bounds { units_max: 3, records_max: 10, bytes_max: 100 };
    let cases: [(&str, Sizes, &[&[Number]]); 6] = [
        ("units", &[(1, 1), (1, 1), (1, 1), (1, 1)], &[&[0, 1, 2], &[3]]),
        ("records", &[(5, 1), (5, 1), (1, 1)], &[&[0, 1], &[2]]),
        ("bytes", &[(1, 50), (1, 51), (1, 50)], &[&[0, 2], &[1]]),
        ("many records", &[(11, 1), (1, 1), (1, 1)], &[&[0], &[1, 2]]),
        ("a large one in the middle", &[(1, 1), (1, 101), (1, 1)], &[&[0, 2], &[1]]),
        ("the largest", &[(usize::MAX, usize::MAX), (usize::MAX, usize::MAX)], &[&[0], &[1]]),
    ];
    for (what, sizes, expected) in cases {
        let mut schedule = schedule(sizes.iter().map(|(records, bytes)| sized(*records, *bytes)));
        assert_eq!(play(&mut schedule, &bounds), expected, "{what}");
    }
    let nothing = Bounds { units_max: 0, records_max: 0, bytes_max: 0 };
    assert_eq!(play(&mut schedule([sized(1, 1), sized(1, 1)]), &nothing), [[0], [1]]);
}

#[test]
fn a_chain_is_cut_by_the_bounds_and_goes_on_in_the_next_transaction() {
    let bounds = Bounds { units_max: 2, ..WIDE };
    let links = [(None, 1), (Some(1), 2), (Some(2), 3), (Some(3), 4), (Some(4), 5)];
    let mut schedule = schedule(links.map(|(expected, next)| demand(&[(0, expected, next)])));
    assert_eq!(play(&mut schedule, &bounds), [vec![0, 1], vec![2, 3], vec![4]]);
}

#[test]
fn a_link_that_does_not_fit_is_not_skipped() {
    let large = Demand { records: 1_000, ..demand(&[(0, Some(1), 2)]) };
    let mut schedule = schedule([demand(&[(0, None, 1)]), large, demand(&[(0, Some(1), 2)]), demand(&[])]);
    assert_eq!(play(&mut schedule, &WIDE), [vec![0, 3], vec![1], vec![2]]);
}

#[test]
fn the_search_for_what_fits_is_bounded_and_the_oldest_goes_first() {
    let bounds = Bounds { bytes_max: 100, ..WIDE };
    let large = PASSED_OVER_MAX + 2;
    let mut schedule = schedule((0..large).map(|_| sized(1, 100)));
    let small = schedule.push(sized(1, 0), "item");
    // At first more large ones stand between than are passed over.
    let started: Vec<_> = (0..3).map(|_| numbers(&schedule.start(&bounds))).collect();
    assert_eq!(started, [vec![0], vec![1], vec![2, small]]);
}

#[test]
fn a_unit_of_many_keys_is_not_starved_by_those_of_one() {
    let mut schedule = schedule([demand(&[(0, None, 1)]), demand(&[(1, None, 1)])]);
    let bounds = Bounds { units_max: 1, ..WIDE };
    assert_eq!(numbers(&schedule.start(&bounds)), [0]);
    assert_eq!(numbers(&schedule.start(&bounds)), [1]);
    let both = schedule.push(demand(&[(0, None, 2), (1, None, 2)]), "item");
    // Those behind it name whichever key is free, and do not get it.
    for (ended, partition) in [(0, 0), (1, 1)] {
        assert!(numbers(&schedule.start(&bounds)).is_empty());
        schedule.push(demand(&[(partition, None, 3)]), "item");
        schedule.end(ended);
    }
    assert_eq!(numbers(&schedule.start(&bounds)), [both]);
}

#[test]
fn what_waits_can_be_withdrawn_and_what_is_started_cannot() {
    let mut schedule =
        schedule([demand(&[(0, None, 1)]), demand(&[(0, None, 2), (1, None, 2)]), demand(&[(1, None, 3)])]);
    assert_eq!(start(&mut schedule), [0]);
    assert_eq!((schedule.withdraw(0), schedule.withdraw(7)), (None, None));
    assert_eq!((schedule.withdraw(1), schedule.withdraw(1)), (Some("item"), None));
    assert_eq!((start(&mut schedule), schedule.waiting(), schedule.started()), (vec![2], 0, 2));
    schedule.end(0);
    schedule.end(2);
    assert!(schedule.keys.is_empty());
    // One that waits is not ended.
    let ready = schedule.push(demand(&[(0, None, 1)]), "item");
    schedule.end(ready);
    assert_eq!(schedule.withdraw(ready), Some("item"));
    assert!(start(&mut schedule).is_empty() && schedule.keys.is_empty());
}

#[test]
fn a_chain_that_lost_a_link_waits_for_the_end_of_the_one_before() {
    let mut schedule =
        schedule([demand(&[(0, None, 1)]), demand(&[(0, Some(1), 2)]), demand(&[(0, Some(2), 3)])]);
    schedule.withdraw(1);
    assert_eq!(play(&mut schedule, &WIDE), [[0], [2]]);
}

#[test]
fn what_was_aborted_comes_back_to_its_place_and_in_smaller_company() {
    let links = [(None, 1), (Some(1), 2), (Some(2), 3), (Some(3), 4)];
    let mut schedule = schedule(links.map(|(expected, next)| demand(&[(0, expected, next)])));
    let mut units = schedule.start(&WIDE);
    schedule.push(demand(&[(0, Some(4), 5)]), "item");
    schedule.push(demand(&[]), "item");
    assert_eq!(numbers(&units), [0, 1, 2, 3]);
    units.reverse();
    schedule.put_back(units, 2);
    assert_eq!((schedule.waiting(), schedule.started()), (6, 0));
    let units = schedule.start(&WIDE);
    assert_eq!(numbers(&units), [0, 1]);
    // The others are free of that bound, and nobody waits for them.
    assert_eq!(start(&mut schedule), [5]);
    schedule.put_back(units, 0);
    assert_eq!(play(&mut schedule, &WIDE), [vec![0], vec![1], vec![2, 3], vec![4]]);
}

#[test]
fn one_unit_of_a_transaction_fails_and_the_others_come_back() {
    let mut schedule = schedule([demand(&[(0, None, 1)]), demand(&[(1, None, 1)]), demand(&[])]);
    let mut units = schedule.start(&WIDE);
    schedule.push(demand(&[(0, None, 2), (1, None, 2)]), "item");
    schedule.end(units.remove(0).number);
    assert!(start(&mut schedule).is_empty());
    schedule.put_back(units, usize::MAX);
    assert_eq!(play(&mut schedule, &WIDE), [vec![1, 2], vec![3]]);
}

#[test]
fn offsets_merge_into_the_last_of_each_chain() {
    let mut schedule = schedule([
        demand(&[(0, None, 5), (2, Some(1), 2)]),
        demand(&[(1, Some(3), 4)]),
        demand(&[]),
        demand(&[(0, Some(5), 9)]),
    ]);
    let units = schedule.start(&WIDE);
    let merged = merge(units.iter().map(|unit| &unit.demand.claims));
    assert_eq!(merged, BTreeMap::from([(key(0), 9), (key(1), 4), (key(2), 2)]));
    assert!(merge([]).is_empty());
}

#[test]
fn a_rush_on_one_key_offers_one_unit_at_a_time_and_leaves_no_room_behind() {
    let mut schedule = schedule((0..10_000).map(|step| demand(&[(0, Some(step), step + 1)])));
    assert_eq!((schedule.ready.len(), schedule.keys.len()), (1, 1));
    let bounds = Bounds { units_max: 7, ..WIDE };
    assert_eq!(play(&mut schedule, &bounds).len(), 10_000_usize.div_ceil(7));
    assert!(schedule.units.capacity() <= 2 * CAPACITY_KEPT);
}

#[test]
fn a_start_is_worth_it_alone_or_for_as_many_as_run() {
    let three = Bounds { units_max: 3, ..WIDE };
    let mut schedule = schedule((0..2).map(|partition| demand(&[(partition, None, 5)])));
    assert!(schedule.is_worth_a_start(&WIDE), "nothing runs");
    assert_eq!(start(&mut schedule), [0, 1]);
    schedule.push(demand(&[(2, None, 5)]), "item");
    assert!(!schedule.is_worth_a_start(&WIDE), "one beside two");
    schedule.push(demand(&[(0, None, 9)]), "item");
    assert!(!schedule.is_worth_a_start(&WIDE), "one that may not start does not count");
    schedule.push(demand(&[(3, None, 5)]), "item");
    assert!(schedule.is_worth_a_start(&WIDE), "two beside two");
    assert_eq!(start(&mut schedule), [2, 4]);
    for partition in 4..7 {
        schedule.push(demand(&[(partition, None, 5)]), "item");
    }
    assert!(schedule.is_worth_a_start(&three) && !schedule.is_worth_a_start(&WIDE), "a full transaction");
}
