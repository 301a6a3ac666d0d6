//! Traces, collected by a receiver of OTLP: what a caller began goes on in the sidecar, in the record and in its consumer;
//! names, kinds and attributes are OpenTelemetry's.

pub mod export;
mod receiver;

use std::process::Command;

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use producer_sidecar::grpc::proto::{
    ProcessAndForwardRequest, ProducerRecord, SendBatchRequest, SendRequest, Tombstone,
    producer_record::Payload,
};
use testkit::{Cluster, ReadRecord, Sidecar, eventually, read_topic};
use tonic::{Code, Request};

use self::receiver::{Received, Receiver};
use crate::{
    client::{READY, connect, over_tls, run, text, with_header},
    clients,
    forward::{forward, input, unit},
    streams::exchange,
};

crate::tests!(
    a_clients_trace_goes_through_the_sidecar_to_a_consumer,
    spans_say_what_the_conventions_ask,
    only_the_services_faults_are_errors,
    a_frame_has_a_trace_of_its_own_that_is_linked,
    a_transaction_has_its_commit,
);

const SERVICE: &str = "caas.producer.v1.ProducerService";
/// A caller's context, recorded and not.
const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const UNSAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
/// A record's own context.
const OWN: &str = "00-11111111111111111111111111111111-2222222222222222-01";
/// How long the example may take.
const RUN_S: u32 = 60;

/// A sidecar that exports to the receiver, with these variables more.
fn traced(receiver: &Receiver, more: &[(&str, &str)]) -> Sidecar {
    let builder = over_tls()
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint())
        .env("OTEL_BSP_SCHEDULE_DELAY", "100");
    let builder = more.iter().fold(builder, |builder, (name, value)| builder.env(name, *value));
    let sidecar = builder.start();
    sidecar.wait_ready(READY);
    sidecar
}

/// A request within a caller's trace.
fn within<T>(traceparent: &'static str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("traceparent", traceparent.parse().unwrap());
    request
}

fn one(topic: &str, value: &str) -> SendRequest {
    SendRequest { record: Some(text(topic, value)), ..SendRequest::default() }
}

fn header<'a>(record: &'a ReadRecord, name: &str) -> Option<&'a str> {
    let (_, value) = record.headers.iter().find(|(found, _)| found == name)?;
    Some(std::str::from_utf8(value.as_deref().unwrap_or_default()).unwrap())
}

fn method(name: &str) -> String {
    format!("{SERVICE}/{name}")
}

fn a_clients_trace_goes_through_the_sidecar_to_a_consumer() {
    let (cluster, receiver) = (Cluster::shared(), Receiver::start());
    let topic = cluster.create_topic("traced", 1, &[]);
    let sidecar = traced(&receiver, &[]);
    let ran = Command::new("timeout")
        .arg(RUN_S.to_string())
        .arg(clients::built("python").join("traced"))
        .args([&sidecar.grpc_address(), &topic])
        .env("KAFKA_BROKERS", cluster.bootstrap_tls())
        .env("KAFKA_USER", cluster.user())
        .env("KAFKA_PASSWORD", cluster.password())
        .env("KAFKA_CA_FILE", cluster.ca_file())
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint())
        .output()
        .expect("the example runs");
    let printed = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{printed}{}", String::from_utf8_lossy(&ran.stderr));
    // The example prints what its consumer found in each record.
    let found = |value: &str| {
        let line = printed.lines().find_map(|line| line.strip_prefix(value)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{value} in {printed}")).to_owned()
    };
    let begun =
        |name: &str| receiver.wait(name, |span| span.service == "traced-example" && span.name == name);
    let process = format!("process {topic}");
    let (send, consumed) = (format!("send {topic}"), |span: &Received| receiver.below(span, &process));

    let call = receiver.below(&begun("one"), &method("Send"));
    let sent = receiver.below(&call, &send);
    assert_eq!((call.service.as_str(), sent.kind), ("producer-sidecar", SpanKind::Producer));
    assert!(sent.is_named_in(&found("one")));
    assert_eq!(consumed(&sent).kind, SpanKind::Consumer);

    let stream = receiver.below(&begun("stream"), &method("SendBatch"));
    let frame =
        receiver.wait("of the frame", |span| span.name == send && span.links.contains(&stream.place()));
    assert_eq!(frame.kind, SpanKind::Client, "every record has a context of its own");
    for number in 0..3 {
        let created = begun(&format!("create {number}"));
        assert!(created.is_named_in(&found(&format!("frame-{number}"))), "it is kept");
        assert!(frame.links.contains(&created.place()));
        consumed(&created);
    }

    let call = receiver.below(&begun("unit"), &method("ProcessAndForward"));
    let sent = receiver.below(&call, &send);
    assert!(sent.is_named_in(&found("unit")));
    receiver.below(&call, "commit");
    consumed(&sent);
}

