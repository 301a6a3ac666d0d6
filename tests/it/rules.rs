//! What a topic's configuration says of its records: what it surely refuses is refused before Kafka has it, and what it may take is not.

use std::time::{Duration, Instant};

use producer_sidecar::grpc::proto::{ErrorReason, ProducerRecord, SendBatchRequest, record_result};
use testkit::{ApiKey, Cluster, Sidecar, read_topic};
use tonic::Code;

use crate::{
    around::metric,
    client::{Client, READY, Refusal, connect, keyed, over_tls, run, send, text, through_proxies},
    dead_letters::{burying_in, check_letter, full, header, started},
    streams::exchange,
};

crate::tests!(
    what_a_topics_rules_refuse_is_never_handed_over,
    a_rule_that_is_lifted_refuses_nothing_any_more,
    kafka_judges_where_it_does_not_tell_its_rules,
);

/// Who refuses a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    /// The sidecar, because it knows the topic's rules: the record is never handed over.
    Rules,
    Kafka,
}

/// Sends records until one is refused so; returns that refusal.
async fn until_refused(client: &Client, by: By, record: impl Fn() -> ProducerRecord) -> Refusal {
    let mut look = tokio::time::interval(Duration::from_millis(100));
    let refused = async {
        loop {
            look.tick().await;
            let refusal = send(client, record()).await.unwrap_err();
            refusal.expect(Code::InvalidArgument, "RECORD_REJECTED", "NO");
            let is_by = if refusal.metadata.contains_key("attempts") { By::Kafka } else { By::Rules };
            if is_by == by {
                return refusal;
            }
        }
    };
    tokio::time::timeout(READY, refused).await.unwrap_or_else(|_| panic!("none was refused by {by:?}"))
}

fn what_a_topics_rules_refuse_is_never_handed_over() {
    let cluster = Cluster::shared();
    let letters = cluster.create_topic("letters", 3, &[]);
    let compacted = cluster.create_topic("compacted", 3, &[("cleanup.policy", "compact")]);
    let dated = cluster.create_topic("dated", 1, &[("message.timestamp.after.max.ms", "60000")]);
    let sidecar = burying_in(&letters);
    let without_key =
        || ProducerRecord { record_key: None, partition: Some(1), ..full(&compacted, "no key") };
    let microseconds = || {
        let timestamp = Some(prost_types::Timestamp { seconds: 100_000_000_000, nanos: 0 });
        ProducerRecord { timestamp, ..full(&dated, "ahead") }
    };
    let refusals = run(async {
        let client = connect(&sidecar.grpc_address());
        let of_key = until_refused(&client, By::Rules, without_key).await;
        (of_key, until_refused(&client, By::Rules, microseconds).await)
    });
    for (refusal, topic, name, partition) in
        [(refusals.0, &compacted, "INVALID_RECORD", "1"), (refusals.1, &dated, "INVALID_TIMESTAMP", "0")]
    {
        let told = ["kafkaError", "partition"].map(|field| refusal.metadata[field].as_str());
        assert_eq!(told, [name, partition], "{refusal:?}");
        let letter = check_letter(&refusal, &letters, topic);
        assert_eq!(header(&letter, "dlq-attempts"), Some("0"), "{letter:?}");
        // The letters' topic would not take that time either.
        let is_ahead = header(&letter, "dlq-timestamp") == Some("100000000000000");
        assert_eq!(is_ahead, name == "INVALID_TIMESTAMP", "{letter:?}");
    }
    // All of them at once, and the good ones between them go on; unless the machine stood still, and Kafka was not asked in time.
    let none_went = (0..3).any(|frame| of_many(&sidecar, &compacted, frame));
    assert!(none_went, "none of a frame's bad records is handed over");
    assert_eq!(read_topic(cluster, &compacted).len() % 500, 0);
}

