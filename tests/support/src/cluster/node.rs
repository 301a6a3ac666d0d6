//! One node: its ports, its properties file, its process.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use crate::jars::KafkaJars;
use crate::process::{Process, Signal};
use crate::proxy::FaultProxy;

/// Ports of one node on 127.0.0.1; they stay the same over its restarts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    pub(crate) tls: u16,
    pub(crate) plaintext: u16,
    pub(crate) controller: u16,
    pub(crate) proxied: u16,
}

/// A node's process, if it has one, and whether it is stopped by a signal.
#[derive(Debug)]
struct Running {
    process: Option<Process>,
    is_frozen: bool,
}

/// One node of a cluster.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: i32,
    pub(crate) ports: Ports,
    pub(crate) proxy: FaultProxy,
    compiles_fully: bool,
    folder: PathBuf,
    running: Mutex<Running>,
}

impl Node {
    pub(crate) fn new(
        id: i32,
        ports: Ports,
        proxy: FaultProxy,
        compiles_fully: bool,
        folder: PathBuf,
    ) -> Self {
        let running = Mutex::new(Running { process: None, is_frozen: false });
        Self { id, ports, proxy, compiles_fully, folder, running }
    }

    /// The address of the listener that takes commands from the harness.
    pub(crate) fn plaintext(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.ports.plaintext).into()
    }

    pub(crate) fn log_file(&self) -> PathBuf {
        self.folder.join("node.log")
    }

    fn properties_file(&self) -> PathBuf {
        self.folder.join("node.properties")
    }

    /// Writes what Kafka's own formatting would: an identity, and the snapshot that every node starts from. A JVM per
    /// node is saved so.
    pub(crate) fn format(&self, jars: &KafkaJars, cluster_id: &str, properties: &str) -> io::Result<()> {
        let data = self.folder.join("data");
        fs::create_dir_all(&data)?;
        let directory_id = random_uuid();
        let identity =
            format!("version=1\nnode.id={}\ndirectory.id={directory_id}\ncluster.id={cluster_id}\n", self.id);
        fs::write(data.join("meta.properties"), identity)?;
        fs::copy(jars.bootstrap_checkpoint(), data.join("bootstrap.checkpoint"))?;
        fs::write(self.properties_file(), properties)
    }

    /// Starts the node's process, unless it runs.
    pub(crate) fn start(&self, jars: &KafkaJars) -> io::Result<()> {
        let mut running = self.running.lock();
        if running.process.is_none() {
            let log = self.log_file();
            let log = File::options().create(true).append(true).open(log)?;
            let mut command = jars.node(&self.properties_file(), self.compiles_fully);
            command.stderr(log.try_clone()?).stdout(log);
            command.stdin(std::process::Stdio::null());
            running.process = Some(Process::start(command)?);
            running.is_frozen = false;
        }
        Ok(())
    }

    /// Kills the node, if it runs, and waits until it is gone.
    pub(crate) fn kill(&self) {
        let mut running = self.running.lock();
        running.process = None;
        running.is_frozen = false;
    }

    /// Stops the node's process where it is, or lets it go on.
    pub(crate) fn set_frozen(&self, is_frozen: bool) {
        let mut running = self.running.lock();
        if let Some(process) = &running.process {
            process.signal(if is_frozen { Signal::STOP } else { Signal::CONT });
            running.is_frozen = is_frozen;
        }
    }

    /// Whether its process runs and is not stopped.
    pub(crate) fn is_answering(&self) -> bool {
        let running = self.running.lock();
        running.process.is_some() && !running.is_frozen
    }

    /// Whether its process ended without being told to.
    pub(crate) fn has_died(&self) -> bool {
        let running = self.running.lock();
        let process = running.process.as_ref();
        process.is_some_and(|process| process.exit_status().is_some())
    }

    /// The last lines of its log.
    pub(crate) fn log_tail(&self) -> String {
        let log = fs::read_to_string(self.log_file()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

/// What a node's properties are made from.
pub(crate) struct NodePlan<'a> {
    pub(crate) id: i32,
    pub(crate) ports: &'a [Ports],
    pub(crate) proxy_port: u16,
    pub(crate) folder: &'a Path,
    pub(crate) extra: &'a [(String, String)],
}

/// Renders a node's properties file; of a key that comes twice, Kafka takes the later one.
pub(crate) fn properties(plan: &NodePlan<'_>) -> String {
    let index = usize::try_from(plan.id - 1).expect("node numbers start at 1");
    let Ports { tls, plaintext, controller, proxied } = plan.ports[index];
    let replicas = plan.ports.len();
    let min_in_sync = if replicas > 1 { 2 } else { 1 };
    let voters: Vec<String> =
        (1..).zip(plan.ports).map(|(id, ports)| format!("{id}@127.0.0.1:{}", ports.controller)).collect();
    let voters = voters.join(",");
    let folder = plan.folder.display();
    let id = plan.id;
    let proxy_port = plan.proxy_port;
    let mut text = format!(
        "process.roles=broker,controller
node.id={id}
controller.quorum.voters={voters}
listeners=SASL_SSL://127.0.0.1:{tls},PLAINTEXT://127.0.0.1:{plaintext},PROXIED://127.0.0.1:{proxied},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=SASL_SSL://localhost:{tls},PLAINTEXT://127.0.0.1:{plaintext},PROXIED://127.0.0.1:{proxy_port}
log.dirs={folder}/node-{id}/data
ssl.keystore.location={folder}/server.pem
ssl.truststore.location={folder}/ca.pem
offsets.topic.replication.factor={replicas}
transaction.state.log.replication.factor={replicas}
transaction.state.log.min.isr={min_in_sync}
default.replication.factor={replicas}
min.insync.replicas={min_in_sync}
"
    );
    text.push_str(COMMON);
    for (key, value) in plan.extra {
        writeln!(text, "{key}={value}").expect("a string can be written");
    }
    text
}

/// Properties that are the same on every node. The session time-out decides how long a killed leader is believed to be
/// alive: short, so that fail-over fits a test, yet longer than two cores under load need for a heartbeat. Leaders stay
/// where a fail-over put them, and connections over PROXIED never expire, so that a request held for long is still
/// carried out when it is let go. Over TLS a client is
/// asked for a certificate, and may do without.
const COMMON: &str = "controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL,PROXIED:SASL_PLAINTEXT
inter.broker.listener.name=PLAINTEXT
sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.proxied.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl_ssl.scram-sha-512.connections.max.reauth.ms=10000
listener.name.sasl_ssl.ssl.client.auth=requested
ssl.keystore.type=PEM
ssl.truststore.type=PEM
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
allow.everyone.if.no.acl.found=false
auto.create.topics.enable=false
auto.leader.rebalance.enable=false
offsets.topic.num.partitions=5
transaction.state.log.num.partitions=5
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=4000
broker.heartbeat.interval.ms=500
log.cleaner.dedupe.buffer.size=4194304
";

/// Makes an id in the form that Kafka wants: 16 bytes as base 64 for URLs, without a leading dash.
pub(crate) fn random_uuid() -> String {
    // 21 free characters carry 126 bits; the 22nd may only carry two more, and `A` is two zeros.
    format!("{}A", crate::folder::random_name(21))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(nodes: u16, extra: &[(String, String)]) -> String {
        let ports: Vec<Ports> = (1..=nodes)
            .map(|node| node * 10)
            .map(|base| Ports { tls: base, plaintext: base + 1, controller: base + 2, proxied: base + 3 })
            .collect();
        let folder = Path::new("/data");
        properties(&NodePlan { id: 1, ports: &ports, proxy_port: 99, folder, extra })
    }

    #[test]
    fn three_nodes_vote_and_replicate() {
        let text = render(3, &[]);
        assert!(text.contains("controller.quorum.voters=1@127.0.0.1:12,2@127.0.0.1:22,3@127.0.0.1:32\n"));
        assert!(text.contains("PROXIED://127.0.0.1:99\n"));
        assert!(text.contains("PROXIED://127.0.0.1:13,"));
        assert!(text.contains("\nmin.insync.replicas=2\n"));
        assert!(text.contains("log.dirs=/data/node-1/data\n"));
    }

    #[test]
    fn one_node_is_its_own_quorum_and_what_is_added_comes_last() {
        let text = render(1, &[("message.max.bytes".to_owned(), "5".to_owned())]);
        assert!(text.contains("\nmin.insync.replicas=1\n"));
        assert!(text.ends_with("message.max.bytes=5\n"));
    }
}
