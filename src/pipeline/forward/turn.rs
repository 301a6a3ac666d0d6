//! Owns the last look at units whose turn has come: whether each still has to run.
//! Must never run a unit whose group is elsewhere than it expects, nor let one group's coordinator hold up other groups' units.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::time::{Instant, timeout_at};

use super::{
    Answer, Forwarder, Placed,
    lanes::Started,
    outcome,
    seen::{Asked, Reading, Seen},
};
use crate::{
    failure::{Failure, Reason},
    offsets::{Committed, Decision, Input, decide},
    record::Topic,
};

/// How long a lane waits for committed offsets; the units of groups that take longer wait elsewhere.
const READ_MS_MAX: u64 = 200;

impl Forwarder {
    /// Answers the units that need not or must not run; `None` where none is left.
    pub(super) async fn still_to_run(self: &Arc<Self>, units: Vec<Started>) -> Option<Vec<Started>> {
        let (mut seen, mut pending) = self.look(&units).await;
        let mut left = Vec::with_capacity(units.len());
        let mut elsewhere: HashMap<String, Vec<Started>> = HashMap::new();
        for unit in units {
            let group = unit.item.placed.compared_group().filter(|group| pending.contains_key(*group));
            match group.map(str::to_owned) {
                Some(group) => elsewhere.entry(group).or_default().push(unit),
                None => left.extend(self.decide(unit, &mut seen)),
            }
        }
        for (group, units) in elsewhere {
            if let Some(reading) = pending.remove(&group) {
                self.wait_elsewhere(units, reading);
            }
        }
        (!left.is_empty()).then_some(left)
    }

    /// Finds what the groups of these units have committed: known, or asked for; and the groups that have not answered yet.
    async fn look(&self, units: &[Started]) -> (Seen, HashMap<String, Reading>) {
        let (mut seen, mut pending) = (Seen::default(), HashMap::new());
        let asked = {
            let known = self.known.lock();
            Asked::of(units, |group, input| {
                let committed = known.committed(group, &input.topic, input.partition);
                committed.map(|committed| seen.note_known(group, input, committed)).is_none()
            })
        };
        let wait = |group: &str| {
            let of_group = units.iter().filter(|unit| unit.item.placed.compared_group() == Some(group));
            let last = of_group.map(|unit| unit.item.placed.deadline).max();
            last.map(|last| last.saturating_duration_since(Instant::now())).unwrap_or_default()
        };
        let by = Instant::now() + Duration::from_millis(READ_MS_MAX);
        for (group, partitions, mut reading) in asked.read(self, wait) {
            match timeout_at(by, &mut reading).await {
                Ok(read) => seen.note(group, partitions, read.unwrap_or_else(|_| Err(super::lost()))),
                Err(_) => drop(pending.insert(group, reading)),
            }
        }
        (seen, pending)
    }

    /// Takes a unit into the transaction, or answers it.
    fn decide(&self, unit: Started, seen: &mut Seen) -> Option<Started> {
        let placed = Arc::clone(&unit.item.placed);
        if !unit.item.stage.enter() {
            // Its caller was told.
            self.end(&unit);
            return None;
        }
        let decision = match () {
            () if Instant::now() >= placed.deadline => {
                let sentence = "the deadline passed before the unit's turn came; it was taken out";
                Err(Failure::new(Reason::DeadlineNotWritten, sentence))
            }
            () => seen.committed_of(&placed).map(|committed| self.compare(&placed, committed)),
        };
        let answer = match decision {
            Ok(Decision::Run) => {
                if let Some(group) = &placed.unit.group {
                    seen.goes_on(group, &placed.unit.inputs);
                }
                return Some(unit);
            }
            Ok(Decision::AlreadyCommitted) => outcome::already_committed(),
            Ok(Decision::Mismatch { input, committed }) => Err(outcome::mismatch(&placed, input, committed)),
            Err(failure) => Err(failure),
        };
        self.answer(unit, answer);
        None
    }

    fn compare(&self, placed: &Placed, committed: Option<Vec<Committed>>) -> Decision {
        let (Some(committed), Some(group)) = (committed, &placed.unit.group) else { return Decision::Run };
        let inputs = &placed.unit.inputs;
        let known = self.known.lock();
        let mut pairs = inputs.iter().zip(&committed);
        let skips = |(input, committed): (&Input, &Committed)| {
            *committed == Committed::Nothing && known.follows_failed(group, input)
        };
        match pairs.position(skips) {
            Some(input) => Decision::Mismatch { input, committed: Committed::Nothing },
            None => decide(inputs, &committed),
        }
    }

    /// Lets units wait for their group's coordinator without a lane; their turn comes again once it has answered.
    fn wait_elsewhere(self: &Arc<Self>, units: Vec<Started>, reading: Reading) {
        let forwarder = Arc::clone(self);
        self.sender.tasks().spawn("unit waiting for offsets", async move {
            let read = tokio::select! {
                read = reading => read.unwrap_or_else(|_| Err(super::lost())),
                () = forwarder.draining.cancelled() => Err(outcome::stopped()),
            };
            match read {
                Ok(_) => forwarder.put_back(units),
                Err(failure) => {
                    for unit in units {
                        if unit.item.stage.enter() {
                            forwarder.answer(unit, Err(failure.clone()));
                        } else {
                            forwarder.end(&unit);
                        }
                    }
                }
            }
        });
    }

    /// Asks Kafka for committed offsets, on a thread where that may block.
    pub(super) fn read(&self, group: String, partitions: Vec<(Topic, i32)>, wait: Duration) -> Reading {
        let committed = self.committed.clone();
        tokio::task::spawn_blocking(move || {
            let partitions: Vec<_> =
                partitions.iter().map(|(topic, partition)| (topic, *partition)).collect();
            committed.read(&group, &partitions, wait)
        })
    }

    /// Answers a unit that never was in a transaction.
    fn answer(&self, unit: Started, answer: Answer) {
        if answer.is_err() {
            self.known.lock().note_failed(&unit.item.placed.unit);
        }
        self.end(&unit);
        outcome::tell(unit.item, answer);
    }

    fn end(&self, unit: &Started) {
        self.schedule.lock().end(unit.number);
        self.changed.notify_one();
    }
}
