//! Tests of the properties that librdkafka gets.

use std::collections::HashSet;

use super::*;
use crate::config::source::{Environment, Inputs, load};

fn config(variables: &[(&str, &str)], purpose: Purpose) -> Config {
    let all =
        [("SIDECAR_INSTANCE_ID", "one"), ("KAFKA_BROKERS", "a:1,[::1]:2")].iter().chain(variables).copied();
    let environment = Environment::of(all);
    load(Inputs { config: None, flags: &[], environment: &environment }, purpose).unwrap().config
}

fn pairs(config: &Config) -> BTreeMap<String, String> {
    let properties = producer_properties(config);
    let names: HashSet<_> = properties.iter().map(|property| property.name.clone()).collect();
    assert_eq!(names.len(), properties.len(), "a property stands twice: {properties:?}");
    properties.iter().map(|property| (property.name.clone(), property.expose().to_owned())).collect()
}

#[test]
fn the_defaults_become_these_properties() {
    let expected = [
        ("acks", "all"),
        ("allow.auto.create.topics", "false"),
        ("batch.num.messages", "8000"),
        ("batch.size", "1000000"),
        ("bootstrap.servers", "a:1,[::1]:2"),
        ("client.id", "caas-gateway"),
        ("compression.codec", "none"),
        ("enable.idempotence", "true"),
        ("enable.metrics.push", "false"),
        ("linger.ms", "5"),
        ("max.in.flight.requests.per.connection", "5"),
        ("message.max.bytes", "1065536"),
        ("message.timeout.ms", "300000"),
        ("queue.buffering.max.kbytes", "62464"),
        ("queue.buffering.max.messages", "110000"),
        ("reconnect.backoff.max.ms", "1000"),
        ("reconnect.backoff.ms", "50"),
        ("retry.backoff.max.ms", "1000"),
        ("retry.backoff.ms", "100"),
        ("security.protocol", "plaintext"),
        ("socket.connection.setup.timeout.ms", "10000"),
        ("socket.keepalive.enable", "true"),
        ("socket.timeout.ms", "10000"),
        ("statistics.interval.ms", "1000"),
        ("topic.metadata.refresh.interval.ms", "60000"),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(pairs(&config(&[("KAFKA_SECURITY_PROTOCOL", "PLAINTEXT")], Purpose::Serve)), expected.into());
}

#[test]
fn credentials_and_encryption_are_passed_on() {
    let variables = [("KAFKA_USER", "writer"), ("KAFKA_PASSWORD", "pencil")];
    let pairs = pairs(&config(&variables, Purpose::Serve));
    let expected = [
        ("security.protocol", "sasl_ssl"),
        ("sasl.mechanism", "SCRAM-SHA-512"),
        ("sasl.username", "writer"),
        ("sasl.password", "pencil"),
        ("ssl.ca.location", "probe"),
        ("ssl.endpoint.identification.algorithm", "https"),
    ];
    for (name, value) in expected {
        assert_eq!(pairs.get(name).map(String::as_str), Some(value), "{name}");
    }
}

#[test]
fn only_dev_creates_topics() {
    let pairs = pairs(&config(&[], Purpose::Dev));
    assert_eq!(pairs.get("allow.auto.create.topics").map(String::as_str), Some("true"));
    assert_eq!(pairs.get("security.protocol").map(String::as_str), Some("plaintext"));
    assert!(!pairs.contains_key("bootstrap.servers"));
}

#[test]
fn everything_that_the_sidecar_sets_is_reserved() {
    let variables = [("KAFKA_USER", "writer"), ("KAFKA_PASSWORD", "pencil")];
    for name in pairs(&config(&variables, Purpose::Serve)).keys() {
        assert!(reserved(name).is_some(), "{name}");
    }
    let more = [
        "bootstrap.servers",
        "metadata.broker.list",
        "sasl.oauthbearer.config",
        "ssl.key.pem",
        "enable.ssl.certificate.verification",
        "test.mock.num.brokers",
        "debug",
        "transactional.id",
        "max.in.flight",
        "request.required.acks",
        "partitioner",
        "partitioner_cb",
        "plugin.library.paths",
        "enable.gapless.guarantee",
        "log_level",
        "log.connection.close",
        "queue.buffering.max.ms",
        "dr_msg_cb",
        "error_cb",
        "oauthbearer_token_refresh_cb",
        "delivery.report.only.error",
        "retries",
        "batch.num.messages",
    ];
    for name in more {
        assert!(reserved(name).is_some(), "{name}");
    }
    for name in ["client.rack", "socket.max.fails", "socket.nagle.disable", "broker.address.family"] {
        assert_eq!(reserved(name), None, "{name}");
    }
}
