//! Starts a cluster: nodes in parallel, then users and rules, then a warm-up.

use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant};

use super::node::{Node, NodePlan, Ports, properties, random_uuid};
use super::{Acl, Cluster, ClusterOptions, LIMITED_USER, Operation, Passwords, Resource, USER};
use crate::certificates;
use crate::eventually::try_eventually;
use crate::folder::{TestFolder, random_name};
use crate::jars::{KafkaJars, kafka_jars};
use crate::ports::free_port;
use crate::proxy::FaultProxy;
use crate::wire::{access, scram, state};

const START_BOUND: Duration = Duration::from_secs(90);
const TRIES: u32 = 3;

impl Cluster {
    /// Starts a cluster and returns once every node answers, users and standing rules are in force on each, and topics
    /// can be made.
    ///
    /// Standing rules: [`USER`] may do everything on all topics, groups and transactional ids, but not write to topics
    /// that start with `readonly-`, nor see those that start with `hidden-`; [`LIMITED_USER`] may describe and write
    /// topics that start with `limited-`, no more.
    ///
    /// # Panics
    ///
    /// When the cluster does not come up; the message has the end of each node's log.
    pub fn start(options: &ClusterOptions) -> Self {
        assert!(matches!(options.nodes, 1 | 3), "a cluster has one node or three");
        let jars = kafka_jars();
        let mut tries = 1;
        let cluster = loop {
            // Another program can take a port between its choice and its use; then all is begun anew.
            match Self::try_start(jars, options) {
                Ok(cluster) => break cluster,
                Err(error) if tries < TRIES => eprintln!("cluster start {tries} failed: {error}"),
                Err(error) => panic!("the cluster did not start: {error}"),
            }
            tries += 1;
        };
        cluster.open_for_users();
        if options.warm {
            cluster.warm_up();
        }
        cluster
    }

    fn try_start(jars: &KafkaJars, options: &ClusterOptions) -> io::Result<Self> {
        let folder = TestFolder::new("cluster");
        let certificates = certificates::generate();
        folder.write("server.pem", &certificates.server);
        let ca_file = folder.write("ca.pem", &certificates.ca);
        let other_ca_file = folder.write("other-ca.pem", &certificates.other_ca);
        let nodes = start_nodes(jars, options, folder.path())?;
        let passwords = Passwords { user: canary(), limited: canary() };
        let topics_made = AtomicU32::new(0);
        let clients = certificates.clients;
        let cluster = Self { nodes, passwords, ca_file, other_ca_file, clients, topics_made, folder };
        cluster.await_first_metadata()?;
        Ok(cluster)
    }

    /// Waits until every node says that all nodes are there, or one has died.
    fn await_first_metadata(&self) -> io::Result<()> {
        let started = Instant::now();
        let outcome = try_eventually(START_BOUND, || {
            if let Some(dead) = self.nodes.iter().find(|node| node.has_died()) {
                return Some(Err(format!("node {} ended:\n{}", dead.id, dead.log_tail())));
            }
            self.has_all_brokers().then_some(Ok(()))
        });
        match outcome {
            Some(Ok(())) => Ok(()),
            Some(Err(reason)) => Err(io::Error::other(reason)),
            None => {
                let logs: Vec<String> = self.nodes.iter().map(Node::log_tail).collect();
                let waited = started.elapsed();
                Err(io::Error::other(format!("not up after {waited:?}:\n{}", logs.join("\n\n"))))
            }
        }
    }

    /// Whether every node answers and knows all others as alive.
    pub(super) fn has_all_brokers(&self) -> bool {
        self.nodes.iter().all(|node| {
            let metadata = state::metadata(node.plaintext(), Some("none"));
            metadata.is_ok_and(|metadata| metadata.brokers.len() == self.nodes.len())
        })
    }

    fn open_for_users(&self) {
        let users = [(USER, self.passwords.user.as_str()), (LIMITED_USER, self.passwords.limited.as_str())];
        self.ask("users to be made", |node| scram::set_passwords(node, &users));
        let rules = standing_rules();
        self.ask("rules to be added", |node| access::create(node, &rules));
        for rule in &rules {
            self.await_acl(rule, true);
        }
    }
}

fn start_nodes(jars: &KafkaJars, options: &ClusterOptions, folder: &Path) -> io::Result<Vec<Node>> {
    let ports: Vec<Ports> = (0..options.nodes).map(|_| free_ports()).collect();
    let cluster_id = random_uuid();
    let mut nodes = Vec::new();
    for (id, own) in (1_u16..).zip(&ports) {
        let upstream = (Ipv4Addr::LOCALHOST, own.proxied).into();
        let proxy = FaultProxy::start(upstream, options.seed ^ u64::from(id))?;
        let id = i32::from(id);
        let proxy_port = proxy.address().port();
        let plan = NodePlan { id, ports: &ports, proxy_port, folder, extra: &options.properties };
        let text = properties(&plan);
        let folder = folder.join(format!("node-{id}"));
        let node = Node::new(id, *own, proxy, options.compiles_fully, folder);
        node.format(jars, &cluster_id, &text)?;
        node.start(jars)?;
        nodes.push(node);
    }
    Ok(nodes)
}

fn free_ports() -> Ports {
    Ports { tls: free_port(), plaintext: free_port(), controller: free_port(), proxied: free_port() }
}

fn canary() -> String {
    format!("canary-{}", random_name(24))
}

fn standing_rules() -> Vec<Acl> {
    let all = || "*".to_owned();
    vec![
        Acl::allow(USER, Operation::All, Resource::Topic(all())),
        Acl::allow(USER, Operation::All, Resource::Group(all())),
        Acl::allow(USER, Operation::All, Resource::TransactionalId(all())),
        Acl::allow(USER, Operation::IdempotentWrite, Resource::Cluster),
        Acl::allow(USER, Operation::Describe, Resource::Cluster),
        Acl::deny(USER, Operation::Write, Resource::TopicPrefix("readonly-".to_owned())),
        Acl::deny(USER, Operation::All, Resource::TopicPrefix("hidden-".to_owned())),
        Acl::allow(LIMITED_USER, Operation::Describe, Resource::TopicPrefix("limited-".to_owned())),
        Acl::allow(LIMITED_USER, Operation::Write, Resource::TopicPrefix("limited-".to_owned())),
        Acl::allow(LIMITED_USER, Operation::Read, Resource::TopicPrefix("limited-".to_owned())),
        Acl::allow(LIMITED_USER, Operation::Read, Resource::Group(all())),
        Acl::allow(LIMITED_USER, Operation::All, Resource::TransactionalId(all())),
    ]
}
