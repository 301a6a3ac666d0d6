//! Owns what a unit's caller is told: how a transaction's end becomes receipts or a failure.
//! Must never hold a lock or wait.

use super::{Answer, Forwarded, Placed, Waiting, counting};
use crate::{
    failure::{Failure, Reason},
    kafka::{classify, context::Delivered, lane::LaneState, transaction::CallError},
    offsets::Committed,
    pipeline::budget::End,
    record::{Receipt, Topic},
};

/// Tells a unit's caller, if it still listens, and counts the unit in any case.
pub fn tell(mut waiting: Waiting, answer: Answer) {
    counting::ended(&waiting.sender, &waiting.placed, &answer, waiting.tries > 0);
    waiting.spans.ends(answer.as_ref().err());
    waiting.placed.end(match &answer {
        Ok(told) if told.already_committed => End::Refused,
        Ok(_) => End::Delivered,
        Err(failure) => End::of(failure.reason()),
    });
    let told = match &answer {
        Ok(_) => "committed",
        Err(failure) => failure.reason().name(),
    };
    if waiting.answer.send(answer).is_err() {
        tracing::debug!(end = told, "a unit ended after its caller had gone away");
    }
}

/// Makes the answer of a unit whose outputs were delivered there.
pub fn committed(placed: &Placed, delivered: &[Delivered]) -> Answer {
    let outputs = placed.unit.outputs.iter().zip(&placed.partitions).zip(delivered);
    let receipts = outputs.map(|((record, partition), delivered)| Receipt {
        topic: record.topic.clone(),
        partition: *partition,
        offset: delivered.offset,
        timestamp_ms: delivered.timestamp_ms.unwrap_or(record.timestamp_ms),
        duplicate: false,
    });
    Ok(Forwarded { receipts: receipts.collect(), already_committed: false })
}

/// Makes the answer of a unit that an earlier call committed.
pub const fn already_committed() -> Answer {
    Ok(Forwarded { receipts: Vec::new(), already_committed: true })
}

/// Says that the sidecar stopped before the unit was in a transaction.
pub fn stopped() -> Failure {
    Failure::new(Reason::Draining, "the sidecar stopped before the unit's turn came")
}

/// Says that the group is elsewhere.
pub fn mismatch(placed: &Placed, input: usize, committed: Committed) -> Failure {
    let sentence = format!("the group has committed {committed} for the input, not what the unit expects");
    let failure =
        Failure::new(Reason::OffsetMismatch, sentence).field(format!("inputs[{input}].expected_offset"));
    let failure = match placed.unit.inputs.get(input) {
        Some(input) => failure.topic(&input.topic).partition(input.partition),
        None => failure,
    };
    match committed {
        Committed::At(offset) => failure.committed_offset(offset),
        Committed::Nothing => failure,
    }
}

/// Says what a record did to its transaction.
pub fn of_record(placed: &Placed, output: usize, error: &CallError) -> Failure {
    let failure =
        classify::aborted(error.code, "because of one of its records").field(format!("outputs[{output}]"));
    match placed.unit.outputs.get(output) {
        Some(record) => failure.topic(&record.topic),
        None => failure,
    }
}

/// Says that Kafka refused a group's offsets.
pub fn of_offsets(placed: &Placed, error: &CallError) -> Failure {
    let failure = classify::aborted(error.code, "because Kafka refused its offsets").field("group");
    naming(failure, error, placed.unit.inputs.iter().map(|input| &input.topic))
}

/// Says that the transaction was aborted and nothing in it is known to be at fault.
pub fn of_nobody(placed: &Placed, error: &CallError) -> Failure {
    let failure = classify::aborted(error.code, "and nothing of it is written for read_committed readers");
    naming(failure, error, placed.unit.outputs.iter().map(|output| &output.topic))
}

/// Names the topic that an error is about, where it can only be that one: librdkafka does not say which.
fn naming<'a>(failure: Failure, error: &CallError, topics: impl Iterator<Item = &'a Topic>) -> Failure {
    let mut topics = topics.filter(|_| classify::is_of_topic(error.code));
    match topics.next() {
        Some(topic) if topics.all(|other| other == topic) => failure.topic(topic),
        Some(_) | None => failure,
    }
}

/// Says that another producer has the lane's id.
pub fn fenced() -> Failure {
    let sentence =
        "another producer has this sidecar's transactional id; give each sidecar an instance id of its own";
    Failure::new(Reason::ProducerFenced, sentence)
}

/// Says that the commit's outcome is not known.
pub fn unknown(error: &CallError) -> Failure {
    let name = error.code.name();
    let sentence = format!(
        "the commit was asked for and not answered ({name}); send the same unit again to learn its end"
    );
    Failure::new(Reason::CommitUnknown, sentence).kafka_error(name)
}

/// Says that a transaction did not come back, and that its offsets do not tell.
pub fn unanswered() -> Failure {
    let sentence = "the transaction did not come back in time; send the same unit again to learn its end";
    Failure::new(Reason::CommitUnknown, sentence)
}

/// Says why a lane takes nothing, where that is known and lasts.
pub fn of_state(state: &LaneState) -> Option<Failure> {
    match state {
        LaneState::Ready | LaneState::Initialising(None) => None,
        LaneState::Initialising(Some(error)) => {
            let failure = classify::aborted(error.code, "before it began");
            let lasts = matches!(failure.reason(), Reason::NotAuthorized | Reason::KafkaAuthenticationFailed);
            let sentence = format!("no transactional producer is ready: {}", error.code);
            Some(if lasts { failure } else { Failure::new(Reason::BrokersUnavailable, sentence) })
        }
        LaneState::Fenced => Some(fenced()),
        LaneState::Broken(words) => {
            let sentence = format!(
                "no transactional producer could be made, and the sidecar tries again: {words}; check the \
                 settings and the files that they name"
            );
            Some(Failure::new(Reason::BrokersUnavailable, sentence))
        }
    }
}
