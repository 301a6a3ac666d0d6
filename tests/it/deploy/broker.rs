//! The Compose file's Kafka and sidecar, played with processes: Kafka takes its settings, and the sidecar reaches it by its own.

use std::net::{Ipv4Addr, SocketAddr};

use testkit::{Broker, Sidecar, free_port};

use super::{compose, manifest::text};
use crate::client::{BINARY, READY, connect, run, send, text as record};

crate::tests!(the_sidecar_of_the_compose_file_sends_to_its_kafka);

/// The ports of the Compose file's Kafka.
const PORTS: [u16; 3] = [9092, 9093, 9094];

/// Where a service of the file is here: on free ports of the loopback.
struct Here([u16; 3]);

impl Here {
    fn settle(&self, value: &str) -> String {
        let mut value = value.replace("kafka:", "127.0.0.1:").replace("://:", "://127.0.0.1:");
        for (port, here) in PORTS.into_iter().zip(self.0) {
            value = value.replace(&format!(":{port}"), &format!(":{here}"));
        }
        value
    }
}

/// What the image makes of a variable: `KAFKA_NODE_ID` is `node.id`.
fn property(variable: &str) -> String {
    variable.strip_prefix("KAFKA_").unwrap().to_lowercase().replace('_', ".")
}

fn the_sidecar_of_the_compose_file_sends_to_its_kafka() {
    let project = compose::project();
    let here = Here([free_port(), free_port(), free_port()]);
    let settings = compose::environment(&project, "kafka");
    let properties: Vec<_> =
        settings.iter().map(|(name, value)| (property(name), here.settle(value))).collect();
    let listener = SocketAddr::from((Ipv4Addr::LOCALHOST, here.0[0]));
    let broker = Broker::start("1", &properties, listener);
    let mut sidecar = Sidecar::builder(BINARY).arg("serve");
    for (name, value) in compose::environment(&project, "sidecar") {
        // It listens on this test's own ports, and there is nobody to send traces to.
        if !name.ends_with("_LISTEN") && !name.starts_with("OTEL_") {
            sidecar = sidecar.env(&name, here.settle(&value));
        }
    }
    let sidecar = sidecar.start();
    let script = text(&project, "/services/topics/command/0");
    let (_, names) = script.split_once("for topic in ").unwrap();
    for topic in names.split(';').next().unwrap().split_whitespace() {
        broker.create_topic(topic, 6);
    }
    sidecar.wait_ready(READY);
    let receipt = run(async { send(&connect(&sidecar.grpc_address()), record("orders", "v")).await });
    assert_eq!(receipt.unwrap().topic, "orders");
    let log = broker.log();
    let unknown: Vec<_> = log
        .lines()
        .filter(|line| line.contains("not used") || line.contains("isn't a known config"))
        .collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}
