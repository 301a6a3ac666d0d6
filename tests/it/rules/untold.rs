//! Brokers that do not tell what a topic takes, or not now.

use std::time::{Duration, Instant};

use testkit::{ApiKey, Cluster, FaultProxy, eventually, read_topic};
use tonic::Code;

use super::{By, FORBIDDEN, REJECTED, refuser, until_refused};
use crate::{
    client::{READY, connect, keyed, run, send, text, through_proxies},
    dead_letters::{header, started},
};

crate::tests!(
    what_cannot_be_asked_is_not_handed_over_on_a_guess,
    a_dead_letter_waits_where_its_topic_cannot_be_asked,
    a_new_topic_waits_until_its_rules_are_told,
    kafka_judges_where_it_never_told_its_rules,
);

const NOT_TOLD: (Code, &str) = (Code::Unavailable, "BROKERS_UNAVAILABLE");

/// Only what is asked goes unanswered, and then all brokers are away. What the topic would not take as far as is known waits for
/// its answer a second at most, and not for every record; the caller may send it again.
fn what_cannot_be_asked_is_not_handed_over_on_a_guess() {
    const CLIENT: &str = "told-nothing";
    const TOLD_BY: Duration = Duration::from_secs(4);
    // A second, and some for a busy machine.
    const EACH_BY: Duration = Duration::from_secs(2);
    let cluster = Cluster::shared();
    let topic = cluster.create_topic("silent", 1, &[("cleanup.policy", "compact")]);
    let sidecar = through_proxies().env("KAFKA_CLIENT_ID", CLIENT).env("SIDECAR_DEAD_LETTERS_TOPIC", "off");
    // A question that goes unanswered for so long costs the connection it was asked on: not within this test.
    let sidecar = started(
        sidecar.env("SIDECAR_KAFKA_SOCKET_TIMEOUT_MS", "60000").env("SIDECAR_BROKERS_WAIT_MS", "60000"),
    );
    let faults = cluster.faults_of(CLIENT);
    let bad = || text(&topic, "no key");
    run(async {
        let client = connect(&sidecar.grpc_address());
        let refused = async || {
            let begun = Instant::now();
            for _ in 0..10 {
                let sent = Instant::now();
                let refusal = send(&client, bad()).await.unwrap_err();
                assert!(sent.elapsed() < EACH_BY, "{:?}", sent.elapsed());
                refusal.expect(NOT_TOLD.0, NOT_TOLD.1, "NO");
                assert_eq!(refuser(&refusal), By::Rules, "{refusal:?}");
                assert!(refusal.message.contains("cannot be asked"), "{refusal:?}");
            }
            assert!(begun.elapsed() < TOLD_BY, "{:?} for ten", begun.elapsed());
        };
        until_refused(&client, REJECTED, By::Rules, bad).await;
        faults.swallow(ApiKey::DescribeConfigs);
        // What was asked for a moment ago still counts.
        until_refused(&client, NOT_TOLD, By::Rules, bad).await;
        refused().await;
        send(&client, keyed(text(&topic, "good"), "key")).await.unwrap();
        assert!(faults.swallowed(ApiKey::DescribeConfigs) > 0, "the question went unanswered");
        faults.swallow_no_more(ApiKey::DescribeConfigs);
        cluster.proxies().for_each(FaultProxy::cut);
        until_refused(&client, NOT_TOLD, By::Rules, bad).await;
        refused().await;
        cluster.heal();
        until_refused(&client, REJECTED, By::Rules, bad).await;
        send(&client, keyed(text(&topic, "good"), "key")).await.unwrap();
    });
    assert_eq!(read_topic(cluster, &topic).len(), 2);
}

