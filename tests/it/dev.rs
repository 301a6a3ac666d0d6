//! The first minutes: `dev` alone, the lines that it prints pasted into a shell, and `send` through it and through a sidecar
//! before a real cluster.

use std::{
    ffi::OsString,
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use testkit::{Cluster, ReadRecord, Sidecar, Signal, free_port, read_topic};

use crate::client::{BINARY, shared_address};

crate::tests!(
    the_lines_that_dev_prints_work_when_pasted,
    dev_tells_each_record_that_arrives,
    send_says_where_the_record_went,
    send_takes_keys_headers_ids_tombstones_and_standard_input,
    send_says_why_it_failed,
);

const BOUND: Duration = Duration::from_secs(30);

/// A running `dev`.
fn dev() -> Sidecar {
    let dev = Sidecar::builder(BINARY).arg("dev").start();
    dev.wait_for_line(|line| line == "Each record that arrives:", BOUND);
    dev
}

fn stop(dev: &Sidecar) {
    dev.signal(Signal::TERM);
    assert_eq!(dev.wait_exit(BOUND).code(), Some(0), "{:?}", dev.stderr());
}

/// What PATH must be for a shell to find grpcurl where the harness finds it.
fn path_with_grpcurl() -> OsString {
    let variable = |name| std::env::var_os(name).map(PathBuf::from);
    let named = variable("GRPCURL").and_then(|path| path.parent().map(ToOwned::to_owned));
    let cache = variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|home| home.join(".cache")));
    let installed = cache.map(|cache| cache.join("producer-sidecar/bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = named.into_iter().chain(std::env::split_paths(&path)).chain(installed);
    std::env::join_paths(folders).unwrap()
}

/// Pastes a line into a shell and returns what it printed.
fn paste(line: &str) -> String {
    let mut shell = Command::new("sh");
    shell.args(["-c", line]).env("PATH", path_with_grpcurl()).stdin(Stdio::null());
    let output = shell.output().unwrap();
    let (printed, complained) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{line}: {printed}{complained}");
    printed.into_owned()
}

fn the_lines_that_dev_prints_work_when_pasted() {
    let dev = dev();
    let printed = dev.stdout();
    let lines: Vec<_> =
        printed.iter().map(|line| line.trim()).filter(|line| line.starts_with("grpcurl")).collect();
    let (sends, others): (Vec<_>, Vec<_>) = lines.iter().partition(|line| line.ends_with("/Send"));
    assert!(sends.len() >= 2 && !others.is_empty(), "{printed:?}");
    for line in sends {
        let answer = paste(line);
        assert!(answer.contains(r#""topic": "orders""#), "{answer}");
        assert!(answer.contains(r#""durability": "DURABILITY_REPLICATED""#), "{answer}");
    }
    for line in others {
        assert!(paste(line).contains(env!("CARGO_PKG_VERSION")), "{line}");
    }
    let probe = format!("curl -s http://{}/readyz", dev.admin_address());
    assert!(printed.iter().any(|line| line.trim() == probe), "{probe} in {printed:?}");
    assert_eq!(dev.http_get("/readyz").0, 200);
    dev.wait_for_line(
        |line| line.contains(r#"key="k" value="{\"a\":1}" content-type="application/json""#),
        BOUND,
    );
    dev.wait_for_line(|line| line.contains(r#"key=null value="hello" tenant-id="acme""#), BOUND);
    stop(&dev);
}

fn dev_tells_each_record_that_arrives() {
    let dev = dev();
    for (number, topic) in ["orders", "payments", "orders"].into_iter().enumerate() {
        let value = format!("value {number}");
        let sent = send(&dev.grpc_address(), &["--topic", topic, "--key", "k", &value], None);
        assert_eq!(sent.exit, Some(0), "{sent:?}");
        // What `send` says is what `dev` tells.
        let beginning = format!("{} key=\"k\" value=\"{value}\"", sent.stdout.trim());
        dev.wait_for_line(|line| line.starts_with(&beginning), BOUND);
    }
    let told = dev.stdout().iter().filter(|line| line.contains("value=\"value ")).count();
    assert_eq!(told, 3, "each once: {:?}", dev.stdout());
    stop(&dev);
}

/// How `send` ended.
#[derive(Debug)]
struct Sent {
    exit: Option<i32>,
    stdout: String,
    stderr: String,
}

/// Runs `send` against an address.
fn send(address: &str, arguments: &[&str], input: Option<&[u8]>) -> Sent {
    let mut command = Command::new(BINARY);
    command.args(["send", "--address", address]).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().unwrap();
    let mut stdin = process.stdin.take().unwrap();
    if let Some(input) = input {
        stdin.write_all(input).unwrap();
    }
    drop(stdin);
    let output = process.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Sent { exit: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

fn only_record(topic: &str) -> ReadRecord {
    let mut read = read_topic(Cluster::shared(), topic);
    assert_eq!(read.len(), 1, "{read:?}");
    read.remove(0)
}

fn send_says_where_the_record_went() {
    let topic = Cluster::shared().create_topic("said", 3, &[]);
    let sent = send(&shared_address(), &["--topic", &topic, "--timeout", "20s", "hello"], None);
    assert_eq!(sent.exit, Some(0), "{sent:?}");
    let record = only_record(&topic);
    assert_eq!(sent.stdout.trim(), format!("{topic}[{}]@{}", record.partition, record.offset));
    assert_eq!((record.key, record.value.as_deref()), (None, Some(&b"hello"[..])));
}

fn send_takes_keys_headers_ids_tombstones_and_standard_input() {
    let cluster = Cluster::shared();
    let (full, deleted, piped) = (
        cluster.create_topic("full", 1, &[]),
        cluster.create_topic("deleted", 1, &[]),
        cluster.create_topic("piped", 1, &[]),
    );
    let full_arguments = [
        "--topic",
        &full,
        "--key",
        "k",
        "--header",
        "a=1",
        "--header",
        "a=x=y",
        "--message-id",
        "id-7",
        "-1",
    ];
    let input = b"bytes \xff\0 and a line\n";
    for (arguments, input) in [
        (&full_arguments[..], None),
        (&["--topic", &deleted, "--key", "k", "--tombstone"], None),
        (&["--topic", &piped, "-"], Some(&input[..])),
    ] {
        let sent = send(&shared_address(), arguments, input);
        assert_eq!(sent.exit, Some(0), "{arguments:?}: {sent:?}");
    }
    let record = only_record(&full);
    assert_eq!((record.key.as_deref(), record.value.as_deref()), (Some(&b"k"[..]), Some(&b"-1"[..])));
    let header = |name: &str, value: &str| (name.to_owned(), Some(value.as_bytes().to_vec()));
    assert_eq!(record.headers[..2], [header("a", "1"), header("a", "x=y")]);
    assert!(record.headers.contains(&header("message-id", "id-7")), "{:?}", record.headers);
    let record = only_record(&deleted);
    assert_eq!((record.key.as_deref(), record.value), (Some(&b"k"[..]), None));
    assert_eq!(only_record(&piped).value.as_deref(), Some(&input[..]));
}

fn send_says_why_it_failed() {
    let refused = send(&shared_address(), &["--topic", "not-there-at-all", "v"], None);
    assert_eq!(refused.exit, Some(1), "{refused:?}");
    assert!(
        refused.stderr.contains("TOPIC_NOT_FOUND") && refused.stderr.contains("persisted: NO"),
        "{refused:?}"
    );
    let invalid = send(&shared_address(), &["--topic", "a b", "v"], None);
    assert_eq!(invalid.exit, Some(1), "{invalid:?}");
    assert!(invalid.stderr.contains("record.topic: "), "{invalid:?}");
    let nobody = format!("127.0.0.1:{}", free_port());
    let unreachable = send(&nobody, &["--topic", "orders", "v"], None);
    assert_eq!(unreachable.exit, Some(1), "{unreachable:?}");
    assert!(unreachable.stderr.contains(&nobody), "{unreachable:?}");
    for wrong in [
        &["--topic", "orders"][..],
        &["v"],
        &["--topic", "orders", "--tombstone", "v"],
        &["--topic", "orders", "--header", "nameless", "v"],
        &["--topic", "orders", "--timeout", "5", "v"],
    ] {
        let refused = send(&shared_address(), wrong, None);
        assert_eq!(refused.exit, Some(64), "{wrong:?}: {refused:?}");
        assert!(refused.stdout.is_empty() && !refused.stderr.is_empty(), "{wrong:?}: {refused:?}");
    }
}
