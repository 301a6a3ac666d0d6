//! Owns docs/configuration.md: renders it from the table.
//! Must never say a default, a bound or a name that the table does not.

use super::{Setting, settings};
use crate::config::librdkafka;

const INTRODUCTION: &str = "\
# Configuration

This file is generated from the table of settings in `src/config/table.rs`; a test compares the two.

A setting may be said in four places. A flag wins over the environment, the environment over the file, the file over the default.

- **Flags**: `producer-sidecar serve --kafka-linger-ms 5`. Secrets have none.
- **Environment**: the variables below. An empty variable counts as unset. An unknown `SIDECAR_*` variable is an error, save those that Kubernetes adds for services (`*_SERVICE_HOST`, `*_SERVICE_PORT*`, `*_PORT`, `*_PORT_*`).
- **File**: YAML, named by `--config` or `SIDECAR_CONFIG`, at most 1 MiB. A dot in a key is a section: `kafka.linger_ms` is `linger_ms` under `kafka`. Unknown keys, keys said twice, several documents, anchors, aliases and tags are errors. Values are taken as they are written: numbers are decimal digits, booleans are `true` and `false`.
- **Defaults**: below.

`producer-sidecar check-config` tells every problem in one run, or prints the settings in force and where each comes from. It exits with 64 where there is a problem.

A file named by a setting that ends in `_file` and holds a secret is read whole, at most 64 KiB; one newline at its end is ignored. A secret may be said directly or by its file, not both.

```yaml
kafka:
  brokers:
    - kafka-1.example.com:9093
    - kafka-2.example.com:9093
  user: orders-writer
  password_file: /run/secrets/kafka/password
  ca_file: /run/secrets/kafka/ca.pem
  compression: zstd
  properties:
    client.rack: zone-a
listen: unix:/run/sidecar/producer.sock
admin_listen: 0.0.0.0:9464
partitioner:
  topics:
    clicks: java-murmur2
```
";

const HEADING: &str = "\
| key | environment | flag | takes | default | librdkafka | meaning |
|---|---|---|---|---|---|---|
";

/// The chapters, each with the first parts of its settings' keys.
const SECTIONS: [(&str, &[&str]); 4] = [
    ("Kafka", &["kafka"]),
    ("Transactions", &["transactions"]),
    ("Sidecar", &["", "deduplication", "dead_letters", "spool", "partitioner"]),
    ("Logs and traces", &["log", "traces"]),
];

/// Renders docs/configuration.md.
#[must_use]
pub fn markdown() -> String {
    let mut text = INTRODUCTION.to_owned();
    for (title, section) in SECTIONS {
        text.push_str(&format!("\n## {title}\n\n{HEADING}"));
        let chosen = settings().iter().filter(|setting| section.contains(&setting.section()));
        for setting in chosen {
            text.push_str(&row(setting));
        }
    }
    text.push_str(&librdkafka::markdown());
    text
}

fn row(setting: &Setting) -> String {
    let code = |name: Option<String>| name.map_or_else(String::new, |name| format!("`{name}`"));
    format!(
        "| `{}` | {} | {} | {} | {} | {} | {} |\n",
        setting.key,
        code(setting.environment.clone()),
        code(setting.flag.as_ref().map(|flag| format!("--{flag}"))),
        setting.takes(),
        setting.default_shown(),
        code(setting.property.as_ref().map(|property| property.name.to_owned())),
        setting.doc,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_says_what_the_table_says() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, markdown()).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(written == markdown(), "docs/configuration.md is stale: run this test with UPDATE_DOCS=1");
    }

    #[test]
    fn every_setting_has_its_row() {
        let text = markdown();
        for setting in settings() {
            assert!(text.contains(&format!("\n| `{}` |", setting.key)), "{}", setting.key);
        }
    }
}
