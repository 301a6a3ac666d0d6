//! Tests of what `check-config` prints.

use super::*;
use crate::cli::arguments::{Invocation, parse};

fn check(line: &[&str], variables: &[(&str, &str)]) -> (u8, String, String) {
    let words = ["producer-sidecar", "check-config"].iter().chain(line);
    let Ok(Invocation::CheckConfig(arguments)) = parse(words) else {
        panic!("the command line is wrong: {line:?}");
    };
    let (mut output, mut errors) = (Vec::new(), Vec::new());
    let environment = Environment::of(variables.iter().copied());
    let code = run(&arguments, &environment, &mut output, &mut errors);
    (code, String::from_utf8(output).unwrap(), String::from_utf8(errors).unwrap())
}

#[test]
fn the_settings_in_force_are_printed_with_their_origins_and_without_secrets() {
    let variables = [
        ("KAFKA_USER", "writer"),
        ("KAFKA_PASSWORD", "canary"),
        ("SIDECAR_INSTANCE_ID", "one"),
        ("OTHER", "canary"),
    ];
    let (code, output, errors) = check(&["--kafka-brokers", "a:1,b:2", "--allow-remote"], &variables);
    assert_eq!((code, errors.as_str()), (0, ""));
    for line in [
        "kafka.brokers = a:1,b:2  (--kafka-brokers)",
        "kafka.user = writer  (environment KAFKA_USER)",
        "kafka.password = (set)  (environment KAFKA_PASSWORD)",
        "kafka.ca_file = (unset)  (default)",
        "allow_remote = true  (--allow-remote)",
        "send_timeout_ms = 30000  (default)",
    ] {
        assert!(output.lines().any(|printed| printed == line), "{line}: {output}");
    }
    assert!(!output.contains("canary"), "{output}");
}

#[test]
fn every_problem_is_printed_and_counted() {
    let variables = [("KAFKA_PASSWORD", "canary"), ("SIDECAR_INSTANCE_ID", "one"), ("SIDECAR_X", "canary")];
    let (code, output, errors) = check(&["--drain-ms=x"], &variables);
    assert_eq!((code, output.as_str()), (64, ""));
    assert_eq!(errors.lines().last(), Some("4 problems"));
    assert!(errors.contains("drain_ms (--drain-ms): \"x\" is not a whole number"), "{errors}");
    assert!(!errors.contains("canary"), "{errors}");
}

#[test]
fn one_problem_is_counted_in_the_singular() {
    let variables = [("KAFKA_USER", "u"), ("KAFKA_PASSWORD", "p"), ("SIDECAR_INSTANCE_ID", "one")];
    let (code, _, errors) = check(&[], &variables);
    assert_eq!(code, 64);
    assert!(errors.ends_with("\n1 problem\n"), "{errors}");
}

#[test]
fn what_librdkafka_and_the_log_refuse_is_told_in_the_same_run_as_all_else() {
    let folder = std::env::temp_dir().join(format!("check-config-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("settings.yaml");
    let text =
        "kafka:\n  properties:\n    no.such.property: canary\n    socket.max.fails: canary\nlinger: 1\n";
    std::fs::write(&file, text).unwrap();
    let line = ["--config", file.to_str().unwrap(), "--log-filter", "a=b=c"];
    let (code, _, errors) = check(&line, &[]);
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(code, 64);
    for part in [
        "kafka.properties.no.such.property",
        "kafka.properties.socket.max.fails",
        "log.filter",
        "linger",
        "kafka.brokers",
    ] {
        assert!(errors.contains(part), "{part} in {errors}");
    }
    assert!(!errors.contains("canary"), "{errors}");
}