fn spans_say_what_the_conventions_ask() {
    let receiver = Receiver::start();
    let topic = Cluster::shared().create_topic("conventions", 1, &[]);
    let sidecar = traced(&receiver, &[("KAFKA_CLIENT_ID", "gateway")]);
    let mut request = within(CALLER, one(&topic, "a"));
    request.metadata_mut().insert("tracestate", "vendor=1".parse().unwrap());
    let owner = SendRequest {
        record: Some(with_header(text(&topic, "b"), "traceparent", OWN)),
        ..SendRequest::default()
    };
    run(async {
        let mut client = connect(&sidecar.grpc_address());
        client.send(request).await.unwrap();
        client.send(owner).await.unwrap();
        let payload = Some(Payload::Tombstone(Tombstone {}));
        let deleting = Some(ProducerRecord { payload, ..text(&topic, "") });
        client.send(SendRequest { record: deleting, ..SendRequest::default() }).await.unwrap();
    });
    let (name, send) = (method("Send"), format!("send {topic}"));
    let call = receiver.wait("of the call", |span| span.name == name && span.trace_id == CALLER[3..35]);
    assert_eq!(call.parent_id, CALLER[36..52]);
    call.expect(
        SpanKind::Server,
        &[("rpc.system.name", "grpc"), ("rpc.method", &name), ("rpc.response.status_code", "OK")],
    );
    let sent = receiver.below(&call, &send);
    sent.expect(
        SpanKind::Producer,
        &[
            ("messaging.system", "kafka"),
            ("messaging.operation.name", "send"),
            ("messaging.operation.type", "send"),
            ("messaging.destination.name", &topic),
            ("messaging.destination.partition.id", "0"),
            ("messaging.kafka.offset", "int 0"),
            ("messaging.client.id", "gateway"),
        ],
    );
    assert!(
        !call.is_error && !sent.is_error && sent.nanos > 0 && sent.nanos <= call.nanos,
        "{call:?} {sent:?}"
    );
    let kept =
        receiver.wait("with a link", |span| span.links == [(OWN[3..35].to_owned(), OWN[36..52].to_owned())]);
    assert_eq!((kept.name.as_str(), kept.kind), (send.as_str(), SpanKind::Client));
    assert_ne!(kept.trace_id, OWN[3..35]);
    let tombstone = ("messaging.kafka.message.tombstone", "bool true");
    let deleted = receiver.wait("of the tombstone", |span| span.attributes.contains_key(tombstone.0));
    assert_eq!(
        (deleted.name.as_str(), deleted.attributes[tombstone.0].as_str()),
        (send.as_str(), tombstone.1)
    );
    let read = read_topic(Cluster::shared(), &topic);
    let of = |record: &ReadRecord| {
        ["traceparent", "tracestate", "trace-id"].map(|name| header(record, name).map(str::to_owned))
    };
    let expected = [Some(sent.traceparent()), Some("vendor=1".to_owned()), Some(sent.trace_id)];
    assert_eq!(of(&read[0]), expected);
    assert_eq!(of(&read[1]), [Some(OWN.to_owned()), None, Some(OWN[3..35].to_owned())]);
    assert!(
        read.iter()
            .all(|record| record.headers.iter().filter(|(name, _)| name == "traceparent").count() == 1)
    );
}

