//! Error codes of brokers that librdkafka's enum lacks: each is an error, at whatever step it comes. A mock cluster answers with
//! them, because no broker at hand does.

use std::time::Duration;

use producer_sidecar::{
    kafka::{
        access::Access,
        ffi::{self, Transactional},
        lane::{Culprit, Ended, Lane, LaneSettings, LaneState},
    },
    offsets::Membership,
    record::Topic,
    telemetry::metrics::Metrics,
};
use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer as _},
};
use testkit::{ApiKey, Cluster, MockKafka, Sidecar, eventually};
use tonic::Code;

use super::{STEP, config, finish, offsets, work};
use crate::{
    client::{BINARY, READY, Refusal, connect, run, send, shared_address, text},
    forward::{forward, input, unit},
};

crate::tests!(
    a_code_that_the_enum_lacks_ends_a_transaction_at_every_step,
    a_code_that_the_enum_lacks_is_no_initialised_id,
    a_code_that_the_enum_lacks_is_not_nothing_committed,
    a_code_that_the_enum_lacks_is_no_topic,
    a_sidecar_tells_codes_that_the_enum_lacks,
    an_error_about_the_producer_replaces_it_at_every_step,
    offsets_that_are_too_large_are_not_to_be_sent_again,
    the_largest_commit_of_offsets_is_taken,
);

/// Codes that the enum of librdkafka 2.12.1 lacks, on both sides of its end.
const LACKING: [i32; 8] = [101, 105, 109, 119, 120, 128, 131, 300];
/// The requests of a transaction whose answers carry a code.
const STEPS: [ApiKey; 4] =
    [ApiKey::AddOffsetsToTxn, ApiKey::TxnOffsetCommit, ApiKey::AddPartitionsToTxn, ApiKey::EndTxn];

struct Mocked {
    kafka: MockKafka,
    bootstrap: String,
}

impl Mocked {
    fn start() -> Self {
        let kafka = MockKafka::start();
        for topic in ["in", "out"] {
            kafka.create_topic(topic, 1);
        }
        let bootstrap = kafka.bootstrap();
        Self { kafka, bootstrap }
    }

    fn access(&self, id: &str) -> Access {
        let settings = [("KAFKA_BROKERS", self.bootstrap.as_str()), ("KAFKA_SECURITY_PROTOCOL", "PLAINTEXT")];
        Access::fixed(&config(id, &settings))
    }

    fn lane(&self, id: &str) -> Lane {
        let settings = LaneSettings {
            access: self.access(id),
            id: id.to_owned(),
            init_wait: STEP,
            step_wait: STEP,
            transaction_timeout: super::TRANSACTION_TIMEOUT,
            metrics: Metrics::new(1),
        };
        let lane = Lane::start("mocked", settings).unwrap();
        let state = lane.watch();
        eventually(STEP, "the lane is ready", || (*state.borrow() == LaneState::Ready).then_some(()));
        lane
    }

    fn consumer(&self) -> BaseConsumer {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap).set("group.id", "nobody");
        config.create().unwrap()
    }

    fn sidecar(&self) -> Sidecar {
        let sidecar = Sidecar::builder(BINARY)
            .arg("serve")
            .env("KAFKA_BROKERS", &self.bootstrap)
            .env("KAFKA_SECURITY_PROTOCOL", "PLAINTEXT")
            .env("SIDECAR_TRANSACTIONS_LANES", "1")
            .start();
        sidecar.wait_ready(READY);
        sidecar
    }
}

/// A transaction with one of each.
fn transact(lane: &Lane, next: i64) -> Ended {
    finish(lane, work(&[("out", "value")], vec![offsets("group", Membership::Manual, "in", next)]))
}

fn a_code_that_the_enum_lacks_ends_a_transaction_at_every_step() {
    let mocked = Mocked::start();
    let lane = mocked.lane("codes");
    for key in STEPS.into_iter().chain([ApiKey::Produce]) {
        for code in LACKING {
            mocked.kafka.answer_next(key, &[code]);
            let ended = transact(&lane, 1);
            // Only what was asked of the commit itself may be unknown.
            let error = match ended {
                Ended::Aborted(_, error) => error,
                Ended::Unknown(error) if key == ApiKey::EndTxn => error,
                other @ (Ended::Committed(_) | Ended::Fenced(_) | Ended::Unknown(_)) => {
                    panic!("{key:?} {code}: {other:?}")
                }
            };
            assert_eq!(error.code.number(), code, "{key:?}: {error:?}");
            mocked.kafka.answer_well(key);
        }
    }
    let ended = transact(&lane, 2);
    assert!(matches!(ended, Ended::Committed(_)), "{ended:?}");
}

fn a_code_that_the_enum_lacks_is_no_initialised_id() {
    let mocked = Mocked::start();
    for code in LACKING {
        let access = mocked.access("init");
        let producer = Transactional::start(&access.lane("init"), &std::sync::Arc::default()).unwrap();
        mocked.kafka.answer_next(ApiKey::InitProducerId, &[code; 100]);
        let error = producer.init(Duration::from_secs(3)).unwrap_err();
        assert!(error.code.is_error(), "{code}: {error:?}");
        mocked.kafka.answer_well(ApiKey::InitProducerId);
    }
}

