//! Owns what is said of the build: its version, and that of librdkafka.
//! Must never change once said.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder},
    metrics::MetricType,
};

use super::table;

/// The build; librdkafka's version is told by whoever knows Kafka's client, and empty until then.
#[derive(Debug, Clone, Default)]
pub struct Build {
    librdkafka: Arc<OnceLock<String>>,
}

impl Build {
    /// Says librdkafka's version; only the first time counts.
    pub fn librdkafka(&self, version: String) {
        self.librdkafka.get_or_init(|| version);
    }
}

impl EncodeMetric for Build {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let librdkafka = self.librdkafka.get().map_or("", String::as_str);
        encoder.encode_info(&[("version", env!("CARGO_PKG_VERSION")), ("librdkafka_version", librdkafka)])
    }

    fn metric_type(&self) -> MetricType {
        table::BUILD.kind.metric_type()
    }
}
