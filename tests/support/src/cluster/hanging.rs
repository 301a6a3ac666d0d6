//! Answers whether any transaction is still open, to coordinators or to readers of committed records.

use std::time::Duration;

use super::Cluster;
use crate::eventually::try_eventually;
use crate::wire::{state, transactions};

/// A transaction in one of these is not at its end.
const OPEN_STATES: [&str; 4] = ["Ongoing", "PrepareCommit", "PrepareAbort", "PrepareEpochFence"];
/// Where transactions commit groups' offsets.
const OFFSETS_TOPIC: &str = "__consumer_offsets";
/// How long markers may take. Below 15 s, the shortest time-out of a transaction in these tests: one that nobody ends must
/// not pass because Kafka ends it meanwhile.
const END_BOUND: Duration = Duration::from_secs(10);

impl Cluster {
    /// The transactions that are not at their end, a line for each, which begins with the transactional id and a space. A
    /// node that is not there to answer is a line too.
    pub fn open_transactions(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for node in &self.nodes {
            if !node.is_answering() {
                lines.push(format!("node {} is not asked: it does not run", node.id));
                continue;
            }
            match transactions::list(node.plaintext(), &OPEN_STATES) {
                Ok(open) => lines.extend(open.into_iter().map(|transaction| {
                    let transactions::ListedTransaction { transactional_id, producer_id, state } =
                        transaction;
                    format!("{transactional_id} of producer {producer_id} is {state}")
                })),
                Err(error) => lines.push(format!("node {} lists no transactions: {error}", node.id)),
            }
        }
        lines
    }

    /// Whether a transaction of that id is not at its end.
    pub fn is_open(&self, transactional_id: &str) -> bool {
        let start = format!("{transactional_id} ");
        self.open_transactions().iter().any(|line| line.starts_with(&start))
    }

    /// Whether a coordinator knows that transactional id, whatever the state of its last transaction. False too if a node cannot
    /// tell: ask only a cluster of which all nodes run.
    pub fn knows_id(&self, transactional_id: &str) -> bool {
        self.nodes
            .iter()
            .filter_map(|node| transactions::list(node.plaintext(), &[]).ok())
            .flatten()
            .any(|transaction| transaction.transactional_id == transactional_id)
    }

    /// What hangs now, a line for each: transactions that no coordinator has brought to their end, and partitions of these
    /// topics, and of the groups' offsets, whose last stable offset is behind their high watermark.
    pub fn what_hangs(&self, topics: &[&str]) -> Vec<String> {
        let mut lines = self.open_transactions();
        let known = self.ask("the topics", |node| state::metadata(node, None)).topics;
        for topic in topics.iter().copied().chain([OFFSETS_TOPIC]) {
            // On a fresh cluster no group has committed yet.
            let partitions = known.get(topic).map_or(&[][..], |topic| &topic.partitions);
            if partitions.is_empty() && topic != OFFSETS_TOPIC {
                lines.push(format!("there is no topic {topic}"));
            }
            for partition in partitions.iter().map(|state| state.partition) {
                let ends = self.end_offsets(topic, partition);
                if ends.last_stable != ends.high_watermark {
                    lines.push(format!("{topic}/{partition} is stable to {ends:?}"));
                }
            }
        }
        lines
    }

    /// The same as [`Cluster::nothing_hangs`] for all topics that there are.
    #[track_caller]
    pub fn nothing_hangs_anywhere(&self) {
        let known = self.ask("the topics", |node| state::metadata(node, None)).topics;
        let topics: Vec<_> =
            known.keys().map(String::as_str).filter(|topic| *topic != OFFSETS_TOPIC).collect();
        self.nothing_hangs(&topics);
    }

    /// Waits until nothing hangs: no coordinator lists a transaction that is not at its end, and readers of committed
    /// records can read these topics, and the groups' offsets, to their ends. For tests that run alone.
    ///
    /// # Panics
    ///
    /// When something still hangs after 10 s; the message names it.
    #[track_caller]
    pub fn nothing_hangs(&self, topics: &[&str]) {
        let mut last = Vec::new();
        let ended = try_eventually(END_BOUND, || {
            last = self.what_hangs(topics);
            last.is_empty().then_some(())
        });
        assert!(ended.is_some(), "these hang after {END_BOUND:?}:\n{}", last.join("\n"));
    }
}