fn only_the_services_faults_are_errors() {
    let receiver = Receiver::start();
    let topic = Cluster::shared().create_topic("faults", 1, &[("cleanup.policy", "compact")]);
    let sidecar = traced(&receiver, &[]);
    run(async {
        let mut client = connect(&sidecar.grpc_address());
        // A compacted topic refuses a record without a key.
        assert_eq!(client.send(one(&topic, "a")).await.unwrap_err().code(), Code::InvalidArgument);
    });
    let name = method("Send");
    let refused = receiver.wait("of the refused call", |span| {
        span.name == name && span.attributes["rpc.response.status_code"] == "INVALID_ARGUMENT"
    });
    assert!(!refused.is_error && !refused.attributes.contains_key("error.type"), "{refused:?}");
    let sent = receiver.below(&refused, &format!("send {topic}"));
    assert_eq!(sent.attributes["error.type"], "INVALID_RECORD", "{sent:?}");
    assert!(!sent.is_error, "{sent:?}");
    // The log names the trace.
    let line = sidecar.wait_for_line(|line| line.contains("\"reason\":\"RECORD_REJECTED\""), READY);
    assert!(line.contains(&format!("\"trace_id\":\"{}\"", refused.trace_id)), "{line}");

    let apart = over_tls().env("KAFKA_BROKERS", "127.0.0.1:1").env("SIDECAR_BROKERS_WAIT_MS", "100");
    let apart = apart.env("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint()).start();
    eventually(READY, "the sidecar listens", || apart.try_http_get("/startupz").ok());
    let failed = run(async { connect(&apart.grpc_address()).send(one(&topic, "b")).await.unwrap_err() });
    assert_eq!(failed.code(), Code::Unavailable);
    let failed = receiver.wait("of the failed call", |span| {
        span.name == name && span.attributes["rpc.response.status_code"] == "UNAVAILABLE"
    });
    assert!(failed.is_error, "{failed:?}");
    assert_eq!(failed.attributes["error.type"], "UNAVAILABLE");
    let sent = receiver.below(&failed, &format!("send {topic}"));
    assert!(sent.is_error && sent.attributes["error.type"] == "BROKERS_UNAVAILABLE", "{sent:?}");
}

fn a_frame_has_a_trace_of_its_own_that_is_linked() {
    let (cluster, receiver) = (Cluster::shared(), Receiver::start());
    let topics = ["frame-a", "frame-b"].map(|name| cluster.create_topic(name, 1, &[]));
    let sidecar = traced(&receiver, &[]);
    let frame = |sequence, records| SendBatchRequest { sequence, records, ..SendBatchRequest::default() };
    let frames = vec![
        frame(1, vec![text(&topics[0], "a"), text(&topics[1], "b")]),
        frame(2, vec![text(&topics[0], "c"), with_header(text(&topics[0], "d"), "traceparent", OWN)]),
    ];
    let (answers, end) = run(exchange(&sidecar.grpc_address(), frames));
    end.unwrap();
    assert_eq!(answers.len(), 2);
    let stream = receiver.wait("of the stream", |span| span.name == method("SendBatch"));
    let several = receiver.wait("of two topics", |span| span.name == "send");
    let single = receiver.wait("of one topic", |span| span.name == format!("send {}", topics[0]));
    let batch = ("messaging.batch.message_count", "int 2");
    let alike = [
        ("messaging.system", "kafka"),
        ("messaging.operation.name", "send"),
        ("messaging.operation.type", "send"),
        ("messaging.client.id", "caas-gateway"),
        batch,
    ];
    several.expect(SpanKind::Producer, &alike);
    single.expect(SpanKind::Producer, &[&alike[..], &[("messaging.destination.name", &topics[0])]].concat());
    assert_eq!(several.links, [stream.place()]);
    assert_eq!(single.links, [stream.place(), (OWN[3..35].to_owned(), OWN[36..52].to_owned())]);
    let traces = [&stream.trace_id, &several.trace_id, &single.trace_id];
    assert!(traces[0] != traces[1] && traces[1] != traces[2] && traces[0] != traces[2]);
    assert_eq!((several.parent_id.as_str(), single.parent_id.as_str()), ("", ""));
    let first = read_topic(cluster, &topics[0]);
    let parents: Vec<_> = first.iter().map(|record| header(record, "traceparent").unwrap()).collect();
    assert_eq!(parents, [several.traceparent(), single.traceparent(), OWN.to_owned()]);
}

fn a_transaction_has_its_commit() {
    let (cluster, receiver) = (Cluster::shared(), Receiver::start());
    let (source, target) =
        (cluster.create_topic("commit-in", 1, &[]), cluster.create_topic("commit-out", 1, &[]));
    let sidecar = traced(&receiver, &[]);
    run(async {
        let client = connect(&sidecar.grpc_address());
        let outputs = || vec![text(&target, "a"), text(&target, "b")];
        forward(&client, unit(&target, vec![input(&source, 0, 0, 10)], outputs())).await.unwrap();
        let mismatch = forward(&client, unit(&target, vec![input(&source, 0, 5, 20)], outputs())).await;
        mismatch.unwrap_err().expect(Code::FailedPrecondition, "OFFSET_MISMATCH", "NO");
        let alone = ProcessAndForwardRequest { outputs: vec![text(&target, "c")], ..Default::default() };
        forward(&client, alone).await.unwrap();
    });
    let name = method("ProcessAndForward");
    let ends = |code: &'static str| {
        move |span: &Received| {
            span.attributes.get("rpc.response.status_code").is_some_and(|found| found == code)
        }
    };
    let with_group = receiver.wait("of the commit with a group", |span| {
        span.name == "commit" && span.attributes.contains_key("messaging.consumer.group.name")
    });
    with_group.expect(
        SpanKind::Client,
        &[
            ("messaging.system", "kafka"),
            ("messaging.operation.name", "commit"),
            ("messaging.client.id", "caas-gateway"),
            ("messaging.consumer.group.name", &target),
            ("messaging.batch.message_count", "int 2"),
        ],
    );
    let call = receiver.wait("of its call", |span| span.name == name && with_group.is_below(span));
    assert!(ends("OK")(&call));
    let sent = receiver.below(&call, &format!("send {target}"));
    assert_eq!(
        (sent.kind, sent.attributes["messaging.batch.message_count"].as_str()),
        (SpanKind::Producer, "int 2")
    );
    let refused =
        receiver.wait("of the refused unit", |span| span.name == name && ends("FAILED_PRECONDITION")(span));
    assert!(!refused.is_error);
    receiver.wait("of the commit without a group", |span| {
        span.name == "commit" && !span.attributes.contains_key("messaging.consumer.group.name")
    });
    let commits = receiver.spans().into_iter().filter(|span| span.name == "commit").count();
    assert_eq!(commits, 2, "the refused unit was in no transaction");
    let read = read_topic(cluster, &target);
    assert!(read[..2].iter().all(|record| header(record, "traceparent") == Some(&sent.traceparent())));
}
