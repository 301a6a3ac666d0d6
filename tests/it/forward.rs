//! ProcessAndForward over gRPC: outputs and offsets are committed together, once, whatever is sent again; and what is wrong
//! with one unit stays with that unit.

use std::time::Duration;

use producer_sidecar::grpc::proto::{
    ConsumerGroup, GroupMember, InputOffset, ManualAssignment, ProcessAndForwardRequest,
    ProcessAndForwardResponse, ProducerRecord, consumer_group::Membership,
};
use testkit::{Cluster, Sidecar, eventually, read_topic};
use tonic::{Code, Request};

use crate::{
    around::{metric, wait_metric},
    client::{Client, READY, Refusal, connect, keyed, over_tls, run, shared_address, text, with_header},
};

crate::tests!(
    a_unit_is_committed_once_however_often_it_is_sent,
    a_unit_that_expects_something_else_is_refused,
    what_follows_a_failed_unit_does_not_skip_it,
    outputs_without_a_consumer_are_one_write,
    a_stale_member_among_good_units_is_fenced_alone,
    a_record_too_large_among_good_units_fails_alone,
    a_record_that_its_topic_rejects_among_good_units_fails_alone,
    records_that_two_topics_reject_fail_alone,
    a_record_too_large_costs_two_transactions,
    what_is_wrong_with_a_unit_is_told_at_once,
    an_unknown_topic_holds_up_nobody,
    a_second_sidecar_with_the_same_instance_fences_the_first,
);

/// How long the end of a unit may take on a busy machine.
const DEADLINE: Duration = Duration::from_secs(30);

/// One input partition, read from what was expected to what comes next.
pub fn input(topic: &str, partition: i32, expected: impl Into<Option<i64>>, next: i64) -> InputOffset {
    let expected_offset = expected.into();
    InputOffset {
        topic: topic.to_owned(),
        partition,
        expected_offset,
        next_offset: next,
        metadata: String::new(),
    }
}

/// A unit of a group whose partitions were assigned by hand.
pub fn unit(group: &str, inputs: Vec<InputOffset>, outputs: Vec<ProducerRecord>) -> ProcessAndForwardRequest {
    let membership = Some(Membership::ManualAssignment(ManualAssignment {}));
    let group = Some(ConsumerGroup { group_id: group.to_owned(), membership });
    ProcessAndForwardRequest { group, inputs, outputs }
}

pub async fn forward(
    client: &Client,
    unit: ProcessAndForwardRequest,
) -> Result<ProcessAndForwardResponse, Refusal> {
    let mut request = Request::new(unit);
    request.set_timeout(DEADLINE);
    match client.clone().process_and_forward(request).await {
        Ok(answer) => Ok(answer.into_inner()),
        Err(status) => Err(Refusal::of(&status)),
    }
}

pub fn values(topic: &str) -> Vec<String> {
    let read = read_topic(Cluster::shared(), topic).into_iter();
    read.map(|record| String::from_utf8(record.value.unwrap()).unwrap()).collect()
}

fn topics() -> (String, String) {
    let cluster = Cluster::shared();
    (cluster.create_topic("forward-in", 2, &[]), cluster.create_topic("forward-out", 1, &[]))
}

fn a_unit_is_committed_once_however_often_it_is_sent() {
    let (source, target) = topics();
    run(async {
        let client = connect(&shared_address());
        let first =
            || unit(&target, vec![input(&source, 0, 0, 10)], vec![text(&target, "a"), text(&target, "b")]);
        let answer = forward(&client, first()).await.unwrap();
        assert_eq!(
            answer.receipts.iter().map(|receipt| receipt.offset).collect::<Vec<_>>(),
            [Some(0), Some(1)]
        );
        assert!(!answer.already_committed);
        for _ in 0..3 {
            let again = forward(&client, first()).await.unwrap();
            assert!(again.already_committed && again.receipts.is_empty(), "{again:?}");
        }
        // A chain, sent at once, and each of it twice at the same time.
        let chain = (1..20).flat_map(|number| {
            let next = unit(
                &target,
                vec![input(&source, 0, number * 10, (number + 1) * 10)],
                vec![text(&target, &number.to_string())],
            );
            [next.clone(), next]
        });
        let sent: Vec<_> = chain
            .map(|unit| {
                let client = client.clone();
                tokio::spawn(async move { forward(&client, unit).await })
            })
            .collect();
        for answer in sent {
            let answer = answer.await.unwrap();
            if let Err(refusal) = answer {
                refusal.expect(Code::FailedPrecondition, "OFFSET_MISMATCH", "NO");
            }
        }
        let mut number = 1;
        while number < 20 {
            // What came before its turn was refused, and goes again in order.
            let next = vec![input(&source, 0, number * 10, (number + 1) * 10)];
            forward(&client, unit(&target, next, vec![text(&target, &number.to_string())])).await.unwrap();
            number += 1;
        }
    });
    let expected: Vec<_> = ["a", "b"]
        .map(str::to_owned)
        .into_iter()
        .chain((1..20).map(|number: i64| number.to_string()))
        .collect();
    assert_eq!(values(&target), expected);
}

