//! One caller attacks, a good one sends beside it: the good one's calls stay as fast as they were, and what the attack took
//! is given back.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use testkit::{Cluster, Sidecar, eventually};
use tokio::{sync::watch, task::JoinSet, time::timeout};
use tonic::transport::{Channel, Endpoint};

use super::raw::{self, RawBody};
use crate::client::{READY, connect, over_tls, run, send, text};

crate::tests!(
    messages_that_unpack_into_many_parts,
    calls_without_their_last_byte,
    small_calls_without_their_last_byte,
    streams_that_do_nothing,
    frames_without_records,
    connections_that_say_nothing,
    requests_of_the_admin_port_that_never_end,
    topics_that_do_not_exist,
);

const MIB: u64 = 1 << 20;
/// What the process may hold once an attack is over.
const RSS_AFTER_MAX: u64 = 60 * MIB;
/// When it is measured, after the attack's end.
const GIVEN_BACK: Duration = Duration::from_secs(10);
/// How much slower the slowest of a hundred calls may become.
const P99_FACTOR_MAX: u32 = 3;
/// A faster p99 than this before the attack counts as this: two cores are shared with brokers and attackers, and the build is not
/// optimised.
const P99_FLOOR: Duration = Duration::from_millis(50);
/// How often it is measured while an attack lasts, until it is within its bound: what an attack does it does each time, what else the
/// machine does once. The p99 of a hundred calls is the second slowest of them.
const ROUNDS_MAX: usize = 3;
/// How many calls come before the measurement.
const WARM_UP: usize = 100;
/// How often an attacker looks at what it holds.
const LOOK: Duration = Duration::from_millis(20);

/// How long an attack lasts.
fn attack_time() -> Duration {
    let seconds = std::env::var("ATTACK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(4);
    Duration::from_secs(seconds)
}

/// Whether the attack is over.
type Over = watch::Receiver<bool>;

/// Waits a moment for the attack's end; returns whether it is over.
async fn is_over(over: &mut Over) -> bool {
    timeout(LOOK, over.wait_for(|over| *over)).await.is_ok()
}

/// Sends one record after the other for so long; returns how long each took.
async fn latencies(address: &str, topic: &str, time: Duration) -> Vec<Duration> {
    let (client, begin) = (connect(address), Instant::now());
    let mut took = Vec::new();
    while begin.elapsed() < time {
        let begun = Instant::now();
        send(&client, text(topic, "good")).await.expect("a good caller is answered OK");
        took.push(begun.elapsed());
    }
    took
}

fn p99(mut took: Vec<Duration>) -> Duration {
    took.sort_unstable();
    assert!(took.len() >= 20, "{} calls are too few to tell", took.len());
    took[took.len() * 99 / 100]
}

/// Runs an attack beside a good caller; `attack` ends soon after it is over.
fn beside(sidecar: &Sidecar, name: &str, attack: impl FnOnce(Over) + Send) {
    let topic = Cluster::shared().create_topic("beside-attack", 1, &[]);
    let address = sidecar.grpc_address();
    run(async {
        let client = connect(&address);
        for _ in 0..WARM_UP {
            send(&client, text(&topic, "warm")).await.expect("the sidecar is ready");
        }
    });
    let before = p99(run(latencies(&address, &topic, attack_time())));
    let limit = before.max(P99_FLOOR) * P99_FACTOR_MAX;
    let (end, over) = watch::channel(false);
    let (beside, peak) = thread::scope(|scope| {
        let mut watched = over.clone();
        let attacker = scope.spawn(|| attack(over));
        let peak = scope.spawn(move || {
            run(async {
                let mut peak = sidecar.rss_bytes();
                while !is_over(&mut watched).await {
                    peak = peak.max(sidecar.rss_bytes());
                }
                peak
            })
        });
        let mut beside = Vec::new();
        while beside.len() < ROUNDS_MAX && beside.last().is_none_or(|p99| *p99 > limit) {
            beside.push(p99(run(latencies(&address, &topic, attack_time()))));
        }
        let (status, _) = sidecar.http_get("/livez");
        end.send(true).expect("the attacker listens");
        attacker.join().expect("the attacker ends");
        assert_eq!(status, 200, "alive during the attack");
        (beside, peak.join().expect("the memory is watched"))
    });
    eprintln!("{name}: p99 {before:?} before, {beside:?} during; at most {} MiB", peak / MIB);
    assert!(
        beside.last().is_some_and(|p99| *p99 <= limit),
        "{name}: p99 {before:?} before, {beside:?} during"
    );
    eventually(GIVEN_BACK, &format!("{name}: less than {} MiB are held", RSS_AFTER_MAX / MIB), || {
        (sidecar.rss_bytes() < RSS_AFTER_MAX).then_some(())
    });
}

/// A channel of its own, which is one connection.
fn channel(address: &str) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).expect("the address is one").connect_lazy()
}

fn ready() -> Sidecar {
    let sidecar = over_tls().start();
    sidecar.wait_ready(READY);
    sidecar
}

