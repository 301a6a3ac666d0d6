//! ProcessAndForward over gRPC: outputs and offsets are committed together, once, whatever is sent again.

pub mod apart;

use std::time::Duration;

use producer_sidecar::grpc::proto::{
    ConsumerGroup, InputOffset, ManualAssignment, ProcessAndForwardRequest, ProcessAndForwardResponse,
    ProducerRecord, consumer_group::Membership,
};
use testkit::{Cluster, Sidecar, eventually, read_topic};
use tonic::{Code, Request};

use crate::{
    around::wait_metric,
    client::{Client, READY, Refusal, connect, keyed, over_tls, run, shared_address, text, with_header},
};

crate::tests!(
    a_unit_is_committed_once_however_often_it_is_sent,
    a_unit_that_expects_something_else_is_refused,
    what_follows_a_failed_unit_does_not_skip_it,
    outputs_without_a_consumer_are_one_write,
    what_is_wrong_with_a_unit_is_told_at_once,
    an_unknown_topic_holds_up_nobody,
    a_unit_has_its_room_before_its_topics_are_looked_up,
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
    // One fails in its transaction, the other before its turn comes.
    let large = with_header(text(&target, "first"), "filler", &"x".repeat(20_000));
    let lost = text("forward-not-there", "first");
    run(async {
        let client = connect(&shared_address());
        for (bad, reason) in [(large, "RECORD_TOO_LARGE"), (lost, "TOPIC_NOT_FOUND")] {
            let group = format!("{target}-{reason}");
            let first = |output| unit(&group, vec![input(&source, 0, 0, 10)], vec![output]);
            let second = || unit(&group, vec![input(&source, 0, 10, 20)], vec![text(&target, "second")]);
            let refusal = forward(&client, first(bad)).await.unwrap_err();
            assert_eq!((refusal.reason.as_str(), refusal.persisted()), (reason, "NO"), "{refusal:?}");
            let refusal = forward(&client, second()).await.unwrap_err();
            refusal.expect(Code::FailedPrecondition, "OFFSET_MISMATCH", "NO");
            assert!(!forward(&client, first(text(&target, "first"))).await.unwrap().already_committed);
            forward(&client, second()).await.unwrap();
        }
    });
    assert_eq!(values(&target), ["first", "second", "first", "second"]);
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

fn a_unit_has_its_room_before_its_topics_are_looked_up() {
    let cluster = Cluster::shared();
    let known = cluster.create_topic("room", 1, &[]);
    let sidecar = over_tls().env("SIDECAR_QUEUE_RECORDS_MAX", "10").start();
    sidecar.wait_ready(READY);
    let unknown = format!("{known}-unknown");
    let outputs = (0..11).map(|number| text(&unknown, &number.to_string())).collect();
    run(async {
        let client = connect(&sidecar.grpc_address());
        let refusal =
            forward(&client, ProcessAndForwardRequest { outputs, ..ProcessAndForwardRequest::default() });
        let refusal = refusal.await.unwrap_err();
        refusal.expect(Code::ResourceExhausted, "QUEUE_FULL", "NO");
        let named = ["topic", "field"].map(|name| refusal.metadata.get(name).map(String::as_str));
        assert_eq!(named, [Some(unknown.as_str()), Some("outputs[10]")], "{refusal:?}");
        // What was taken is given back.
        let outputs = (0..10).map(|number| text(&known, &number.to_string())).collect();
        let fits = ProcessAndForwardRequest { outputs, ..ProcessAndForwardRequest::default() };
        assert_eq!(forward(&client, fits).await.unwrap().receipts.len(), 10);
    });
    assert_eq!(values(&known).len(), 10);
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
