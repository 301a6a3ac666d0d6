//! Owns what is known of the groups' offsets without asking: what our own transactions committed, and which units failed.
//! Must never keep an offset that anybody else could have moved: what is not certain is forgotten, and asked for again.

use std::collections::HashMap;

use crate::{
    offsets::{Committed, Group, Input, Membership, Unit},
    record::Topic,
};

/// The most groups that are remembered; beyond it all are forgotten, and asked for again.
const GROUPS_MAX: usize = 1_000;

/// The most failed units that are remembered, an entry for each input; beyond it all are forgotten.
const FAILED_MAX: usize = 10_000;

/// The offsets that our own transactions committed, by group, for the member that committed them.
#[derive(Debug, Default)]
pub struct Known {
    groups: HashMap<String, OfMember>,
    /// Where failed units would have taken a group that has committed nothing yet.
    failed: HashMap<(String, Topic, i32), i64>,
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
        if self.groups.len() >= GROUPS_MAX && !self.groups.contains_key(&group.id) {
            self.groups.clear();
        }
        let new = || OfMember { membership: group.membership.clone(), offsets: HashMap::new() };
        let OfMember { membership, offsets } = self.groups.entry(group.id.clone()).or_insert_with(new);
        if *membership != group.membership {
            *membership = group.membership.clone();
            offsets.clear();
        }
        offsets.insert((topic.clone(), partition), next);
        self.failed.remove(&(group.id.clone(), topic.clone(), partition));
    }

    /// Notes that a unit failed, or may have.
    pub fn note_failed(&mut self, unit: &Unit) {
        let Some(group) = &unit.group else { return };
        for input in unit.inputs.iter().filter(|input| input.expected.is_some()) {
            if self.failed.len() >= FAILED_MAX {
                self.failed.clear();
            }
            self.failed.insert((group.id.clone(), input.topic.clone(), input.partition), input.next);
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
    fn nothing_is_certain_of_partitions_assigned_by_hand() {
        let (topic, mut known) = (Topic::parse("in").unwrap(), Known::default());
        let group = Group { id: "g".into(), membership: Membership::Manual };
        known.note(&group, &topic, 0, 7);
        assert_eq!(known.committed(&group, &topic, 0), None);
    }
}
