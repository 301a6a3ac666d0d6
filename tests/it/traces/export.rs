//! The export of spans: what switches it off, which traces it takes, and a receiver that is not there.

use testkit::{Cluster, Signal, eventually, free_port, read_topic};

use super::{CALLER, UNSAMPLED, header, one, receiver::Receiver, traced, within};
use crate::client::{READY, connect, over_tls, run};

crate::tests!(
    what_switches_traces_off_switches_them_off,
    samplers_and_propagators_are_followed,
    the_last_spans_are_sent_within_the_drain,
    a_dead_receiver_is_said_once_and_holds_up_nothing,
    spans_come_again_once_their_receiver_is_there,
);

fn what_switches_traces_off_switches_them_off() {
    let receiver = Receiver::start();
    let topic = Cluster::shared().create_topic("off", 1, &[]);
    for (name, value) in [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none")] {
        let sidecar = traced(&receiver, &[(name, value)]);
        run(async {
            connect(&sidecar.grpc_address()).send(within(CALLER, one(&topic, name))).await.unwrap()
        });
        sidecar.signal(Signal::TERM);
        assert_eq!(sidecar.wait_exit(READY).code(), Some(0));
    }
    assert_eq!(receiver.spans(), []);
    let read = read_topic(Cluster::shared(), &topic);
    assert!(
        read.iter().all(|record| header(record, "traceparent") == Some(CALLER)),
        "contexts are kept all the same"
    );
}

fn samplers_and_propagators_are_followed() {
    let receiver = Receiver::start();
    let topic = Cluster::shared().create_topic("sampled", 1, &[]);
    let send = |more: &[(&str, &str)], traceparent, value| {
        let sidecar = traced(&receiver, more);
        run(async {
            connect(&sidecar.grpc_address()).send(within(traceparent, one(&topic, value))).await.unwrap()
        });
        sidecar.signal(Signal::TERM);
        assert_eq!(sidecar.wait_exit(READY).code(), Some(0));
        let spans = receiver.spans().len();
        receiver.forget();
        spans
    };
    assert_eq!(send(&[], UNSAMPLED, "unsampled"), 0);
    assert_eq!(send(&[("OTEL_TRACES_SAMPLER", "always_on")], UNSAMPLED, "always"), 2);
    assert_eq!(send(&[("OTEL_TRACES_SAMPLER", "always_off")], CALLER, "never"), 0);
    let share = [("OTEL_TRACES_SAMPLER", "traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "0.0")];
    assert_eq!(send(&share, CALLER, "none of them"), 0);
    assert_eq!(send(&[("OTEL_PROPAGATORS", "none")], CALLER, "apart"), 2);
    let read = read_topic(Cluster::shared(), &topic);
    let parents: Vec<_> = read.iter().map(|record| header(record, "traceparent")).collect();
    assert_eq!([parents[0], parents[2], parents[3]], [Some(UNSAMPLED), Some(CALLER), Some(CALLER)]);
    assert_eq!(parents[1].map(|parent| (&parent[..35], &parent[53..])), Some((&CALLER[..35], "01")));
    assert_eq!(parents[4], None);
    assert_ne!(header(&read[4], "trace-id"), Some(&CALLER[3..35]));
}

fn the_last_spans_are_sent_within_the_drain() {
    let receiver = Receiver::start();
    let topic = Cluster::shared().create_topic("flushed", 1, &[]);
    // Left to itself the exporter would wait for an hour.
    let sidecar = traced(&receiver, &[("OTEL_BSP_SCHEDULE_DELAY", "3600000")]);
    run(async { connect(&sidecar.grpc_address()).send(one(&topic, "a")).await.unwrap() });
    assert_eq!(receiver.spans(), []);
    sidecar.signal(Signal::TERM);
    assert_eq!(sidecar.wait_exit(READY).code(), Some(0));
    assert_eq!(receiver.spans().len(), 2);
}

fn a_dead_receiver_is_said_once_and_holds_up_nothing() {
    let topic = Cluster::shared().create_topic("dead", 1, &[]);
    // It takes connections and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let sidecar = over_tls()
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{}", silent.local_addr().unwrap()))
        .env("OTEL_EXPORTER_OTLP_TIMEOUT", "200")
        .env("OTEL_BSP_SCHEDULE_DELAY", "50")
        .start();
    sidecar.wait_ready(READY);
    let told = "spans cannot be exported";
    run(async {
        let mut client = connect(&sidecar.grpc_address());
        client.send(one(&topic, "a")).await.unwrap();
        sidecar.wait_for_line(|line| line.contains(told), READY);
        for number in 0..100 {
            client.send(one(&topic, &format!("{number}"))).await.unwrap();
        }
    });
    sidecar.signal(Signal::TERM);
    assert_eq!(sidecar.wait_exit(READY).code(), Some(0));
    assert_eq!(sidecar.stderr().iter().filter(|line| line.contains(told)).count(), 1);
}

fn spans_come_again_once_their_receiver_is_there() {
    let topic = Cluster::shared().create_topic("again", 1, &[]);
    let port = free_port();
    // A queue that is full with two calls, of which more begin than it takes.
    let sidecar = over_tls()
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://127.0.0.1:{port}"))
        .env("OTEL_BSP_SCHEDULE_DELAY", "100")
        .env("OTEL_BSP_MAX_QUEUE_SIZE", "4")
        .start();
    sidecar.wait_ready(READY);
    let many = || {
        run(async {
            let client = connect(&sidecar.grpc_address());
            let mut calls = tokio::task::JoinSet::new();
            for number in 0..200 {
                let (mut client, request) = (client.clone(), one(&topic, &format!("{number}")));
                calls.spawn(async move { client.send(request).await.map(drop) });
            }
            calls.join_all().await.into_iter().for_each(Result::unwrap);
        });
    };
    many();
    sidecar.wait_for_line(|line| line.contains("spans cannot be exported"), READY);
    let receiver = Receiver::start_on(port);
    eventually(READY, "spans again", || {
        many();
        (!receiver.spans().is_empty()).then_some(())
    });
    sidecar.wait_for_line(|line| line.contains("spans are exported again"), READY);
}
