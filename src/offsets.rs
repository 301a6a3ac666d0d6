//! Owns the unit of ProcessAndForward as the inside of the program knows it, and the decision whether it still has to run.
//! Must stay pure: no clock, no Kafka; who asks the group for its committed offsets hands them in.

use std::fmt;

use bytes::Bytes;

use crate::record::{Record, Topic};

/// The longest text beside a committed offset, in bytes (the broker's default of `offset.metadata.max.bytes`).
pub const OFFSET_METADATA_BYTES_MAX: usize = 4_096;
/// The most bytes that a unit's offsets may take together, by [`commit_bytes`]: Kafka writes those of one commit as one batch into
/// `__consumer_offsets`, of which a batch holds 1,048,588 bytes by default (`max.message.bytes`).
pub const COMMIT_BYTES_MAX: usize = 1_000_000;
/// What an offset takes there besides its texts, in bytes: the numbers of key and value, and the record's own.
const COMMIT_BYTES_EACH: usize = 100;
/// The longest name of a group, id of a member or of an instance, in bytes (the longest string of Kafka's protocol).
pub const GROUP_TEXT_BYTES_MAX: usize = 32_767;

/// How the caller belongs to its consumer group: what lets Kafka refuse one that is no longer a member.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Membership {
    /// A member in one of the group's generations.
    Member {
        /// The generation, or a KIP-848 group's member epoch; zero or more.
        generation: i32,
        /// The coordinator's id of the member; 1 to [`GROUP_TEXT_BYTES_MAX`] bytes, without NUL.
        member_id: String,
        /// The `group.instance.id` of a static member; 1 to [`GROUP_TEXT_BYTES_MAX`] bytes, without NUL.
        instance_id: Option<String>,
    },
    /// A member as librdkafka wrote it down: complete, of this very group and of a consumer that has joined it.
    Librdkafka(Bytes),
    /// No member: partitions were assigned by hand, and nothing is fenced.
    Manual,
}

/// A consumer group as one caller knows it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Group {
    /// The name of the group; 1 to [`GROUP_TEXT_BYTES_MAX`] bytes, without NUL.
    pub id: String,
    /// How the caller belongs to it.
    pub membership: Membership,
}

/// How far a unit read one input partition.
#[derive(Clone, PartialEq, Eq)]
pub struct Input {
    /// The topic that was read.
    pub topic: Topic,
    /// The partition that was read; zero or more.
    pub partition: i32,
    /// What the group has committed before the unit; zero or more and below `next`. `None` is not compared.
    pub expected: Option<i64>,
    /// The offset to commit, that of the last record read plus one; one or more.
    pub next: i64,
    /// The text to store beside the offset; at most [`OFFSET_METADATA_BYTES_MAX`] bytes, without NUL.
    pub metadata: String,
}

/// What is written and committed together or not at all; it has inputs or outputs, and a group where it has inputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Whose offsets are committed; `None` where there are no inputs.
    pub group: Option<Group>,
    /// The input partitions, each at most once.
    pub inputs: Vec<Input>,
    /// The records to write, in order.
    pub outputs: Vec<Record>,
}

/// What a group has committed for one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committed {
    /// Nothing, or an offset that the group has forgotten.
    Nothing,
    /// This offset, that of the next record to read.
    At(i64),
}

/// Returns how many bytes the offsets of inputs take in Kafka, in one commit of that group, and rather more than less.
#[must_use]
pub fn commit_bytes(group: &Group, inputs: &[Input]) -> usize {
    let each = |input: &Input| {
        COMMIT_BYTES_EACH + group.id.len() + input.topic.as_str().len() + input.metadata.len()
    };
    inputs.iter().map(each).sum()
}

/// What is to be done with a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It has to run.
    Run,
    /// An earlier call committed it: nothing is to be written.
    AlreadyCommitted,
    /// It must not run, because the group is elsewhere.
    Mismatch {
        /// The position of the first input whose committed offset is not the expected one.
        input: usize,
        /// What the group has committed for it.
        committed: Committed,
    },
}

/// Decides by the group's committed offsets, one for each of `inputs` and in their order, whether a unit has to run.
///
/// Compares only where all inputs say what they expect: a part of them could neither prove that the unit is committed nor that
/// it is not. An input whose committed offset is missing in `committed` counts as a mismatch, because running might double.
#[must_use]
pub fn decide(inputs: &[Input], committed: &[Committed]) -> Decision {
    if inputs.is_empty() || inputs.iter().any(|input| input.expected.is_none()) {
        return Decision::Run;
    }
    let of = |position: usize| committed.get(position).copied();
    let is_committed = |(position, input): (usize, &Input)| match of(position) {
        Some(Committed::At(offset)) => offset >= input.next,
        Some(Committed::Nothing) | None => false,
    };
    if inputs.iter().enumerate().all(is_committed) {
        return Decision::AlreadyCommitted;
    }
    let is_elsewhere = |&(position, input): &(usize, &Input)| match of(position) {
        Some(Committed::At(offset)) => Some(offset) != input.expected,
        Some(Committed::Nothing) => false,
        None => true,
    };
    match inputs.iter().enumerate().find(is_elsewhere) {
        Some((input, _)) => Decision::Mismatch { input, committed: of(input).unwrap_or(Committed::Nothing) },
        None => Decision::Run,
    }
}

// === impl Membership ===

impl fmt::Debug for Membership {
    /// Prints of librdkafka's bytes only how many they are: their format is not ours to show.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Member { generation, member_id, instance_id } => formatter
                .debug_struct("Member")
                .field("generation", generation)
                .field("member_id", member_id)
                .field("instance_id", instance_id)
                .finish(),
            Self::Librdkafka(bytes) => write!(formatter, "Librdkafka({} bytes)", bytes.len()),
            Self::Manual => formatter.write_str("Manual"),
        }
    }
}

