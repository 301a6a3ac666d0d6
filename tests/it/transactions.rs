//! Lanes over the real cluster: what is committed is there with its offsets, what is aborted is not, and a request that a
//! coordinator carries out late does not touch the next transaction. The same with librdkafka alone shows that the tests tell.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use producer_sidecar::{
    config::{
        Purpose, librdkafka,
        source::{self, Environment, Inputs},
    },
    kafka::{
        ffi::{Transactional, committed_offsets},
        lane::{Culprit, Ended, Lane, LaneSettings, LaneState, Work, WorkOffsets},
        transaction::{CallError, GroupOffsets, OffsetToCommit, Transaction},
    },
    offsets::{Group, Membership},
    record::{Record, Topic},
    telemetry::metrics::Metrics,
};
use rdkafka::{ClientConfig, consumer::BaseConsumer};
use testkit::{ApiKey, Cluster, eventually, read_topic};

use crate::client::run;

crate::tests!(
    records_and_offsets_are_committed_together,
    a_bad_record_aborts_its_transaction_and_the_lane_works_on,
    a_stale_consumer_is_fenced_and_the_lane_works_on,
    a_second_lane_with_the_same_id_fences_the_first,
    a_late_commit_tears_the_next_transaction_of_librdkafka_alone,
    a_late_commit_does_not_touch_the_next_transaction_of_a_lane,
    late_offsets_go_back_with_librdkafka_alone,
    late_offsets_do_not_go_back_with_a_lane,
);

/// How long a step may take on a busy machine.
const STEP: Duration = Duration::from_secs(20);
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(60);

fn properties(id: &str) -> Vec<(String, String)> {
    let cluster = Cluster::shared();
    let brokers = cluster.bootstrap_proxied();
    let environment = Environment::of([
        ("KAFKA_BROKERS", brokers.as_str()),
        ("KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT"),
        ("KAFKA_USER", cluster.user()),
        ("KAFKA_PASSWORD", cluster.password()),
        ("HOSTNAME", "it"),
    ]);
    let inputs = Inputs { config: None, flags: &[], environment: &environment };
    let config = source::load(inputs, Purpose::Serve).unwrap().config;
    let properties = librdkafka::lane_properties(&config, id);
    properties.iter().map(|property| (property.name.clone(), property.expose().to_owned())).collect()
}

/// A lane that is ready.
fn lane(id: &str) -> Lane {
    let settings = LaneSettings {
        properties: properties(id),
        init_wait: STEP,
        step_wait: STEP,
        transaction_timeout: TRANSACTION_TIMEOUT,
        metrics: Metrics::new(1),
    };
    let lane = Lane::start("lane", settings).unwrap();
    wait_ready(&lane);
    lane
}

fn wait_ready(lane: &Lane) {
    let state = lane.watch();
    eventually(STEP, "the lane is ready", || (*state.borrow() == LaneState::Ready).then_some(()));
}

fn record(topic: &str, value: &str) -> (Record, i32) {
    let record = Record {
        topic: Topic::parse(topic).unwrap(),
        key: None,
        value: Some(value.as_bytes().to_vec().into()),
        headers: Vec::new(),
        partition: None,
        timestamp_ms: 1_700_000_000_000,
        message_id: None,
    };
    (record, 0)
}

fn work(records: &[(&str, &str)], offsets: Vec<WorkOffsets>) -> Arc<Work> {
    let records = records.iter().map(|(topic, value)| record(topic, value)).collect();
    Arc::new(Work { offsets, records })
}

fn offsets(group: &str, membership: Membership, topic: &str, next: i64) -> WorkOffsets {
    let group = Group { id: group.to_owned(), membership };
    WorkOffsets { group, offsets: vec![(Topic::parse(topic).unwrap(), 0, next, "beside".to_owned())] }
}

/// Runs a transaction to the point where nothing of it can happen any more.
fn finish(lane: &Lane, work: Arc<Work>) -> Ended {
    run(async {
        let progress = lane.run(work);
        let ended = progress.ended.await.unwrap();
        progress.settled.await.unwrap();
        ended
    })
}

fn values(topic: &str) -> Vec<String> {
    let read = read_topic(Cluster::shared(), topic).into_iter();
    read.map(|record| String::from_utf8(record.value.unwrap()).unwrap()).collect()
}

/// The committed offset of partition 0, which is below zero where there is none.
fn committed(group: &str, topic: &str) -> i64 {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", Cluster::shared().bootstrap_plaintext()).set("group.id", "nobody");
    let consumer: BaseConsumer = config.create().unwrap();
    let topic = Topic::parse(topic).unwrap();
    eventually(STEP, "the committed offset is stable", || {
        committed_offsets(&consumer, group, &[(&topic, 0)], STEP).ok()?.pop()?.ok()
    })
}

fn aborted(ended: Ended) -> (Culprit, CallError) {
    let Ended::Aborted(culprit, error) = ended else { panic!("{ended:?}") };
    (culprit, error)
}

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
    // The markers are written after the answer.
    eventually(STEP, "the records are visible", || (values(&output) == ["a", "b"]).then_some(()));
    assert_eq!(committed(&output, &input), 7);
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

/// Holds the next request of a type back, closes its connection, and returns once the client has asked again.
fn held_back(key: ApiKey, asking: impl FnOnce() + Send) {
    let cluster = Cluster::shared();
    for proxy in cluster.proxies() {
        proxy.hold_next(key, 1);
    }
    thread::scope(|scope| {
        let asked = scope.spawn(asking);
        let held =
            eventually(STEP, "a held request", || cluster.proxies().find(|proxy| proxy.holding(key) > 0));
        held.hang_up();
        // The second request passes: its broker's hold is spent, and the coordinator did not move.
        asked.join().unwrap();
    });
    // Those of the other brokers must not catch a later request.
    for proxy in cluster.proxies() {
        proxy.hold_next(key, 0);
    }
}

