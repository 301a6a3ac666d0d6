//! What `/metrics` says after calls that were counted here too.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use producer_sidecar::grpc::proto::{GetInfoRequest, GetInfoResponse, SendRequest};
use testkit::{Cluster, Sidecar, find_tool, run_tool};
use tonic::{Code, Request, client::Grpc};

use super::{SERVICE, channel, check, listening, metric, ready, wait_metric};
use crate::{
    client::{
        READY, connect, keyed, over_tls, over_tls_limited, run, send, shared_address, text, with_header,
        with_shared,
    },
    commands::without_brokers,
    streams::{error, exchange, frame, open},
};

crate::tests!(
    the_source_documents_metrics_count_calls,
    failures_are_counted_by_reason,
    topics_beyond_the_cap_share_a_label,
    unknown_topics_make_no_labels,
    the_text_is_open_metrics_for_whoever_asks_for_it,
    the_text_is_prometheus_older_format_for_all_others,
    calls_are_counted_by_method_and_code,
    a_call_that_its_caller_leaves_is_counted_as_cancelled,
    buckets_show_sampled_traces,
    records_that_go_again_for_anothers_sake_are_counted,
    the_process_tells_of_itself,
);

fn sent(topic: &str, status: &str) -> String {
    format!(r#"kafka_messages_sent_total{{topic="{topic}",status="{status}"}}"#)
}

fn count(topic: &str) -> String {
    format!(r#"kafka_send_duration_ms_count{{topic="{topic}"}}"#)
}

fn failures(reason: &str) -> String {
    format!(r#"producer_failures_total{{reason="{reason}"}}"#)
}

fn the_source_documents_metrics_count_calls() {
    let topic = Cluster::shared().create_topic("counted", 2, &[("max.message.bytes", "2000")]);
    let sidecar = ready(over_tls());
    run(async {
        let client = connect(&sidecar.grpc_address());
        for number in 0..7 {
            send(&client, text(&topic, &number.to_string())).await.unwrap();
        }
        for _ in 0..3 {
            send(&client, text(&topic, &"x".repeat(5000))).await.unwrap_err();
        }
    });
    assert_eq!(metric(&sidecar, "kafka_producer_connected"), Some(1));
    assert_eq!(metric(&sidecar, &sent(&topic, "success")), Some(7));
    assert_eq!(metric(&sidecar, &sent(&topic, "error")), Some(3));
    assert_eq!(metric(&sidecar, &count(&topic)), Some(10));
    assert_eq!(metric(&sidecar, &failures("RECORD_TOO_LARGE")), Some(3));
    let bucket = format!(r#"kafka_send_duration_ms_bucket{{le="+Inf",topic="{topic}"}}"#);
    assert_eq!(metric(&sidecar, &bucket), Some(10));
    run(async { send(&connect(&sidecar.grpc_address()), text(&topic, "more")).await }).unwrap();
    assert_eq!(metric(&sidecar, &sent(&topic, "success")), Some(8));
    assert_eq!(metric(&sidecar, &count(&topic)), Some(11));
    assert_eq!(metric(&sidecar, "producer_outstanding_records"), Some(0));
    assert_eq!(metric(&sidecar, "producer_outstanding_bytes"), Some(0));
}

fn failures_are_counted_by_reason() {
    let sidecar = ready(over_tls());
    assert_eq!(metric(&sidecar, &failures("INVALID_RECORD")), None);
    run(async {
        let client = connect(&sidecar.grpc_address());
        for _ in 0..4 {
            send(&client, text("a b", "v")).await.unwrap_err();
        }
        for _ in 0..2 {
            send(&client, text("no-such-topic-for-metrics", "v")).await.unwrap_err();
        }
    });
    assert_eq!(metric(&sidecar, &failures("INVALID_RECORD")), Some(4));
    assert_eq!(metric(&sidecar, &failures("TOPIC_NOT_FOUND")), Some(2));
    let away = listening(without_brokers(&["serve"]));
    assert_eq!(metric(&away, "kafka_producer_connected"), Some(0));
}

fn topics_beyond_the_cap_share_a_label() {
    let topics: Vec<_> = (0..3).map(|_| Cluster::shared().create_topic("capped", 1, &[])).collect();
    let sidecar = ready(over_tls().env("SIDECAR_METRICS_TOPICS_MAX", "1"));
    run(async {
        let client = connect(&sidecar.grpc_address());
        for topic in &topics {
            send(&client, text(topic, "v")).await.unwrap();
        }
    });
    assert_eq!(metric(&sidecar, &sent(&topics[0], "success")), Some(1));
    assert_eq!(metric(&sidecar, &sent("_other", "success")), Some(2));
    assert_eq!(metric(&sidecar, &count("_other")), Some(2));
    assert_eq!(metric(&sidecar, &sent(&topics[2], "success")), None);
}

fn unknown_topics_make_no_labels() {
    let sidecar = ready(over_tls());
    run(async {
        let client = connect(&sidecar.grpc_address());
        for number in 0..20 {
            send(&client, text(&format!("made-up-{number}"), "v")).await.unwrap_err();
        }
    });
    assert_eq!(metric(&sidecar, &sent("_other", "error")), Some(20));
    assert!(!sidecar.http_get("/metrics").1.contains("made-up"), "callers choose no labels");
}

/// What Prometheus 3 sends.
const PROMETHEUS_ACCEPTS: &str = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
    application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
    text/plain;version=0.0.4;q=0.3,*/*;q=0.2";

fn content_type(head: &str) -> String {
    let header = head
        .lines()
        .find_map(|line| line.split_once(": ").filter(|(name, _)| name.eq_ignore_ascii_case("content-type")));
    header.unwrap_or_else(|| panic!("{head}")).1.to_owned()
}

fn the_text_is_open_metrics_for_whoever_asks_for_it() {
    // A family appears with its first sample.
    run(async { send(&connect(&shared_address()), text("a b", "v")).await }).unwrap_err();
    let (head, text) = with_shared(|sidecar| sidecar.http_get_accepting("/metrics", PROMETHEUS_ACCEPTS));
    assert_eq!(content_type(&head), "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(text.ends_with("\n# EOF\n"), "{text}");
    assert_eq!(text.matches("# EOF").count(), 1);
    for line in [
        "# TYPE kafka_producer_connected gauge",
        "# TYPE kafka_messages_sent counter",
        "# TYPE kafka_send_duration_ms histogram",
        "# TYPE producer_failures counter",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in {text}");
    }
    // Each sample follows the TYPE line of its family, as scrapers demand.
    let mut family = "";
    for line in text.lines().filter(|line| *line != "# EOF") {
        if let Some(named) = line.strip_prefix("# HELP ").or_else(|| line.strip_prefix("# TYPE ")) {
            family = named.split_whitespace().next().unwrap();
        } else if !line.starts_with('#') {
            assert!(line.starts_with(family), "{line} under {family}");
        }
    }
}

fn the_text_is_prometheus_older_format_for_all_others() {
    let topic = Cluster::shared().create_topic("exposed", 1, &[]);
    let sidecar = ready(over_tls());
    run(async {
        let mut client = connect(&sidecar.grpc_address());
        let mut request =
            Request::new(SendRequest { record: Some(text(&topic, "v")), ..SendRequest::default() });
        let sampled = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        request.metadata_mut().insert("traceparent", sampled.parse().unwrap());
        client.send(request).await.unwrap();
        send(&client, text("a b", "v")).await.unwrap_err();
    });
    for accept in
        ["", "*/*", "text/plain;version=0.0.4", "text/html", "application/openmetrics-text;q=0.1,*/*"]
    {
        let (head, text) = sidecar.http_get_accepting("/metrics", accept);
        assert_eq!(content_type(&head), "text/plain; version=0.0.4; charset=utf-8", "{accept}");
        assert!(!text.contains("# EOF") && !text.contains("# UNIT") && !text.contains("trace_id"), "{text}");
        for line in [
            "# TYPE kafka_messages_sent_total counter",
            "# TYPE kafka_send_duration_ms histogram",
            "# TYPE producer_build_info gauge",
            "# TYPE process_cpu_seconds_total counter",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
        let checked =
            run_tool(&find_tool("promtool", "PROMTOOL"), &["check", "metrics"], sidecar.folder(), &text);
        // It exits with 3 for advice about names, some of which others prescribe; what it cannot read is 1.
        assert!(matches!(checked.exit, Some(0 | 3)), "{checked:?}");
    }
    let samples = |text: &str| {
        let names = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split(' ').next().unwrap().to_owned());
        names.collect::<Vec<_>>()
    };
    let (_, open_metrics) = sidecar.http_get_accepting("/metrics", PROMETHEUS_ACCEPTS);
    assert!(open_metrics.contains("trace_id"));
    assert_eq!(samples(&open_metrics), samples(&sidecar.http_get("/metrics").1));
}

/// How many calls of a method ended with a code.
fn calls(sidecar: &Sidecar, method: &str, code: &str) -> Option<u64> {
    metric(sidecar, &calls_line(method, code))
}

fn calls_line(method: &str, code: &str) -> String {
    format!(
        r#"rpc_server_call_duration_seconds_count{{rpc_method="{method}",rpc_response_status_code="{code}"}}"#
    )
}

/// Calls a method that the service may not have.
async fn call(address: &str, path: &'static str) -> Code {
    let mut client = Grpc::new(channel(address));
    client.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<GetInfoRequest, GetInfoResponse>::default();
    let path = http::uri::PathAndQuery::from_static(path);
    let answer = client.unary(Request::new(GetInfoRequest {}), path, codec).await;
    answer.map_or_else(|status| status.code(), |_| Code::Ok)
}

fn calls_are_counted_by_method_and_code() {
    let topic = Cluster::shared().create_topic("called", 1, &[]);
    let sidecar = ready(over_tls());
    let [send_method, batch_method] = ["Send", "SendBatch"].map(|name| format!("{SERVICE}/{name}"));
    run(async {
        let address = sidecar.grpc_address();
        let client = connect(&address);
        for _ in 0..3 {
            send(&client, text(&topic, "v")).await.unwrap();
        }
        for _ in 0..2 {
            send(&client, text("a b", "v")).await.unwrap_err();
        }
        check(&channel(&address), "liveness").await.unwrap();
        for path in ["/caas.producer.v1.ProducerService/Sent", "/made.up.Service/Call"] {
            assert_eq!(call(&address, path).await, Code::Unimplemented, "{path}");
        }
        // A stream counts once it has ended, however many frames it had.
        let (frames, mut answers) = open(&address).await;
        for sequence in 1..=3 {
            frames.send(frame(sequence, vec![text(&topic, "v")])).await.unwrap();
            answers.message().await.unwrap().unwrap();
        }
        assert_eq!(calls(&sidecar, &batch_method, "OK"), None);
        drop(frames);
        assert_eq!(answers.message().await.unwrap(), None);
    });
    assert_eq!(calls(&sidecar, &send_method, "OK"), Some(3));
    assert_eq!(calls(&sidecar, &send_method, "INVALID_ARGUMENT"), Some(2));
    assert_eq!(calls(&sidecar, &batch_method, "OK"), Some(1));
    assert_eq!(calls(&sidecar, "_OTHER", "UNIMPLEMENTED"), Some(2));
    assert_eq!(calls(&sidecar, "grpc.health.v1.Health/Check", "OK"), Some(1));
    let metrics = sidecar.http_get("/metrics").1;
    assert!(!metrics.contains("made.up"), "callers choose no labels");
    assert!(!metrics.contains("CANCELLED"), "no call was left");
}

fn a_call_that_its_caller_leaves_is_counted_as_cancelled() {
    let sidecar = listening(without_brokers(&["serve"]));
    let stream = run(async {
        let client = connect(&sidecar.grpc_address());
        // The caller's own clock ends the call, which without brokers would wait.
        let sending = send(&client, text("any", "v"));
        assert!(tokio::time::timeout(Duration::from_millis(300), sending).await.is_err());
        open(&sidecar.grpc_address()).await
    });
    // The stream was not ended: its connection went away with the runtime.
    for method in ["Send", "SendBatch"] {
        wait_metric(&sidecar, &calls_line(&format!("{SERVICE}/{method}"), "CANCELLED"), 1, READY);
    }
    drop(stream);
}

/// The exemplars of a topic's buckets: what stands behind the count.
fn exemplars(sidecar: &Sidecar, topic: &str) -> Vec<String> {
    let metrics = sidecar.http_get_accepting("/metrics", PROMETHEUS_ACCEPTS).1;
    let of_topic = format!(r#",topic="{topic}"}} "#);
    let buckets = metrics.lines().filter_map(|line| {
        line.strip_prefix("kafka_send_duration_ms_bucket{le=")?.split_once(&of_topic).map(|(_, rest)| rest)
    });
    buckets.filter_map(|bucket| bucket.split_once(" # ")).map(|(_, exemplar)| exemplar.to_owned()).collect()
}

fn buckets_show_sampled_traces() {
    let topics = ["unsampled", "sampled", "framed"].map(|name| Cluster::shared().create_topic(name, 1, &[]));
    let sidecar = ready(over_tls());
    let traceparent = |id: &str, flags: &str| format!("00-{id}-b7ad6b7169203331-{flags}");
    let ids = ["0af7651916cd43dd8448eb211c80319c", "1bf7651916cd43dd8448eb211c80319d"];
    run(async {
        let mut client = connect(&sidecar.grpc_address());
        for (topic, flags) in topics.iter().zip(["00", "01"]) {
            let record = Some(text(topic, "v"));
            let mut request = Request::new(SendRequest { record, ..SendRequest::default() });
            request.metadata_mut().insert("traceparent", traceparent(ids[0], flags).parse().unwrap());
            client.send(request).await.unwrap();
        }
        let own = with_header(text(&topics[2], "v"), "traceparent", &traceparent(ids[1], "01"));
        let frames = vec![frame(1, vec![text(&topics[2], "v"), own])];
        exchange(&sidecar.grpc_address(), frames).await.1.unwrap();
    });
    assert_eq!(exemplars(&sidecar, &topics[0]), Vec::<String>::new());
    for (topic, id) in topics[1..].iter().zip(ids) {
        let found = exemplars(&sidecar, topic);
        let [exemplar] = &found[..] else { panic!("one call makes one exemplar: {found:?}") };
        let (labels, numbers) = exemplar.split_once("} ").unwrap();
        assert_eq!(labels, format!(r#"{{trace_id="{id}""#));
        let numbers: Vec<f64> = numbers.split(' ').map(|number| number.parse().unwrap()).collect();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        assert!(numbers.len() == 2 && numbers[0] > 0.0 && (now - numbers[1]).abs() < 60.0, "{exemplar}");
    }
}

fn records_that_go_again_for_anothers_sake_are_counted() {
    let topic = Cluster::shared().create_topic("limited-again", 1, &[("cleanup.policy", "compact")]);
    let sidecar = ready(over_tls_limited());
    assert_eq!(metric(&sidecar, "producer_retries_total"), Some(0));
    // A compacted topic refuses what has no key, and with it the whole request.
    let records = ["a", "b", "c"].map(|key| keyed(text(&topic, "v"), key)).into_iter();
    let frames = vec![frame(1, records.chain([text(&topic, "no key")]).collect())];
    let (answers, end) = run(exchange(&sidecar.grpc_address(), frames));
    end.unwrap();
    let refused: Vec<_> = answers[0].results.iter().map(|result| error(result).is_some()).collect();
    assert_eq!(refused, [false, false, false, true], "{answers:?}");
    assert!(metric(&sidecar, "producer_retries_total") >= Some(3));
    assert_eq!(metric(&sidecar, "producer_waiting_records"), Some(0));
}

/// The value of a metric without labels, such as `1.5e9`.
fn number(sidecar: &Sidecar, name: &str) -> f64 {
    let metrics = sidecar.http_get("/metrics").1;
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("{name} in {metrics}")).parse().unwrap()
}

fn the_process_tells_of_itself() {
    let sidecar = ready(over_tls());
    const MIB: f64 = 1_048_576.0;
    let resident = number(&sidecar, "process_resident_memory_bytes");
    assert!((MIB..4_096.0 * MIB).contains(&resident), "{resident}");
    assert!(number(&sidecar, "process_virtual_memory_bytes") > resident);
    let open = number(&sidecar, "process_open_fds");
    assert!(open > 10.0 && open < number(&sidecar, "process_max_fds"), "{open}");
    assert!(number(&sidecar, "process_threads") > 2.0);
    let spent = number(&sidecar, "process_cpu_seconds_total");
    assert!(spent > 0.0 && spent < 600.0, "{spent}");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    let age = now - number(&sidecar, "process_start_time_seconds");
    assert!((-2.0..600.0).contains(&age), "{age}");
    let build = sidecar.http_get("/metrics").1;
    let build = build.lines().find(|line| line.starts_with("producer_build_info{version=\"")).unwrap();
    let librdkafka = build.split_once(r#",librdkafka_version=""#).unwrap().1;
    assert!(librdkafka.starts_with(|first: char| first.is_ascii_digit()), "{build}");
}
