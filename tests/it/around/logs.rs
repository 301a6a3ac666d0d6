//! The log: the line at the start, one line a failure, and a count where many are alike.

use std::time::Duration;

use serde_json::Value;
use testkit::{Cluster, Sidecar, eventually};

use crate::client::{READY, connect, over_tls, run, send, text};

use super::ready;

crate::tests!(
    the_line_at_the_start_says_versions_endpoints_and_where_each_setting_was_said,
    failures_alike_are_one_line_and_a_count,
);

/// How many calls fail alike.
const ALIKE: usize = 50;
/// How often they are told.
const REPEAT_MS: u64 = 1_500;

/// The lines of a log, each one JSON object.
fn lines(sidecar: &Sidecar) -> Vec<Value> {
    let parsed = |line: String| serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
    sidecar.stderr().into_iter().map(parsed).collect()
}

fn the_line_at_the_start_says_versions_endpoints_and_where_each_setting_was_said() {
    let sidecar = ready(
        over_tls()
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
            .config("queue_records_max: 5000\n")
            .arg("--drain-ms")
            .arg("1234"),
    );
    let lines = lines(&sidecar);
    let line = lines.iter().find(|line| line["message"] == "serving").expect("it says that it serves");
    assert_eq!(line["version"], env!("CARGO_PKG_VERSION"));
    assert!(line["librdkafka"].as_str().unwrap().starts_with("2."), "{line}");
    assert_eq!(line["grpc"], sidecar.grpc_address());
    assert_eq!(line["admin"], sidecar.admin_address());
    assert_eq!(line["brokers"], Cluster::shared().bootstrap_tls());
    assert_eq!(line["traces"], "http://127.0.0.1:1");
    let settings = line["settings"].as_str().unwrap();
    for said in [
        "kafka.brokers: environment KAFKA_BROKERS",
        "drain_ms: --drain-ms",
        "traces.endpoint: environment OTEL_EXPORTER_OTLP_ENDPOINT",
    ] {
        assert!(settings.split("; ").any(|setting| setting == said), "{said} in {settings}");
    }
    assert!(
        settings.contains("queue_records_max: file ") || settings.contains("sidecar.yaml:1"),
        "{settings}"
    );
    assert!(!settings.contains("log.filter"), "what nobody said is not named: {settings}");
    assert!(!line.to_string().contains(Cluster::shared().password()), "{line}");
}

fn failures_alike_are_one_line_and_a_count() {
    let sidecar = ready(over_tls().env("SIDECAR_LOG_REPEAT_MS", REPEAT_MS.to_string()));
    run(async {
        let client = connect(&sidecar.grpc_address());
        for number in 0..ALIKE {
            send(&client, text("nowhere", &number.to_string())).await.unwrap_err();
        }
        send(&client, text("no where", "v")).await.unwrap_err();
    });
    let of = |reason: &str| -> Vec<Value> {
        lines(&sidecar).into_iter().filter(|line| line["reason"] == reason).collect()
    };
    // Written before the answer, and read from a pipe by another thread.
    let invalid = eventually(READY, "another reason's own line", || {
        Some(of("INVALID_RECORD")).filter(|invalid| !invalid.is_empty())
    });
    let [line] = &invalid[..] else { panic!("one line: {invalid:?}") };
    assert_eq!((&line["level"], &line["persisted"]), (&"INFO".into(), &"NO".into()));
    let first = &of("TOPIC_NOT_FOUND")[0];
    assert_eq!((&first["topic"], &first["repeated"]), (&"nowhere".into(), &0.into()));
    assert!(first["message"].as_str().unwrap().contains("nowhere"), "{first}");
    // Every one is in a line, or in the count of one.
    eventually(READY + Duration::from_millis(REPEAT_MS), "all failures told or counted", || {
        let told = of("TOPIC_NOT_FOUND");
        let counted: u64 = told.iter().map(|line| line["repeated"].as_u64().unwrap()).sum();
        let single = told.iter().filter(|line| line.get("persisted").is_some()).count();
        assert!(told.len() < ALIKE / 4, "{told:?}");
        (usize::try_from(counted).unwrap() + single == ALIKE).then_some(())
    });
}
