//! Owns the settings that all sides of a benchmark share.

use producer_sidecar::config::{
    Config, Purpose,
    source::{self, Environment, Inputs},
};
use testkit::Cluster;

/// The settings of a sidecar over SASL_SSL.
pub fn settings(cluster: &Cluster) -> Config {
    let ca_file = cluster.ca_file().display().to_string();
    let brokers = cluster.bootstrap_tls();
    let environment = Environment::of([
        ("KAFKA_BROKERS", brokers.as_str()),
        ("KAFKA_USER", cluster.user()),
        ("KAFKA_PASSWORD", cluster.password()),
        ("KAFKA_CA_FILE", &ca_file),
        ("HOSTNAME", "bench"),
    ]);
    let inputs = Inputs { config: None, flags: &[], environment: &environment };
    source::load(inputs, Purpose::Serve).expect("the settings are right").config
}
