//! A log that is not read, and one that repeats itself: neither stops the work, and both say what was lost.

use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::{Sidecar, SidecarBuilder, Signal, eventually};
use tokio::time::timeout;

use crate::{
    around::{metric, wait_metric},
    client::{Client, READY, connect, over_tls, run, send, text},
    commands::{command, without_brokers},
};

crate::tests!(
    a_log_that_is_not_read_stops_nothing_and_then_says_what_it_lost,
    a_stop_does_not_wait_for_a_log_that_is_not_read,
    dev_goes_on_while_its_lines_are_not_read,
    one_place_of_the_program_does_not_flood_the_log,
    what_a_pod_sets_for_its_application_does_not_end_the_start,
);

/// How long anything may take that must not wait for the log.
const AT_ONCE: Duration = Duration::from_secs(5);
/// More failures than a pipe has room for their lines: 64 KiB.
const FAILURES: usize = 1_500;
const CALLERS: usize = 16;
const NOT_READ: &str = r#"producer_log_lines_lost_total{cause="not_read"}"#;
const RATE_LIMITED: &str = r#"producer_log_lines_lost_total{cause="rate_limited"}"#;

/// A sidecar that logs each failure; what it prints is not read.
fn unread(builder: SidecarBuilder) -> Sidecar {
    let sidecar = builder
        .env("LOG_FORMAT", "json")
        .env("SIDECAR_LOG_REPEAT_MS", "0")
        .env("SIDECAR_LOG_QUEUE_LINES_MAX", "64")
        .without_reader()
        .start();
    eventually(READY, "the sidecar listens", || {
        sidecar.try_http_get("/startupz").ok().filter(|(status, _)| *status == 200)
    });
    sidecar
}

async fn at_once<T>(what: &str, doing: impl Future<Output = T>) -> T {
    timeout(AT_ONCE, doing).await.unwrap_or_else(|_| panic!("{what} takes longer than {AT_ONCE:?}"))
}

/// Runs so many calls from several callers; each has to be answered at once.
fn flood<F>(sidecar: &Sidecar, calls: usize, call: fn(Client, usize) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    run(async {
        let client = connect(&sidecar.grpc_address());
        let callers = (0..CALLERS).map(|caller| {
            let client = client.clone();
            async move {
                for number in (caller..calls).step_by(CALLERS) {
                    at_once("a call", call(client.clone(), number)).await;
                }
            }
        });
        callers.collect::<tokio::task::JoinSet<()>>().join_all().await;
    });
}

async fn invalid(client: Client, _: usize) {
    send(&client, text("no topic has blanks", "v")).await.unwrap_err();
}

fn lines(sidecar: &Sidecar) -> Vec<Value> {
    let parsed = |line: String| serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
    sidecar.stderr().into_iter().map(parsed).collect()
}

fn a_log_that_is_not_read_stops_nothing_and_then_says_what_it_lost() {
    let sidecar = unread(without_brokers(&["serve"]));
    flood(&sidecar, FAILURES, invalid);
    assert_eq!(sidecar.http_get("/livez").0, 200);
    let lost = metric(&sidecar, NOT_READ).unwrap();
    assert!(lost > 0, "a pipe that is full loses lines");
    sidecar.read_output();
    let told = eventually(READY, "the log says what it lost", || {
        lines(&sidecar)
            .into_iter()
            .find(|line| line["message"].as_str().unwrap().starts_with("log lines were dropped"))
    });
    assert_eq!((&told["level"], told["lines"].as_u64()), (&"WARN".into(), Some(lost)), "{told}");
    let written = lines(&sidecar).iter().filter(|line| line["reason"] == "INVALID_RECORD").count();
    assert_eq!(written as u64 + lost, FAILURES as u64, "each line is written or counted");
    // And goes on.
    flood(&sidecar, 1, invalid);
    eventually(READY, "lines are written again", || {
        let after = lines(&sidecar).iter().filter(|line| line["reason"] == "INVALID_RECORD").count();
        (after == written + 1).then_some(())
    });
    sidecar.signal(Signal::TERM);
    assert_eq!(sidecar.wait_exit(READY).code(), Some(0));
    assert!(sidecar.stderr().pop().unwrap().contains("stopped: delivered"), "the last line is the last");
}

