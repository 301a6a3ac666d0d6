//! Owns what is said of the build: its version, and those of librdkafka and OpenSSL.
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

/// The build; the versions of libraries are told by whoever knows Kafka's client, and empty until then.
#[derive(Debug, Clone, Default)]
pub struct Build {
    libraries: Arc<OnceLock<Libraries>>,
}

/// The versions of the libraries that run.
#[derive(Debug, Clone, Default)]
pub struct Libraries {
    /// Of librdkafka.
    pub librdkafka: String,
    /// Of OpenSSL; if it is shared, not that of the build.
    pub openssl: String,
}

impl Build {
    /// Says the libraries' versions; only the first time counts.
    pub fn libraries(&self, libraries: Libraries) {
        self.libraries.get_or_init(|| libraries);
    }
}

impl EncodeMetric for Build {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let none = Libraries::default();
        let Libraries { librdkafka, openssl: tls } = self.libraries.get().unwrap_or(&none);
        encoder.encode_info(&[
            ("version", env!("CARGO_PKG_VERSION")),
            ("librdkafka_version", librdkafka.as_str()),
            ("openssl_version", tls.as_str()),
        ])
    }

    fn metric_type(&self) -> MetricType {
        table::BUILD.kind.metric_type()
    }
}