// === impl Input ===

impl fmt::Debug for Input {
    /// Prints everything but the text beside the offset, which is the caller's data.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Input")
            .field("topic", &self.topic)
            .field("partition", &self.partition)
            .field("expected", &self.expected)
            .field("next", &self.next)
            .field("metadata_bytes", &self.metadata.len())
            .finish()
    }
}

// === impl Committed ===

impl fmt::Display for Committed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => formatter.write_str("nothing"),
            Self::At(offset) => offset.fmt(formatter),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Committed::*, Decision::*, *};

    fn input(expected: impl Into<Option<i64>>, next: i64) -> Input {
        let topic = Topic::parse("in").unwrap();
        Input { topic, partition: 0, expected: expected.into(), next, metadata: "secret-text".to_owned() }
    }

    #[test]
    fn a_unit_runs_once_and_only_from_where_the_group_is() {
        let elsewhere = |input, committed| Mismatch { input, committed };
        let one = [input(10, 20)];
        let two = [input(10, 20), input(5, 6)];
        let cases: [(&[Input], &[Committed], Decision); 17] = [
            (&[], &[], Run),
            (&one, &[Nothing], Run),
            (&one, &[At(10)], Run),
            (&one, &[At(20)], AlreadyCommitted),
            (&one, &[At(21)], AlreadyCommitted),
            (&one, &[At(9)], elsewhere(0, At(9))),
            (&one, &[At(11)], elsewhere(0, At(11))),
            (&one, &[At(19)], elsewhere(0, At(19))),
            (&[input(0, 1)], &[At(0)], Run),
            // Each on its own: one partition may be new to the group.
            (&two, &[Nothing, At(5)], Run),
            (&two, &[At(10), Nothing], Run),
            (&two, &[At(20), At(6)], AlreadyCommitted),
            // A unit is committed as a whole or not at all: a part that is committed was committed by another unit.
            (&two, &[At(10), At(6)], elsewhere(1, At(6))),
            (&two, &[At(20), Nothing], elsewhere(0, At(20))),
            (&two, &[At(20), At(4)], elsewhere(0, At(20))),
            (&two, &[At(10), At(4)], elsewhere(1, At(4))),
            // What the group was not asked for is no reason to run.
            (&two, &[At(10)], elsewhere(1, Nothing)),
        ];
        for (inputs, committed, decision) in cases {
            assert_eq!(decide(inputs, committed), decision, "{inputs:?} with {committed:?}");
        }
    }

    #[test]
    fn where_one_expectation_is_unset_nothing_is_compared() {
        let inputs = [input(10, 20), input(None, 6)];
        for committed in [[At(20), At(6)], [At(3), At(5)], [Nothing, Nothing]] {
            assert_eq!(decide(&inputs, &committed), Run, "{committed:?}");
        }
    }

    #[test]
    fn debug_prints_hold_neither_metadata_nor_text() {
        let membership = Membership::Librdkafka(Bytes::from_static(b"CGMDv2:secret"));
        let group = Group { id: "billing".to_owned(), membership };
        let unit = Unit { group: Some(group), inputs: vec![input(1, 2)], outputs: Vec::new() };
        let print = format!("{unit:?}");
        assert!(!print.contains("secret") && !print.contains("CGMD"), "{print}");
        assert!(print.contains("billing") && print.contains("13 bytes"), "{print}");
        assert_eq!((Nothing.to_string(), At(7).to_string()), ("nothing".to_owned(), "7".to_owned()));
    }

    fn any_input() -> impl Strategy<Value = (Input, Committed)> {
        let near = prop_oneof![Just(Nothing), (0..12_i64).prop_map(At)];
        let expected = prop::option::weighted(0.9, 0..6_i64);
        (expected, 1..5_i64, near).prop_map(|(expected, length, committed)| {
            (input(expected, expected.unwrap_or(0) + length), committed)
        })
    }

    proptest! {
        #[test]
        fn a_unit_that_is_committed_never_runs_again(pairs in prop::collection::vec(any_input(), 1..6)) {
            let inputs: Vec<_> = pairs.into_iter().map(|(input, _)| input).collect();
            let committed: Vec<_> = inputs.iter().map(|input| At(input.next)).collect();
            let compared = inputs.iter().all(|input| input.expected.is_some());
            prop_assert_eq!(decide(&inputs, &committed), if compared { AlreadyCommitted } else { Run });
        }

        #[test]
        fn a_unit_runs_from_where_the_group_is_and_from_nowhere_else(
            pairs in prop::collection::vec(any_input(), 1..6),
        ) {
            let (inputs, committed): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
            let fits = |position: usize| match (inputs[position].expected, committed[position]) {
                (Some(expected), At(offset)) => offset == expected,
                (Some(_), Nothing) | (None, _) => true,
            };
            let compared = inputs.iter().all(|input| input.expected.is_some());
            match decide(&inputs, &committed) {
                Run => prop_assert!(!compared || (0..inputs.len()).all(fits)),
                AlreadyCommitted => {
                    for (input, committed) in inputs.iter().zip(&committed) {
                        prop_assert!(matches!(committed, At(offset) if *offset >= input.next));
                    }
                }
                Mismatch { input, committed: named } => {
                    prop_assert!(compared && !fits(input) && (0..input).all(fits));
                    prop_assert_eq!(named, committed[input]);
                }
            }
        }
    }
}
