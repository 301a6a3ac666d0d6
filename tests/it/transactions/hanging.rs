//! The check that nothing hangs, checked: an open transaction is found, wherever it shows.

use testkit::{Cluster, eventually};

use super::{STEP, alone::Alone};

crate::tests!(nothing_hangs_after_the_tests_that_run_together, an_open_transaction_is_seen_to_hang);

/// These are the first tests that run alone. Before them bad units failed among good ones, and sidecars fenced each other.
fn nothing_hangs_after_the_tests_that_run_together() {
    Cluster::shared().nothing_hangs_anywhere();
}

fn an_open_transaction_is_seen_to_hang() {
    let cluster = Cluster::shared();
    let alone = Alone::start("txn-open");
    let output = alone.name.as_str();
    cluster.nothing_hangs(&[output]);
    let open = alone.open(1, "open").unwrap();
    // Nobody ends it: it is seen by its coordinator, and by readers of the output and of the group's offsets.
    eventually(STEP, "all three are seen", || {
        let lines = cluster.what_hangs(&[output]);
        let sees = |what: &str| lines.iter().any(|line| line.contains(what));
        let coordinator_sees = sees(&format!("{output} of producer")) && sees("is Ongoing");
        let readers_see = sees(&format!("{output}/0 is stable to")) && sees("__consumer_offsets/");
        (coordinator_sees && readers_see).then_some(())
    });
    open.abort().unwrap();
    cluster.nothing_hangs(&[output]);
}
