//! Every promise through every fault: a mixed load of calls and streams, with and without message ids, of callers that send
//! again what failed, runs while something is broken and mended; then what callers were told, what Kafka holds and what the
//! process did is judged by `testkit::history`. One record in fifty is one that Kafka refuses, for its size, for want of a key or a
//! right, or of its topic: had Kafka judged those itself, others would be written twice (decision 0008).
//!
//! Short by default. `SURVIVAL_LONG=1` has the faults last longer and come more often; `SURVIVAL_SEED` decides what is left
//! to chance. These tests break the cluster and heal it.
//!
//! A fault is a function of `faults` that breaks, lets the load go on, mends, and ends with `Run::healed`; a test is one line.

mod callers;
mod drawn;
mod faults;
mod ledger;
mod run;
mod streams;

use self::{
    drawn::{Drawn, Topics},
    run::{Plan, Run},
};
use crate::client::{over_tls, through_proxies};

crate::tests!(
    a_seed_draws_the_same_load_each_time,
    brokers_crash_in_turn,
    all_brokers_are_away,
    brokers_freeze,
    acknowledgements_are_lost,
    the_network_is_a_black_hole_and_flaps,
    too_few_replicas_are_in_sync,
    leaders_move,
    sidecars_are_killed,
    sidecars_are_stopped,
    topics_change,
    access_is_taken_away_and_given_back,
    secrets_change_on_disk,
);

/// What is drawn is drawn from this, and nothing else; when things happen is left to the machine.
fn seed() -> u64 {
    std::env::var("SURVIVAL_SEED").ok().map_or(1, |text| text.parse().unwrap())
}

/// Chooses between what is run always and what is run for long.
fn form<T>(short: T, long: T) -> T {
    if std::env::var("SURVIVAL_LONG").is_ok_and(|long| long == "1") { long } else { short }
}

/// Over TLS, as in production, to topics that take less than the sidecar's batches may hold.
const DIRECT: Plan = Plan { start: over_tls, topic_configs: SMALL };
/// Over TLS, with the password, the authorities and the sidecar's certificate in files that change.
const WITH_FILES: Plan = Plan { start: faults::with_files, ..DIRECT };
/// Through the fault proxies.
const PROXIED: Plan = Plan { start: through_proxies, ..DIRECT };

/// Smaller than a run of this load after an outage, larger than any of its records but those that are to be refused.
const SMALL: &[(&str, &str)] = &[("max.message.bytes", "30000")];

fn a_seed_draws_the_same_load_each_time() {
    let [unknown, forbidden, compacted] = ["none", "readonly", "compacted"].map(ToOwned::to_owned);
    let topics = Topics { known: vec!["a".to_owned(), "b".to_owned()], unknown, forbidden, compacted };
    // In any order: what becomes of one decides nothing about the next.
    let load = |seed: u64| -> Vec<_> {
        let drawn =
            (0..1_000).rev().map(|number| Drawn::draw((seed, number), &topics, &number.to_string()).record());
        drawn.collect()
    };
    let forth: Vec<_> =
        (0..1_000).map(|number| Drawn::draw((1, number), &topics, &number.to_string()).record()).collect();
    let mut back = load(1);
    back.reverse();
    assert!(forth == back, "the same seed draws the same");
    assert!(load(1) != load(2), "another one draws others");
}

fn brokers_crash_in_turn() {
    Run::through(DIRECT, "brokers crash", faults::brokers_crash);
}

fn all_brokers_are_away() {
    Run::through(DIRECT, "all brokers away", faults::all_brokers_away);
}

fn brokers_freeze() {
    Run::through(DIRECT, "brokers freeze", faults::brokers_freeze);
}

fn acknowledgements_are_lost() {
    Run::through(PROXIED, "acknowledgements lost", faults::acknowledgements_lost);
}

fn the_network_is_a_black_hole_and_flaps() {
    Run::through(PROXIED, "black hole and flapping", |run| {
        faults::black_hole(run);
        faults::flapping(run);
    });
}

fn too_few_replicas_are_in_sync() {
    Run::through(DIRECT, "too few in sync", faults::too_few_in_sync);
}

fn leaders_move() {
    Run::through(DIRECT, "leaders move", faults::leaders_move);
}

fn sidecars_are_killed() {
    Run::through(DIRECT, "sidecars killed", faults::sidecars_killed);
}

fn sidecars_are_stopped() {
    Run::through(DIRECT, "sidecars stopped", faults::sidecars_stopped);
}

fn topics_change() {
    Run::through(DIRECT, "topics change", |run| {
        faults::partitions_added(run);
        faults::topic_deleted_and_made_again(run);
    });
}

fn access_is_taken_away_and_given_back() {
    Run::through(DIRECT, "access taken away", faults::access_taken_away);
}

fn secrets_change_on_disk() {
    Run::through(WITH_FILES, "secrets change", |run| {
        faults::password_rotated_twice(run);
        faults::authorities_replaced(run);
        faults::certificate_replaced(run);
    });
}
