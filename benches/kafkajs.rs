//! Owns the process in which kafkajs is measured: a script that answers each line of JSON with one.

use std::{
    io::{BufRead as _, BufReader, Lines, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use testkit::{Cluster, ClusterOptions};

/// A running script; it ends when this is dropped.
pub struct KafkaJs {
    process: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
}

impl KafkaJs {
    /// Starts a script of `benches/kafkajs`, over SASL_SSL, and waits until it is connected.
    pub fn start(script: &str, cluster: &Cluster, arguments: &[&str]) -> Self {
        let folder = std::env::var("KAFKAJS").expect("scripts/bench names the folder of the scripts");
        let mut process = Command::new("node")
            .arg(Path::new(&folder).join(script))
            .args([&cluster.bootstrap_tls(), cluster.user(), cluster.password()])
            .arg(cluster.ca_file())
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node runs");
        let input = process.stdin.take();
        let output = BufReader::new(process.stdout.take().expect("its output is a pipe")).lines();
        let mut started = Self { process, input, output };
        assert_eq!(started.line(), "ready");
        started
    }

    /// Asks for a measurement.
    pub fn ask(&mut self, asked: &serde_json::Value) -> serde_json::Value {
        let input = self.input.as_mut().expect("its input is open");
        writeln!(input, "{asked}").expect("kafkajs goes on");
        serde_json::from_str(&self.line()).expect("kafkajs tells its rate")
    }

    fn line(&mut self) -> String {
        self.output.next().expect("kafkajs goes on").expect("its output is text")
    }
}

impl Drop for KafkaJs {
    fn drop(&mut self) {
        drop(self.input.take());
        drop(self.process.wait());
    }
}

/// Starts a cluster that never asks kafkajs to authenticate again: on a connection in use its handshake is refused.
pub fn cluster(options: ClusterOptions) -> Cluster {
    let forever =
        ("listener.name.sasl_ssl.scram-sha-512.connections.max.reauth.ms".to_owned(), "0".to_owned());
    Cluster::start(&ClusterOptions { properties: vec![forever], ..options })
}

/// Reads a number of an answer.
pub fn number(told: &serde_json::Value, name: &str) -> f64 {
    told[name].as_f64().expect("a number")
}
