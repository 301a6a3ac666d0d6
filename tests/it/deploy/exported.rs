//! Alerts and dashboard name only what a sidecar exports, with the labels that it has.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use producer_sidecar::grpc::proto::{ErrorReason, ProcessAndForwardRequest};
use testkit::{Cluster, eventually};

use super::{
    dashboard,
    expressions::{Named, named},
    manifest::text,
    rules,
};
use crate::{
    client::{READY, connect, over_tls, run, send, text as record},
    forward::forward,
};

crate::tests!(every_metric_that_alerts_and_dashboard_name_is_exported, metrics_are_read_out_of_expressions,);

/// What is exported because standard libraries do, and tells nothing here.
const OF_NO_USE: [&str; 1] = ["process_virtual_memory_bytes"];
/// What Prometheus itself adds.
const PROMETHEUS: [&str; 1] = ["ALERTS"];
/// Labels that are there by who scrapes.
const OF_THE_TARGET: [&str; 3] = ["namespace", "job", "instance"];

/// What alerts, panels and variables ask for, and who asks.
fn asked() -> Vec<(String, Named)> {
    let alerts = rules::alerts();
    let alerts =
        alerts.iter().map(|alert| (text(alert, "/alert").to_owned(), text(alert, "/expr").to_owned()));
    let all = alerts.chain(dashboard::expressions()).chain(dashboard::variables());
    all.flat_map(|(who, expression)| {
        let found = named(&expression);
        assert!(!found.is_empty(), "{who} asks for nothing: {expression}");
        found.into_iter().map(move |named| (who.clone(), named))
    })
    .collect()
}

/// The names of a sidecar's samples with their labels, after everything that is counted has happened to it.
fn exported() -> BTreeMap<String, BTreeSet<String>> {
    let cluster = Cluster::shared();
    let topic = cluster.create_topic("exported", 1, &[("max.message.bytes", "2000")]);
    let authorities = fs::read_to_string(cluster.ca_file()).unwrap();
    let sidecar = over_tls()
        .env_file("KAFKA_CA_FILE", "ca.pem", &authorities)
        .env("SIDECAR_KAFKA_FILES_LOOK_MS", "50")
        .start();
    sidecar.wait_ready(READY);
    run(async {
        let client = connect(&sidecar.grpc_address());
        send(&client, record(&topic, "v")).await.unwrap();
        // A failure, and a dead letter, whatever becomes of it.
        send(&client, record(&topic, &"x".repeat(5000))).await.unwrap_err();
        let unit = ProcessAndForwardRequest { outputs: vec![record(&topic, "v")], ..Default::default() };
        forward(&client, unit).await.unwrap();
    });
    // Another producer takes over.
    let other = fs::read_to_string(cluster.other_ca_file()).unwrap();
    fs::write(sidecar.folder().join("ca.pem"), authorities + &other).unwrap();
    let metrics = eventually(READY, "the rare metrics are there", || {
        let metrics = sidecar.http_get("/metrics").1;
        let rare = ["\nkafka_producer_replaced_total{", "\nkafka_broker_round_trip_microseconds{"];
        rare.iter().all(|name| metrics.contains(name)).then_some(metrics)
    });
    let mut exported: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for sample in metrics.lines().filter(|line| !line.starts_with('#')) {
        // A bucket may be followed by the trace of one of its observations.
        let sample = sample.split(" # ").next().unwrap().rsplit_once(' ').unwrap().0;
        let [Named { metric, labels }] = &named(sample)[..] else { panic!("{sample}") };
        exported.entry(metric.clone()).or_default().extend(labels.iter().map(|(label, _)| label.clone()));
    }
    exported
}

fn every_metric_that_alerts_and_dashboard_name_is_exported() {
    let exported = exported();
    let asked = asked();
    for (who, Named { metric, labels }) in &asked {
        if PROMETHEUS.contains(&metric.as_str()) {
            continue;
        }
        let known = exported.get(metric);
        let known =
            known.unwrap_or_else(|| panic!("{who} names {metric}, which is not exported: {exported:?}"));
        for (label, value) in labels {
            let is_there = known.contains(label) || OF_THE_TARGET.contains(&label.as_str());
            assert!(is_there, "{who} asks for {label} of {metric}, which has {known:?}");
            if label == "reason" {
                for reason in value.split('|') {
                    let name = format!("ERROR_REASON_{reason}");
                    assert!(ErrorReason::from_str_name(&name).is_some(), "{who} names the reason {reason}");
                }
            }
        }
    }
    // What is exported and nobody looks at would be noise, or a hole in the dashboard. Histograms have three names.
    let looked_at: BTreeSet<_> = asked.iter().map(|(_, named)| family(&named.metric)).collect();
    for metric in exported.keys().filter(|metric| !OF_NO_USE.contains(&metric.as_str())) {
        assert!(looked_at.contains(family(metric)), "neither alert nor panel shows {metric}");
    }
}

fn family(metric: &str) -> &str {
    let histogram = ["_bucket", "_sum", "_count"].into_iter().find_map(|end| metric.strip_suffix(end));
    histogram.unwrap_or(metric)
}

fn metrics_are_read_out_of_expressions() {
    let plain = |metric: &str| Named { metric: metric.to_owned(), labels: Vec::new() };
    for (expression, metrics) in [
        ("absent(a_b)", vec![plain("a_b")]),
        ("sum by (x, y) (rate(a[5m])) / sum without(z)(b) > 0.01", vec![plain("a"), plain("b")]),
        (
            "a == 0 and on (job) max_over_time(b[1h]) unless c offset 15m or d",
            ["a", "b", "c", "d"].map(plain).into(),
        ),
        (
            "histogram_quantile(0.99, sum by (le) (rate(a_bucket[$__rate_interval]))) or vector(0)",
            vec![plain("a_bucket")],
        ),
        ("1e3 * 2m + a", vec![plain("a")]),
        ("count(a) by (b)", vec![plain("a")]),
    ] {
        assert_eq!(named(expression), metrics, "{expression}");
    }
    let labels = vec![("x".to_owned(), "1|2".to_owned()), ("y".to_owned(), "$y".to_owned())];
    assert_eq!(named(r#"rate(a{x=~"1|2",y!="$y"}[5m])"#), [Named { metric: "a".to_owned(), labels }]);
}