fn a_unit_that_expects_something_else_is_refused() {
    let (source, target) = topics();
    run(async {
        let client = connect(&shared_address());
        let of =
            |expected, next| unit(&target, vec![input(&source, 1, expected, next)], vec![text(&target, "x")]);
        forward(&client, of(0, 10)).await.unwrap();
        let refusal = forward(&client, of(5, 20)).await.unwrap_err();
        refusal.expect(Code::FailedPrecondition, "OFFSET_MISMATCH", "NO");
        assert_eq!(refusal.metadata["committedOffset"], "10");
        assert_eq!(refusal.metadata["partition"], "1");
        forward(&client, of(10, 20)).await.unwrap();
    });
    assert_eq!(values(&target).len(), 2);
}

/// The group has committed nothing yet, so that only the sidecar's memory tells what the failed unit would have read.
fn what_follows_a_failed_unit_does_not_skip_it() {
    let source = Cluster::shared().create_topic("forward-in", 1, &[]);
    let target = Cluster::shared().create_topic("forward-small", 1, &[("max.message.bytes", "10000")]);
    run(async {
        let client = connect(&shared_address());
        let large = with_header(text(&target, "first"), "filler", &"x".repeat(20_000));
        let first = |output| unit(&target, vec![input(&source, 0, 0, 10)], vec![output]);
        let second = || unit(&target, vec![input(&source, 0, 10, 20)], vec![text(&target, "second")]);
        let refusal = forward(&client, first(large)).await.unwrap_err();
        refusal.expect(Code::InvalidArgument, "RECORD_TOO_LARGE", "NO");
        let refusal = forward(&client, second()).await.unwrap_err();
        refusal.expect(Code::FailedPrecondition, "OFFSET_MISMATCH", "NO");
        assert!(!forward(&client, first(text(&target, "first"))).await.unwrap().already_committed);
        forward(&client, second()).await.unwrap();
    });
    assert_eq!(values(&target), ["first", "second"]);
}

fn outputs_without_a_consumer_are_one_write() {
    let (_, target) = topics();
    let other = Cluster::shared().create_topic("forward-other", 3, &[]);
    run(async {
        let client = connect(&shared_address());
        let outputs = vec![keyed(text(&target, "1"), "k"), keyed(text(&other, "2"), "k")];
        let request = ProcessAndForwardRequest { outputs, ..ProcessAndForwardRequest::default() };
        let answer = forward(&client, request).await.unwrap();
        assert_eq!(answer.receipts.len(), 2);
        assert_eq!(answer.receipts[1].topic, other);
    });
    let read = read_topic(Cluster::shared(), &other);
    assert_eq!(read[0].key.as_deref(), Some(&b"k"[..]));
    assert!(read[0].headers.iter().any(|(name, _)| name == "traceparent"));
}

