//! Plays the schedule against a model that walks the whole queue, and checks what must hold whatever the model says.

use std::collections::HashSet;

use proptest::prelude::*;

use super::{key, numbers};
use crate::pipeline::schedule::*;

const MEMBERSHIPS: [&str; 2] = ["member", "other"];
const PARTITIONS: usize = 3;

type Made = Unit<&'static str, &'static str>;
/// A unit while it is being chosen for: its number and demand.
type Named<'a> = (Number, &'a Demand<&'static str>);

#[derive(Debug, Clone)]
enum Step {
    /// For each partition that is claimed, how its chain goes on.
    Push {
        links: [Option<Link>; PARTITIONS],
        membership: usize,
        records: usize,
        bytes: usize,
    },
    Start(Bounds),
    End(prop::sample::Index),
    /// The first units end, the others come back.
    PutBack {
        which: prop::sample::Index,
        ended: usize,
        company_max: usize,
    },
    Withdraw(prop::sample::Index),
}

#[derive(Debug, Clone, Copy)]
enum Link {
    Contiguous,
    Gap,
    Unsaid,
}

/// What there is, in the plainest form: all units by number, and the open transactions.
#[derive(Default)]
struct Model {
    schedule: Schedule<&'static str, &'static str>,
    waiting: BTreeMap<Number, Modelled>,
    open: Vec<Vec<Made>>,
    /// By partition, where the last unit pushed ends.
    tails: [i64; PARTITIONS],
    pushed: Number,
    ended: BTreeSet<Number>,
    withdrawn: BTreeSet<Number>,
}

struct Modelled {
    demand: Demand<&'static str>,
    company_max: usize,
}

fn any_step() -> impl Strategy<Value = Step> {
    let link = prop_oneof![
        4 => Just(None),
        4 => Just(Some(Link::Contiguous)),
        1 => Just(Some(Link::Gap)),
        1 => Just(Some(Link::Unsaid)),
    ];
    let links = prop::array::uniform3(link);
    let membership = prop_oneof![6 => Just(0_usize), 1 => Just(1)];
    let index = any::<prop::sample::Index>;
    prop_oneof![
        6 => (links, membership, 0..5_usize, 0..50_usize)
            .prop_map(|(links, membership, records, bytes)| Step::Push { links, membership, records, bytes }),
        3 => any_bounds().prop_map(Step::Start),
        2 => index().prop_map(Step::End),
        1 => (index(), 0..3_usize, 0..5_usize)
            .prop_map(|(which, ended, company_max)| Step::PutBack { which, ended, company_max }),
        1 => index().prop_map(Step::Withdraw),
    ]
}

fn any_bounds() -> impl Strategy<Value = Bounds> {
    (0..7_usize, 0..9_usize, 0..90_usize).prop_map(|(units_max, records_max, bytes_max)| Bounds {
        units_max,
        records_max,
        bytes_max,
    })
}

impl Model {
    fn play(&mut self, step: Step) {
        match step {
            Step::Push { links, membership, records, bytes } => self.push(links, membership, records, bytes),
            Step::Start(bounds) => drop(self.start(&bounds)),
            Step::End(which) if !self.open.is_empty() => {
                let units = self.open.swap_remove(which.index(self.open.len()));
                units.iter().for_each(|unit| self.end(unit.number));
            }
            Step::PutBack { which, ended, company_max } if !self.open.is_empty() => {
                let mut units = self.open.swap_remove(which.index(self.open.len()));
                let back = units.split_off(ended.min(units.len()));
                units.iter().for_each(|unit| self.end(unit.number));
                self.put_back(back, company_max);
            }
            Step::Withdraw(which) if self.pushed > 0 => {
                let number = u64::try_from(which.index(usize::try_from(self.pushed).unwrap())).unwrap();
                let was_waiting = self.waiting.remove(&number).is_some();
                assert_eq!(self.schedule.withdraw(number).is_some(), was_waiting);
                self.withdrawn.extend(was_waiting.then_some(number));
            }
            Step::End(_) | Step::PutBack { .. } | Step::Withdraw(_) => {}
        }
        assert_eq!(self.schedule.waiting(), self.waiting.len());
        assert_eq!(self.schedule.started(), self.open.iter().map(Vec::len).sum::<usize>());
    }

    fn push(&mut self, links: [Option<Link>; PARTITIONS], membership: usize, records: usize, bytes: usize) {
        let mut claims = Claims::new();
        for ((partition, link), tail) in (0..).zip(links).zip(&mut self.tails) {
            let expected = match link {
                Some(Link::Contiguous) => Some(*tail),
                Some(Link::Gap) => Some(*tail + 1),
                Some(Link::Unsaid) => None,
                None => continue,
            };
            *tail += 10;
            claims.insert(key(partition), Claim { expected, next: *tail });
        }
        let demand = Demand { membership: MEMBERSHIPS[membership], claims, records, bytes };
        assert_eq!(self.schedule.push(demand.clone(), "item"), self.pushed);
        self.waiting.insert(self.pushed, Modelled { demand, company_max: usize::MAX });
        self.pushed += 1;
    }

    fn end(&mut self, number: Number) {
        self.schedule.end(number);
        assert!(self.ended.insert(number), "{number} was started twice");
    }

    fn put_back(&mut self, units: Vec<Made>, company_max: usize) {
        for unit in &units {
            let limits = self.schedule.units[&unit.number].company_max;
            let company_max = limits.min(company_max.max(1));
            let demand = Demand::clone(&unit.demand);
            self.waiting.insert(unit.number, Modelled { demand, company_max });
        }
        self.schedule.put_back(units, company_max);
    }

