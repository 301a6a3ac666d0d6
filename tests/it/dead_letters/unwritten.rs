//! What keeps a dead letter from being written is said to its caller and counted, and a full queue is none of it.

use producer_sidecar::grpc::proto::{ErrorReason, SendBatchRequest, record_result};
use testkit::{Cluster, read_topic};
use tonic::Code;

use super::{refused, started};
use crate::{
    around::metric,
    client::{Refusal, over_tls, run, text},
    commands::to_end,
    streams::exchange,
};

crate::tests!(
    a_dead_letter_that_cannot_be_written_is_said,
    a_dead_letter_whose_topic_cannot_be_named_is_said,
    letters_find_room_in_a_full_queue,
);

fn a_dead_letter_that_cannot_be_written_is_said() {
    let cluster = Cluster::shared();
    let compacted = cluster.create_topic("compacted", 1, &[("cleanup.policy", "compact")]);
    let forbidden = cluster.create_topic("readonly-letters", 1, &[]);
    let own = format!("{compacted}={forbidden}");
    let cases = [
        ("SIDECAR_BROKERS_WAIT_MS", "5000", format!("{compacted}.dlq"), "TOPIC_NOT_FOUND"),
        ("SIDECAR_DEAD_LETTERS_TOPICS", own.as_str(), forbidden, "NOT_AUTHORIZED"),
    ];
    for (setting, value, letters, reason) in cases {
        let sidecar = started(over_tls().env(setting, value));
        let refusal = refused(&sidecar, text(&compacted, "no key"));
        refusal.expect(Code::InvalidArgument, "RECORD_REJECTED", "NO");
        let told =
            ["deadLetterTopic", "deadLetterError", "deadLetterOffset"].map(|name| refusal.metadata.get(name));
        assert_eq!(told, [Some(&letters), Some(&reason.to_owned()), None], "{refusal:?}");
        assert!(refusal.message.contains("could not be written"), "{}", refusal.message);
        assert_eq!(metric(&sidecar, r#"producer_dead_letters_total{outcome="failed"}"#), Some(1));
    }
    let off = started(over_tls().env("SIDECAR_DEAD_LETTERS_TOPIC", "off"));
    let refusal = refused(&off, text(&compacted, "no key"));
    refusal.expect(Code::InvalidArgument, "RECORD_REJECTED", "NO");
    assert!(!refusal.metadata.contains_key("deadLetterTopic"), "{refusal:?}");
}

/// Kafka's names have 249 characters at most, and that of a dead-letter topic is longer than its topic's.
fn a_dead_letter_whose_topic_cannot_be_named_is_said() {
    let cluster = Cluster::shared();
    let own = cluster.create_topic("own", 1, &[]);
    let named = |length: usize| format!("{own}-{}", "n".repeat(length - own.len() - 1));
    let [longest, long] = [named(245), named(246)];
    for topic in [&longest, &long] {
        cluster.create_topic_named(topic, 1, &[("cleanup.policy", "compact")]);
    }
    let sidecar = started(over_tls());
    let failed = || metric(&sidecar, r#"producer_dead_letters_total{outcome="failed"}"#);
    let told = |refusal: &Refusal| {
        ["deadLetterTopic", "deadLetterError"].map(|name| refusal.metadata.get(name).cloned())
    };
    let (error, beside) = (Some("TOPIC_NOT_FOUND".to_owned()), Some(format!("{longest}.dlq")));
    for (topic, reason, letters, number) in [
        (&longest, "RECORD_REJECTED", beside, 1),
        (&long, "RECORD_REJECTED", None, 2),
        (&named(249), "TOPIC_NOT_FOUND", None, 3),
    ] {
        let refusal = refused(&sidecar, text(topic, "no key"));
        assert_eq!((refusal.reason.as_str(), refusal.persisted()), (reason, "NO"), "{refusal:?}");
        assert_eq!(told(&refusal), [letters.clone(), error.clone()], "{refusal:?}");
        let is_named = refusal.message.contains("must have at most 249 characters");
        assert_eq!(is_named, letters.is_none(), "{refusal:?}");
        assert_eq!(failed(), Some(number));
    }
    let logged = sidecar.stderr().into_iter().filter(|line| line.contains("no dead letter")).count();
    assert!(logged > 0, "{:?}", sidecar.stderr());
    // Where the settings name the topic, they are refused.
    let settings = over_tls().env("SIDECAR_DEAD_LETTERS_TOPICS", format!("{long}={{topic}}.dlq"));
    let ended = to_end(settings);
    assert_eq!(ended.code, Some(64), "{ended:?}");
    assert!(ended.stderr.iter().any(|line| line.contains("at most 249 characters")), "{ended:?}");
}

/// Each record keeps its room until its letter is written, and the letter needs some too.
fn letters_find_room_in_a_full_queue() {
    let cluster = Cluster::shared();
    let letters = cluster.create_topic("letters", 1, &[]);
    let compacted = cluster.create_topic("compacted", 1, &[("cleanup.policy", "compact")]);
    let sidecar = started(
        over_tls().env("SIDECAR_DEAD_LETTERS_TOPIC", &letters).env("SIDECAR_QUEUE_RECORDS_MAX", "50"),
    );
    let records = (0..50).map(|number| text(&compacted, &number.to_string())).collect();
    let frame = SendBatchRequest { sequence: 1, records, ..SendBatchRequest::default() };
    let (answers, end) = run(exchange(&sidecar.grpc_address(), vec![frame]));
    end.unwrap();
    let mut written = 0;
    for result in &answers[0].results {
        let Some(record_result::Result::Error(error)) = &result.result else { panic!("{result:?}") };
        // Who finds no room may send again, and has no letter.
        if error.reason() == ErrorReason::RecordRejected {
            assert!(error.metadata.contains_key("deadLetterOffset"), "{error:?}");
            written += 1;
        }
    }
    assert!(written > 20, "{written}");
    assert_eq!(read_topic(cluster, &letters).len(), written);
}