fn a_stop_does_not_wait_for_a_log_that_is_not_read() {
    let sidecar = unread(without_brokers(&["serve"]));
    flood(&sidecar, FAILURES, invalid);
    let began = Instant::now();
    sidecar.signal(Signal::TERM);
    assert_eq!(sidecar.wait_exit(READY).code(), Some(0));
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
}

fn dev_goes_on_while_its_lines_are_not_read() {
    async fn sent(client: Client, number: usize) {
        send(&client, text("orders", &format!("{number} {}", "x".repeat(150)))).await.unwrap();
    }
    let dev = unread(command(&["dev"]));
    dev.wait_ready(READY);
    flood(&dev, FAILURES, sent);
    assert_eq!(dev.http_get("/livez").0, 200);
    let began = Instant::now();
    dev.signal(Signal::TERM);
    assert_eq!(dev.wait_exit(READY).code(), Some(0));
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
}

fn one_place_of_the_program_does_not_flood_the_log() {
    const LINES_MAX: usize = 20;
    const PERIOD_MS: u64 = 3_000;
    const LETTERS: usize = 200;
    async fn lost(client: Client, _: usize) {
        send(&client, text("nowhere-at-all", "v")).await.unwrap_err();
    }
    // A dead letter that cannot be written either: a line for each.
    let sidecar = over_tls()
        .config("dead_letters:\n  topic: \"{topic}.neither\"\n")
        .env("SIDECAR_LOG_REPEAT_MS", PERIOD_MS.to_string())
        .env("SIDECAR_LOG_PLACE_LINES_MAX", LINES_MAX.to_string())
        .start();
    sidecar.wait_ready(READY);
    flood(&sidecar, LETTERS, lost);
    wait_metric(&sidecar, r#"producer_dead_letters_total{outcome="failed"}"#, LETTERS as u64, READY);
    let is_letter = |line: &&Value| line["message"].as_str().unwrap().starts_with("no dead letter");
    let suppressed = eventually(READY, "what was left out is said", || {
        let all = lines(&sidecar);
        let told = all
            .iter()
            .filter(|line| line["place"].as_str().is_some_and(|place| place.contains("dead_letters.rs")));
        let left_out: u64 = told.map(|line| line["lines"].as_u64().unwrap()).sum();
        let written = all.iter().filter(is_letter).count();
        (written as u64 + left_out == LETTERS as u64).then_some(left_out)
    });
    assert!(suppressed >= (LETTERS - 3 * LINES_MAX) as u64, "{suppressed}");
    assert!(metric(&sidecar, RATE_LIMITED) >= Some(suppressed));
}

fn what_a_pod_sets_for_its_application_does_not_end_the_start() {
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"),
        ("OTEL_TRACES_EXPORTER", "console"),
        ("OTEL_SDK_DISABLED", "1"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "no=good,,=,x"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
        ("OTEL_TRACES_SAMPLER", "xray"),
        ("OTEL_TRACES_SAMPLER_ARG", "half"),
        ("OTEL_PROPAGATORS", "jaeger"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "-1"),
        ("OTEL_BSP_SCHEDULE_DELAY", "0"),
        ("OTEL_METRICS_EXPORTER", "console"),
        ("OTEL_RESOURCE_ATTRIBUTES", "nonsense"),
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "none"),
    ];
    // All at once, and each by itself beside an endpoint.
    let alone = variables.iter().map(|variable| vec![variables[0], *variable]);
    for set in std::iter::once(variables.to_vec()).chain(alone) {
        let builder = without_brokers(&["serve"]).env("LOG_FORMAT", "json");
        let sidecar = set.iter().fold(builder, |builder, (name, value)| builder.env(name, *value)).start();
        sidecar.wait_for_line(|line| line.contains("\"serving\""), READY);
        let log = sidecar.stderr().join("\n");
        for name in [
            "OTEL_TRACES_EXPORTER",
            "OTEL_SDK_DISABLED",
            "OTEL_TRACES_SAMPLER_ARG",
            "OTEL_BSP_MAX_QUEUE_SIZE",
        ] {
            let is_set = set.iter().any(|(set, _)| *set == name);
            assert_eq!(log.contains(&format!("(environment {name})")), is_set, "{name}: {log}");
        }
        sidecar.kill();
    }
}
