//! A lane left alone: commits, aborts, fencing.

use std::{fs, sync::Arc};

use producer_sidecar::{
    kafka::{
        access::Access,
        lane::{Culprit, Ended, Lane, LaneSettings, LaneState},
    },
    offsets::Membership,
    telemetry::metrics::Metrics,
};
use testkit::{Cluster, TestFolder, eventually};
use tokio::sync::watch;

use super::{
    STEP, TRANSACTION_TIMEOUT, aborted, committed, config, finish, lane, offsets, values, wait_ready, work,
};

crate::tests!(
    records_and_offsets_are_committed_together,
    a_bad_record_aborts_its_transaction_and_the_lane_works_on,
    a_stale_consumer_is_fenced_and_the_lane_works_on,
    a_second_lane_with_the_same_id_fences_the_first,
    a_lane_is_tried_again_while_a_file_of_its_settings_is_empty,
);

fn records_and_offsets_are_committed_together() {
    let cluster = Cluster::shared();
    let (input, output) = (cluster.create_topic("txn-in", 1, &[]), cluster.create_topic("txn-out", 1, &[]));
    let lane = lane(&output);
    assert!(committed(&output, &input) < 0);
    let commits = vec![offsets(&output, Membership::Manual, &input, 7)];
    let Ended::Committed(places) = finish(&lane, work(&[(&output, "a"), (&output, "b")], commits)) else {
        panic!("it is not committed")
    };
    assert_eq!(places.iter().map(|place| place.offset).collect::<Vec<_>>(), [Some(0), Some(1)]);
    assert_eq!((values(&output), committed(&output, &input)), (vec!["a".to_owned(), "b".to_owned()], 7));
    assert!(matches!(
        finish(&lane, work(&[], vec![offsets(&output, Membership::Manual, &input, 9)])),
        Ended::Committed(_)
    ));
    assert_eq!(committed(&output, &input), 9);
}

fn a_bad_record_aborts_its_transaction_and_the_lane_works_on() {
    let cluster = Cluster::shared();
    let input = cluster.create_topic("txn-in", 1, &[]);
    let output = cluster.create_topic("txn-small", 1, &[("max.message.bytes", "10000")]);
    let lane = lane(&output);
    let large = "x".repeat(20_000);
    let commits = || vec![offsets(&output, Membership::Manual, &input, 7)];
    let (culprit, _) = aborted(finish(&lane, work(&[(&output, "good"), (&output, &large)], commits())));
    assert_eq!(culprit, Culprit::Suspect(1), "a record too large takes its neighbours with it");
    let (culprit, _) = aborted(finish(&lane, work(&[(&output, &large)], commits())));
    assert_eq!(culprit, Culprit::Record(0));
    assert!(committed(&output, &input) < 0);
    assert!(matches!(finish(&lane, work(&[(&output, "after")], commits())), Ended::Committed(_)));
    assert_eq!((values(&output), committed(&output, &input)), (vec!["after".to_owned()], 7));
}

fn a_stale_consumer_is_fenced_and_the_lane_works_on() {
    let cluster = Cluster::shared();
    let (input, output) = (cluster.create_topic("txn-in", 1, &[]), cluster.create_topic("txn-out", 1, &[]));
    let lane = lane(&output);
    let stale = Membership::Member { generation: 3, member_id: "nobody-1".to_owned(), instance_id: None };
    let commits = vec![offsets(&output, Membership::Manual, &input, 1), offsets(&input, stale, &input, 5)];
    let (culprit, error) = aborted(finish(&lane, work(&[(&output, "stale")], commits)));
    assert_eq!(culprit, Culprit::Offsets(1), "{error}");
    assert!(matches!(finish(&lane, work(&[(&output, "after")], Vec::new())), Ended::Committed(_)));
    assert_eq!(values(&output), ["after"]);
    assert!(committed(&output, &input) < 0);
}

fn a_second_lane_with_the_same_id_fences_the_first() {
    let output = Cluster::shared().create_topic("txn-fenced", 1, &[]);
    let first = lane(&output);
    assert!(matches!(finish(&first, work(&[(&output, "first")], Vec::new())), Ended::Committed(_)));
    let second = lane(&output);
    let ended = finish(&first, work(&[(&output, "loser")], Vec::new()));
    assert!(matches!(ended, Ended::Fenced(_)), "{ended:?}");
    let state = first.watch();
    eventually(STEP, "the first has stopped", || (*state.borrow() == LaneState::Fenced).then_some(()));
    assert!(matches!(finish(&second, work(&[(&output, "second")], Vec::new())), Ended::Committed(_)));
    assert_eq!(values(&output), ["first", "second"]);
}

/// As while a CA file is renewed in place: it is empty for a moment, just when the lane's producer is replaced.
fn a_lane_is_tried_again_while_a_file_of_its_settings_is_empty() {
    let (cluster, folder) = (Cluster::shared(), TestFolder::new("renewed"));
    let output = cluster.create_topic("txn-renewed", 1, &[]);
    let authority = fs::read_to_string(cluster.ca_file()).unwrap();
    let file = folder.write("ca.pem", &authority);
    let path = file.display().to_string();
    let settings = [
        ("KAFKA_BROKERS", cluster.bootstrap_tls()),
        ("KAFKA_SECURITY_PROTOCOL", "SASL_SSL".to_owned()),
        ("KAFKA_CA_FILE", path),
    ];
    let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let config = Arc::new(config(&output, &settings));
    let (tell, followed) = watch::channel(Arc::clone(&config));
    let settings = LaneSettings {
        access: Access::following(followed, None),
        id: output.clone(),
        init_wait: STEP,
        step_wait: STEP,
        transaction_timeout: TRANSACTION_TIMEOUT,
        metrics: Metrics::new(1),
    };
    let lane = Lane::start("renewed", settings).unwrap();
    wait_ready(&lane);
    fs::write(&file, "").unwrap();
    tell.send_replace(Arc::new((*config).clone()));
    let state = lane.watch();
    eventually(STEP, "no producer can be made", || {
        matches!(*state.borrow(), LaneState::Broken(_)).then_some(())
    });
    fs::write(&file, authority).unwrap();
    wait_ready(&lane);
    assert!(matches!(finish(&lane, work(&[(&output, "after")], Vec::new())), Ended::Committed(_)));
    assert_eq!(values(&output), ["after"]);
}