    fn start(&mut self, bounds: &Bounds) -> usize {
        let expected = self.expected(bounds);
        let units = self.schedule.start(bounds);
        assert_eq!(numbers(&units), expected);
        self.check(&units, bounds);
        for unit in &units {
            self.waiting.remove(&unit.number);
        }
        let count = units.len();
        self.open.extend((count > 0).then_some(units));
        count
    }

    /// Chooses the units of a transaction as the rules are told: one after the other, all that wait.
    fn expected(&self, bounds: &Bounds) -> Vec<Number> {
        let held: HashSet<_> =
            self.open.iter().flatten().flat_map(|unit| unit.demand.claims.keys()).collect();
        let (mut blocked, mut chosen) = (HashSet::new(), Vec::<(Number, &Modelled)>::new());
        let mut passed_over = 0;
        for (number, unit) in &self.waiting {
            let may_have = |(key, claim): (&Key, &Claim)| {
                let before = chosen.iter().rev().find(|(_, before)| before.demand.claims.contains_key(key));
                let links = before.is_none_or(|(_, before)| {
                    claim.expected == Some(before.demand.claims[key].next)
                        && before.demand.membership == unit.demand.membership
                });
                links && !held.contains(key) && !blocked.contains(key)
            };
            if unit.demand.claims.iter().all(may_have) {
                if passed_over < PASSED_OVER_MAX && fits(&chosen, unit, bounds) {
                    chosen.push((*number, unit));
                    continue;
                }
                passed_over += 1;
            }
            blocked.extend(unit.demand.claims.keys());
        }
        chosen.into_iter().map(|(number, _)| number).collect()
    }

    /// Checks what must hold of a transaction that starts beside those that are open.
    fn check(&self, units: &[Made], bounds: &Bounds) {
        let named: Vec<Named<'_>> = units.iter().map(|unit| (unit.number, &*unit.demand)).collect();
        assert!(named.is_sorted_by(|one, other| one.0 < other.0), "out of order: {named:?}");
        let held: HashSet<_> =
            self.open.iter().flatten().flat_map(|unit| unit.demand.claims.keys()).collect();
        for (index, (number, demand)) in named.iter().enumerate() {
            for (key, claim) in &demand.claims {
                assert!(!held.contains(key), "{key:?} is held by another transaction");
                let overtaken = self.waiting.iter().find(|(waiting, unit)| {
                    *waiting < number
                        && unit.demand.claims.contains_key(key)
                        && !named.iter().any(|(taken, _)| taken == *waiting)
                });
                assert!(overtaken.is_none(), "{number} overtakes on {key:?}");
                let before = named[..index].iter().rev().find(|(_, before)| before.claims.contains_key(key));
                if let Some((_, before)) = before {
                    assert_eq!(claim.expected, Some(before.claims[key].next));
                    assert_eq!(demand.membership, before.membership);
                }
            }
        }
        let sum = |of: fn(&Demand<&str>) -> usize| named.iter().map(|(_, demand)| of(demand)).sum::<usize>();
        if units.len() > 1 {
            assert!(units.len() <= bounds.units_max);
            assert!(sum(|demand| demand.records) <= bounds.records_max);
            assert!(sum(|demand| demand.bytes) <= bounds.bytes_max);
            assert!(named.iter().all(|(number, _)| units.len() <= self.waiting[number].company_max));
        }
        let merged = merge(named.iter().map(|(_, demand)| &demand.claims));
        let keys: BTreeSet<_> = named.iter().flat_map(|(_, demand)| demand.claims.keys()).collect();
        assert!(merged.keys().eq(keys));
        for (_, demand) in &named {
            // Offsets grow along a chain, so the last is the highest.
            assert!(demand.claims.iter().all(|(key, claim)| claim.next <= merged[key]));
        }
    }

    /// Ends what is open and starts what waits until nothing is left; each round brings the oldest on its way.
    fn finish(&mut self, bounds: &Bounds) {
        for units in std::mem::take(&mut self.open) {
            units.iter().for_each(|unit| self.end(unit.number));
        }
        while let Some(oldest) = self.waiting.keys().next().copied() {
            assert!(self.start(bounds) > 0);
            let units = self.open.pop().unwrap();
            assert_eq!(units[0].number, oldest, "starved");
            units.iter().for_each(|unit| self.end(unit.number));
        }
        let gone: BTreeSet<_> = self.ended.union(&self.withdrawn).copied().collect();
        assert!(gone.into_iter().eq(0..self.pushed), "a unit was lost");
        assert!(self.ended.is_disjoint(&self.withdrawn));
        assert!(
            self.schedule.units.is_empty() && self.schedule.keys.is_empty() && self.schedule.ready.is_empty()
        );
    }
}

fn fits(chosen: &[(Number, &Modelled)], unit: &Modelled, bounds: &Bounds) -> bool {
    let all = || chosen.iter().map(|(_, unit)| *unit).chain([unit]);
    let company_max = all().map(|unit| unit.company_max).min().unwrap_or(usize::MAX);
    chosen.is_empty()
        || (chosen.len() < bounds.units_max.min(company_max)
            && all().map(|unit| unit.demand.records).sum::<usize>() <= bounds.records_max
            && all().map(|unit| unit.demand.bytes).sum::<usize>() <= bounds.bytes_max)
}

proptest! {
    #[test]
    fn the_rules_are_kept_whatever_comes(steps in prop::collection::vec(any_step(), 0..120), last in any_bounds()) {
        let mut model = Model::default();
        for step in steps {
            model.play(step);
        }
        model.finish(&last);
    }
}
