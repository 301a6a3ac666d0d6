//! The example clients in four languages, built by their own scripts, over TCP and over a unix socket: what they print, and
//! what a consumer finds of it.

pub mod copy;
mod feeder;
pub mod retrying;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
    time::{Duration, Instant},
};

use testkit::{Cluster, TestFolder, read_topic};

use crate::client::{READY, over_tls};

crate::tests!(go, java, node, python);

/// Records of each run's batch; every fiftieth is bad on purpose.
const COUNT: usize = 1_000;
const BAD: usize = COUNT / 50;
/// How long one run may take; the first of Java's and Go's are slow on a busy machine.
const RUN: Duration = Duration::from_secs(60);

/// One language's client, and its folder once it is built.
struct Client {
    language: &'static str,
    program: &'static str,
    folder: OnceLock<PathBuf>,
}

static CLIENTS: [Client; 4] = [
    Client { language: "go", program: "producer-client", folder: OnceLock::new() },
    Client { language: "java", program: "run", folder: OnceLock::new() },
    Client { language: "node", program: "run", folder: OnceLock::new() },
    Client { language: "python", program: "run", folder: OnceLock::new() },
];

fn go() {
    check(&CLIENTS[0]);
}

fn java() {
    check(&CLIENTS[1]);
}

fn node() {
    check(&CLIENTS[2]);
}

fn python() {
    check(&CLIENTS[3]);
}

impl Client {
    /// The folder in the cache where the client is built, once in a run.
    fn built(&self) -> &Path {
        self.folder.get_or_init(|| build(self.language))
    }
}

/// The folder of that language's client, once it is built.
pub fn built(language: &str) -> &'static Path {
    let client = CLIENTS.iter().find(|client| client.language == language);
    client.expect("there is such a client").built()
}

fn build(language: &str) -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").expect("there is a home")).join(".cache");
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(home, PathBuf::from);
    let folder = cache.join("producer-sidecar/clients").join(language);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(language).join("build");
    let built = Command::new("bash").arg(script).arg(&folder).output().expect("bash runs");
    let said = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "{language}: {said}{}", String::from_utf8_lossy(&built.stdout));
    folder
}

fn check(client: &Client) {
    let language = client.language;
    let program = client.built().join(client.program);
    let folder = TestFolder::new("socket");
    let socket = folder.path().join("sidecar.sock");
    for (listen, target) in [(None, None), (Some(format!("unix:{}", socket.display())), Some(socket))] {
        let mut builder = over_tls();
        if let Some(listen) = listen {
            builder = builder.env("SIDECAR_LISTEN", listen);
        }
        let sidecar = builder.start();
        sidecar.wait_ready(READY);
        let target =
            target.map_or_else(|| sidecar.grpc_address(), |socket| format!("unix:{}", socket.display()));
        let topic = Cluster::shared().create_topic(language, 3, &[]);
        let begun = Instant::now();
        let ended = command(&program, &target, &topic).output().expect("the client runs");
        eprintln!("{language} over {target}: {:?}", begun.elapsed());
        check_printed(language, &target, &topic, &ended);
        read_back(language, &topic);
    }
}

/// Runs a client, not for ever.
fn command(program: &Path, target: &str, topic: &str) -> Command {
    let mut run = Command::new("timeout");
    run.arg(RUN.as_secs().to_string()).arg(program).args([target, topic, &COUNT.to_string()]);
    run
}

/// Checks what a client says of its calls.
fn check_printed(language: &str, target: &str, topic: &str, ended: &Output) {
    let printed = String::from_utf8_lossy(&ended.stdout);
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{language} over {target}: {printed}{said}");
    let lines: Vec<_> = printed.lines().collect();
    let version = concat!("info ", env!("CARGO_PKG_VERSION"));
    let batch = format!("batch {} {BAD}", COUNT - BAD);
    assert!(lines.contains(&version), "{printed}");
    assert!(lines.iter().any(|line| line.starts_with(&format!("sent {topic} "))), "{printed}");
    assert!(lines.contains(&"refused INVALID_ARGUMENT INVALID_RECORD NO record.topic"), "{printed}");
    assert!(lines.contains(&"refused NOT_FOUND TOPIC_NOT_FOUND NO"), "{printed}");
    assert!(lines.contains(&batch.as_str()), "{printed}");
}

/// Checks that a consumer finds the JSON record and the good records of the batch, those in the order sent.
fn read_back(language: &str, topic: &str) {
    let read = read_topic(Cluster::shared(), topic);
    assert_eq!(read.len(), COUNT - BAD + 1);
    let mut last: HashMap<i32, usize> = HashMap::new();
    let mut json = 0;
    for record in read {
        let value = String::from_utf8(record.value.expect("a value")).expect("text");
        let Some(number) = value.strip_prefix(&format!("{language}-")) else {
            assert_eq!(value, format!(r#"{{"client":"{language}"}}"#));
            json += 1;
            continue;
        };
        let number: usize = number.parse().expect("a number");
        assert_eq!(record.key, Some(format!("key-{number}").into_bytes()));
        let before = last.insert(record.partition, number);
        assert!(before.is_none_or(|before| before < number), "{before:?} before {number}");
    }
    assert_eq!(json, 1);
}
