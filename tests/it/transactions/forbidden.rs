//! What Kafka forbids the sidecar is said at once and by name, and keeps nobody else from committing.

use producer_sidecar::grpc::proto::{ProcessAndForwardRequest, ProducerRecord};
use testkit::{
    Cluster,
    cluster::{Acl, Operation, Resource},
};
use tonic::Code;

use super::STEP;
use crate::{
    client::{READY, Refusal, connect, over_tls, run, shared_address, text},
    forward::{apart::among_good_units, forward, input, unit, values},
};

crate::tests!(
    a_forbidden_output_fails_its_unit_alone,
    a_forbidden_group_is_named,
    a_forbidden_input_is_named,
    a_forbidden_transactional_id_is_named_until_it_is_allowed,
);

/// Checks that Kafka forbids something, and which right is missing.
fn expect_forbidden(refusal: &Refusal, kafka_error: &str) {
    refusal.expect(Code::PermissionDenied, "NOT_AUTHORIZED", "NO");
    assert_eq!(refusal.metadata["kafkaError"], kafka_error, "{refusal:?}");
}

fn deny(operation: Operation, resource: Resource) -> Acl {
    let denial = Acl::deny(Cluster::shared().user(), operation, resource);
    Cluster::shared().add_acl(&denial);
    denial
}

fn refused(address: &str, unit: ProcessAndForwardRequest) -> Refusal {
    run(async { forward(&connect(address), unit).await.unwrap_err() })
}

fn a_forbidden_output_fails_its_unit_alone() {
    let cluster = Cluster::shared();
    let good = cluster.create_topic("allowed-out", 1, &[]);
    let forbidden = cluster.create_topic("readonly-out", 1, &[]);
    let of = |outputs: Vec<ProducerRecord>| ProcessAndForwardRequest {
        outputs,
        ..ProcessAndForwardRequest::default()
    };
    let refusal = among_good_units(&shared_address(), &good, of(vec![text(&forbidden, "bad")]));
    expect_forbidden(&refusal, "TOPIC_AUTHORIZATION_FAILED");
    assert_eq!(refusal.metadata.get("topic"), Some(&forbidden), "{refusal:?}");
    // Which of two topics it is librdkafka does not say.
    let refusal = refused(&shared_address(), of(vec![text(&good, "bad"), text(&forbidden, "bad")]));
    expect_forbidden(&refusal, "TOPIC_AUTHORIZATION_FAILED");
    assert_eq!(refusal.metadata.get("topic"), None, "{refusal:?}");
    let read = values(&good);
    assert!(read.len() == 99 && !read.contains(&"bad".to_owned()), "{}", read.len());
    assert!(values(&forbidden).is_empty());
}

fn a_forbidden_group_is_named() {
    let cluster = Cluster::shared();
    let (source, target) =
        (cluster.create_topic("forbidden-in", 1, &[]), cluster.create_topic("forbidden-out", 1, &[]));
    let denial = deny(Operation::Read, Resource::Group(target.clone()));
    for expected in [None, Some(0)] {
        let bad = unit(&target, vec![input(&source, 0, expected, 1)], vec![text(&target, "bad")]);
        expect_forbidden(&refused(&shared_address(), bad), "GROUP_AUTHORIZATION_FAILED");
    }
    let other = unit(&source, vec![input(&source, 0, 0, 1)], vec![text(&target, "other group")]);
    run(async { forward(&connect(&shared_address()), other).await.unwrap() });
    cluster.remove_acl(&denial);
    assert_eq!(values(&target), ["other group"]);
}

fn a_forbidden_input_is_named() {
    let cluster = Cluster::shared();
    let (source, target) =
        (cluster.create_topic("forbidden-in", 1, &[]), cluster.create_topic("forbidden-out", 1, &[]));
    let denial = deny(Operation::Read, Resource::Topic(source.clone()));
    for expected in [None, Some(0)] {
        let bad = unit(&target, vec![input(&source, 0, expected, 1)], vec![text(&target, "bad")]);
        let refusal = refused(&shared_address(), bad);
        expect_forbidden(&refusal, "TOPIC_AUTHORIZATION_FAILED");
        assert_eq!(refusal.metadata.get("topic"), Some(&source), "{refusal:?}");
    }
    cluster.remove_acl(&denial);
    let good = unit(&target, vec![input(&source, 0, 0, 1)], vec![text(&target, "good")]);
    run(async { forward(&connect(&shared_address()), good).await.unwrap() });
    assert_eq!(values(&target), ["good"]);
}

fn a_forbidden_transactional_id_is_named_until_it_is_allowed() {
    let cluster = Cluster::shared();
    let target = cluster.create_topic("forbidden-out", 1, &[]);
    let denial = deny(Operation::Write, Resource::TransactionalId(format!("caas-gateway.{target}.0")));
    let sidecar =
        over_tls().env("SIDECAR_INSTANCE_ID", &target).env("SIDECAR_TRANSACTIONS_LANES", "1").start();
    sidecar.wait_ready(READY);
    let outputs = || ProcessAndForwardRequest {
        outputs: vec![text(&target, "out")],
        ..ProcessAndForwardRequest::default()
    };
    let refusal = refused(&sidecar.grpc_address(), outputs());
    expect_forbidden(&refusal, "TRANSACTIONAL_ID_AUTHORIZATION_FAILED");
    cluster.remove_acl(&denial);
    testkit::eventually(STEP, "the lane takes it up", || {
        run(async { forward(&connect(&sidecar.grpc_address()), outputs()).await.ok() })
    });
    assert_eq!(values(&target), ["out"]);
}
