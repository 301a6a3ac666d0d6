//! Lanes over the real cluster, and what librdkafka does alone: what is committed is there with its offsets, what is aborted
//! is not, whatever a coordinator carries out late, and however long it takes.
//!
//! All but `lanes`, `codes` and `forbidden` break something, and run alone.

pub mod alone;
pub mod codes;
pub mod copier;
pub mod counted;
pub mod deadlines;
pub mod forbidden;
pub mod forgotten;
pub mod frozen;
pub mod hanging;
pub mod lanes;
pub mod late;
pub mod moved;
pub mod swept;
pub mod waits;

use std::{collections::BTreeMap, sync::Arc, thread, time::Duration};

use producer_sidecar::{
    config::{
        Config, Purpose,
        source::{self, Environment, Inputs},
    },
    kafka::{
        access::Access,
        ffi::committed_offsets,
        lane::{Culprit, Ended, Lane, LaneSettings, LaneState, Work, WorkOffsets},
        transaction::CallError,
    },
    offsets::{Group, Membership},
    record::{Record, Topic},
    telemetry::metrics::Metrics,
};
use rdkafka::{ClientConfig, consumer::BaseConsumer};
use testkit::{Cluster, eventually, read_topic};

use crate::client::run;

/// How long a step may take on a busy machine.
const STEP: Duration = Duration::from_secs(20);
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(60);

/// A transaction's time-out where a test waits for it: the shortest that may be set.
const SHORT_TIMEOUT_MS: &str = "15000";
/// How long a request may take where a test waits for that; longer than a busy machine takes for one.
const SOCKET_TIMEOUT_MS: &str = "3000";
/// A client of which requests and transactions end soon, save what is set for it besides.
const IMPATIENT: [(&str, &str); 2] = [
    ("SIDECAR_TRANSACTIONS_TIMEOUT_MS", SHORT_TIMEOUT_MS),
    ("SIDECAR_KAFKA_SOCKET_TIMEOUT_MS", SOCKET_TIMEOUT_MS),
];

/// The settings of a sidecar that calls itself so.
pub fn config(id: &str, settings: &[(&str, &str)]) -> Config {
    let cluster = Cluster::shared();
    let brokers = cluster.bootstrap_proxied();
    let variables = [
        ("KAFKA_BROKERS", brokers.as_str()),
        ("KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT"),
        ("KAFKA_USER", cluster.user()),
        ("KAFKA_PASSWORD", cluster.password()),
        ("KAFKA_CLIENT_ID", id),
        ("HOSTNAME", "it"),
    ];
    // A later setting replaces an earlier one, as in a process's environment.
    let variables: BTreeMap<_, _> = variables.into_iter().chain(settings.iter().copied()).collect();
    let environment = Environment::of(variables);
    let inputs = Inputs { config: None, flags: &[], environment: &environment };
    source::load(inputs, Purpose::Serve).unwrap().config
}

/// librdkafka's properties, as a sidecar with these settings gives them to a lane.
fn properties(id: &str, settings: &[(&str, &str)]) -> Vec<(String, String)> {
    Access::fixed(&config(id, settings)).lane(id)
}

/// A lane that is ready.
fn lane(id: &str) -> Lane {
    let settings = LaneSettings {
        access: Access::fixed(&config(id, &[])),
        id: id.to_owned(),
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

pub fn record(topic: &str, value: &str) -> (Record, i32) {
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

/// Runs a body for each item at once, on a thread whose name says which one fails; returns what they return.
fn at_once<T, R>(items: impl IntoIterator<Item = (String, T)>, body: impl Fn(T) -> R + Sync) -> Vec<R>
where
    T: Send,
    R: Send,
{
    let body = &body;
    thread::scope(|scope| {
        let started: Vec<_> = items
            .into_iter()
            .map(|(name, item)| {
                let thread = thread::Builder::new().name(name);
                thread.spawn_scoped(scope, move || body(item)).unwrap()
            })
            .collect();
        started.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// Waits until the coordinator has brought an id's transaction to its end.
fn wait_ended(transactional_id: &str, bound: Duration) {
    let what = format!("the end of {transactional_id}'s transaction");
    eventually(bound, &what, || (!Cluster::shared().is_open(transactional_id)).then_some(()));
}
