//! File descriptors: a refused accept is counted and is one line, and a limit that is too small is said at the start.

use std::net::TcpStream;

use testkit::{Sidecar, eventually};

use super::{limit_files, listening, open};
use crate::{
    around::metric,
    client::{BINARY, READY},
    commands::without_brokers,
};

crate::tests!(a_refused_accept_is_counted_and_is_one_line, a_limit_that_is_too_small_is_told_at_the_start);

/// How often is looked while accepting fails, and with that for how long.
const LOOKS: usize = 20;

fn a_refused_accept_is_counted_and_is_one_line() {
    let sidecar = listening(without_brokers(&["serve"]));
    limit_files(&sidecar, 3);
    let told = |line: &str| line.contains("a connection could not be accepted") && line.contains("grpc");
    let attack: Vec<TcpStream> = (0..10).map(|_| open(&sidecar.grpc_address(), b"")).collect();
    sidecar.wait_for_line(told, READY);
    let mut looks = 0..LOOKS;
    eventually(READY, "it is tried again several times", || looks.next().is_none().then_some(()));
    limit_files(&sidecar, 1_024);
    let refused = r#"producer_connections_refused_total{port="grpc",reason="accept_failed"}"#;
    let count = eventually(READY, "the refusals are counted", || {
        sidecar.try_http_get("/livez").ok()?;
        metric(&sidecar, refused)
    });
    assert!(count >= 4, "{count}");
    let lines = sidecar.stderr().into_iter().filter(|line| told(line)).count();
    assert_eq!(lines, 1, "of {count} refusals");
    eventually(READY, "those that waited are taken in", || {
        (metric(&sidecar, r#"producer_connections{port="grpc"}"#)? == 10).then_some(())
    });
    drop(attack);
}

fn a_limit_that_is_too_small_is_told_at_the_start() {
    let limited = Sidecar::builder("/bin/sh")
        .arg("-c")
        .arg(format!("ulimit -n 600 && exec {BINARY} serve"))
        .env("KAFKA_BROKERS", format!("127.0.0.1:{}", testkit::free_port()))
        .env("KAFKA_SECURITY_PROTOCOL", "PLAINTEXT");
    let sidecar = listening(limited);
    let line = sidecar.wait_for_line(|line| line.contains("at most 600 files may be open"), READY);
    assert!(line.contains("connections_max") && line.contains("1024"), "{line}");
    let enough = listening(without_brokers(&["serve", "--connections-max", "50"]));
    assert!(!enough.stderr().iter().any(|line| line.contains("files may be open")));
}
