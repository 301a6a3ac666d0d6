//! What `/metrics` says after calls that were counted here too.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use testkit::Cluster;

use super::{listening, metric, ready};
use crate::{
    client::{connect, over_tls, run, send, shared_address, text, with_shared},
    commands::without_brokers,
};

crate::tests!(
    the_source_documents_metrics_count_calls,
    failures_are_counted_by_reason,
    topics_beyond_the_cap_share_a_label,
    unknown_topics_make_no_labels,
    the_text_is_open_metrics,
);

fn sent(topic: &str, status: &str) -> String {
    format!(r#"kafka_messages_sent_total{{topic="{topic}",status="{status}"}}"#)
}

fn count(topic: &str) -> String {
    format!(r#"kafka_send_duration_ms_count{{topic="{topic}"}}"#)
}

fn failures(reason: &str) -> String {
    format!(r#"producer_failures_total{{reason="{reason}"}}"#)
}

fn the_source_documents_metrics_count_calls() {
    let topic = Cluster::shared().create_topic("counted", 2, &[("max.message.bytes", "2000")]);
    let sidecar = ready(over_tls());
    run(async {
        let client = connect(&sidecar.grpc_address());
        for number in 0..7 {
            send(&client, text(&topic, &number.to_string())).await.unwrap();
        }
        for _ in 0..3 {
            send(&client, text(&topic, &"x".repeat(5000))).await.unwrap_err();
        }
    });
    assert_eq!(metric(&sidecar, "kafka_producer_connected"), Some(1));
    assert_eq!(metric(&sidecar, &sent(&topic, "success")), Some(7));
    assert_eq!(metric(&sidecar, &sent(&topic, "error")), Some(3));
    assert_eq!(metric(&sidecar, &count(&topic)), Some(10));
    assert_eq!(metric(&sidecar, &failures("RECORD_TOO_LARGE")), Some(3));
    let bucket = format!(r#"kafka_send_duration_ms_bucket{{le="+Inf",topic="{topic}"}}"#);
    assert_eq!(metric(&sidecar, &bucket), Some(10));
    run(async { send(&connect(&sidecar.grpc_address()), text(&topic, "more")).await }).unwrap();
    assert_eq!(metric(&sidecar, &sent(&topic, "success")), Some(8));
    assert_eq!(metric(&sidecar, &count(&topic)), Some(11));
    assert_eq!(metric(&sidecar, "producer_outstanding_records"), Some(0));
    assert_eq!(metric(&sidecar, "producer_outstanding_bytes"), Some(0));
}

fn failures_are_counted_by_reason() {
    let sidecar = ready(over_tls());
    assert_eq!(metric(&sidecar, &failures("INVALID_RECORD")), None);
    run(async {
        let client = connect(&sidecar.grpc_address());
        for _ in 0..4 {
            send(&client, text("a b", "v")).await.unwrap_err();
        }
        for _ in 0..2 {
            send(&client, text("no-such-topic-for-metrics", "v")).await.unwrap_err();
        }
    });
    assert_eq!(metric(&sidecar, &failures("INVALID_RECORD")), Some(4));
    assert_eq!(metric(&sidecar, &failures("TOPIC_NOT_FOUND")), Some(2));
    let away = listening(without_brokers(&["serve"]));
    assert_eq!(metric(&away, "kafka_producer_connected"), Some(0));
}

fn topics_beyond_the_cap_share_a_label() {
    let topics: Vec<_> = (0..3).map(|_| Cluster::shared().create_topic("capped", 1, &[])).collect();
    let sidecar = ready(over_tls().env("SIDECAR_METRICS_TOPICS_MAX", "1"));
    run(async {
        let client = connect(&sidecar.grpc_address());
        for topic in &topics {
            send(&client, text(topic, "v")).await.unwrap();
        }
    });
    assert_eq!(metric(&sidecar, &sent(&topics[0], "success")), Some(1));
    assert_eq!(metric(&sidecar, &sent("_other", "success")), Some(2));
    assert_eq!(metric(&sidecar, &count("_other")), Some(2));
    assert_eq!(metric(&sidecar, &sent(&topics[2], "success")), None);
}

fn unknown_topics_make_no_labels() {
    let sidecar = ready(over_tls());
    run(async {
        let client = connect(&sidecar.grpc_address());
        for number in 0..20 {
            send(&client, text(&format!("made-up-{number}"), "v")).await.unwrap_err();
        }
    });
    assert_eq!(metric(&sidecar, &sent("_other", "error")), Some(20));
    assert!(!sidecar.http_get("/metrics").1.contains("made-up"), "callers choose no labels");
}

fn the_text_is_open_metrics() {
    // A family appears with its first sample.
    run(async { send(&connect(&shared_address()), text("a b", "v")).await }).unwrap_err();
    let (address, text) = with_shared(|sidecar| (sidecar.admin_address(), sidecar.http_get("/metrics").1));
    assert!(text.ends_with("\n# EOF\n"), "{text}");
    assert_eq!(text.matches("# EOF").count(), 1);
    for line in [
        "# TYPE kafka_producer_connected gauge",
        "# TYPE kafka_messages_sent counter",
        "# TYPE kafka_send_duration_ms histogram",
        "# TYPE producer_failures counter",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in {text}");
    }
    // Each sample follows the TYPE line of its family, as scrapers demand.
    let mut family = "";
    for line in text.lines().filter(|line| *line != "# EOF") {
        if let Some(named) = line.strip_prefix("# HELP ").or_else(|| line.strip_prefix("# TYPE ")) {
            family = named.split_whitespace().next().unwrap();
        } else if !line.starts_with('#') {
            assert!(line.starts_with(family), "{line} under {family}");
        }
    }
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let expected = "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert!(answer.lines().any(|line| line.eq_ignore_ascii_case(expected)), "{answer}");
}
