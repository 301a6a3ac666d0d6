//! The admin port: unfinished requests and scrapes in parallel take nothing from a prober.

use std::{
    net::TcpStream,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use testkit::{Sidecar, eventually};

use super::{compare, limit_files, listening, open, p99, until_closed};
use crate::{around::metric, client::READY, commands::without_brokers};

crate::tests!(
    unfinished_requests_take_nothing_from_a_prober,
    an_unfinished_request_is_closed_after_its_time,
    scrapes_in_parallel_take_nothing_from_a_prober,
);

const UNFINISHED: [&[u8]; 4] = [
    b"",
    b"GET /live",
    b"GET /livez HTTP/1.1\r\nHost: a\r\nX-More: 1\r\n",
    b"POST /livez HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nbeginning",
];
/// What the attack that was reported had.
const CONNECTIONS: usize = 1_500;
/// Fewer than the attack's connections.
const FILES: usize = 512;
const PATHS: [(&str, u16); 3] = [("/livez", 200), ("/readyz", 503), ("/metrics", 200)];

/// How long a prober waits for each path.
fn probed(sidecar: &Sidecar) -> [Duration; 3] {
    PATHS.map(|(path, status)| p99(|| assert_eq!(sidecar.try_http_get(path).unwrap().0, status, "{path}")))
}

fn unfinished_requests_take_nothing_from_a_prober() {
    let sidecar = listening(without_brokers(&["serve"]));
    limit_files(&sidecar, FILES);
    let before = probed(&sidecar);
    let attack: Vec<TcpStream> = (0..CONNECTIONS)
        .map(|number| open(&sidecar.admin_address(), UNFINISHED[number % UNFINISHED.len()]))
        .collect();
    let during = probed(&sidecar);
    for ((path, _), (before, during)) in PATHS.iter().zip(before.into_iter().zip(during)) {
        compare(path, before, during);
    }
    assert!(metric(&sidecar, r#"producer_connections{port="admin"}"#).unwrap() <= 128);
    assert!(sidecar.fd_count() < FILES / 2, "{} files", sidecar.fd_count());
    drop(attack);
}

fn an_unfinished_request_is_closed_after_its_time() {
    let sidecar = listening(without_brokers(&["serve"]).env("SIDECAR_ADMIN_REQUEST_MS_MAX", "300"));
    let mut attack = UNFINISHED.map(|bytes| open(&sidecar.admin_address(), bytes));
    for stream in &mut attack {
        until_closed(stream);
    }
    // One that is between two requests, too.
    let mut kept = open(&sidecar.admin_address(), b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(until_closed(&mut kept).ends_with(b"alive\n"));
    let closed = r#"producer_connections_closed_total{port="admin",reason="no_handshake"}"#;
    eventually(READY, "three never had a request", || (metric(&sidecar, closed)? >= 3).then_some(()));
}

fn scrapes_in_parallel_take_nothing_from_a_prober() {
    const SCRAPERS: usize = 32;
    let sidecar = listening(without_brokers(&["serve"]));
    let livez = || p99(|| assert_eq!(sidecar.http_get("/livez").0, 200));
    let before = livez();
    let is_over = AtomicBool::new(false);
    let during = thread::scope(|scope| {
        for _ in 0..SCRAPERS {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    assert_eq!(sidecar.try_http_get("/metrics").unwrap().0, 200);
                }
            });
        }
        let during = livez();
        is_over.store(true, Ordering::Relaxed);
        during
    });
    compare("/livez beside scrapes", before, during);
}
