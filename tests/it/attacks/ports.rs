//! The ports: connections that never begin, never end or never answer, callers that take more than their share, and whoever
//! comes too many. A good caller and a prober go on.

pub mod callers;
pub mod files;
pub mod probes;
pub mod sockets;

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use testkit::{Sidecar, SidecarBuilder, eventually};

use crate::client::READY;

/// Below it nothing is concluded from a time: the machine is shared.
const TIME_FLOOR: Duration = Duration::from_millis(100);
/// With what a client of HTTP/2 begins: the preface, and an empty SETTINGS frame.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Starts a sidecar and waits until it listens, whether or not Kafka is there.
fn listening(builder: SidecarBuilder) -> Sidecar {
    let sidecar = builder.start();
    eventually(READY, "the sidecar listens", || {
        sidecar.try_http_get("/startupz").ok().filter(|(status, _)| *status == 200)
    });
    sidecar
}

/// Opens a connection and sends its first bytes.
fn open(address: &str, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(READY)).unwrap();
    // It may be closed already.
    drop(stream.write_all(bytes));
    stream
}

/// Reads until the other side closes, and returns what it said.
#[track_caller]
fn until_closed(stream: &mut TcpStream) -> Vec<u8> {
    let (mut said, mut some) = (Vec::new(), [0; 1024]);
    loop {
        match stream.read(&mut some) {
            Ok(0) => return said,
            Ok(bytes) => said.extend_from_slice(&some[..bytes]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return said,
            Err(error) => panic!("the connection is open still: {error}, after {said:?}"),
        }
    }
}

/// The 99th percentile of a hundred tries.
fn p99(mut one: impl FnMut()) -> Duration {
    let mut took: Vec<_> = (0..100)
        .map(|_| {
            let begun = Instant::now();
            one();
            begun.elapsed()
        })
        .collect();
    took.sort();
    took[98]
}

/// Checks that what a good caller waits is at most three times what it waited before.
#[track_caller]
fn compare(what: &str, before: Duration, during: Duration) {
    eprintln!("{what}: p99 {before:?} before, {during:?} during the attack");
    assert!(during <= (3 * before).max(TIME_FLOOR), "{what}: {during:?}, before {before:?}");
}

/// Changes how many files the running process may open; the hard limit stays.
fn limit_files(sidecar: &Sidecar, files: usize) {
    let pid = Pid::from_raw(sidecar.pid().try_into().unwrap()).unwrap();
    let old = rustix::process::getrlimit(Resource::Nofile);
    let limit = Rlimit { current: Some(files.try_into().unwrap()), maximum: old.maximum };
    prlimit(Some(pid), Resource::Nofile, limit).unwrap();
}
