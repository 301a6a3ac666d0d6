//! Owns what is known of the groups' offsets without asking: what our own transactions committed, and which units failed.
//! Must never keep an offset that anybody else could have moved: what is not certain is forgotten, and asked for again.

use std::{borrow::Borrow, collections::HashMap, hash::Hash};

use crate::{
    offsets::{Committed, Group, Input, Membership, Unit},
    record::Topic,
};

/// The most groups that are remembered; beyond it those not used lately are forgotten, and asked for again.
const GROUPS_MAX: usize = 1_000;

/// The most failed units that are remembered, an entry for each input; beyond it the oldest are forgotten.
const FAILED_MAX: usize = 10_000;

/// The offsets that our own transactions committed, by group, for the member that committed them.
#[derive(Debug)]
pub struct Known {
    groups: Recent<String, OfMember>,
    /// Where failed units would have taken a group that has committed nothing yet.
    failed: Recent<(String, Topic, i32), i64>,
}

/// A map of what was used lately: it holds at least the last `max / 2` keys that were written, and at most `max`.
#[derive(Debug)]
struct Recent<K, V> {
    max: usize,
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl Default for Known {
    fn default() -> Self {
        Self { groups: Recent::of(GROUPS_MAX), failed: Recent::of(FAILED_MAX) }
    }
}

impl<K: Eq + Hash, V> Recent<K, V> {
    fn of(max: usize) -> Self {
        Self { max, young: HashMap::new(), old: HashMap::new() }
    }

    fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    fn remove<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let old = self.old.remove(key);
        self.young.remove(key).or(old)
    }

    /// Writes a key, which makes it one that was used lately.
    fn put(&mut self, key: K, value: V) {
        self.old.remove(&key);
        if self.young.len() >= self.max / 2 && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }
}

#[derive(Debug)]
struct OfMember {
    membership: Membership,
    offsets: HashMap<(Topic, i32), i64>,
}

impl Known {
    /// Returns what that member has committed for a partition, where it is certain.
    ///
    /// For partitions that were assigned by hand nothing is: anybody may commit.
    #[must_use]
    pub fn committed(&self, group: &Group, topic: &Topic, partition: i32) -> Option<Committed> {
        let OfMember { membership, offsets } = self.groups.get(&group.id)?;
        if *membership != group.membership || group.membership == Membership::Manual {
            return None;
        }
        offsets.get(&(topic.clone(), partition)).map(|offset| Committed::At(*offset))
    }

    /// Notes what a transaction committed. Another generation's offsets are forgotten.
    pub fn note(&mut self, group: &Group, topic: &Topic, partition: i32, next: i64) {
        let known = self.groups.remove(&group.id).filter(|known| known.membership == group.membership);
        let new = || OfMember { membership: group.membership.clone(), offsets: HashMap::new() };
        let mut known = known.unwrap_or_else(new);
        known.offsets.insert((topic.clone(), partition), next);
        self.groups.put(group.id.clone(), known);
        self.failed.remove(&(group.id.clone(), topic.clone(), partition));
    }

    /// Notes that a unit failed, or may have.
    pub fn note_failed(&mut self, unit: &Unit) {
        let Some(group) = &unit.group else { return };
        for input in unit.inputs.iter().filter(|input| input.expected.is_some()) {
            self.failed.put((group.id.clone(), input.topic.clone(), input.partition), input.next);
        }
    }

    /// Returns whether an input goes on from where a failed unit would have led. Where the group has committed nothing, to
    /// run it would skip what that unit read: its caller would be told later that it is committed already.
    #[must_use]
    pub fn follows_failed(&self, group: &Group, input: &Input) -> bool {
        let led_to = self.failed.get(&(group.id.clone(), input.topic.clone(), input.partition));
        led_to.is_some() && led_to.copied() == input.expected
    }

    /// Forgets a group.
    pub fn forget(&mut self, group: &str) {
        self.groups.remove(group);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(generation: i32) -> Group {
        let membership = Membership::Member { generation, member_id: "m".into(), instance_id: None };
        Group { id: "g".into(), membership }
    }

    #[test]
    fn what_a_member_committed_is_known_to_that_member_and_generation_alone() {
        let (topic, mut known) = (Topic::parse("in").unwrap(), Known::default());
        known.note(&group(1), &topic, 0, 7);
        assert_eq!(known.committed(&group(1), &topic, 0), Some(Committed::At(7)));
        assert_eq!(
            (known.committed(&group(2), &topic, 0), known.committed(&group(1), &topic, 1)),
            (None, None)
        );
        known.note(&group(2), &topic, 1, 3);
        assert_eq!(known.committed(&group(1), &topic, 0), None);
        known.forget("g");
        assert_eq!(known.committed(&group(2), &topic, 1), None);
    }

    #[test]
    fn what_follows_a_failed_unit_is_known_until_it_is_committed() {
        let (topic, mut known) = (Topic::parse("in").unwrap(), Known::default());
        let input = |expected, next| Input {
            topic: Topic::parse("in").unwrap(),
            partition: 0,
            expected: Some(expected),
            next,
            metadata: String::new(),
        };
        let failed = Unit { group: Some(group(1)), inputs: vec![input(0, 10)], outputs: Vec::new() };
        assert!(!known.follows_failed(&group(1), &input(10, 20)));
        known.note_failed(&failed);
        assert!(known.follows_failed(&group(1), &input(10, 20)));
        assert!(!known.follows_failed(&group(1), &input(0, 10)));
        known.note(&group(1), &topic, 0, 10);
        assert!(!known.follows_failed(&group(1), &input(10, 20)));
    }

    #[test]
    fn beyond_the_bound_only_what_was_not_used_lately_is_forgotten() {
        let topic = Topic::parse("in").unwrap();
        let named = |id: usize| Group { id: id.to_string(), ..group(1) };
        let mut known = Known::default();
        for id in 0..10 * GROUPS_MAX {
            known.note(&named(id), &topic, 0, 7);
            known.note(&named(0), &topic, 0, 7);
            assert!(known.committed(&named(0), &topic, 0).is_some(), "{id}");
            let last = known.committed(&named(id.saturating_sub(GROUPS_MAX / 4)), &topic, 0);
            assert!(last.is_some(), "{id}");
        }
        assert!(known.groups.young.len() + known.groups.old.len() <= GROUPS_MAX);
        assert_eq!(known.committed(&named(1), &topic, 0), None);
    }

    #[test]
    fn the_last_failed_units_stay_known_beyond_the_bound() {
        let mut known = Known::default();
        let input = |partition| Input {
            topic: Topic::parse("in").unwrap(),
            partition,
            expected: Some(0),
            next: 10,
            metadata: String::new(),
        };
        let most = i32::try_from(FAILED_MAX).unwrap();
        for partition in 0..3 * most {
            known.note_failed(&Unit {
                group: Some(group(1)),
                inputs: vec![input(partition)],
                outputs: Vec::new(),
            });
            let before = Input { expected: Some(10), next: 20, ..input((partition - most / 2 + 1).max(0)) };
            assert!(known.follows_failed(&group(1), &before), "{partition}");
        }
    }

    #[test]
    fn nothing_is_certain_of_partitions_assigned_by_hand() {
        let (topic, mut known) = (Topic::parse("in").unwrap(), Known::default());
        let group = Group { id: "g".into(), membership: Membership::Manual };
        known.note(&group, &topic, 0, 7);
        assert_eq!(known.committed(&group, &topic, 0), None);
    }
}