fn a_code_that_the_enum_lacks_is_not_nothing_committed() {
    let mocked = Mocked::start();
    let consumer = mocked.consumer();
    let topic = Topic::parse("in").unwrap();
    let read = || ffi::committed_offsets(&consumer, "group", &[(&topic, 0)], STEP);
    assert_eq!(read().unwrap(), [Ok(-1001)], "nothing is committed");
    for code in (101..=135).chain([300]) {
        mocked.kafka.answer_next(ApiKey::OffsetFetch, &[code]);
        let error = read().map_or_else(|error| error, |mut of| of.pop().unwrap().unwrap_err());
        assert_eq!(error.number(), code);
    }
    assert_eq!(read().unwrap(), [Ok(-1001)]);
}

fn a_code_that_the_enum_lacks_is_no_topic() {
    let mocked = Mocked::start();
    let consumer = mocked.consumer();
    let topic = Topic::parse("out").unwrap();
    for code in (101..=135).chain([300, 0]) {
        mocked.kafka.topic_error("out", code);
        let found = ffi::topic_partitions(consumer.client(), &topic, STEP).unwrap().unwrap();
        assert_eq!(found.code.number(), code);
    }
}

/// Checks that the sidecar says it as an error of that name.
fn expect_named(refusal: &Refusal, name: &str) {
    assert_eq!(refusal.metadata.get("kafkaError").map(String::as_str), Some(name), "{refusal:?}");
}

fn a_sidecar_tells_codes_that_the_enum_lacks() {
    let mocked = Mocked::start();
    let sidecar = mocked.sidecar();
    run(async {
        let client = connect(&sidecar.grpc_address());
        send(&client, text("out", "good")).await.unwrap();
        for (code, name) in
            [(105, "TRANSACTIONAL_ID_NOT_FOUND"), (120, "TRANSACTION_ABORTABLE"), (300, "ERROR_300")]
        {
            mocked.kafka.answer_next(ApiKey::Produce, &[code]);
            let refusal = send(&client, text("out", "bad")).await.unwrap_err();
            refusal.expect(Code::Unavailable, "BROKERS_UNAVAILABLE", "NO");
            expect_named(&refusal, name);
        }
        send(&client, text("out", "good")).await.unwrap();
        // A unit that is committed does not run again because nobody says so.
        let of = || unit("group", vec![input("in", 0, 0, 5)], vec![text("out", "once")]);
        forward(&client, of()).await.unwrap();
        for _ in 0..3 {
            mocked.kafka.answer_next(ApiKey::OffsetFetch, &[120]);
            match forward(&client, of()).await {
                Ok(answer) => assert!(answer.already_committed, "{answer:?}"),
                Err(refusal) => {
                    refusal.expect(Code::Unavailable, "BROKERS_UNAVAILABLE", "NO");
                    expect_named(&refusal, "TRANSACTION_ABORTABLE");
                }
            }
        }
    });
}

fn an_error_about_the_producer_replaces_it_at_every_step() {
    const INVALID_PRODUCER_ID_MAPPING: i32 = 49;
    const UNKNOWN_PRODUCER_ID: i32 = 59;
    let mocked = Mocked::start();
    let sidecar = mocked.sidecar();
    run(async {
        let client = connect(&sidecar.grpc_address());
        let mut next = 0;
        for key in STEPS.into_iter().chain([ApiKey::Produce]) {
            for code in [INVALID_PRODUCER_ID_MAPPING, UNKNOWN_PRODUCER_ID] {
                mocked.kafka.answer_next(key, &[code]);
                next += 1;
                let of = unit("group", vec![input("in", 0, next - 1, next)], vec![text("out", "value")]);
                let answer = forward(&client, of).await;
                assert!(answer.is_ok(), "{key:?} {code}: {answer:?}");
                mocked.kafka.answer_well(key);
            }
        }
    });
}

fn offsets_that_are_too_large_are_not_to_be_sent_again() {
    const OFFSET_METADATA_TOO_LARGE: i32 = 12;
    let mocked = Mocked::start();
    let lane = mocked.lane("large");
    mocked.kafka.answer_next(ApiKey::TxnOffsetCommit, &[OFFSET_METADATA_TOO_LARGE]);
    let ended = transact(&lane, 1);
    assert!(matches!(&ended, Ended::Aborted(Culprit::Offsets(0), _)), "{ended:?}");
    let sidecar = mocked.sidecar();
    mocked.kafka.answer_next(ApiKey::TxnOffsetCommit, &[OFFSET_METADATA_TOO_LARGE]);
    let of = unit("group", vec![input("in", 0, None, 1)], vec![text("out", "value")]);
    let refusal = run(async { forward(&connect(&sidecar.grpc_address()), of).await.unwrap_err() });
    refusal.expect(Code::InvalidArgument, "RECORD_TOO_LARGE", "NO");
    expect_named(&refusal, "OFFSET_METADATA_TOO_LARGE");
}

/// The contract's bound holds for brokers as they come.
fn the_largest_commit_of_offsets_is_taken() {
    const PARTITIONS: i32 = 30;
    let cluster = Cluster::shared();
    let source = cluster.create_topic("large-commit", PARTITIONS, &[]);
    let group = |bytes: usize| "g".repeat(bytes);
    let of = |group: &str| {
        let inputs = (0..PARTITIONS).map(|partition| input(&source, partition, None, 1));
        unit(group, inputs.collect(), Vec::new())
    };
    run(async {
        let client = connect(&shared_address());
        forward(&client, of(&group(32_700))).await.unwrap();
        let refusal = forward(&client, of(&group(32_767 + 1))).await.unwrap_err();
        refusal.expect(Code::InvalidArgument, "INVALID_RECORD", "NO");
    });
}
