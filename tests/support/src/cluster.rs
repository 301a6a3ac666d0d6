//! A real Kafka cluster of one or three nodes, for as long as the value lives.
//!
//! Owns the nodes' processes, ports, data and fault proxies. Each node is broker and controller and listens four times:
//! SASL_SSL for the sidecar, PROXIED (SASL_PLAINTEXT behind a [`FaultProxy`]), PLAINTEXT as the harness's own back door
//! with all rights, and CONTROLLER. Tests never use the back door to produce what they then make claims about.

pub(crate) mod node;

mod access;
mod faults;
mod hanging;
mod start;
mod topics;
mod warm;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::AtomicU32;

use self::node::Node;
use crate::certificates::ClientPair;
use crate::folder::TestFolder;
use crate::proxy::{ClientFaults, FaultProxy};

pub use self::topics::EndOffsets;
pub use crate::wire::access::{Acl, Operation, Permission, Resource};

/// The user that the sidecar is given: everything on all topics but `readonly-` and `hidden-`, all groups and
/// transactional ids.
pub const USER: &str = "caas";
/// A user that may only produce to topics whose name starts with `limited-`.
pub const LIMITED_USER: &str = "limited";

/// What a cluster is started with.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// One or three.
    pub nodes: usize,
    /// Kafka properties that are added to, or replace, those of every node.
    pub properties: Vec<(String, String)>,
    /// What the fault proxies draw their chances from.
    pub seed: u64,
    /// Whether records are produced after the start until the fresh JVMs answer fast.
    pub warm: bool,
    /// Whether the nodes' JVMs compile what is used much as well as they can and have the heap that Kafka's own scripts give
    /// them (1 GiB), as in production; slower in the first minute.
    pub compiles_fully: bool,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self { nodes: 3, properties: Vec::new(), seed: 0, warm: true, compiles_fully: false }
    }
}

/// A running cluster; dropping it ends its nodes and removes their data.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Node>,
    passwords: Passwords,
    ca_file: PathBuf,
    other_ca_file: PathBuf,
    clients: [ClientPair; 3],
    topics_made: AtomicU32,
    folder: TestFolder,
}

/// Canaries: a password that turns up in any output of the sidecar is easy to find.
#[derive(Debug)]
struct Passwords {
    user: String,
    limited: String,
}

static SHARED: OnceLock<Cluster> = OnceLock::new();

impl Cluster {
    /// The cluster that all tests of one binary share; the first call starts it.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    pub fn shared() -> &'static Self {
        SHARED.get_or_init(|| Self::start(&ClusterOptions::default()))
    }

    /// Ends the shared cluster, if it was started. Statics are not dropped, so `main` calls this last.
    pub fn shutdown_shared() {
        if let Some(cluster) = SHARED.get() {
            cluster.stop_all();
            drop(std::fs::remove_dir_all(cluster.folder.path()));
        }
    }

    /// How many nodes the cluster has; their numbers start at 1.
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// The brokers' SASL_SSL addresses, as `host:port,…`.
    pub fn bootstrap_tls(&self) -> String {
        self.list(|node| format!("localhost:{}", node.ports.tls))
    }

    /// The brokers' back doors, as `host:port,…`: no authentication, all rights.
    pub fn bootstrap_plaintext(&self) -> String {
        self.list(|node| node.plaintext().to_string())
    }

    /// The fault proxies' addresses, as `host:port,…`: SASL_PLAINTEXT.
    pub fn bootstrap_proxied(&self) -> String {
        self.list(|node| node.proxy.address().to_string())
    }

    /// The authority that signed the brokers' certificate, as a PEM file.
    pub fn ca_file(&self) -> &Path {
        &self.ca_file
    }

    /// An authority that signed nothing here, as a PEM file.
    pub fn other_ca_file(&self) -> &Path {
        &self.other_ca_file
    }

    /// Two clients' certificates that the brokers trust, and one that they do not, which librdkafka does not even send. Without
    /// one they let nobody in where `ssl.client.auth` of the listener says so.
    pub const fn clients(&self) -> &[ClientPair; 3] {
        &self.clients
    }

    /// The name of the sidecar's user.
    pub fn user(&self) -> &'static str {
        USER
    }

    /// The password that [`USER`] was made with; it starts with `canary-`.
    pub fn password(&self) -> &str {
        &self.passwords.user
    }

    /// The name of the user with few rights.
    pub fn limited_user(&self) -> &'static str {
        LIMITED_USER
    }

    /// The password that [`LIMITED_USER`] was made with; it starts with `canary-`.
    pub fn limited_password(&self) -> &str {
        &self.passwords.limited
    }

    /// The proxy in front of one node's PROXIED listener.
    pub fn proxy(&self, node: i32) -> &FaultProxy {
        &self.node(node).proxy
    }

    /// The proxies of all nodes, in the nodes' order.
    pub fn proxies(&self) -> impl Iterator<Item = &FaultProxy> {
        self.nodes.iter().map(|node| &node.proxy)
    }

    /// Faults at all proxies for the one client that calls itself so (`client.id`).
    pub fn faults_of(&self, client: &str) -> ClientFaults<'_> {
        ClientFaults::new(self.proxies(), client)
    }

    /// Where one node writes its log.
    pub fn log_file(&self, node: i32) -> PathBuf {
        self.node(node).log_file()
    }

    fn node(&self, id: i32) -> &Node {
        let node = self.nodes.iter().find(|node| node.id == id);
        node.unwrap_or_else(|| panic!("there is no node {id}"))
    }

    /// The back doors of the nodes that can answer now.
    fn answering(&self) -> Vec<SocketAddr> {
        let answering = self.nodes.iter().filter(|node| node.is_answering());
        answering.map(Node::plaintext).collect()
    }

    fn list(&self, address: impl Fn(&Node) -> String) -> String {
        let addresses: Vec<String> = self.nodes.iter().map(address).collect();
        addresses.join(",")
    }
}
