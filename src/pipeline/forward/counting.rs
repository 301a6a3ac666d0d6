//! Owns the count of units' outputs by how they ended.
//! Must never count a unit before its end is known, nor one twice: whoever takes it out, or tells its answer, counts it.

use super::{Answer, Placed};
use crate::{failure::Reason, offsets::Unit, pipeline::send::Sender};

/// Counts the outputs of a unit that was answered, be its caller there to hear it or not. `ran` tells whether it was in a
/// transaction of this process.
pub(super) fn ended(sender: &Sender, placed: &Placed, answer: &Answer, ran: bool) {
    match answer {
        // Another call wrote and counted them; what this one wrote before its commit's answer was lost, nobody did.
        Ok(told) if told.already_committed && !ran => {}
        Ok(_) => {
            for output in &placed.unit.outputs {
                sender.metrics_of(&output.topic).success();
            }
        }
        Err(failure) => failed(sender, &placed.unit, failure.reason()),
    }
}

/// Counts the outputs of a unit that is not committed.
pub(super) fn failed(sender: &Sender, unit: &Unit, reason: Reason) {
    for output in &unit.outputs {
        sender.metrics_of(&output.topic).error();
    }
    // Nobody is answered, who would count it.
    if reason == Reason::CancelledByCaller {
        sender.metrics().failure(reason);
    }
}
