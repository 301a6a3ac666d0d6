//! The gRPC port: callers that never begin, that vanish, that come too many, and that take more than their share.

use std::time::{Duration, Instant};

use producer_sidecar::grpc::proto::GetInfoRequest;
use testkit::{Cluster, eventually};
use tokio::task::JoinSet;
use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus;

use super::{PREFACE, compare, listening, open, p99, until_closed};
use crate::{
    around::{channel, metric, next, wait_metric, watch},
    client::{Client, READY, connect, over_tls, run, send, send_within, text},
    commands::without_brokers,
    streams,
};

crate::tests!(
    callers_that_never_begin_or_vanish_are_closed_and_idle_ones_stay,
    silent_connections_take_nothing_from_a_good_caller,
    a_full_port_refuses_at_once_and_makes_room_once_a_connection_is_idle,
    calls_of_one_connection_do_not_refuse_everybody,
    streams_of_one_connection_do_not_refuse_everybody,
    unknown_topics_of_one_caller_do_not_hold_up_anothers,
);

const OPEN: &str = r#"producer_connections{port="grpc"}"#;

fn closed(reason: &str) -> String {
    format!(r#"producer_connections_closed_total{{port="grpc",reason="{reason}"}}"#)
}

/// Returns whether a call is answered, on a connection that there may be already.
fn is_answered(client: &Client) -> bool {
    let mut client = client.clone();
    let call = async { client.get_info(GetInfoRequest {}).await.is_ok() };
    tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(call))
}

fn callers_that_never_begin_or_vanish_are_closed_and_idle_ones_stay() {
    let builder = without_brokers(&["serve"])
        .env("SIDECAR_HANDSHAKE_MS_MAX", "500")
        .env("SIDECAR_KEEPALIVE_MS", "300")
        .env("SIDECAR_KEEPALIVE_TIMEOUT_MS", "500");
    let sidecar = listening(builder);
    let address = sidecar.grpc_address();
    run(async {
        // Its client answers PINGs while nobody uses it.
        let mut idle = connect(&address);
        idle.get_info(GetInfoRequest {}).await.unwrap();
        let unbegun: [&[u8]; 4] = [b"", &PREFACE[..1], &PREFACE[..23], b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"];
        for mut stream in unbegun.map(|bytes| open(&address, bytes)) {
            tokio::task::block_in_place(|| until_closed(&mut stream));
        }
        // What is another protocol is long enough to be told at once.
        wait_metric(&sidecar, &closed("no_handshake"), 3, READY);
        wait_metric(&sidecar, &closed("broken"), 1, READY);
        // It has begun, and answers nothing.
        tokio::task::block_in_place(|| until_closed(&mut open(&address, PREFACE)));
        wait_metric(&sidecar, &closed("silent"), 1, READY);
        wait_metric(&sidecar, OPEN, 1, READY);
        idle.get_info(GetInfoRequest {}).await.unwrap();
        assert_eq!(metric(&sidecar, OPEN), Some(1), "it is the same connection");
        assert_eq!(metric(&sidecar, &closed("ended")), Some(0));
    });
}

fn silent_connections_take_nothing_from_a_good_caller() {
    // What the attack that was reported had, and more than `connections_max`.
    const CONNECTIONS: usize = 1_100;
    let sidecar = listening(without_brokers(&["serve"]));
    let address = sidecar.grpc_address();
    let newcomer = || {
        run(async {
            let call = connect(&address).get_info(GetInfoRequest {}).await.map(drop);
            call.unwrap();
        });
    };
    let before = p99(newcomer);
    let attack: Vec<_> =
        (0..CONNECTIONS).map(|number| open(&address, if number % 2 == 0 { b"" } else { PREFACE })).collect();
    compare("a new caller", before, p99(newcomer));
    assert!(metric(&sidecar, OPEN).unwrap() <= 1_024);
    drop(attack);
}

fn a_full_port_refuses_at_once_and_makes_room_once_a_connection_is_idle() {
    const MAX: usize = 4;
    let builder = without_brokers(&["serve", "--connections-max", &MAX.to_string()])
        .env("SIDECAR_CONNECTION_IDLE_MS_MIN", "200");
    let sidecar = listening(builder);
    let address = sidecar.grpc_address();
    run(async {
        let mut busy = Vec::new();
        for _ in 0..MAX {
            let channel = channel(&address);
            let mut watched = watch(&channel, "liveness").await;
            assert_eq!(next(&mut watched).await, ServingStatus::Serving);
            busy.push((channel, watched));
        }
        for _ in 0..20 {
            let begun = Instant::now();
            let said = tokio::task::block_in_place(|| until_closed(&mut open(&address, PREFACE)));
            assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
            assert!(
                String::from_utf8_lossy(&said).contains("as many connections as it may have"),
                "{said:?}"
            );
        }
        connect(&address).get_info(GetInfoRequest {}).await.unwrap_err();
        let full = r#"producer_connections_refused_total{port="grpc",reason="full"}"#;
        assert!(metric(&sidecar, full).unwrap() >= 21);
        let lines = sidecar.stderr();
        let told: Vec<_> = lines.iter().filter(|line| line.contains("a connection was refused")).collect();
        assert!(told.len() == 1 && told[0].contains("connections_max"), "{told:?}");
        // Its call is over, and after a while it is idle.
        let (idle, watched) = busy.pop().unwrap();
        drop(watched);
        eventually(READY, "there is room", || is_answered(&connect(&address)).then_some(()));
        wait_metric(&sidecar, &closed("made_room"), 1, READY);
        for (_, watched) in &mut busy {
            let more = tokio::time::timeout(Duration::from_millis(50), watched.message()).await;
            assert!(more.is_err(), "who has a call goes on: {more:?}");
        }
        // Who made room comes back by itself once there is room for it.
        drop(busy);
        assert_eq!(next(&mut watch(&idle, "liveness").await).await, ServingStatus::Serving);
    });
}

fn streams_of_one_connection_do_not_refuse_everybody() {
    const STREAMS_MAX: usize = 64;
    let sidecar = over_tls().env("SIDECAR_STREAMS_MAX", STREAMS_MAX.to_string()).start();
    sidecar.wait_ready(READY);
    let address = sidecar.grpc_address();
    run(async {
        let one = connect(&address);
        let mut opened = Vec::new();
        for _ in 0..STREAMS_MAX {
            opened.push(streams::idle(one.clone()).await);
        }
        assert_eq!(opened.iter().filter(|stream| stream.is_ok()).count(), STREAMS_MAX / 2);
        let refused = opened.iter().find_map(|stream| stream.as_ref().err()).unwrap();
        refused.expect(Code::ResourceExhausted, "QUEUE_FULL", "NO");
        streams::idle(connect(&address)).await.map(drop).expect("another connection has its own share");
    });
}

fn calls_of_one_connection_do_not_refuse_everybody() {
    const CALLERS_MAX: usize = 1_024;
    const STREAMS_MAX: usize = 2_048;
    let topic = Cluster::shared().create_topic("share", 1, &[]);
    // Streams have a bound of their own, and the same shares of it.
    let streams_max = STREAMS_MAX.to_string();
    let builder = over_tls().env("SIDECAR_CALLERS_MAX", CALLERS_MAX.to_string());
    let sidecar = builder.env("SIDECAR_STREAMS_MAX", streams_max).start();
    sidecar.wait_ready(READY);
    let address = sidecar.grpc_address();
    run(async {
        let good = connect(&address);
        send(&good, text(&topic, "before")).await.unwrap();
        let one = connect(&address);
        let mut opening = JoinSet::new();
        for _ in 0..CALLERS_MAX + 100 {
            opening.spawn(streams::idle(one.clone()));
        }
        let opened = opening.join_all().await;
        let idle = opened.iter().filter(|stream| stream.is_ok()).count();
        assert_eq!(idle, CALLERS_MAX / 2, "half of all calls, which are fewer than half of all streams");
        let refused = opened.iter().find_map(|stream| stream.as_ref().err()).unwrap();
        refused.expect(Code::ResourceExhausted, "QUEUE_FULL", "NO");
        for number in 0..50 {
            send(&good, text(&topic, &number.to_string())).await.unwrap();
        }
        // Places are given back.
        drop(opened);
        eventually(READY, "the first connection has its share again", || {
            let again = async { send(&one, text(&topic, "again")).await.ok() };
            tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(again))
        });
    });
}

