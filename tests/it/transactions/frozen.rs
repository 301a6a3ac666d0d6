//! Transactions that Kafka's own time-out overtakes: at a frozen coordinator, a frozen leader, or held before the brokers. The
//! units are answered within their deadlines, nobody is taken for fenced, and the lanes work on.

use std::thread;

use testkit::{ApiKey, Cluster};

use super::{STEP, alone::Alone, at_once, copier::Copier, wait_ended};

crate::tests!(transactions_older_than_their_time_out_are_not_fenced);

/// The transactions' time-out in milliseconds; `FROZEN_TRANSACTION_MS=60000` makes it a long run, with the default one.
fn timeout_ms() -> String {
    std::env::var("FROZEN_TRANSACTION_MS").unwrap_or_else(|_| super::SHORT_TIMEOUT_MS.to_owned())
}

/// Makes topics until one is as it is wanted.
fn topic_where(is_so: impl Fn(&str) -> bool) -> String {
    let mut topics = (0..50).map(|_| Cluster::shared().create_topic("frozen", 1, &[]));
    topics.find(|topic| is_so(topic)).expect("one of fifty is on the right node")
}

fn transactions_older_than_their_time_out_are_not_fenced() {
    let cluster = Cluster::shared();
    cluster.spread_leaders();
    let source = cluster.create_topic("frozen-in", 1, &[]);
    let timeout = timeout_ms();
    let settings = [("SIDECAR_TRANSACTIONS_TIMEOUT_MS", timeout.as_str())];
    let coordinator = |topic: &str| cluster.transaction_coordinator(&format!("caas-gateway.{topic}.0"));
    let by_coordinator = cluster.create_topic("frozen", 1, &[]);
    let node = coordinator(&by_coordinator);
    let by_leader = topic_where(|topic| cluster.leader(topic, 0) == node && coordinator(topic) != node);
    let elsewhere = || topic_where(|topic| cluster.leader(topic, 0) != node && coordinator(topic) != node);
    // What is held of each, and whether that is let go as soon as the node is frozen.
    let plan = [
        (by_coordinator, ApiKey::EndTxn, true),
        (by_leader, ApiKey::Produce, true),
        (elsewhere(), ApiKey::EndTxn, false),
        (elsewhere(), ApiKey::Produce, false),
    ];
    let named = plan
        .map(|(topic, key, is_frozen)| (format!("{key:?}, frozen: {is_frozen}"), (topic, key, is_frozen)));
    let mut copiers = at_once(named, |(topic, key, is_frozen)| {
        (Copier::start_with(&source, &topic, &settings), key, is_frozen)
    });
    let handles: Vec<_> =
        copiers.iter().map(|(copier, key, is_frozen)| (copier.faults.clone(), *key, *is_frozen)).collect();
    let reference_name = topic_where(|topic| {
        cluster.leader(topic, 0) != node && cluster.transaction_coordinator(topic) != node
    });
    let reference = Alone::start_with(reference_name, &settings);
    thread::scope(|scope| {
        handles.iter().for_each(|(faults, key, _)| faults.hold(*key));
        for (copier, ..) in &mut copiers {
            scope.spawn(|| copier.copy());
        }
        handles.iter().for_each(|(faults, key, _)| faults.wait_held(*key, STEP));
        // It is younger than all the others.
        let open = reference.open(1, "open").unwrap();
        cluster.freeze(node);
        handles.iter().filter(|handle| handle.2).for_each(|(faults, key, _)| faults.release(*key));
        let of_timeout = std::time::Duration::from_millis(timeout.parse().unwrap());
        wait_ended(&reference.name, of_timeout + 2 * STEP);
        cluster.thaw(node);
        handles.iter().for_each(|(faults, key, _)| faults.release(*key));
        drop(open.abort());
    });
    cluster.heal();
    let topics =
        at_once(copiers.into_iter().map(|cell| (cell.0.name.clone(), cell.0)), |mut copier: Copier| {
            copier.goes_on();
            copier.name
        });
    let topics: Vec<_> = topics.iter().map(String::as_str).collect();
    cluster.nothing_hangs(&topics);
}
