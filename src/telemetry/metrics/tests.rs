//! What is rendered, compared with the table.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// Metrics of which every family has a sample.
fn all_touched() -> Arc<Metrics> {
    let metrics = Metrics::new(1);
    let topic = metrics.topic(&Topic::parse("orders").unwrap());
    topic.duration(Duration::from_millis(3), Some(0xabc));
    metrics.failure(Reason::QueueFull);
    metrics.task_panicked("stream");
    metrics.dead_letter(true, false);
    metrics.libraries(Libraries { librdkafka: "2.12.1".to_owned(), openssl: "3.5.7".to_owned() });
    metrics.transactions().ended(TransactionEnd::Committed, 3);
    let broker = BrokerReport { broker: "1".to_owned(), round_trip_us: 900, retries: 0 };
    metrics.client().brokers(&[broker]);
    metrics.client().replaced("fatal");
    metrics.calls().ended("_OTHER", "OK", Duration::from_millis(3));
    metrics.connections().open("grpc", 1);
    metrics.connections().closed("grpc", Closed::Ended);
    metrics.connections().refused("grpc", Refused::Full);
    metrics
}

/// The names of a sample's labels, save that of a histogram's bound.
fn labels(sample: &str) -> BTreeSet<&str> {
    let (_, rest) = sample.split_once('{').unwrap_or_default();
    let (labels, _) = rest.split_once('}').unwrap_or_default();
    labels
        .split(',')
        .filter_map(|label| label.split_once('='))
        .map(|(name, _)| name)
        .filter(|name| *name != "le")
        .collect()
}

#[test]
fn topics_beyond_the_cap_count_as_other() {
    let metrics = Metrics::new(1);
    let topic = |name| Topic::parse(name).unwrap();
    metrics.topic(&topic("a")).success();
    metrics.topic(&topic("b")).success();
    metrics.topic(&topic("a")).error();
    let text = metrics.render().unwrap();
    for line in [
        r#"kafka_messages_sent_total{topic="a",status="success"} 1"#,
        r#"kafka_messages_sent_total{topic="a",status="error"} 1"#,
        r#"kafka_messages_sent_total{topic="_other",status="success"} 1"#,
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
}

#[test]
fn the_names_of_the_source_document_are_exported() {
    let metrics = Metrics::new(10);
    metrics.client().connected(true);
    metrics.failure(Reason::QueueFull);
    metrics.other_topics().duration(Duration::from_millis(3), None);
    let text = metrics.render().unwrap();
    assert!(text.contains("kafka_producer_connected 1"));
    assert!(text.contains(r#"producer_failures_total{reason="QUEUE_FULL"} 1"#));
    assert!(text.contains(r#"kafka_send_duration_ms_bucket{le="5.0",topic="_other"} 1"#), "{text}");
}

#[test]
fn what_is_exported_is_what_the_table_says() {
    let text = all_touched().render().unwrap();
    let typed = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let exported: BTreeMap<_, _> = typed.collect();
    let listed: BTreeMap<_, _> = table::all().map(|metric| (metric.name, metric.kind.name())).collect();
    assert_eq!(exported, listed);
    assert_eq!(table::all().count(), listed.len(), "no name is said twice");
    for metric in table::all() {
        let of = |line: &&str| line.starts_with(&metric.sample_name()) && !line.starts_with('#');
        let samples: Vec<_> = text.lines().filter(of).collect();
        assert!(!samples.is_empty(), "{} has no sample", metric.name);
        let expected: BTreeSet<_> = metric.labels.iter().copied().collect();
        assert!(samples.iter().any(|sample| labels(sample) == expected), "{samples:?}: {expected:?}");
        assert!(text.contains(&format!("# HELP {} {}.\n", metric.name, metric.help)), "{}", metric.name);
        let unit = format!("# UNIT {} {}\n", metric.name, metric.unit);
        let ends_in_it = !metric.unit.is_empty() && metric.name.ends_with(&format!("_{}", metric.unit));
        assert_eq!(text.contains(&unit), ends_in_it, "{}", metric.name);
    }
}

#[test]
fn the_bucket_of_a_sampled_call_shows_its_trace() {
    let metrics = all_touched();
    metrics.topic(&Topic::parse("orders").unwrap()).duration(Duration::from_millis(3), None);
    let text = metrics.render().unwrap();
    let bucket = r#"kafka_send_duration_ms_bucket{le="5.0",topic="orders"} 2 # {trace_id=""#;
    let line = text.lines().find_map(|line| line.strip_prefix(bucket)).unwrap_or_else(|| panic!("{text}"));
    let (trace_id, rest) = line.split_once("\"} ").unwrap();
    assert_eq!(trace_id, format!("{:032x}", 0xabc));
    let (value, at) = rest.split_once(' ').unwrap();
    assert_eq!(value, "3.0");
    assert!(at.parse::<f64>().unwrap() > 1.7e9, "{at}");
    assert_eq!(text.matches(" # {").count(), 1);
}

#[test]
fn waiting_and_build_are_told() {
    let metrics = all_touched();
    metrics.waiting((7, Duration::from_millis(1_500)));
    let text = metrics.render().unwrap();
    assert!(text.contains("\nproducer_waiting_records 7\n"), "{text}");
    assert!(text.contains("\nproducer_waiting_oldest_age_seconds 1.5\n"), "{text}");
    let version = env!("CARGO_PKG_VERSION");
    let build = format!(
        r#"producer_build_info{{version="{version}",librdkafka_version="2.12.1",openssl_version="3.5.7"}} 1"#
    );
    assert!(text.contains(&build), "{text}");
}
