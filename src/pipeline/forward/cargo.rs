//! Owns the work of one transaction, made of its units, and where in it each unit is.
//! Must never name a partition of a group twice: Kafka would keep the last, in an order of its own.

use std::sync::Arc;

use super::lanes::Started;
use crate::kafka::lane::{Culprit, Work, WorkOffsets};

/// Where in the work each unit is.
pub struct Cargo {
    /// The work.
    pub work: Arc<Work>,
    /// For each entry of the work's offsets, the units whose they are.
    pub of_offsets: Vec<Vec<usize>>,
    /// For each record, its unit and its place there.
    pub of_records: Vec<(usize, usize)>,
    /// How many units there are.
    pub units: usize,
}

impl Cargo {
    /// Makes one transaction's work of units: one entry for each group and consumer, in it each partition once, with the offset
    /// of the last unit that names it.
    pub fn load(units: &[Started]) -> Self {
        let mut offsets: Vec<WorkOffsets> = Vec::new();
        let mut of_offsets: Vec<Vec<usize>> = Vec::new();
        let (mut records, mut of_records) = (Vec::new(), Vec::new());
        for (place, unit) in units.iter().enumerate() {
            let placed = &unit.item.placed;
            if let Some(group) = &placed.unit.group {
                let found = offsets.iter().position(|entry| entry.group == *group);
                let entry = found.unwrap_or_else(|| {
                    offsets.push(WorkOffsets { group: group.clone(), offsets: Vec::new() });
                    of_offsets.push(Vec::new());
                    offsets.len() - 1
                });
                of_offsets[entry].push(place);
                for input in &placed.unit.inputs {
                    let of_entry = &mut offsets[entry].offsets;
                    of_entry.retain(|(topic, partition, ..)| {
                        (topic, *partition) != (&input.topic, input.partition)
                    });
                    of_entry.push((input.topic.clone(), input.partition, input.next, input.metadata.clone()));
                }
            }
            for (output, record) in placed.unit.outputs.iter().enumerate() {
                records.push((record.clone(), placed.partitions.get(output).copied().unwrap_or(0)));
                of_records.push((place, output));
            }
        }
        Self { work: Arc::new(Work { offsets, records }), of_offsets, of_records, units: units.len() }
    }
    /// Returns whether the culprit is an entry of offsets, and those of the unit at that place are in it.
    pub fn is_of_offsets(&self, culprit: Culprit, place: usize) -> bool {
        matches!(culprit, Culprit::Offsets(entry)
            if self.of_offsets.get(entry).is_some_and(|of| of.contains(&place)))
    }
}
