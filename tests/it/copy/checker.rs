//! Owns the judgement over a copy job: the output is the input, once and in order, the offsets are at the end, nothing is open.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use testkit::{
    Cluster, eventually,
    history::{Committed, History, Input, Place},
    read_topic, try_eventually,
};

use super::{
    job::Shared,
    watch::{self, Output, Seen},
};

/// How long the transactions of the job may take to end once all is committed.
const SETTLE: Duration = Duration::from_secs(30);
/// How long those of earlier tests may: as long as a dead sidecar's transaction lives, and the broker's rounds.
const SETTLE_OTHERS: Duration = Duration::from_secs(90);

/// Waits until no transaction of an earlier test is open.
pub fn await_settled() {
    settled(&[], SETTLE_OTHERS);
}

/// Checks a job whose offsets are committed to the end, while its sidecars still run.
pub fn check(shared: &Arc<Shared>, seen: &Seen) {
    // The position behind the last record: markers that lie behind it belong to no unit.
    let committed = watch::committed(&shared.group, &shared.input.topic);
    assert_eq!(committed, shared.input.ends(), "committed offsets");
    settled(&[&shared.target, &shared.input.topic], SETTLE);

    let fresh = read_topic(Cluster::shared(), &shared.target)
        .into_iter()
        .map(|record| (record.partition, record.offset, String::from_utf8(record.value.unwrap()).unwrap()));
    let fresh: Vec<Output> = fresh.collect();
    same(&shared.input.values(), &fresh, "a fresh reader");
    offsets(shared, &fresh);
    // All is there: the one that reads since the beginning only has to arrive at the end.
    eventually(SETTLE, "the reader arrives", || (seen.lock().unwrap().len() >= fresh.len()).then_some(()));
    let seen = seen.lock().unwrap().clone();
    same(&shared.input.values(), &seen, "the reader that ran meanwhile");
    let mut sorted = seen;
    sorted.sort_unstable();
    assert!(sorted == fresh, "both readers saw the same records at the same offsets");
}

/// Judges the group's committed offsets, as they were seen and as they are: never back, and nothing unprocessed before them.
fn offsets(shared: &Shared, fresh: &[Output]) {
    let topic = &shared.input.topic;
    let mut committed = shared.seen_committed.lock().unwrap().clone();
    let ends = shared.input.ends().into_iter();
    committed.extend(ends.map(|(partition, next)| Committed { topic: topic.clone(), partition, next }));
    let mut outputs: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, _, value) in fresh {
        *outputs.entry(value).or_default() += 1;
    }
    let of_partition = |(partition, records): (i32, &Vec<(i64, String)>)| {
        let input = |(offset, value): &(i64, String)| Input {
            place: Place { topic: topic.clone(), partition, offset: *offset },
            outputs: outputs.get(value.as_str()).copied().unwrap_or_default(),
        };
        records.iter().map(input).collect::<Vec<_>>()
    };
    let inputs = (0..).zip(&shared.input.records).flat_map(of_partition).collect();
    let violations = History { committed, inputs, ..History::default() }.violations();
    assert!(violations.is_empty(), "{} of the offsets, such as {}", violations.len(), violations[0]);
}

/// Compares the values of each partition in the order in which they were read.
fn same(expected: &BTreeMap<i32, Vec<String>>, read: &[Output], who: &str) {
    for (partition, expected) in expected {
        let of_partition = read.iter().filter(|(other, ..)| other == partition);
        let read: Vec<_> = of_partition.map(|(_, offset, value)| (*offset, value)).collect();
        let differs = expected.iter().zip(&read).position(|(expected, (_, value))| expected != *value);
        let around = differs.unwrap_or_else(|| expected.len().min(read.len())).saturating_sub(2);
        assert!(
            differs.is_none() && read.len() == expected.len(),
            "{who}, partition {partition}: {} of {} records, first other than expected near {:?}, where {:?} should be",
            read.len(),
            expected.len(),
            read.iter().skip(around).take(6).collect::<Vec<_>>(),
            expected.iter().skip(around).take(6).collect::<Vec<_>>(),
        );
    }
}

/// Waits until no coordinator lists a transaction that is not at its end, and none is open on these topics and on groups' offsets.
fn settled(topics: &[&str], bound: Duration) {
    let mut last = Vec::new();
    let ended = try_eventually(bound, || {
        last = Cluster::shared().what_hangs(topics);
        last.is_empty().then_some(())
    });
    assert!(ended.is_some(), "these hang after {bound:?}:\n{}", last.join("\n"));
}
