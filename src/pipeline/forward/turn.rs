//! Owns the last look at units whose turn has come: whether each still has to run.
//! Must never run a unit whose group is elsewhere than it expects.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    Answer, Forwarder,
    lanes::{OFFSETS_MS_MAX, Started},
    outcome,
};
use crate::{
    failure::{Failure, Reason},
    offsets::{Committed, Decision, Group, Input, decide},
    record::Topic,
};

impl Forwarder {
    /// Answers the units that need not or must not run; `None` where none is left.
    pub(super) async fn still_to_run(&self, units: Vec<Started>) -> Option<Vec<Started>> {
        let mut left = Vec::with_capacity(units.len());
        // What the units before it in the same transaction will have committed.
        let mut ahead: HashMap<(String, Topic, i32), i64> = HashMap::new();
        for unit in units {
            let placed = Arc::clone(&unit.item.placed);
            if Instant::now() >= placed.deadline {
                let sentence = "the deadline passed before the unit's turn came; it was taken out";
                self.answer(unit, Err(Failure::new(Reason::DeadlineNotWritten, sentence)));
                continue;
            }
            match self.decide(&unit, &ahead).await {
                Ok(Decision::Run) => {
                    if let Some(group) = &placed.unit.group {
                        let inputs = placed.unit.inputs.iter();
                        ahead.extend(inputs.map(|input| {
                            ((group.id.clone(), input.topic.clone(), input.partition), input.next)
                        }));
                    }
                    left.push(unit);
                }
                Ok(Decision::AlreadyCommitted) => self.answer(unit, outcome::already_committed()),
                Ok(Decision::Mismatch { input, committed }) => {
                    self.answer(unit, Err(outcome::mismatch(&placed, input, committed)));
                }
                Err(failure) => self.answer(unit, Err(failure)),
            }
        }
        (!left.is_empty()).then_some(left)
    }

    async fn decide(
        &self,
        unit: &Started,
        ahead: &HashMap<(String, Topic, i32), i64>,
    ) -> Result<Decision, Failure> {
        let placed = &unit.item.placed;
        let inputs = &placed.unit.inputs;
        let (Some(group), false) = (&placed.unit.group, inputs.iter().any(|input| input.expected.is_none()))
        else {
            return Ok(Decision::Run);
        };
        let known: Option<Vec<_>> = {
            let known = self.known.lock();
            let of = |input: &Input| {
                let before = ahead.get(&(group.id.clone(), input.topic.clone(), input.partition));
                before
                    .map(|next| Committed::At(*next))
                    .or_else(|| known.committed(group, &input.topic, input.partition))
            };
            inputs.iter().map(of).collect()
        };
        let committed = match known {
            Some(known) => known,
            None => {
                self.read(group, inputs, placed.deadline.saturating_duration_since(Instant::now())).await?
            }
        };
        let known = self.known.lock();
        let mut pairs = inputs.iter().zip(&committed);
        let skips = |(input, committed): (&Input, &Committed)| {
            *committed == Committed::Nothing && known.follows_failed(group, input)
        };
        if let Some(input) = pairs.position(skips) {
            return Ok(Decision::Mismatch { input, committed: Committed::Nothing });
        }
        Ok(decide(inputs, &committed))
    }

    /// Asks Kafka for the committed offsets of a unit's inputs, on a thread where that may block.
    pub(super) async fn read(
        &self,
        group: &Group,
        inputs: &[Input],
        wait: Duration,
    ) -> Result<Vec<Committed>, Failure> {
        let (committed, id) = (self.committed.clone(), group.id.clone());
        let partitions: Vec<_> = inputs.iter().map(|input| (input.topic.clone(), input.partition)).collect();
        let wait = wait.min(Duration::from_millis(OFFSETS_MS_MAX));
        let asked = tokio::task::spawn_blocking(move || {
            let partitions: Vec<_> =
                partitions.iter().map(|(topic, partition)| (topic, *partition)).collect();
            committed.read(&id, &partitions, wait)
        });
        asked.await.unwrap_or_else(|_| Err(super::lost()))
    }

    /// Answers a unit that never was in a transaction.
    fn answer(&self, unit: Started, answer: Answer) {
        if answer.is_err() {
            self.known.lock().note_failed(&unit.item.placed.unit);
        }
        self.schedule.lock().end(unit.number);
        outcome::tell(unit.item, answer);
        self.changed.notify_one();
    }
}
