//! Socket files: one that somebody listens on is not stale, and a process removes only its own.

use std::{fs, os::unix::net::UnixListener, path::Path, time::Duration};

use testkit::{Signal, TestFolder};
use tokio::{net::UnixStream, time::timeout};

use super::listening;
use crate::{
    client::{READY, run},
    commands::{to_end, without_brokers},
};

crate::tests!(a_socket_with_a_full_queue_is_not_stale, a_process_removes_only_its_own_socket_file);

/// More than a queue of connections holds.
const QUEUE_MAX: usize = 10_000;

fn listen(socket: &Path) -> String {
    format!("unix:{}", socket.display())
}

fn a_socket_with_a_full_queue_is_not_stale() {
    let folder = TestFolder::new("socket");
    let socket = folder.path().join("sidecar.sock");
    let _busy = UnixListener::bind(&socket).unwrap();
    let waiting = run(async {
        let mut waiting = Vec::new();
        while waiting.len() < QUEUE_MAX {
            match timeout(Duration::from_secs(1), UnixStream::connect(&socket)).await {
                Ok(Ok(stream)) => waiting.push(stream.into_std().unwrap()),
                _ => break,
            }
        }
        waiting
    });
    assert!(waiting.len() < QUEUE_MAX, "the queue is full");
    let ended = to_end(without_brokers(&["serve"]).env("SIDECAR_LISTEN", listen(&socket)));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let last = ended.stderr.last().unwrap();
    assert!(last.contains("another process listens on this socket file"), "{last}");
    assert!(socket.exists(), "it is the other's");
}

fn a_process_removes_only_its_own_socket_file() {
    let folder = TestFolder::new("socket");
    let socket = folder.path().join("sidecar.sock");
    let sidecar = listening(without_brokers(&["serve"]).env("SIDECAR_LISTEN", listen(&socket)));
    fs::remove_file(&socket).unwrap();
    let _other = UnixListener::bind(&socket).unwrap();
    sidecar.signal(Signal::TERM);
    assert_eq!(sidecar.wait_exit(READY).code(), Some(0));
    assert!(socket.exists(), "it is the other's");
}