/// Repeats calls with these bodies, one after the other on each of two connections, until the attack is over.
fn repeat_calls(address: &str, over: &Over, calls: &[(&'static str, Bytes, bool)]) -> usize {
    let answered = AtomicUsize::new(0);
    thread::scope(|scope| {
        for skipped in [0, calls.len() / 2] {
            let answered = &answered;
            scope.spawn(move || {
                run(async {
                    let channel = channel(address);
                    for (path, body, is_compressed) in calls.iter().cycle().skip(skipped) {
                        if *over.borrow() {
                            return;
                        }
                        let body = RawBody::whole(body.clone());
                        let refused = raw::call(&channel, path, body, *is_compressed).await;
                        refused.expect_err("what unpacks into so many parts is refused");
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                });
            });
        }
    });
    answered.into_inner()
}

/// Opens calls whose bodies stay open, and holds them until the attack is over; those that end are not opened again.
fn hold_calls(
    address: &str,
    mut over: Over,
    path: &'static str,
    (connections, each): (usize, usize),
    body: &Bytes,
) {
    run(async {
        let mut held = JoinSet::new();
        for _ in 0..connections {
            let channel = channel(address);
            for _ in 0..each {
                let (channel, body) = (channel.clone(), body.clone());
                held.spawn(async move { raw::call(&channel, path, RawBody::open(body), false).await });
            }
        }
        over.wait_for(|over| *over).await.expect("the attack ends");
        held.abort_all();
    });
}

/// Opens connections, writes the same bytes to each, and holds them until the attack is over; those that are closed are
/// opened again.
fn hold_connections(address: &str, mut over: Over, count: usize, bytes: &[u8]) {
    let open = || -> std::io::Result<TcpStream> {
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(bytes)?;
        stream.set_nonblocking(true)?;
        Ok(stream)
    };
    let is_open = |stream: &mut TcpStream| match stream.read(&mut [0; 1024]) {
        Ok(read) => read > 0,
        Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
    };
    let mut held: Vec<_> = (0..count).map(|_| open().ok()).collect();
    run(async {
        while !is_over(&mut over).await {
            for slot in &mut held {
                if !slot.as_mut().is_some_and(is_open) {
                    *slot = open().ok();
                }
            }
        }
    });
}

/// So many times the same field.
fn many(number: u8, content: &[u8], times: usize) -> Vec<u8> {
    raw::field(number, content).repeat(times)
}

fn messages_that_unpack_into_many_parts() {
    const PARTS: usize = 1_000_000;
    let sidecar = ready();
    let record = |rest: &[u8]| [raw::field(1, b"orders"), raw::field(5, b"v"), rest.to_vec()].concat();
    let list = raw::field(6, &many(1, &[], PARTS));
    let calls = [
        (raw::SEND_BATCH, raw::compressed(&many(2, &[], PARTS)), true),
        (raw::SEND, raw::compressed(&raw::field(1, &record(&many(8, &[], PARTS / 3)))), true),
        (
            raw::SEND,
            raw::compressed(&raw::field(1, &[raw::field(1, b"orders"), raw::field(6, &list)].concat())),
            true,
        ),
        (raw::PROCESS_AND_FORWARD, raw::compressed(&many(1, &[], PARTS)), true),
        (raw::PROCESS_AND_FORWARD, raw::compressed(&many(2, &[], PARTS)), true),
    ];
    let address = sidecar.grpc_address();
    beside(&sidecar, "unpacking", |over| {
        let answered = repeat_calls(&address, &over, &calls);
        assert!(answered > calls.len(), "{answered} attacks were answered");
    });
}

fn calls_without_their_last_byte() {
    let sidecar = ready();
    let whole = raw::framed(&vec![0; 4_000_000], false);
    let cut = whole.slice(..whole.len() - 1);
    let address = sidecar.grpc_address();
    beside(&sidecar, "unfinished bodies", |over| hold_calls(&address, over, raw::SEND, (3, 100), &cut));
}

fn small_calls_without_their_last_byte() {
    let sidecar = ready();
    let whole = raw::framed(&vec![0; 60_000], false);
    let cut = whole.slice(..whole.len() - 1);
    let address = sidecar.grpc_address();
    beside(&sidecar, "unfinished small bodies", |over| {
        hold_calls(&address, over, raw::SEND, (200, 10), &cut);
    });
}

fn streams_that_do_nothing() {
    let sidecar = ready();
    let address = sidecar.grpc_address();
    beside(&sidecar, "idle streams", |over| {
        hold_calls(&address, over, raw::SEND_BATCH, (13, 1_000), &Bytes::new());
    });
}

fn frames_without_records() {
    let sidecar = ready();
    let empty = raw::framed(&[], false).repeat(50_000);
    let address = sidecar.grpc_address();
    beside(&sidecar, "empty frames", |over| {
        run(async {
            let channel = channel(&address);
            while !*over.borrow() {
                let body = RawBody::whole(Bytes::from(empty.clone()));
                raw::call(&channel, raw::SEND_BATCH, body, false).await.expect("empty frames are answered");
            }
        });
    });
}

fn connections_that_say_nothing() {
    let sidecar = ready();
    let address = sidecar.grpc_address();
    beside(&sidecar, "silent connections", |over| hold_connections(&address, over, 1_100, b""));
}

fn requests_of_the_admin_port_that_never_end() {
    let sidecar = ready();
    let address = sidecar.admin_address();
    beside(&sidecar, "unfinished requests", |over| {
        hold_connections(&address, over, 1_500, b"GET /metrics HTTP/1.1\r\nhost: sidecar\r\nx-never: ");
    });
}

fn topics_that_do_not_exist() {
    const CALLERS: usize = 64;
    let sidecar = ready();
    let address = sidecar.grpc_address();
    beside(&sidecar, "unknown topics", |over| {
        run(async {
            let client = connect(&address);
            let mut callers = JoinSet::new();
            let mut names = (0..).map(|number: usize| format!("not-there-{number}"));
            while !*over.borrow() {
                while callers.len() < CALLERS {
                    let (client, name) = (client.clone(), names.next().expect("names without end"));
                    callers.spawn(async move { send(&client, text(&name, "v")).await.map(drop) });
                }
                if let Some(refused) = callers.join_next().await {
                    refused.expect("no panic").expect_err("the topic is not there");
                }
            }
        });
    });
}