/// The letter would be too large as far as is known: it is not handed over, not given up, and cut once that is told.
fn a_dead_letter_waits_where_its_topic_cannot_be_asked() {
    const CLIENT: &str = "letter-untold";
    let cluster = Cluster::shared();
    let letters = cluster.create_topic("letters", 1, &[("max.message.bytes", "10000")]);
    let compacted = cluster.create_topic("asked-later", 1, &[("cleanup.policy", "compact")]);
    let forbidden = cluster.create_topic("readonly-", 1, &[]);
    let sidecar = through_proxies()
        .env("KAFKA_CLIENT_ID", CLIENT)
        .env("SIDECAR_DEAD_LETTERS_TOPIC", &letters)
        .env("SIDECAR_SEND_TIMEOUT_MS", "3000")
        .env("SIDECAR_KAFKA_SOCKET_TIMEOUT_MS", "60000");
    let sidecar = started(sidecar);
    let faults = cluster.faults_of(CLIENT);
    let (small, large) = (text(&forbidden, "small"), text(&forbidden, &"x".repeat(20_000)));
    let refusal = run(async {
        let client = connect(&sidecar.grpc_address());
        // The letters' topic is known, and the other one is asked for after it.
        until_refused(&client, FORBIDDEN, By::Rules, || small.clone()).await;
        until_refused(&client, REJECTED, By::Rules, || text(&compacted, "no key")).await;
        faults.swallow(ApiKey::DescribeConfigs);
        until_refused(&client, NOT_TOLD, By::Rules, || text(&compacted, "no key")).await;
        // The right to write is still told.
        until_refused(&client, FORBIDDEN, By::Rules, || large.clone()).await
    });
    assert_eq!(refusal.metadata.get("deadLetterOffset"), None, "{refusal:?}");
    let written = || read_topic(cluster, &letters);
    let before = written().len();
    faults.swallow_no_more(ApiKey::DescribeConfigs);
    let cut = eventually(READY, "the cut letter", || {
        written().into_iter().find(|letter| header(letter, "dlq-value-bytes") == Some("20000"))
    });
    assert_eq!(header(&cut, "dlq-cut"), Some("value"));
    assert!(usize::try_from(cut.offset).unwrap() >= before, "it came later");
}

/// Whoever waits for a topic that is new waits for its rules as well.
fn a_new_topic_waits_until_its_rules_are_told() {
    const CLIENT: &str = "told-late";
    let cluster = Cluster::shared();
    let topic = cluster.create_topic("told-late", 1, &[("cleanup.policy", "compact")]);
    let sidecar = through_proxies().env("KAFKA_CLIENT_ID", CLIENT).env("SIDECAR_DEAD_LETTERS_TOPIC", "off");
    let sidecar = started(sidecar.env("SIDECAR_KAFKA_SOCKET_TIMEOUT_MS", "60000"));
    let faults = cluster.faults_of(CLIENT);
    faults.swallow(ApiKey::DescribeConfigs);
    run(async {
        let client = connect(&sidecar.grpc_address());
        let bad = tokio::spawn({
            let (client, record) = (client.clone(), text(&topic, "no key"));
            async move { send(&client, record).await }
        });
        let mut look = tokio::time::interval(Duration::from_millis(10));
        while faults.swallowed(ApiKey::DescribeConfigs) == 0 {
            look.tick().await;
        }
        assert!(!bad.is_finished());
        faults.swallow_no_more(ApiKey::DescribeConfigs);
        let refusal = bad.await.unwrap().unwrap_err();
        refusal.expect(REJECTED.0, REJECTED.1, "NO");
        assert_eq!(refuser(&refusal), By::Rules, "{refusal:?}");
    });
}

/// The first record waits for what is never told, and those behind it do not.
fn kafka_judges_where_it_never_told_its_rules() {
    const CLIENT: &str = "never-told";
    const TOLD_BY: Duration = Duration::from_secs(15);
    let cluster = Cluster::shared();
    let topics =
        ["untold", "untold-too"].map(|name| cluster.create_topic(name, 1, &[("cleanup.policy", "compact")]));
    let sidecar = through_proxies().env("KAFKA_CLIENT_ID", CLIENT).env("SIDECAR_DEAD_LETTERS_TOPIC", "off");
    let faults = cluster.faults_of(CLIENT);
    faults.swallow(ApiKey::DescribeConfigs);
    let sidecar = started(sidecar.env("SIDECAR_KAFKA_SOCKET_TIMEOUT_MS", "60000"));
    run(async {
        let client = connect(&sidecar.grpc_address());
        let begun = Instant::now();
        for topic in &topics {
            for _ in 0..5 {
                let refusal = send(&client, text(topic, "no key")).await.unwrap_err();
                refusal.expect(REJECTED.0, REJECTED.1, "NO");
                assert_eq!(refuser(&refusal), By::Kafka, "{refusal:?}");
            }
        }
        assert!(begun.elapsed() < TOLD_BY, "{:?} for ten", begun.elapsed());
    });
    assert!(faults.swallowed(ApiKey::DescribeConfigs) > 0, "the question went unanswered");
}
