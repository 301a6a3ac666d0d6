//! Ends, freezes and revives nodes.

use std::time::Duration;

use super::Cluster;
use super::node::Node;
use crate::eventually::eventually;
use crate::jars::kafka_jars;
use crate::wire::state;

const READY_BOUND: Duration = Duration::from_secs(90);

impl Cluster {
    /// Kills a node with SIGKILL. The others go on believing in it for 4 s; then its partitions get new leaders.
    pub fn kill(&self, node: i32) {
        self.node(node).kill();
    }

    /// Starts a killed node again, on its old ports and data. See [`Cluster::wait_ready`].
    ///
    /// # Panics
    ///
    /// When Java cannot be started.
    pub fn start_node(&self, node: i32) {
        let started = self.node(node).start(kafka_jars());
        started.expect("a node's process can be started");
    }

    /// Stops a node's process where it is (SIGSTOP): its connections stay open and silent.
    pub fn freeze(&self, node: i32) {
        self.node(node).set_frozen(true);
    }

    /// Lets a frozen node go on (SIGCONT).
    pub fn thaw(&self, node: i32) {
        self.node(node).set_frozen(false);
    }

    /// Freezes every node.
    pub fn freeze_all(&self) {
        self.nodes.iter().for_each(|node| node.set_frozen(true));
    }

    /// Lets every frozen node go on.
    pub fn thaw_all(&self) {
        self.nodes.iter().for_each(|node| node.set_frozen(false));
    }

    /// Kills every node.
    pub fn stop_all(&self) {
        self.nodes.iter().for_each(Node::kill);
    }

    /// Starts every node that does not run. See [`Cluster::wait_ready`].
    ///
    /// # Panics
    ///
    /// When Java cannot be started.
    pub fn start_all(&self) {
        for node in &self.nodes {
            self.start_node(node.id);
        }
    }

    /// Takes back every fault: proxies pass, frozen nodes go on, dead ones are started; then waits until all is well.
    pub fn heal(&self) {
        for proxy in self.proxies() {
            proxy.pass();
        }
        self.thaw_all();
        self.start_all();
        self.wait_ready();
    }

    /// Waits until every node knows all others as alive, and every partition has a leader and all replicas in sync, in
    /// the eyes of every node.
    ///
    /// # Panics
    ///
    /// When that takes more than 90 s.
    pub fn wait_ready(&self) {
        eventually(READY_BOUND, "all nodes up and all replicas in sync", || {
            self.nodes.iter().all(|node| self.is_whole(node)).then_some(())
        });
    }

    fn is_whole(&self, node: &Node) -> bool {
        let Ok(metadata) = state::metadata(node.plaintext(), None) else {
            return false;
        };
        let mut partitions = metadata.topics.values().flat_map(|topic| &topic.partitions);
        metadata.brokers.len() == self.nodes.len()
            && partitions.all(|state| state.leader > 0 && state.in_sync.len() == state.replicas.len())
    }
}
