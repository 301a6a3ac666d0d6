//! Owns docs/metrics.md: renders it from the table.
//! Must never say a name, a label or a unit that the table does not.

use super::{Definition, SECTIONS};

const INTRODUCTION: &str = "\
# Metrics

This file is generated from the table of metrics in `src/telemetry/metrics/table.rs`; a test compares the two. After a change run
`UPDATE_DOCS=1 cargo test --lib metrics_document`.

`GET /metrics` on `admin_listen` answers in the OpenMetrics text format (`application/openmetrics-text; version=1.0.0`) if the scraper asks for
it, as Prometheus does. All others get Prometheus' own (`text/plain; version=0.0.4`), without units and exemplars. A family appears with its
first sample.

- **Topics**: the first 200 (`metrics_topics_max`) have labels of their own; those beyond, and those that Kafka does not know, count as `_other`.
- **Brokers**: the first 200 that librdkafka tells of have labels of their own, their node ids; those beyond share `_other`.
- **Exemplars**: the buckets of `kafka_send_duration_ms` carry the `trace_id` of a record whose `traceparent`, or whose call's, says that it
  is sampled. Prometheus keeps them with `--enable-feature=exemplar-storage`.
- **Histograms** have `_bucket`, `_sum` and `_count` behind the name.
";

const HEADING: &str = "\
| metric | kind | unit | labels | what it says | what to do with it |
|---|---|---|---|---|---|
";

/// Renders docs/metrics.md.
#[must_use]
pub fn markdown() -> String {
    let mut text = INTRODUCTION.to_owned();
    for (title, metrics) in SECTIONS {
        text.push_str(&format!("\n## {title}\n\n{HEADING}"));
        text.extend(metrics.iter().map(row));
    }
    text
}

fn row(metric: &Definition) -> String {
    let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
    let cells = [
        format!("`{}`", metric.sample_name()),
        metric.kind.name().to_owned(),
        metric.unit.to_owned(),
        labels.join(", "),
        format!("{}.", metric.help),
        metric.advice.to_owned(),
    ];
    format!("| {} |\n", cells.join(" | "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_metrics_document_is_what_the_table_says() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, markdown()).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            written == markdown(),
            "docs/metrics.md is stale: run UPDATE_DOCS=1 cargo test --lib metrics_document"
        );
    }
}
