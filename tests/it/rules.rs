//! What Kafka says of a topic: a record that it surely refuses is refused before Kafka has it, and one that it may take is not.

pub mod untold;

use std::time::Duration;

use producer_sidecar::grpc::proto::{ErrorReason, ProducerRecord, SendBatchRequest, record_result};
use testkit::{
    ApiKey, Cluster, ReadRecord, Sidecar,
    cluster::{Acl, Operation, Resource},
    read_topic,
};
use tonic::Code;

use crate::{
    around::metric,
    client::{
        Client, READY, Refusal, connect, keyed, over_tls, over_tls_limited, run, send, text, through_proxies,
        with_header,
    },
    dead_letters::{burying_in, check_letter, full, header, started},
    streams::exchange,
};

crate::tests!(
    what_a_topics_rules_refuse_is_said_as_kafka_says_it,
    not_even_the_first_is_handed_over,
    a_record_is_too_large_from_the_byte_on_from_which_it_is_for_kafka,
    a_forbidden_topic_is_called_so_every_time,
    a_rule_that_is_lifted_refuses_nothing_any_more,
);

/// Who refuses a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    /// The sidecar, because it knows the topic's rules: the record is never handed over.
    Rules,
    Kafka,
}

const REJECTED: (Code, &str) = (Code::InvalidArgument, "RECORD_REJECTED");
const TOO_LARGE: (Code, &str) = (Code::InvalidArgument, "RECORD_TOO_LARGE");
const FORBIDDEN: (Code, &str) = (Code::PermissionDenied, "NOT_AUTHORIZED");

/// How long after a change at the latest the sidecar follows it.
const FOLLOWED: Duration = Duration::from_secs(5);

fn refuser(refusal: &Refusal) -> By {
    if refusal.metadata.contains_key("attempts") { By::Kafka } else { By::Rules }
}

/// Sends records until one is refused so; returns that refusal.
async fn until_refused(
    client: &Client,
    (code, reason): (Code, &str),
    by: By,
    record: impl Fn() -> ProducerRecord,
) -> Refusal {
    let mut look = tokio::time::interval(Duration::from_millis(100));
    let refused = async {
        loop {
            look.tick().await;
            if let Err(refusal) = send(client, record()).await
                && (refusal.code, refusal.reason.as_str()) == (code, reason)
                && refuser(&refusal) == by
            {
                assert_eq!(refusal.persisted(), "NO", "{refusal:?}");
                return refusal;
            }
        }
    };
    tokio::time::timeout(READY, refused).await.unwrap_or_else(|_| panic!("none was {reason} by {by:?}"))
}

fn what_a_topics_rules_refuse_is_said_as_kafka_says_it() {
    let cluster = Cluster::shared();
    let letters = cluster.create_topic("letters", 3, &[]);
    let compacted = cluster.create_topic("compacted", 3, &[("cleanup.policy", "compact")]);
    let dated = cluster.create_topic("dated", 1, &[("message.timestamp.after.max.ms", "60000")]);
    let small = cluster.create_topic("small", 1, &[("max.message.bytes", "10000")]);
    let forbidden = cluster.create_topic("readonly-", 1, &[]);
    let sidecar = burying_in(&letters);
    let without_key = ProducerRecord { record_key: None, partition: Some(1), ..full(&compacted, "no key") };
    let microseconds = prost_types::Timestamp { seconds: 100_000_000_000, nanos: 0 };
    let cases = [
        (without_key, REJECTED, "INVALID_RECORD", "1"),
        (
            ProducerRecord { timestamp: Some(microseconds), ..full(&dated, "ahead") },
            REJECTED,
            "INVALID_TIMESTAMP",
            "0",
        ),
        (full(&small, &"x".repeat(20_000)), TOO_LARGE, "MSG_SIZE_TOO_LARGE", "0"),
        (full(&forbidden, "v"), FORBIDDEN, "TOPIC_AUTHORIZATION_FAILED", "0"),
    ];
    for (record, reason, name, partition) in cases {
        let topic = record.topic.clone();
        let refusal = run(async {
            let client = connect(&sidecar.grpc_address());
            until_refused(&client, reason, By::Rules, || record.clone()).await
        });
        let told = ["kafkaError", "partition"].map(|field| refusal.metadata[field].as_str());
        assert_eq!(told, [name, partition], "{refusal:?}");
        let letter = check_letter(&refusal, &letters, &topic);
        assert_eq!(header(&letter, "dlq-attempts"), Some("0"), "{letter:?}");
        // The letters' topic would not take that time either.
        let is_ahead = header(&letter, "dlq-timestamp") == Some("100000000000000");
        assert_eq!(is_ahead, name == "INVALID_TIMESTAMP", "{letter:?}");
    }
    // All of them at once, and the good ones between them go on; unless the machine stood still, and Kafka was not asked in time.
    let none_went = (0..3).any(|frame| of_many(&sidecar, &compacted, frame));
    assert!(none_went, "none of a frame's bad records is handed over");
    assert_eq!(read_topic(cluster, &compacted).len() % 500, 0);
    for topic in [&dated, &small, &forbidden] {
        assert_eq!(read_topic(cluster, topic).len(), 0, "{topic}");
    }
}

