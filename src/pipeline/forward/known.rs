//! Owns what is known of the groups' committed offsets without asking: what our own transactions committed.
//! Must never keep an offset that anybody else could have moved: what is not certain is forgotten, and asked for again.

use std::collections::HashMap;

use crate::{
    offsets::{Committed, Group, Membership},
    record::Topic,
};

/// The most groups that are remembered; beyond it all are forgotten, and asked for again.
const GROUPS_MAX: usize = 1_000;

/// The offsets that our own transactions committed, by group, for the member that committed them.
#[derive(Debug, Default)]
pub struct Known(HashMap<String, OfMember>);

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
        let OfMember { membership, offsets } = self.0.get(&group.id)?;
        if *membership != group.membership || group.membership == Membership::Manual {
            return None;
        }
        offsets.get(&(topic.clone(), partition)).map(|offset| Committed::At(*offset))
    }

    /// Notes what a transaction committed. Another generation's offsets are forgotten.
    pub fn note(&mut self, group: &Group, topic: &Topic, partition: i32, next: i64) {
        if self.0.len() >= GROUPS_MAX && !self.0.contains_key(&group.id) {
            self.0.clear();
        }
        let new = || OfMember { membership: group.membership.clone(), offsets: HashMap::new() };
        let OfMember { membership, offsets } = self.0.entry(group.id.clone()).or_insert_with(new);
        if *membership != group.membership {
            *membership = group.membership.clone();
            offsets.clear();
        }
        offsets.insert((topic.clone(), partition), next);
    }

    /// Forgets a group.
    pub fn forget(&mut self, group: &str) {
        self.0.remove(group);
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
    fn nothing_is_certain_of_partitions_assigned_by_hand() {
        let (topic, mut known) = (Topic::parse("in").unwrap(), Known::default());
        let group = Group { id: "g".into(), membership: Membership::Manual };
        known.note(&group, &topic, 0, 7);
        assert_eq!(known.committed(&group, &topic, 0), None);
    }
}
