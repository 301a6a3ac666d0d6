//! Owns what a unit needs before it may wait for its turn: its part of the budget, and the partitions of its outputs.
//! Must never let a unit wait that has not its part of the budget, nor look its topics up one after the other.

use std::{collections::HashSet, sync::Arc};

use futures_util::{StreamExt as _, stream};
use tokio::time::Instant;

use super::{Forwarder, Placed};
use crate::{
    failure::{Failure, Violation},
    offsets::Unit,
    record::Topic,
};

/// How many topics of one unit are looked up at the same time.
const LOOKUPS_MAX: usize = 64;

impl Forwarder {
    /// Takes a unit's part of the budget, chooses the partitions of its outputs, and checks that all topics are there: an unknown
    /// one would hold up a lane.
    pub(super) async fn place(&self, unit: &Arc<Unit>, deadline: Instant) -> Result<Placed, Failure> {
        let mut shares = Vec::with_capacity(unit.outputs.len());
        for (index, record) in unit.outputs.iter().enumerate() {
            let share = self.sender.share(record.queued_bytes());
            shares.push(share.map_err(|failure| failure.topic(&record.topic).field(output(index)))?);
        }
        self.look_up(unit, deadline).await?;
        let mut partitions = Vec::with_capacity(unit.outputs.len());
        for (index, record) in unit.outputs.iter().enumerate() {
            let placed = self.sender.locate(record, deadline).await;
            let within = |failure: Failure| failure.topic(&record.topic).within(&output(index));
            partitions.push(placed.map_err(within)?);
        }
        for (index, input) in unit.inputs.iter().enumerate() {
            let count = self.sender.partition_count(&input.topic, input.partition, deadline).await;
            let count = count.map_err(|failure| failure.topic(&input.topic))?;
            if u32::try_from(input.partition).map_or(true, |partition| partition >= count) {
                return Err(beyond(index, &input.topic, count));
            }
        }
        Ok(Placed { unit: Arc::clone(unit), partitions, deadline, shares })
    }

    /// Looks up the topics that are not known yet, at the same time; the first in the order of the unit that fails is told.
    async fn look_up(&self, unit: &Unit, deadline: Instant) -> Result<(), Failure> {
        let mut met = HashSet::new();
        let outputs = unit.outputs.iter().enumerate().map(|(index, record)| (&record.topic, Some(index)));
        let inputs = unit.inputs.iter().map(|input| (&input.topic, None));
        let topics = &self.sender.way().topics;
        let mut is_unknown = |topic: &Topic| met.insert(topic.clone()) && topics.found(topic).is_none();
        let unknown = outputs.chain(inputs).filter(|(topic, _)| is_unknown(topic));
        let unknown: Vec<_> = unknown.map(|(topic, index)| (topic.clone(), index)).collect();
        let look_up = |(topic, index): (Topic, Option<usize>)| async move {
            let found = self.sender.lookup(&topic, deadline).await;
            let failed = |failure: Failure| match index {
                Some(index) => failure.topic(&topic).within(&output(index)),
                None => failure.topic(&topic),
            };
            found.map(drop).map_err(failed)
        };
        let mut found = stream::iter(unknown.into_iter().map(look_up)).buffered(LOOKUPS_MAX);
        while let Some(found) = found.next().await {
            found?;
        }
        Ok(())
    }
}

/// Names an output.
fn output(index: usize) -> String {
    format!("outputs[{index}]")
}

fn beyond(index: usize, topic: &Topic, count: u32) -> Failure {
    let description = format!("must be less than the topic's {count} partitions");
    let field = format!("inputs[{index}].partition");
    Failure::invalid(vec![Violation { field, description }], 1).topic(topic)
}