fn unknown_topics_of_one_caller_do_not_hold_up_anothers() {
    const UNKNOWN: usize = 5_000;
    const PATIENCE: Duration = Duration::from_secs(60);
    // Five seconds and more before callers took turns; the machine has the loud caller's calls to take in as well.
    const NEW_TOPIC_FLOOR: Duration = Duration::from_secs(2);
    let cluster = Cluster::shared();
    let (old, new) = (cluster.create_topic("known", 1, &[]), cluster.create_topic("new", 1, &[]));
    let sidecar = over_tls().start();
    sidecar.wait_ready(READY);
    let address = sidecar.grpc_address();
    let outstanding = || metric(&sidecar, "producer_outstanding_records").unwrap();
    run(async {
        let good = connect(&address);
        send(&good, text(&old, "before")).await.unwrap();
        let (loud, mut asking) = (connect(&address), JoinSet::new());
        for number in 0..UNKNOWN {
            let (loud, record) = (loud.clone(), text(&format!("no-such-topic-{number}"), "v"));
            asking.spawn(async move { send_within(&loud, record, Some(PATIENCE)).await });
        }
        eventually(READY, "the unknown topics are asked for", || (outstanding() > 2_000).then_some(()));
        let first = |topic: String| {
            let good = good.clone();
            async move {
                let begun = Instant::now();
                send(&good, text(&topic, "first")).await.unwrap();
                begun.elapsed()
            }
        };
        let during = first(new).await;
        assert!(outstanding() > 100, "it did not come last");
        asking.shutdown().await;
        eventually(READY, "nobody asks any more", || (outstanding() == 0).then_some(()));
        let after = first(cluster.create_topic("newer", 1, &[])).await;
        eprintln!("a new topic: {during:?} behind {UNKNOWN} unknown ones, {after:?} alone");
        assert!(during < (3 * after).max(NEW_TOPIC_FLOOR), "{during:?}, alone {after:?}");
    });
}
