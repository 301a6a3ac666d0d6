//! A copy job through ProcessAndForward, its consumers in a real group, while the sidecar is killed, brokers die and freeze,
//! consumers come and go and callers do odd things: the output is exactly the input, once, and the offsets are at the end.
//!
//! Short by default. `COPY_RECORDS` (in all partitions together) makes every job a long one under both protocols; `COPY_SEED`
//! decides what is left to chance.

mod call;
mod checker;
mod consumer;
mod faults;
mod input;
mod job;
mod part;
mod stale;
mod watch;

use self::{
    call::Manner,
    job::{Job, Plan, Protocol},
};
crate::tests!(
    a_copy_job_undisturbed,
    a_copy_job_through_sidecars_killed_again_and_again,
    a_copy_job_through_brokers_killed_in_turn,
    a_copy_job_through_frozen_brokers,
    a_copy_job_with_consumers_joining_and_leaving,
    a_copy_job_with_callers_that_cancel,
    a_copy_job_whose_units_are_sent_twice,
    a_copy_job_through_lost_answers_of_coordinators,
);

/// How large the jobs are.
#[derive(Clone, Copy)]
struct Form {
    is_long: bool,
    seed: u64,
    /// The records of each partition.
    records: usize,
    unit_records_max: usize,
    sidecar_kills: usize,
    broker_kills: usize,
    freezes_seconds: &'static [u64],
    moves: usize,
}

fn form() -> Form {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seed = number("COPY_SEED").unwrap_or(1);
    let short = Form {
        is_long: false,
        seed,
        records: 150,
        unit_records_max: 5,
        sidecar_kills: 3,
        broker_kills: 3,
        freezes_seconds: &[5],
        moves: 4,
    };
    let Some(records) = number("COPY_RECORDS") else { return short };
    let partitions = u64::try_from(input::PARTITIONS).unwrap();
    Form {
        is_long: true,
        records: usize::try_from(records.div_ceil(partitions)).unwrap(),
        unit_records_max: 20,
        sidecar_kills: 12,
        broker_kills: 8,
        freezes_seconds: &[5, 35, 70, 5, 35, 70],
        moves: 16,
        ..short
    }
}

/// Runs a job under one protocol, or in the long form under all.
fn copy(name: &'static str, short: Protocol, sidecars: usize, manner: Manner, fault: fn(&Job)) {
    let all = [Protocol::Classic, Protocol::Cooperative, Protocol::Kip848];
    for protocol in all.into_iter().filter(|protocol| form().is_long || *protocol == short) {
        Job::run(Plan { name, protocol, manner, sidecars }, fault);
    }
}

fn a_copy_job_undisturbed() {
    copy("undisturbed", Protocol::Kip848, 1, Manner::default(), |_| ());
}

fn a_copy_job_through_sidecars_killed_again_and_again() {
    copy("sidecars killed", Protocol::Classic, 2, Manner::default(), faults::sidecars_killed);
}

fn a_copy_job_through_brokers_killed_in_turn() {
    copy("brokers killed", Protocol::Classic, 1, Manner::default(), faults::brokers_killed);
}

fn a_copy_job_through_frozen_brokers() {
    copy("brokers frozen", Protocol::Kip848, 1, Manner::default(), faults::brokers_frozen);
}

fn a_copy_job_with_consumers_joining_and_leaving() {
    copy("joining and leaving", Protocol::Classic, 2, Manner::default(), faults::joining_and_leaving);
}

fn a_copy_job_with_callers_that_cancel() {
    let manner = Manner { cancels: 0.5, ..Manner::default() };
    copy("cancelled", Protocol::Kip848, 1, manner, |_| ());
}

fn a_copy_job_whose_units_are_sent_twice() {
    let manner = Manner { twice: 0.5, once_more: 0.3, ..Manner::default() };
    copy("sent twice", Protocol::Cooperative, 1, manner, |_| ());
}

fn a_copy_job_through_lost_answers_of_coordinators() {
    copy("answers lost", Protocol::Cooperative, 1, Manner::default(), faults::answers_lost);
}
