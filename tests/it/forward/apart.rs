//! What is wrong with one unit of ProcessAndForward stays with that unit: the others of its transaction are committed.

use producer_sidecar::grpc::proto::{
    ConsumerGroup, GroupMember, ProcessAndForwardRequest, consumer_group::Membership,
};
use testkit::{Cluster, Sidecar};
use tonic::Code;

use super::{forward, input, topics, unit, values};
use crate::{
    around::{metric, wait_metric},
    client::{
        READY, Refusal, connect, keyed, over_tls, over_tls_limited, run, shared_address, text, with_header,
    },
};

crate::tests!(
    a_stale_member_among_good_units_is_fenced_alone,
    a_record_too_large_among_good_units_fails_alone,
    a_record_that_its_topic_rejects_among_good_units_fails_alone,
    records_that_two_topics_reject_fail_alone,
    a_record_too_large_costs_two_transactions,
);

/// Sends 99 good units of other groups and one bad one at once; returns the bad one's refusal.
pub fn among_good_units(address: &str, target: &str, bad: ProcessAndForwardRequest) -> Refusal {
    let source = Cluster::shared().create_topic("limited-in", 1, &[]);
    run(async {
        let client = connect(address);
        let good = (0..99).map(|number| {
            let group = format!("{target}-{number}");
            unit(
                &group,
                vec![input(&source, 0, 0, 1)],
                vec![keyed(text(target, &format!("good-{number}")), "key")],
            )
        });
        let mut units: Vec<_> = good.collect();
        units.insert(50, bad);
        let sent: Vec<_> = units
            .into_iter()
            .map(|unit| {
                let client = client.clone();
                tokio::spawn(async move { forward(&client, unit).await })
            })
            .collect();
        let mut refusals = Vec::new();
        for answer in sent {
            refusals.extend(answer.await.unwrap().err());
        }
        assert_eq!(refusals.len(), 1, "{refusals:?}");
        refusals.remove(0)
    })
}

fn a_stale_member_among_good_units_is_fenced_alone() {
    let (source, target) = topics();
    let member = GroupMember { generation_id: 4, member_id: "gone-1".to_owned(), group_instance_id: None };
    let membership = Some(Membership::Member(member));
    let bad = ProcessAndForwardRequest {
        group: Some(ConsumerGroup { group_id: source.clone(), membership }),
        inputs: vec![input(&source, 0, None, 1)],
        outputs: vec![text(&target, "bad")],
    };
    among_good_units(&shared_address(), &target, bad).expect(Code::Aborted, "CONSUMER_FENCED", "NO");
    let read = values(&target);
    assert!(read.len() == 99 && !read.contains(&"bad".to_owned()), "{}", read.len());
}

fn a_record_too_large_among_good_units_fails_alone() {
    let target = Cluster::shared().create_topic("forward-small", 1, &[("max.message.bytes", "10000")]);
    let large = with_header(text(&target, "bad"), "filler", &"x".repeat(20_000));
    let bad = ProcessAndForwardRequest { outputs: vec![large], ..ProcessAndForwardRequest::default() };
    let refusal = among_good_units(&shared_address(), &target, bad);
    refusal.expect(Code::InvalidArgument, "RECORD_TOO_LARGE", "NO");
    assert_eq!(values(&target).len(), 99);
}

/// A sidecar that knows no topic's rules, so that Kafka judges.
fn unknowing() -> Sidecar {
    let sidecar = over_tls_limited().start();
    sidecar.wait_ready(READY);
    sidecar
}

/// Kafka names the one at fault, and librdkafka tells its error of all records of the request.
fn a_record_that_its_topic_rejects_among_good_units_fails_alone() {
    let target = Cluster::shared().create_topic("limited-compacted", 1, &[("cleanup.policy", "compact")]);
    let without_key = ProcessAndForwardRequest { outputs: vec![text(&target, "bad")], ..Default::default() };
    let refusal = among_good_units(&unknowing().grpc_address(), &target, without_key);
    refusal.expect(Code::InvalidArgument, "RECORD_REJECTED", "NO");
    // In as many transactions as the search for it took.
    assert!(refusal.metadata["attempts"].parse::<u32>().unwrap() > 0, "{refusal:?}");
    assert_eq!(values(&target).len(), 99);
}

/// One topic's request has two at fault, whom Kafka tells apart; the other's has one.
fn records_that_two_topics_reject_fail_alone() {
    let cluster = Cluster::shared();
    let sidecar = unknowing();
    let compacted = |name| cluster.create_topic(name, 1, &[("cleanup.policy", "compact")]);
    let topics = ["limited-a", "limited-b"].map(compacted);
    let without_key = |topic: &String| text(topic, "bad");
    let with_key = |number: usize| keyed(text(&topics[number % 2], "good"), &number.to_string());
    let bad = [&topics[0], &topics[1], &topics[0]].map(without_key);
    let outputs = (0..20).map(with_key).chain(bad).chain((20..40).map(with_key));
    let answers = run(async {
        let client = connect(&sidecar.grpc_address());
        let sent: Vec<_> = outputs
            .map(|output| {
                let client = client.clone();
                let unit = ProcessAndForwardRequest { outputs: vec![output], ..Default::default() };
                tokio::spawn(async move { forward(&client, unit).await })
            })
            .collect();
        let mut answers = Vec::new();
        for answer in sent {
            answers.push(answer.await.unwrap());
        }
        answers
    });
    for (place, answer) in answers.into_iter().enumerate() {
        match answer {
            Ok(_) => assert!(!(20..23).contains(&place), "{place} was taken"),
            Err(refusal) => {
                refusal.expect(Code::InvalidArgument, "RECORD_REJECTED", "NO");
                assert!((20..23).contains(&place), "{place}: {refusal:?}");
            }
        }
    }
    assert_eq!((values(&topics[0]).len(), values(&topics[1]).len()), (20, 20));
}

fn a_record_too_large_costs_two_transactions() {
    let target = Cluster::shared().create_topic("forward-small", 1, &[("max.message.bytes", "10000")]);
    let one_lane =
        over_tls().env("SIDECAR_INSTANCE_ID", &target).env("SIDECAR_TRANSACTIONS_LANES", "1").start();
    one_lane.wait_ready(READY);
    let large = with_header(text(&target, "bad"), "filler", &"x".repeat(20_000));
    let good = (0..40).map(|number| text(&target, &number.to_string()));
    let units = good.chain([large]).map(|output| ProcessAndForwardRequest {
        outputs: vec![output],
        ..ProcessAndForwardRequest::default()
    });
    let refused = run(async {
        let client = connect(&one_lane.grpc_address());
        let sent: Vec<_> = units
            .map(|unit| {
                let client = client.clone();
                tokio::spawn(async move { forward(&client, unit).await })
            })
            .collect();
        let mut refused = 0;
        for answer in sent {
            refused += usize::from(answer.await.unwrap().is_err());
        }
        refused
    });
    assert_eq!((refused, values(&target).len()), (1, 40));
    let ended = |outcome: &str| {
        metric(&one_lane, &format!("producer_transactions_total{{outcome=\"{outcome}\"}}"))
            .unwrap_or_default()
    };
    // With all the others, then alone; one, where it came first.
    assert!((1..=2).contains(&ended("aborted")), "{} were aborted", ended("aborted"));
    assert!(ended("committed") <= 10, "{} were committed", ended("committed"));
    // The producer of an aborted transaction is replaced.
    wait_metric(&one_lane, "producer_lanes_ready", 1, READY);
}