/// How many late requests for offsets the brokers have answered to nobody.
fn late_answers() -> u64 {
    Cluster::shared().proxies().map(|proxy| proxy.counts(ApiKey::TxnOffsetCommit).answered_late).sum()
}

fn release() {
    for proxy in Cluster::shared().proxies() {
        proxy.release();
    }
}

fn a_late_commit_tears_the_next_transaction_of_librdkafka_alone() {
    let cluster = Cluster::shared();
    let output = cluster.create_topic("txn-torn", 1, &[]);
    let doubt = Arc::<AtomicBool>::default();
    let producer = Transactional::start(&properties(&output), &doubt).unwrap();
    producer.init(STEP).unwrap();
    let send = |serial, value: &str| {
        let mut open = Transaction::begin(&producer, serial).unwrap();
        let (record, partition) = record(&output, value);
        open.send(&record, partition).unwrap();
        open.delivered(STEP).unwrap();
        open
    };
    let first = send(1, "first");
    held_back(ApiKey::EndTxn, || first.commit().map_err(|failed| failed.0).unwrap());
    assert!(doubt.load(Ordering::Acquire), "the interceptor has seen it");
    let second = send(2, "aborted");
    release();
    eventually(STEP, "the late commit shows", || {
        values(&output).contains(&"aborted".to_owned()).then_some(())
    });
    // Whatever the abort answers, the record is out.
    drop(second.abort());
    cluster.heal();
}

fn a_late_commit_does_not_touch_the_next_transaction_of_a_lane() {
    let cluster = Cluster::shared();
    let output = cluster.create_topic("txn-whole", 1, &[("max.message.bytes", "10000")]);
    let lane = lane(&output);
    held_back(ApiKey::EndTxn, || {
        assert!(matches!(finish(&lane, work(&[(&output, "first")], Vec::new())), Ended::Committed(_)));
    });
    wait_ready(&lane);
    // The next transaction is open while the late commit arrives: its one record waits before the broker.
    for proxy in cluster.proxies() {
        proxy.hold_next(ApiKey::Produce, 1);
    }
    let large = "x".repeat(20_000);
    let ended = thread::scope(|scope| {
        let second = scope.spawn(|| finish(&lane, work(&[(&output, &large)], Vec::new())));
        eventually(STEP, "a held Produce", || {
            cluster.proxies().any(|proxy| proxy.holding(ApiKey::Produce) > 0).then_some(())
        });
        release();
        second.join().unwrap()
    });
    aborted(ended);
    assert!(matches!(finish(&lane, work(&[(&output, "third")], Vec::new())), Ended::Committed(_)));
    cluster.heal();
    assert_eq!(values(&output), ["first", "third"]);
}

fn late_offsets_go_back_with_librdkafka_alone() {
    let cluster = Cluster::shared();
    let input = cluster.create_topic("txn-back", 1, &[]);
    let doubt = Arc::<AtomicBool>::default();
    let producer = Transactional::start(&properties(&input), &doubt).unwrap();
    producer.init(STEP).unwrap();
    let begin = |serial, next| {
        let mut open = Transaction::begin(&producer, serial).unwrap();
        let of_group = offsets(&input, Membership::Manual, &input, next);
        let (topic, partition, next, metadata) = &of_group.offsets[0];
        let offset = OffsetToCommit { topic, partition: *partition, next: *next, metadata };
        open.offsets(&GroupOffsets { group: &of_group.group, offsets: vec![offset] }, STEP).unwrap();
        open
    };
    let commit = |open: Transaction<'_>| open.commit().map_err(|failed| failed.0).unwrap();
    held_back(ApiKey::TxnOffsetCommit, || commit(begin(1, 1)));
    assert!(doubt.load(Ordering::Acquire), "the interceptor has seen it");
    assert_eq!(committed(&input, &input), 1);
    let second = begin(2, 2);
    let answered = late_answers();
    release();
    eventually(STEP, "the late request is carried out", || (late_answers() > answered).then_some(()));
    commit(second);
    cluster.heal();
    assert_eq!(committed(&input, &input), 1, "it was 2");
}

fn late_offsets_do_not_go_back_with_a_lane() {
    let cluster = Cluster::shared();
    let input = cluster.create_topic("txn-forth", 1, &[]);
    let lane = lane(&input);
    let to = |next| work(&[], vec![offsets(&input, Membership::Manual, &input, next)]);
    held_back(ApiKey::TxnOffsetCommit, || {
        assert!(matches!(finish(&lane, to(1)), Ended::Committed(_)));
    });
    wait_ready(&lane);
    // The second is open, with its offset, while the late request arrives: its commit waits before the broker.
    for proxy in cluster.proxies() {
        proxy.hold_next(ApiKey::EndTxn, 1);
    }
    thread::scope(|scope| {
        let second = scope.spawn(|| finish(&lane, to(2)));
        eventually(STEP, "a held EndTxn", || {
            cluster.proxies().any(|proxy| proxy.holding(ApiKey::EndTxn) > 0).then_some(())
        });
        release();
        assert!(matches!(second.join().unwrap(), Ended::Committed(_)));
    });
    cluster.heal();
    assert_eq!(committed(&input, &input), 2);
    assert!(matches!(finish(&lane, to(3)), Ended::Committed(_)));
    assert_eq!(committed(&input, &input), 3);
}
