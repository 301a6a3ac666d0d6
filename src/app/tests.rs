//! The app in process, without brokers: what ends it though nobody asked for that.

use std::future::pending;

use super::*;
use crate::{
    config::{
        Purpose,
        source::{self, Environment, Inputs},
    },
    failure::Reason,
    record::{Record, Topic},
};

/// A port that nobody listens on is the only broker.
async fn app() -> App {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let environment = Environment::of([
        ("KAFKA_BROKERS", closed.to_string().as_str()),
        ("KAFKA_SECURITY_PROTOCOL", "PLAINTEXT"),
        ("SIDECAR_INSTANCE_ID", "app"),
        ("SIDECAR_LISTEN", "127.0.0.1:0"),
        ("SIDECAR_ADMIN_LISTEN", "127.0.0.1:0"),
        ("SIDECAR_BROKERS_WAIT_MS", "600000"),
        ("SIDECAR_SEND_TIMEOUT_MS", "200000"),
        ("SIDECAR_DRAIN_MS", "300"),
    ]);
    let inputs = Inputs { config: None, flags: &[], environment: &environment };
    let loaded = source::load(inputs, Purpose::Serve).unwrap();
    App::build(&loaded.config, loaded.files, None, &Traces::default()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vital_task_that_panics_begins_a_drain_in_which_calls_are_answered() {
    let app = app().await;
    let (tasks, sender) = (app.tasks.clone(), Arc::clone(&app.sender));
    let record = Record {
        topic: Topic::parse("orders").unwrap(),
        key: None,
        value: Some("v".into()),
        headers: Vec::new(),
        partition: None,
        timestamp_ms: 1,
        message_id: None,
    };
    let sends = Arc::clone(&sender);
    let later = Instant::now() + Duration::from_secs(100);
    let call = tokio::spawn(async move { sends.send(record, "record", later).await });
    let running = tokio::spawn(app.run(pending(), pending()));
    while sender.outstanding().0 == 0 {
        tokio::task::yield_now().await;
    }
    drop(sender);
    tasks.spawn_vital("lines of records", async { panic!("a bug") });
    let stopped = running.await.unwrap();
    let fault = stopped.fault.unwrap();
    assert_eq!(fault.to_string(), "lines of records ended while serving: it panicked: a bug");
    assert_eq!((stopped.drained.delivered, stopped.drained.undelivered), (0, 1));
    assert_eq!(call.await.unwrap().unwrap_err().reason(), Reason::Draining);
}

#[tokio::test]
async fn a_listener_that_ends_is_named_with_its_cause_unless_it_was_told_to_end() {
    let (tasks, told) = (Tasks::default(), CancellationToken::new());
    let broken = async { Err(io::Error::other("the socket is gone")) };
    tell_end(GRPC_LISTENER, broken, (&tasks, &told)).await;
    let fault = tasks.failed().await;
    assert_eq!(fault.to_string(), "the gRPC listener ended while serving: the socket is gone");
    let (tasks, ended) = (Tasks::default(), async { Ok::<_, io::Error>(()) });
    told.cancel();
    tell_end(ADMIN_LISTENER, ended, (&tasks, &told)).await;
    assert!(timeout_at(Instant::now(), tasks.failed()).await.is_err());
}
