//! Gets Kafka from Maven once, and prepares what makes each node start faster. Keeps it in the cache folder.
//!
//! A file lock keeps two runs apart; what is in its final place is complete. It starts no cluster.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use rustix::process::Signal;

use crate::eventually::try_eventually;
use crate::folder::TestFolder;
use crate::ports::free_port;
use crate::process::{Process, command};

const VERSION: &str = "4.1.0";
/// Any valid id: only the template's nodes ever have it.
const TEMPLATE_CLUSTER_ID: &str = "dGVtcGxhdGUtY2x1c3Rlcg";
/// Nodes live for seconds: what the second compiler would gain, it costs at the start, on two cores.
const JVM_FLAGS: [&str; 3] = ["-Xmx400m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"];

/// Kafka's jars and what was prepared from them.
#[derive(Debug)]
pub struct KafkaJars {
    home: PathBuf,
    class_path: String,
}

impl KafkaJars {
    /// The snapshot that a formatted node starts from; the same for every node of every cluster.
    pub(crate) fn bootstrap_checkpoint(&self) -> PathBuf {
        self.home.join("bootstrap.checkpoint")
    }

    /// The command line of a JVM with Kafka's jars, up to where the main class follows.
    pub(crate) fn java(&self, flags: &[&str]) -> Command {
        let mut java = command("java");
        java.args(JVM_FLAGS).args(flags).args(["-cp", &self.class_path]);
        java
    }

    /// The command line of one node.
    pub(crate) fn node(&self, properties: &Path, compiles_fully: bool) -> Command {
        // Class data made by another JVM, or not made at all, is passed over by the JVM: slower, no failure.
        let archive = format!("-XX:SharedArchiveFile={}", self.archive().display());
        let flags = [archive.as_str(), "-Xshare:auto", "-Xlog:cds=off", "-Xlog:cds+dynamic=off"];
        let mut node = self.java(&flags);
        if compiles_fully {
            // The last word on a flag holds.
            node.args(["-XX:TieredStopAtLevel=4", "-Xmx1g"]);
        }
        node.arg("kafka.Kafka").arg(properties);
        node
    }

    fn archive(&self) -> PathBuf {
        self.home.join("node.jsa")
    }
}

/// Gets the jars on the first call, which takes about 20 s with an empty cache and needs Maven and Java.
///
/// # Panics
///
/// When Maven or Java fail; the message has what they said.
pub fn kafka_jars() -> &'static KafkaJars {
    static JARS: OnceLock<KafkaJars> = OnceLock::new();
    JARS.get_or_init(|| {
        let cache = cache_folder();
        fs::create_dir_all(&cache).expect("the cache folder can be made");
        let lock = File::create(cache.join("kafka.lock")).expect("the cache's lock can be made");
        lock.lock().expect("the cache's lock can be taken");
        prepare(cache.join(format!("kafka-{VERSION}")))
    })
}

/// Where this project keeps what it downloads and builds for tests.
pub(crate) fn cache_folder() -> PathBuf {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let base = base.filter(|path| path.is_absolute()).unwrap_or_else(|| {
        let home = std::env::var_os("HOME").expect("HOME or XDG_CACHE_HOME is set");
        PathBuf::from(home).join(".cache")
    });
    base.join("producer-sidecar")
}

fn prepare(home: PathBuf) -> KafkaJars {
    let libs = home.join("libs");
    if !libs.exists() {
        fetch(&home, &libs);
    }
    let jars = KafkaJars { class_path: class_path(&libs), home };
    if !jars.bootstrap_checkpoint().exists() || !jars.archive().exists() {
        run_template(&jars);
    }
    jars
}

fn fetch(home: &Path, libs: &Path) {
    eprintln!("fetching Kafka {VERSION} with Maven (once)");
    let partial = home.join("partial");
    drop(fs::remove_dir_all(&partial));
    fs::create_dir_all(&partial).expect("the cache folder can be written");
    fs::write(partial.join("pom.xml"), pom()).expect("the cache folder can be written");
    let mut maven = command("mvn");
    maven
        .args(["-q", "-B", "dependency:copy-dependencies"])
        .args(["-DoutputDirectory=libs", "-DincludeScope=runtime"])
        .current_dir(&partial);
    run("Maven", maven);
    fs::rename(partial.join("libs"), libs).expect("the jars can be put in their place");
    drop(fs::remove_dir_all(&partial));
}

fn pom() -> String {
    let dependency = |group: &str, artifact: &str, version: &str| {
        format!(
            "<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version></dependency>"
        )
    };
    format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\"><modelVersion>4.0.0</modelVersion>\
         <groupId>testkit</groupId><artifactId>kafka-jars</artifactId><version>1</version><packaging>pom</packaging>\
         <dependencies>{}{}</dependencies></project>",
        dependency("org.apache.kafka", "kafka_2.13", VERSION),
        dependency("org.slf4j", "slf4j-simple", "1.7.36"),
    )
}

/// Lists the jars one by one and sorted: archived class data is only valid for the very same class path.
fn class_path(libs: &Path) -> String {
    let entries = fs::read_dir(libs).expect("the jars can be listed");
    let mut jars: Vec<String> = entries
        .flatten()
        .map(|entry| entry.path().display().to_string())
        .filter(|path| path.ends_with(".jar"))
        .collect();
    jars.sort();
    jars.join(":")
}

/// Formats one node for its bootstrap snapshot, and runs it once for an archive of its loaded classes.
fn run_template(jars: &KafkaJars) {
    let folder = TestFolder::new("template");
    let (port, controller) = (free_port(), free_port());
    let data = folder.path().join("data");
    let properties = folder.write("node.properties", &template_properties(&data, port, controller));
    let mut format = jars.java(&[]);
    format.arg("kafka.tools.StorageTool");
    format.args(["format", "-t", TEMPLATE_CLUSTER_ID, "-c"]);
    format.arg(&properties);
    run("Kafka's StorageTool", format);
    let checkpoint = jars.home.join("bootstrap.partial");
    fs::copy(data.join("bootstrap.checkpoint"), &checkpoint).expect("the snapshot can be kept");
    fs::rename(&checkpoint, jars.bootstrap_checkpoint()).expect("the snapshot can be kept");

    let archive = jars.home.join("node.jsa.partial");
    let flag = format!("-XX:ArchiveClassesAtExit={}", archive.display());
    let mut node = jars.java(&[&flag]);
    node.arg("kafka.Kafka").arg(&properties);
    let log = File::create(folder.path().join("node.log")).expect("a log can be made");
    node.stderr(log.try_clone().expect("a log can be shared"));
    node.stdout(log);
    let node = Process::start(node).expect("Java can be started");
    try_eventually(Duration::from_secs(60), || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
    node.signal(Signal::TERM);
    node.wait_exit(Duration::from_secs(60));
    // Without it nodes start slower, that is all.
    drop(fs::rename(&archive, jars.archive()));
}

fn template_properties(data: &Path, port: u16, controller: u16) -> String {
    format!(
        "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:{controller}\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
         controller.listener.names=CONTROLLER\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
         authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n\
         super.users=User:ANONYMOUS\nlog.dirs={}\n",
        data.display()
    )
}

fn run(what: &str, mut command: Command) {
    let output = command.output();
    let output = output.unwrap_or_else(|error| panic!("{what} cannot be started: {error}"));
    assert!(
        output.status.success(),
        "{what} failed: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
}
