//! The alerts: accepted by promtool, tested there, each with a page that says what to do.

use std::{collections::BTreeSet, fs};

use serde_json::Value;

use super::{
    files,
    manifest::{list, sidecar, text},
    promtool, read, root, succeeds, yaml_file,
};

crate::tests!(
    promtool_accepts_the_rules_and_their_tests_pass,
    every_alert_is_tested,
    every_alert_has_a_page_and_every_page_an_alert,
    the_memory_alert_knows_the_limit,
    the_operators_rules_are_generated_from_them,
);

const RULES: &str = "deploy/prometheus/producer-sidecar.rules.yaml";
const UNIT_TESTS: &str = "deploy/prometheus/producer-sidecar.rules.test.yaml";
const OPERATORS: &str = "deploy/kubernetes/monitoring/prometheus-rule.yaml";
const OPERATORS_HEAD: &str =
    "# Generated from deploy/prometheus/producer-sidecar.rules.yaml; a test compares the two. UPDATE_DOCS=1 writes it anew.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: producer-sidecar
  labels:
    app.kubernetes.io/name: producer-sidecar
spec:
";
/// What every page has to say.
const SECTIONS: [&str; 4] =
    ["## What it means", "## What callers see", "## What to look at", "## What to do"];

/// The groups of rules.
pub fn groups() -> Value {
    yaml_file(RULES)["groups"].clone()
}

/// All alerts.
pub fn alerts() -> Vec<Value> {
    let groups = groups();
    let rules = groups.as_array().unwrap().iter().flat_map(|group| list(group, "/rules").to_vec());
    rules.collect()
}

fn promtool_accepts_the_rules_and_their_tests_pass() {
    let folder = root().join("deploy/prometheus");
    succeeds(&promtool(&["check", "rules", "--lint-fatal", "producer-sidecar.rules.yaml"], &folder));
    succeeds(&promtool(&["test", "rules", "producer-sidecar.rules.test.yaml"], &folder));
}

fn every_alert_is_tested() {
    let tests = read(UNIT_TESTS);
    for alert in alerts() {
        let name = text(&alert, "/alert");
        assert!(tests.contains(&format!("alertname=\"{name}\"")), "no test has {name} fire");
    }
}

fn every_alert_has_a_page_and_every_page_an_alert() {
    let mut named = BTreeSet::new();
    for alert in alerts() {
        let name = text(&alert, "/alert");
        let page = format!("docs/runbooks/{name}.md");
        let url = text(&alert, "/annotations/runbook_url");
        assert!(url.starts_with("https://") && url.ends_with(&format!("/{page}")), "{name}: {url}");
        for annotation in ["summary", "description"] {
            assert!(!text(&alert, &format!("/annotations/{annotation}")).is_empty(), "{name}: {annotation}");
        }
        assert!(["critical", "warning"].contains(&text(&alert, "/labels/severity")), "{name}");
        let page = read(&page);
        assert!(page.starts_with(&format!("# {name}\n")), "{name}");
        for section in SECTIONS {
            assert!(page.lines().any(|line| line == section), "{name}: {section}");
        }
        assert!(named.insert(name.to_owned()), "{name} is there twice");
    }
    let pages = files("docs/runbooks").into_iter();
    let pages: BTreeSet<_> =
        pages.map(|page| page.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    assert_eq!(pages, named);
}

fn the_memory_alert_knows_the_limit() {
    let workload = yaml_file("deploy/kubernetes/sidecar/sidecar.yaml");
    let limit =
        text(sidecar(&workload).unwrap(), "/resources/limits/memory").strip_suffix("Mi").unwrap().to_owned();
    let alerts = alerts();
    let alert = alerts.iter().find(|alert| text(alert, "/alert") == "ProducerSidecarMemoryHigh").unwrap();
    let bound = format!("process_resident_memory_bytes > 0.85 * {limit} * 1024 * 1024");
    assert!(text(alert, "/expr").contains(&bound), "{bound}: {alert}");
}

fn the_operators_rules_are_generated_from_them() {
    let rules = read(RULES);
    let mut generated = OPERATORS_HEAD.to_owned();
    for line in rules[rules.find("groups:").unwrap()..].lines() {
        if !line.is_empty() {
            generated.push_str("  ");
            generated.push_str(line);
        }
        generated.push('\n');
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(root().join(OPERATORS), &generated).unwrap();
    }
    assert_eq!(read(OPERATORS), generated, "{OPERATORS} is not what {RULES} makes: UPDATE_DOCS=1");
}