/// Of topics that nobody has used yet; unless the machine stood still, and Kafka was not asked in time.
fn not_even_the_first_is_handed_over() {
    const CLIENT: &str = "first-refused";
    let cluster = Cluster::shared();
    let sidecar = through_proxies().env("KAFKA_CLIENT_ID", CLIENT).env("SIDECAR_DEAD_LETTERS_TOPIC", "off");
    let sidecar = started(sidecar);
    let faults = cluster.faults_of(CLIENT);
    faults.note_arrivals(ApiKey::Produce);
    let produced = || faults.arrivals(ApiKey::Produce).len();
    let none_went = (0..3).any(|_| {
        let compacted = cluster.create_topic("first-compacted", 1, &[("cleanup.policy", "compact")]);
        let small = cluster.create_topic("first-small", 1, &[("max.message.bytes", "10000")]);
        let forbidden = cluster.create_topic("readonly-first", 1, &[]);
        let before = produced();
        let refusals = run(async {
            let client = connect(&sidecar.grpc_address());
            let mut refusals = Vec::new();
            for record in
                [text(&compacted, "no key"), text(&small, &"x".repeat(20_000)), text(&forbidden, "v")]
            {
                refusals.push(send(&client, record).await.unwrap_err());
            }
            refusals
        });
        let told = refusals.iter().map(|refusal| (refusal.code, refusal.reason.as_str()));
        let by_rules = refusals.iter().all(|refusal| refuser(refusal) == By::Rules);
        told.eq([REJECTED, TOO_LARGE, FORBIDDEN]) && by_rules && produced() == before
    });
    assert!(none_went, "no request for any of them");
    // Requests are seen where there are any.
    let good = cluster.create_topic("first-good", 1, &[]);
    let before = produced();
    run(async { send(&connect(&sidecar.grpc_address()), text(&good, "good")).await.unwrap() });
    assert_eq!(produced(), before + 1);
}

/// Kafka itself judges for a principal that may not ask for the limit.
fn a_record_is_too_large_from_the_byte_on_from_which_it_is_for_kafka() {
    let cluster = Cluster::shared();
    let small = cluster.create_topic("limited-edge", 1, &[("max.message.bytes", "10000")]);
    let asking = started(over_tls().env("SIDECAR_DEAD_LETTERS_TOPIC", "off"));
    let limited = started(over_tls_limited().env("SIDECAR_DEAD_LETTERS_TOPIC", "off"));
    let shapes: [fn(ProducerRecord) -> ProducerRecord; 3] = [
        |record| record,
        |record| keyed(record, &"k".repeat(100)),
        |record| with_header(with_header(record, "a", &"h".repeat(70)), "b", ""),
    ];
    run(async {
        let (asking, limited) = (connect(&asking.grpc_address()), connect(&limited.grpc_address()));
        for shape in shapes {
            let of = |bytes: usize| shape(text(&small, &"x".repeat(bytes)));
            // The last size known to be taken, and the first known to be refused.
            let (mut taken, mut refused) = (9_000, 10_000);
            while taken + 1 < refused {
                let middle = usize::midpoint(taken, refused);
                match send(&limited, of(middle)).await {
                    Ok(_) => taken = middle,
                    Err(refusal) => {
                        refusal.expect(TOO_LARGE.0, TOO_LARGE.1, "NO");
                        assert_eq!(refuser(&refusal), By::Kafka, "{refusal:?}");
                        refused = middle;
                    }
                }
            }
            until_refused(&asking, TOO_LARGE, By::Rules, || of(refused)).await;
            send(&asking, of(taken)).await.unwrap();
        }
    });
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
    let mut others = 0;
    for (number, result) in answers[0].results.iter().enumerate() {
        match &result.result {
            Some(record_result::Result::Receipt(_)) => assert_eq!(number % 2, 0),
            Some(record_result::Result::Error(error)) => {
                assert_eq!(number % 2, 1, "{error:?}");
                let is_judged = error.reason() == ErrorReason::RecordRejected;
                others += usize::from(!is_judged || error.metadata.contains_key("attempts"));
            }
            None => panic!("{number} has no answer"),
        }
    }
    others == 0 && metric(sidecar, "producer_retries_total") == retries
}

