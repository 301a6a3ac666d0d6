//! Tests of the sources: what wins, what is told of the environment, and that everything is told at once.

mod file;
mod secrets;

use std::{
    fs,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use secrecy::ExposeSecret as _;

use super::*;
use crate::config::{Listen, LogFormat, SaslMechanism, Security};

/// Enough for `serve` without a file.
const PLAIN: [(&str, &str); 3] = [
    ("KAFKA_BROKERS", "kafka-1:9092"),
    ("KAFKA_SECURITY_PROTOCOL", "PLAINTEXT"),
    ("SIDECAR_INSTANCE_ID", "one"),
];

/// A folder that goes away with its test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("sidecar-settings-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// Returns the problems with this folder's path taken out.
    fn told(&self, result: Result<Loaded, Problems>) -> String {
        let problems = result.map(|loaded| loaded.shown).unwrap_err().to_string();
        problems.replace(&format!("{}/", self.0.display()), "")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _left_behind = fs::remove_dir_all(&self.0);
    }
}

fn load_with(
    config: Option<&Path>,
    variables: &[(&str, &str)],
    flags: &[(&'static str, &str)],
) -> Result<Loaded, Problems> {
    let environment = Environment::of(variables.iter().copied());
    let flags: Vec<_> = flags.iter().map(|(key, text)| (*key, (*text).to_owned())).collect();
    load(Inputs { config, flags: &flags, environment: &environment }, Purpose::Serve)
}

fn with_plain<'a>(variables: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    PLAIN.into_iter().chain(variables.iter().copied()).collect()
}

fn problems_of_file(content: impl AsRef<[u8]>) -> String {
    let folder = Folder::new();
    let path = folder.write("config.yaml", content);
    folder.told(load_with(Some(&path), &PLAIN, &[]))
}

fn problems_of_environment(variables: &[(&str, &str)]) -> String {
    load_with(None, &with_plain(variables), &[]).map(|loaded| loaded.shown).unwrap_err().to_string()
}

#[test]
fn flags_win_over_the_environment_over_the_file_over_the_default() {
    let folder = Folder::new();
    let path = folder.write("config.yaml", "drain_ms: 1\ntopics_max: 1\nconnections_max: 1\n");
    let variables = with_plain(&[
        ("SIDECAR_DRAIN_MS", "2"),
        ("SIDECAR_TOPICS_MAX", "2"),
        ("SIDECAR_CONNECTIONS_MAX", ""),
    ]);
    let loaded = load_with(Some(&path), &variables, &[("drain_ms", "3")]).unwrap();
    assert_eq!(loaded.config.drain, Duration::from_millis(3));
    assert_eq!(loaded.config.topics.max, 2);
    assert_eq!(loaded.config.limits.connections_max, 1);
    assert_eq!(loaded.config.send.timeout, Duration::from_secs(30));
    let origin = |key| {
        let found = loaded.origins.iter().find(|(known, _)| *known == key);
        found.map(|(_, origin)| origin.to_string().replace(&format!("{}/", folder.0.display()), "")).unwrap()
    };
    assert_eq!(origin("drain_ms"), "--drain-ms");
    assert_eq!(origin("topics_max"), "environment SIDECAR_TOPICS_MAX");
    assert_eq!(origin("connections_max"), "config.yaml:3:18");
    assert_eq!(origin("send_timeout_ms"), "default");
}

#[test]
fn what_is_overridden_is_checked_all_the_same() {
    let folder = Folder::new();
    let path = folder.write("config.yaml", "drain_ms: never\n");
    let variables = with_plain(&[("SIDECAR_DRAIN_MS", "soon")]);
    let told = folder.told(load_with(Some(&path), &variables, &[("drain_ms", "3")]));
    assert_eq!(told.lines().count(), 2, "{told}");
}

#[test]
fn the_variable_names_the_file_and_the_flag_wins() {
    let folder = Folder::new();
    let one = folder.write("one.yaml", "drain_ms: 1\n");
    let two = folder.write("two.yaml", "drain_ms: 2\n");
    let variables = with_plain(&[("SIDECAR_CONFIG", one.to_str().unwrap())]);
    assert_eq!(load_with(None, &variables, &[]).unwrap().config.drain, Duration::from_millis(1));
    assert_eq!(load_with(Some(&two), &variables, &[]).unwrap().config.drain, Duration::from_millis(2));
}

#[test]
fn problems_of_the_environment_name_the_variable() {
    let cases: [(&[(&str, &str)], &str); 8] = [
        (
            &[("SIDECAR_DRAIN", "1")],
            "SIDECAR_DRAIN (environment SIDECAR_DRAIN): is not a setting; did you mean SIDECAR_DRAIN_MS?",
        ),
        (
            &[("SIDECAR_COLOUR_OF_THE_LOGO", "1")],
            "SIDECAR_COLOUR_OF_THE_LOGO (environment SIDECAR_COLOUR_OF_THE_LOGO): is not a setting; remove it; docs/configuration.md lists the variables",
        ),
        (
            &[("KAFKA_BROKERS", "a:1,,b:70000,[::1:5")],
            "kafka.brokers (environment KAFKA_BROKERS): \"\" is no host and port; write host:port, such as kafka-1:9092 or [::1]:9092\n\
             kafka.brokers (environment KAFKA_BROKERS): \"b:70000\" is no host and port; write host:port, such as kafka-1:9092 or [::1]:9092\n\
             kafka.brokers (environment KAFKA_BROKERS): \"[::1:5\" is no host and port; write host:port, such as kafka-1:9092 or [::1]:9092",
        ),
        (
            &[("LOG_FORMAT", "xml")],
            "log.format (environment LOG_FORMAT): \"xml\" is not known; write one of json, text",
        ),
        (
            &[("SIDECAR_PARTITIONER_TOPICS", "a=java-murmur2,b,a=tenant-md5")],
            "partitioner.topics (environment SIDECAR_PARTITIONER_TOPICS): \"b\" has no '='; write topic=partitioner, comma separated\n\
             partitioner.topics (environment SIDECAR_PARTITIONER_TOPICS): \"a\" is said twice; say it once",
        ),
        (
            &[("SIDECAR_LISTEN", "unix:relative")],
            "listen (environment SIDECAR_LISTEN): \"unix:relative\" is no socket file's path; write unix:/ and an absolute path of at most 107 bytes",
        ),
        (
            &[("SIDECAR_LISTEN", "0.0.0.0:50051")],
            "listen (environment SIDECAR_LISTEN): 0.0.0.0:50051 can be reached from other machines, and allow_remote is false; listen on 127.0.0.1, [::1] or unix:/path, or set allow_remote to true",
        ),
        (
            &[("SIDECAR_ADMIN_LISTEN", "kafka:1")],
            "admin_listen (environment SIDECAR_ADMIN_LISTEN): \"kafka:1\" is no address and port; write an IP address and a port, such as 127.0.0.1:50051 or [::1]:50051",
        ),
    ];
    for (variables, expected) in cases {
        let variables: Vec<_> = PLAIN
            .into_iter()
            .filter(|(name, _)| !variables.iter().any(|(known, _)| known == name))
            .chain(variables.iter().copied())
            .collect();
        let told = load_with(None, &variables, &[]).map(|loaded| loaded.shown).unwrap_err();
        assert_eq!(told.to_string(), expected);
    }
}

#[test]
fn variables_of_others_are_left_alone() {
    let variables = with_plain(&[
        ("SIDECAR_SERVICE_HOST", "10.0.0.1"),
        ("SIDECAR_SERVICE_PORT", "50051"),
        ("SIDECAR_SERVICE_PORT_GRPC", "50051"),
        ("SIDECAR_PORT", "tcp://10.0.0.1:50051"),
        ("SIDECAR_PORT_50051_TCP_ADDR", "10.0.0.1"),
        ("SIDECAR_UNKNOWN_BUT_EMPTY", ""),
        ("KAFKA_PORT", "tcp://10.0.0.2:9092"),
        ("KAFKA_LINGER", "1"),
    ]);
    assert!(load_with(None, &variables, &[]).is_ok());
}

#[cfg(unix)]
#[test]
fn variables_that_are_no_text_are_problems() {
    use std::os::unix::ffi::OsStringExt as _;

    let mut variables: Vec<(std::ffi::OsString, std::ffi::OsString)> =
        PLAIN.iter().map(|(name, value)| (name.into(), value.into())).collect();
    variables.push(("SIDECAR_DRAIN_MS".into(), std::ffi::OsString::from_vec(vec![0xff])));
    let environment = Environment::of(variables);
    let inputs = Inputs { config: None, flags: &[], environment: &environment };
    let problems = load(inputs, Purpose::Serve).map(|loaded| loaded.shown).unwrap_err();
    assert_eq!(
        problems.to_string(),
        "drain_ms (environment SIDECAR_DRAIN_MS): is not UTF-8; write 0 to 3600000 ms"
    );
}

#[test]
fn values_are_parsed_into_their_types() {
    let variables = [
        ("KAFKA_BROKERS", "kafka-1:9092, [::1]:9093,10.0.0.1:9094"),
        ("KAFKA_SECURITY_PROTOCOL", "sasl_plaintext"),
        ("KAFKA_SASL_MECHANISM", "PLAIN"),
        ("KAFKA_USER", "writer"),
        ("KAFKA_PASSWORD", "pencil"),
        ("SIDECAR_LISTEN", "localhost:0"),
        ("SIDECAR_ADMIN_LISTEN", "0.0.0.0:9464"),
        ("SIDECAR_PARTITIONER_TOPICS", "orders=java-murmur2, clicks=librdkafka-crc32"),
        ("LOG_FORMAT", "json"),
        ("HOSTNAME", "pod-7"),
    ];
    let loaded = load_with(None, &variables, &[("allow_remote", "true")]).unwrap();
    let config = &loaded.config;
    let brokers: Vec<_> = config.kafka.brokers.iter().map(ToString::to_string).collect();
    assert_eq!(brokers, ["kafka-1:9092", "[::1]:9093", "10.0.0.1:9094"]);
    let Security::SaslPlaintext(credentials) = &config.kafka.security else {
        panic!("{:?}", config.kafka.security);
    };
    assert_eq!(credentials.mechanism, SaslMechanism::Plain);
    assert_eq!((credentials.user.as_str(), credentials.password.expose_secret()), ("writer", "pencil"));
    assert_eq!(config.listen, Listen::Tcp("127.0.0.1:0".parse().unwrap()));
    assert_eq!(config.partitioners.topics.len(), 2);
    assert_eq!(config.log.format, Some(LogFormat::Json));
    assert_eq!(config.instance_id, "pod-7");
    assert!(config.allow_remote);
}

#[test]
fn without_a_host_name_the_instance_must_be_named() {
    let told = load_with(None, &PLAIN[..2], &[]).map(|loaded| loaded.shown).unwrap_err().to_string();
    assert_eq!(
        told,
        "instance_id (nowhere): is not set, and the host has no name; set SIDECAR_INSTANCE_ID or --instance-id"
    );
}

#[test]
fn dev_needs_no_cluster_and_ignores_security() {
    let environment = Environment::of([("SIDECAR_INSTANCE_ID", "one"), ("KAFKA_PASSWORD_FILE", "/absent")]);
    let loaded = load(Inputs { config: None, flags: &[], environment: &environment }, Purpose::Dev).unwrap();
    assert!(matches!(loaded.config.kafka.security, Security::Plaintext));
    assert!(loaded.config.kafka.brokers.is_empty());
}

#[test]
fn every_problem_of_all_sources_is_told_in_one_run() {
    let folder = Folder::new();
    let path = folder.write("config.yaml", "drain_ms: a\nkafka:\n  linger_ms: b\n  nothing: 1\n");
    let variables = [("SIDECAR_TOPICS_MAX", "c"), ("SIDECAR_NOTHING", "1"), ("SIDECAR_INSTANCE_ID", "one")];
    let problems = load_with(Some(&path), &variables, &[("send_timeout_ms", "300001")]).unwrap_err();
    let keys: Vec<_> = problems.0.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "kafka.nothing",
            "SIDECAR_NOTHING",
            "drain_ms",
            "kafka.linger_ms",
            "topics_max",
            "send_timeout_ms",
            "send_timeout_ms",
            "kafka.brokers",
            "kafka.user",
            "kafka.password"
        ]
    );
}

