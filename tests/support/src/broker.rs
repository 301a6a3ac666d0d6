//! Starts one broker from given properties, to see whether Kafka takes them: none of the harness's own are added but where
//! its data lies.

use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use crate::cluster::node::random_uuid;
use crate::eventually::{eventually, try_eventually};
use crate::folder::TestFolder;
use crate::jars::kafka_jars;
use crate::process::Process;
use crate::wire::{state, topics};

const READY_BOUND: Duration = Duration::from_secs(60);

/// A running broker, killed on drop.
#[derive(Debug)]
pub struct Broker {
    process: Process,
    listener: SocketAddr,
    folder: TestFolder,
}

impl Broker {
    /// Starts a broker that is its own controller. `listener` is one of its own that asks for no password.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    pub fn start(node_id: &str, properties: &[(String, String)], listener: SocketAddr) -> Self {
        let folder = TestFolder::new("broker");
        let start = || -> io::Result<Process> {
            let data = folder.path().join("data");
            fs::create_dir(&data)?;
            let (directory, cluster) = (random_uuid(), random_uuid());
            let identity =
                format!("version=1\nnode.id={node_id}\ndirectory.id={directory}\ncluster.id={cluster}\n");
            fs::write(data.join("meta.properties"), identity)?;
            fs::copy(kafka_jars().bootstrap_checkpoint(), data.join("bootstrap.checkpoint"))?;
            let mut lines = vec![format!("log.dirs={}", data.display())];
            lines.extend(properties.iter().map(|(key, value)| format!("{key}={value}")));
            let file = folder.write("broker.properties", &(lines.join("\n") + "\n"));
            let log = File::create(folder.path().join("broker.log"))?;
            let mut command = kafka_jars().node(&file, false);
            command.stdin(Stdio::null()).stderr(log.try_clone()?).stdout(log);
            Process::start(command)
        };
        let process = start().expect("a broker's process can be started");
        Self { process, listener, folder }
    }

    /// Makes a topic of one replica, as soon as the broker can.
    ///
    /// # Panics
    ///
    /// When the broker ends, or cannot within 60 s; the message has what it logged.
    pub fn create_topic(&self, name: &str, partitions: i32) {
        let made = try_eventually(READY_BOUND, || {
            if self.process.exit_status().is_some() {
                return Some(false);
            }
            topics::create(self.listener, name, partitions, 1, &[]).ok().map(|()| true)
        });
        assert_eq!(made, Some(true), "{name} is not made; the broker's log:\n{}", self.log());
        // The controller answers before the broker has heard of it.
        eventually(READY_BOUND, &format!("the broker knowing {name}"), || {
            let known = state::metadata(self.listener, Some(name)).ok()?;
            known.topics.get(name).filter(|topic| topic.error == 0).map(|_| ())
        });
    }

    /// What it logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("broker.log")
    }
}
