//! The integration tests: one binary, a module for each capability, one real Kafka cluster shared by all.
//!
//! Tests that break the cluster run one after another, behind all others; each ends by healing what it broke. One that
//! fails in the middle is healed after, so that those behind it say what is so of themselves.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that cannot go on fails, loudly"
)]

mod architecture;
mod around;
mod attacks;
mod batches;
mod client;
mod clients;
mod commands;
mod copy;
mod dead_letters;
mod debugging;
mod delivery;
mod deploy;
mod dev;
mod dlq;
mod duplicates;
mod failures;
mod fair;
mod faults;
mod forward;
mod healing;
mod malformed;
mod neighbours;
mod outage;
mod partitions;
mod retries;
mod rules;
mod secrets;
mod stopping;
mod stream_faults;
mod streams;
mod survival;
mod tls;
mod topics;
mod traces;
mod transactions;
mod wire;

use std::panic::{catch_unwind, resume_unwind};
use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use testkit::Cluster;

/// A test: its name and its body, which panics where it fails.
type Test = (&'static str, fn());

/// Tests that run beside each other.
const TOGETHER: &[&[Test]] = &[
    architecture::TESTS,
    around::contract::TESTS,
    around::health::TESTS,
    around::limits::TESTS,
    around::listening::TESTS,
    around::logs::TESTS,
    around::metrics::TESTS,
    batches::TESTS,
    commands::TESTS,
    dead_letters::TESTS,
    dead_letters::unwritten::TESTS,
    debugging::TESTS,
    delivery::TESTS,
    deploy::broker::TESTS,
    deploy::compose::TESTS,
    deploy::dashboard::TESTS,
    deploy::exported::TESTS,
    deploy::kubernetes::TESTS,
    deploy::lint::TESTS,
    deploy::rules::TESTS,
    dev::TESTS,
    dlq::TESTS,
    duplicates::TESTS,
    failures::TESTS,
    forward::TESTS,
    forward::apart::TESTS,
    healing::fatal::TESTS,
    healing::stuck::TESTS,
    malformed::TESTS,
    partitions::TESTS,
    rules::TESTS,
    secrets::TESTS,
    stopping::early::TESTS,
    stopping::hurried::TESTS,
    streams::TESTS,
    topics::TESTS,
    traces::TESTS,
    traces::export::TESTS,
    transactions::codes::TESTS,
    transactions::lanes::TESTS,
    transactions::forbidden::TESTS,
    wire::TESTS,
    wire::producing::TESTS,
];

/// Tests that break what others need, or measure; one after the other, in this order.
const ALONE: &[&[Test]] = &[
    attacks::ports::callers::TESTS,
    attacks::ports::files::TESTS,
    attacks::ports::probes::TESTS,
    attacks::ports::sockets::TESTS,
    transactions::hanging::TESTS,
    attacks::logs::TESTS,
    stopping::TESTS,
    stopping::bounded::TESTS,
    deploy::life::TESTS,
    faults::TESTS,
    retries::TESTS,
    stream_faults::TESTS,
    survival::TESTS,
    fair::TESTS,
    healing::TESTS,
    outage::TESTS,
    duplicates::alone::TESTS,
    dead_letters::alone::TESTS,
    rules::untold::TESTS,
    dlq::alone::TESTS,
    transactions::alone::TESTS,
    transactions::late::TESTS,
    transactions::counted::TESTS,
    transactions::waits::TESTS,
    transactions::moved::TESTS,
    transactions::frozen::TESTS,
    transactions::deadlines::TESTS,
    transactions::swept::TESTS,
    transactions::forgotten::TESTS,
    tls::TESTS,
    copy::TESTS,
    around::crowd::TESTS,
    around::outage::TESTS,
    attacks::memory::TESTS,
    attacks::neighbours::TESTS,
    clients::TESTS,
    clients::retrying::TESTS,
    clients::copy::TESTS,
];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let together = libtest_mimic::run(&arguments, trials(TOGETHER, || ()));
    client::end_shared_sidecar();
    let one_by_one = Arguments { test_threads: Some(1), ..arguments };
    let alone = libtest_mimic::run(&one_by_one, trials(ALONE, heal));
    Cluster::shutdown_shared();
    if together.has_failed() || alone.has_failed() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Tests, and what is to be done after one that failed.
fn trials(modules: &[&'static [Test]], after_failure: fn()) -> Vec<Trial> {
    let tests = modules.iter().flat_map(|tests| tests.iter());
    tests
        .map(|(name, body)| {
            Trial::test(*name, move || match catch_unwind(body) {
                Ok(()) => Ok(()),
                Err(panic) => {
                    after_failure();
                    resume_unwind(panic)
                }
            })
        })
        .collect()
}

fn heal() {
    let healed = catch_unwind(|| Cluster::shared().heal());
    if healed.is_err() {
        eprintln!("the cluster is not whole after a failed test: those behind it may fail for that");
    }
}

/// Names the tests of a module after their functions.
#[macro_export]
macro_rules! tests {
    ($($name:ident),+ $(,)?) => {
        /// The tests of this module.
        pub const TESTS: &[$crate::Test] = &[$((concat!(module_path!(), "::", stringify!($name)), $name)),+];
    };
}
