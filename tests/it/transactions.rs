//! Lanes over the real cluster, and what librdkafka does alone: what is committed is there with its offsets, what is aborted
//! is not, whatever a coordinator carries out late, and however long it takes.
//!
//! All but `lanes` break something, and run alone.

pub mod hanging;
pub mod lanes;
pub mod late;

use std::{sync::Arc, time::Duration};

use producer_sidecar::{
    config::{
        Purpose, librdkafka,
        source::{self, Environment, Inputs},
    },
    kafka::{
        ffi::committed_offsets,
        lane::{Culprit, Ended, Lane, LaneSettings, LaneState, Work, WorkOffsets},
        transaction::CallError,
    },
    offsets::{Group, Membership},
    record::{Record, Topic},
};
use rdkafka::{ClientConfig, consumer::BaseConsumer};
use testkit::{Cluster, eventually, read_topic};

use crate::client::run;

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