#[test]
fn what_a_pod_sets_for_its_application_is_no_problem_while_no_spans_are_asked_for() {
    let application = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector:4318"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
    ];
    for off in [("OTEL_SDK_DISABLED", "True"), ("OTEL_TRACES_EXPORTER", "none")] {
        let variables = [&PLAIN[..], &application[..], &[off]].concat();
        let loaded = load_with(None, &variables, &[]).unwrap();
        assert_eq!(loaded.config.traces.endpoint, None);
    }
    let protocol_alone = [&PLAIN[..], &application[1..]].concat();
    assert_eq!(load_with(None, &protocol_alone, &[]).unwrap().config.traces.endpoint, None);
    // The endpoint of traces alone wins over the other, and the other is none of ours then.
    let own = [("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://localhost:4317")];
    let variables = [&PLAIN[..], &application[..1], &own[..]].concat();
    let endpoint = load_with(None, &variables, &[]).unwrap().config.traces.endpoint;
    assert_eq!(endpoint.as_deref(), Some("http://localhost:4317"));
}

#[test]
fn what_a_pod_sets_for_its_application_never_ends_the_start() {
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4317");
    // Each with what is said of it, and whether spans are exported all the same.
    for (name, value, said, has_spans) in [
        ("OTEL_TRACES_EXPORTER", "console", "traces.exporter is otlp", true),
        ("OTEL_SDK_DISABLED", "1", "traces.disabled is false", true),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "no spans are exported", false),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf", "no spans are exported", false),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", &"x".repeat(5000), "traces.protocol is grpc", true),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://collector:4318", "no spans are exported", false),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "nonsense\n", "traces.own_endpoint is (unset)", true),
        ("OTEL_TRACES_SAMPLER", "jaeger_remote", "traces.sampler is parentbased_always_on", true),
        (
            "OTEL_TRACES_SAMPLER_ARG",
            "endpoint=http://localhost:14250,initialSamplingRate=0.25",
            "the share is 1.0",
            true,
        ),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "many", "traces.queue_spans_max is 2048", true),
        ("OTEL_BSP_SCHEDULE_DELAY", "0", "traces.schedule_ms is 5000", true),
    ] {
        let loaded = load_with(None, &[&PLAIN[..], &[endpoint, (name, value)]].concat(), &[]).unwrap();
        let [told] = &loaded.ignored[..] else { panic!("{name}: {:?}", loaded.ignored) };
        let told = told.to_string();
        assert!(told.contains(name) && told.contains(said), "{told}");
        assert_eq!(loaded.config.traces.endpoint.is_some(), has_spans, "{name}");
    }
    for (name, value) in [
        ("OTEL_PROPAGATORS", "jaeger,b3multi"),
        ("OTEL_METRICS_EXPORTER", "console"),
        ("OTEL_LOGS_EXPORTER", "console"),
        ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "http/json"),
        ("OTEL_RESOURCE_ATTRIBUTES", "=,,x"),
    ] {
        let loaded = load_with(None, &[&PLAIN[..], &[endpoint, (name, value)]].concat(), &[]).unwrap();
        assert_eq!((loaded.ignored.len(), loaded.config.traces.endpoint.is_some()), (0, true), "{name}");
    }
    let folder = Folder::new();
    // What is said for the sidecar alone stays an error, and the application's variables say nothing of its endpoint.
    for (file, variables) in [
        ("traces:\n  exporter: console\n", vec![]),
        ("traces:\n  endpoint: https://collector:4318\n", vec![("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")]),
        ("traces:\n  protocol: http/json\n", vec![endpoint]),
    ] {
        let file = folder.write("sidecar.yaml", file);
        let told = load_with(Some(&file), &[&PLAIN[..], &variables[..]].concat(), &[]).unwrap_err();
        assert_eq!(told.0.len(), 1, "{told}");
    }
    let file = folder.write("sidecar.yaml", "traces:\n  endpoint: http://localhost:4317\n");
    let variables = [&PLAIN[..], &[("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")]].concat();
    let loaded = load_with(Some(&file), &variables, &[]).unwrap();
    assert!(loaded.config.traces.endpoint.is_some() && loaded.config.traces.is_endpoint_ours);
    assert!(loaded.ignored[0].to_string().contains("spans are exported over grpc"), "{:?}", loaded.ignored);
}

#[test]
fn propagators_that_are_not_built_in_are_named_and_left_out() {
    let with = |propagators| {
        let variables = [&PLAIN[..], &[("OTEL_PROPAGATORS", propagators)]].concat();
        let traces = load_with(None, &variables, &[]).unwrap().config.traces;
        (traces.propagates, traces.unknown_propagators)
    };
    assert_eq!(with(""), (true, vec![]), "an empty variable counts as unset");
    assert_eq!(with("b3, tracecontext,baggage"), (true, vec!["b3".to_owned(), "baggage".to_owned()]));
    assert_eq!(with("b3"), (false, vec!["b3".to_owned()]));
    assert_eq!(with("none"), (false, vec![]));
}