/// Also where the principal may not ask for its settings, for longer than an answer is believed.
fn a_forbidden_topic_is_called_so_every_time() {
    let cluster = Cluster::shared();
    let topic = cluster.create_topic("limited-denied", 1, &[]);
    let denial = Acl::deny(cluster.limited_user(), Operation::Write, Resource::Topic(topic.clone()));
    cluster.add_acl(&denial);
    let sidecar = started(over_tls_limited().env("SIDECAR_DEAD_LETTERS_TOPIC", "off"));
    run(async {
        let client = connect(&sidecar.grpc_address());
        until_refused(&client, FORBIDDEN, By::Rules, || text(&topic, "v")).await;
        let mut look = tokio::time::interval(Duration::from_millis(100));
        let mut told = 0;
        for _ in 0..30 {
            look.tick().await;
            let refusal = send(&client, text(&topic, "v")).await.unwrap_err();
            assert_eq!((refuser(&refusal), refusal.persisted()), (By::Rules, "NO"), "{refusal:?}");
            told += usize::from((refusal.code, refusal.reason.as_str()) == FORBIDDEN);
        }
        // Where the machine stood still, and Kafka was not asked in time, it is not known a few times.
        assert!(told >= 25, "{told} of 30");
    });
    cluster.remove_acl(&denial);
}

/// What is known of a topic is refreshed after a minute; a record is refused by what was just asked for.
fn a_rule_that_is_lifted_refuses_nothing_any_more() {
    let cluster = Cluster::shared();
    let compacted = cluster.create_topic("lifted", 1, &[("cleanup.policy", "compact")]);
    let small = cluster.create_topic("raised", 1, &[("max.message.bytes", "10000")]);
    let denied = cluster.create_topic("denied", 1, &[]);
    let denial = Acl::deny(cluster.user(), Operation::Write, Resource::Topic(denied.clone()));
    let sidecar = started(over_tls().env("SIDECAR_DEAD_LETTERS_TOPIC", "off"));
    let large = format!("lifted{}", "x".repeat(20_000));
    run(async {
        let client = connect(&sidecar.grpc_address());
        // What is forbidden later is learnt by a refusal of Kafka's.
        send(&client, text(&denied, "before")).await.unwrap();
        cluster.add_acl(&denial);
        until_refused(&client, FORBIDDEN, By::Rules, || text(&denied, "denied")).await;
        let lift: [(_, _, &dyn Fn()); 3] = [
            (text(&compacted, "lifted"), REJECTED, &|| {
                cluster.alter_topic_config(&compacted, &[("cleanup.policy", "delete")]);
            }),
            (text(&small, &large), TOO_LARGE, &|| {
                cluster.alter_topic_config(&small, &[("max.message.bytes", "100000")]);
            }),
            (text(&denied, "lifted"), FORBIDDEN, &|| cluster.remove_acl(&denial)),
        ];
        for (record, reason, lift) in lift {
            until_refused(&client, reason, By::Rules, || record.clone()).await;
            lift();
            let mut look = tokio::time::interval(Duration::from_millis(100));
            let taken = async {
                while send(&client, record.clone()).await.is_err() {
                    look.tick().await;
                }
            };
            tokio::time::timeout(FOLLOWED, taken).await.expect("the rule is lifted");
        }
    });
    for topic in [compacted, small, denied] {
        let records = read_topic(cluster, &topic);
        let is_lifted = |record: &&ReadRecord| record.value.as_deref().unwrap().starts_with(b"lifted");
        assert_eq!(records.iter().filter(is_lifted).count(), 1, "{topic}");
    }
}
