//! Coordinators of groups that move while the brokers that they leave stay up, as when leaders go back to where they are
//! preferred after a rolling restart.

use std::time::{Duration, Instant};

use testkit::Cluster;

use super::copier::Copier;

crate::tests!(a_group_whose_coordinator_moves_is_asked_at_the_new_one);

/// More moves than there are brokers: what is remembered of one may be right again.
const MOVES: usize = 4;
/// Far less than a call's deadline, when a sidecar that asks the old one gives up.
const SOON: Duration = Duration::from_secs(12);
const OFFSETS: &str = "__consumer_offsets";

fn a_group_whose_coordinator_moves_is_asked_at_the_new_one() {
    let cluster = Cluster::shared();
    // Its partitions are assigned by hand: the sidecar asks for what is committed before each unit.
    let mut copier = Copier::start(&cluster.create_topic("moved-in", 1, &[]));
    for _ in 0..MOVES {
        cluster.move_leaders(OFFSETS);
        let moved = Instant::now();
        copier.goes_on();
        assert!(moved.elapsed() < SOON, "{:?}", moved.elapsed());
    }
}