/// Sends 99 good units of other groups and one bad one at once; returns the bad one's refusal.
pub fn among_good_units(target: &str, bad: ProcessAndForwardRequest) -> Refusal {
    let source = Cluster::shared().create_topic("forward-in", 1, &[]);
    run(async {
        let client = connect(&shared_address());
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
    among_good_units(&target, bad).expect(Code::Aborted, "CONSUMER_FENCED", "NO");
    let read = values(&target);
    assert!(read.len() == 99 && !read.contains(&"bad".to_owned()), "{}", read.len());
}

fn a_record_too_large_among_good_units_fails_alone() {
    let target = Cluster::shared().create_topic("forward-small", 1, &[("max.message.bytes", "10000")]);
    let large = with_header(text(&target, "bad"), "filler", &"x".repeat(20_000));
    let bad = ProcessAndForwardRequest { outputs: vec![large], ..ProcessAndForwardRequest::default() };
    let refusal = among_good_units(&target, bad);
    refusal.expect(Code::InvalidArgument, "RECORD_TOO_LARGE", "NO");
    assert_eq!(values(&target).len(), 99);
}

/// Kafka names the one at fault, and librdkafka tells its error of all records of the request.
fn a_record_that_its_topic_rejects_among_good_units_fails_alone() {
    let target = Cluster::shared().create_topic("forward-compacted", 1, &[("cleanup.policy", "compact")]);
    let without_key = ProcessAndForwardRequest { outputs: vec![text(&target, "bad")], ..Default::default() };
    let refusal = among_good_units(&target, without_key);
    refusal.expect(Code::InvalidArgument, "RECORD_REJECTED", "NO");
    assert_eq!(values(&target).len(), 99);
}

/// One topic's request has two at fault, whom Kafka tells apart; the other's has one.
fn records_that_two_topics_reject_fail_alone() {
    let cluster = Cluster::shared();
    let topics = ["a", "b"].map(|name| cluster.create_topic(name, 1, &[("cleanup.policy", "compact")]));
    let without_key = |topic: &String| text(topic, "bad");
    let with_key = |number: usize| keyed(text(&topics[number % 2], "good"), &number.to_string());
    let bad = [&topics[0], &topics[1], &topics[0]].map(without_key);
    let outputs = (0..20).map(with_key).chain(bad).chain((20..40).map(with_key));
    let answers = run(async {
        let client = connect(&shared_address());
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

fn what_is_wrong_with_a_unit_is_told_at_once() {
    let (source, target) = topics();
    run(async {
        let client = connect(&shared_address());
        let nothing = forward(&client, ProcessAndForwardRequest::default()).await.unwrap_err();
        nothing.expect(Code::InvalidArgument, "INVALID_RECORD", "NO");
        let twice = vec![input(&source, 0, 0, 1), input(&source, 0, 5, 5), input("bad topic", -1, -1, 0)];
        let refusal =
            forward(&client, unit("", twice, vec![text(&target, "x"), text("", "y")])).await.unwrap_err();
        refusal.expect(Code::InvalidArgument, "INVALID_RECORD", "NO");
        for field in
            ["group.group_id", "inputs[1]", "inputs[2].topic", "inputs[2].partition", "outputs[1].topic"]
        {
            assert!(refusal.violations.iter().any(|found| found.starts_with(field)), "{field}: {refusal:?}");
        }
        let beyond = unit(&target, vec![input(&source, 7, None, 1)], Vec::new());
        let refusal = forward(&client, beyond).await.unwrap_err();
        assert_eq!(refusal.violations, ["inputs[0].partition"]);
    });
    assert!(values(&target).is_empty());
}

fn an_unknown_topic_holds_up_nobody() {
    let (source, target) = topics();
    run(async {
        let client = connect(&shared_address());
        let outputs = vec![text(&target, "good"), text("hidden-nowhere", "bad")];
        let refusal =
            forward(&client, unit(&target, vec![input(&source, 0, 0, 1)], outputs)).await.unwrap_err();
        assert!(["TOPIC_NOT_FOUND", "NOT_AUTHORIZED"].contains(&refusal.reason.as_str()), "{refusal:?}");
        assert_eq!(refusal.persisted(), "NO");
        let good = unit(&target, vec![input(&source, 0, 0, 1)], vec![text(&target, "good")]);
        forward(&client, good).await.unwrap();
    });
    assert_eq!(values(&target), ["good"]);
}

fn a_second_sidecar_with_the_same_instance_fences_the_first() {
    let (source, target) = topics();
    let start = || -> Sidecar {
        let sidecar =
            over_tls().env("SIDECAR_INSTANCE_ID", &target).env("SIDECAR_TRANSACTIONS_LANES", "1").start();
        sidecar.wait_ready(READY);
        sidecar
    };
    let first = start();
    run(async {
        let of = |expected: i64| {
            unit(
                &target,
                vec![input(&source, 0, expected, expected + 1)],
                vec![text(&target, &expected.to_string())],
            )
        };
        let older = connect(&first.grpc_address());
        forward(&older, of(0)).await.unwrap();
        // On a busy machine a request may have gone unanswered; then its id is initialised again, which would fence the newer.
        wait_metric(&first, "producer_lanes_ready", 1, READY);
        let second = start();
        let newer = connect(&second.grpc_address());
        forward(&newer, of(1)).await.unwrap();
        for _ in 0..2 {
            let refusal = forward(&older, of(2)).await.unwrap_err();
            refusal.expect(Code::FailedPrecondition, "PRODUCER_FENCED", "NO");
        }
        forward(&newer, of(2)).await.unwrap();
        drop(second);
    });
    eventually(Duration::from_secs(10), "all is there", || {
        (values(&target) == ["0", "1", "2"]).then_some(())
    });
}