/// Sends a frame half of which has no key; returns whether none of those was handed over.
fn of_many(sidecar: &Sidecar, compacted: &str, frame: u64) -> bool {
    let record = |number: usize| match number % 2 {
        0 => keyed(text(compacted, &number.to_string()), &number.to_string()),
        _ => text(compacted, "no key"),
    };
    let retries = metric(sidecar, "producer_retries_total");
    let records = (0..1_000).map(record).collect();
    let frame = SendBatchRequest { sequence: frame + 1, records, ..Default::default() };
    let (answers, end) = run(exchange(&sidecar.grpc_address(), vec![frame]));
    end.unwrap();
    let mut handed_over = 0;
    for (number, result) in answers[0].results.iter().enumerate() {
        match &result.result {
            Some(record_result::Result::Receipt(_)) => assert_eq!(number % 2, 0),
            Some(record_result::Result::Error(error)) => {
                assert!(number % 2 == 1 && error.reason() == ErrorReason::RecordRejected, "{error:?}");
                handed_over += usize::from(error.metadata.contains_key("attempts"));
            }
            None => panic!("{number} has no answer"),
        }
    }
    handed_over == 0 && metric(sidecar, "producer_retries_total") == retries
}

/// What is known of a topic is refreshed after a minute; a record is refused by what was just asked for.
fn a_rule_that_is_lifted_refuses_nothing_any_more() {
    let cluster = Cluster::shared();
    let topic = cluster.create_topic("lifted", 1, &[("cleanup.policy", "compact")]);
    let sidecar = started(over_tls().env("SIDECAR_DEAD_LETTERS_TOPIC", "off"));
    run(async {
        let client = connect(&sidecar.grpc_address());
        until_refused(&client, By::Rules, || text(&topic, "no key")).await;
        cluster.alter_topic_config(&topic, &[("cleanup.policy", "delete")]);
        let mut look = tokio::time::interval(Duration::from_millis(100));
        let taken = async {
            while send(&client, text(&topic, "no key")).await.is_err() {
                look.tick().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), taken).await.expect("the rule is lifted");
    });
    assert_eq!(read_topic(cluster, &topic).len(), 1);
}

/// The question is waited for once, a second at most, and not for every record. Only what is asked goes unanswered: where all of a
/// connection does, its records wait for it as well, whatever is known of their topic.
fn kafka_judges_where_it_does_not_tell_its_rules() {
    const CLIENT: &str = "told-nothing";
    const TOLD_BY: Duration = Duration::from_secs(4);
    let cluster = Cluster::shared();
    let topic = cluster.create_topic("silent", 1, &[("cleanup.policy", "compact")]);
    let sidecar = through_proxies().env("KAFKA_CLIENT_ID", CLIENT).env("SIDECAR_DEAD_LETTERS_TOPIC", "off");
    // A question that goes unanswered for so long costs the connection it was asked on: not within this test.
    let sidecar = started(sidecar.env("SIDECAR_KAFKA_SOCKET_TIMEOUT_MS", "60000"));
    let faults = cluster.faults_of(CLIENT);
    run(async {
        let client = connect(&sidecar.grpc_address());
        until_refused(&client, By::Rules, || text(&topic, "no key")).await;
        faults.swallow(ApiKey::DescribeConfigs);
        // What was asked for a moment ago still counts.
        until_refused(&client, By::Kafka, || text(&topic, "no key")).await;
        let begun = Instant::now();
        for _ in 0..10 {
            let refusal = send(&client, text(&topic, "no key")).await.unwrap_err();
            refusal.expect(Code::InvalidArgument, "RECORD_REJECTED", "NO");
            assert_eq!(refusal.metadata["attempts"], "1", "{refusal:?}");
        }
        assert!(begun.elapsed() < TOLD_BY, "{:?} for ten", begun.elapsed());
        send(&client, keyed(text(&topic, "good"), "key")).await.unwrap();
    });
    assert!(faults.swallowed(ApiKey::DescribeConfigs) > 0, "the question went unanswered");
    assert_eq!(read_topic(cluster, &topic).len(), 1);
}
