//! Tests of the command line.

use std::time::Duration;

use super::*;

fn parse_line(line: &[&str]) -> Result<Invocation, UsageExit> {
    parse(["producer-sidecar"].iter().chain(line))
}

fn sent(line: &[&str]) -> SendArguments {
    match parse_line(&[&["send", "--topic", "t"], line].concat()) {
        Ok(Invocation::Send(arguments)) => arguments,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_command_line_is_well_formed() {
    command().debug_assert();
}

#[test]
fn setting_flags_are_collected_by_key() {
    let Ok(Invocation::Serve(arguments)) = parse_line(&[
        "serve",
        "--config",
        "c.yaml",
        "--kafka-linger-ms",
        "5",
        "--reflection=false",
        "--allow-remote",
    ]) else {
        panic!("not understood");
    };
    assert_eq!(arguments.config, Some(PathBuf::from("c.yaml")));
    let expected = [("kafka.linger_ms", "5"), ("allow_remote", "true"), ("reflection", "false")];
    assert_eq!(arguments.settings, expected.map(|(key, text)| (key, text.to_owned())));
    assert!(matches!(parse_line(&["dev"]), Ok(Invocation::Dev(_))));
    assert!(matches!(parse_line(&["check-config"]), Ok(Invocation::CheckConfig(_))));
}

#[test]
fn values_are_taken_as_they_are() {
    let arguments = sent(&["--key", "k", "--header", "a=b=c", "--header", "n=", "--timeout", "2m", "value"]);
    assert_eq!(arguments.key.as_deref(), Some("k"));
    assert_eq!(arguments.headers, [("a".to_owned(), "b=c".to_owned()), ("n".to_owned(), String::new())]);
    assert_eq!(arguments.timeout, Some(Duration::from_secs(120)));
    assert_eq!(arguments.address, Address::Tcp("127.0.0.1:50051".to_owned()));
    assert!(arguments.payload == Payload::Text("value".to_owned()));
    assert!(sent(&[""]).payload == Payload::Text(String::new()));
    assert!(sent(&["-5"]).payload == Payload::Text("-5".to_owned()));
    assert!(sent(&["--", "--x"]).payload == Payload::Text("--x".to_owned()));
    assert!(sent(&["-"]).payload == Payload::StandardInput);
    assert!(sent(&["--tombstone"]).payload == Payload::Tombstone);
    assert_eq!(sent(&["v", "--address", "unix:/s"]).address, Address::Unix(PathBuf::from("/s")));
    assert_eq!(sent(&["v", "--timeout", "500ms"]).timeout, Some(Duration::from_millis(500)));
}

#[test]
fn wrong_usage_exits_with_64_and_says_why() {
    let cases: [(&[&str], &str); 17] = [
        (&[], "Usage:"),
        (&["nothing"], "unrecognized subcommand"),
        (&["serve", "--nothing"], "unexpected argument"),
        (&["serve", "value"], "unexpected argument"),
        (&["serve", "--kafka-password", "canary"], "unexpected argument '--kafka-password'"),
        (&["serve", "--kafka-password=canary"], "unexpected argument '--kafka-password'"),
        (&["serve", "--kafka-properties", "a=b"], "unexpected argument"),
        (&["send", "value"], "--topic"),
        (&["send", "--topic", "t"], "required arguments were not provided"),
        (&["send", "--topic", "t", "--tombstone", "value"], "cannot be used with"),
        (&["send", "--topic", "t", "--tombstone", "-"], "cannot be used with"),
        (&["send", "--topic", "t", "value", "-"], "unexpected argument"),
        (&["send", "--topic", "t", "v", "--header", "x"], "write NAME=VALUE"),
        (&["send", "--topic", "t", "v", "--header", "=x"], "the name is empty"),
        (&["send", "--topic", "t", "v", "--timeout", "5"], "write a whole number with ms, s or m"),
        (&["send", "--topic", "t", "v", "--timeout", "61m"], "write a whole number with ms, s or m"),
        (&["send", "--topic", "t", "v", "--address", "a"], "write host:port or unix:/path"),
    ];
    for (line, expected) in cases {
        let exit = parse_line(line).unwrap_err();
        assert!(!exit.asked_for, "{line:?}");
        assert!(exit.text.contains(expected), "{line:?}: {}", exit.text);
        assert!(!exit.text.contains("canary"), "{line:?}: {}", exit.text);
    }
}

#[test]
fn help_and_version_are_asked_for() {
    for line in [&["--help"][..], &["--version"], &["serve", "-h"], &["serve", "--help"], &["help", "send"]] {
        let exit = parse_line(line).unwrap_err();
        assert!(exit.asked_for, "{line:?}");
    }
    let version = parse_line(&["--version"]).unwrap_err().text;
    assert_eq!(version, concat!("producer-sidecar ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn help_says_default_bound_unit_and_variable() {
    let help = parse_line(&["serve", "--help"]).unwrap_err().text;
    let flat = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for setting in table::settings() {
        match &setting.flag {
            Some(flag) => assert!(flat.contains(&format!("--{flag} ")), "{flag}"),
            None => assert!(
                !flat.contains(&format!("--{} ", setting.key.replace(['.', '_'], "-"))),
                "{}",
                setting.key
            ),
        }
    }
    assert!(
        flat.contains(
            "split a batch in two. [takes: 1 to 1000 ms] [default: 5] [env: SIDECAR_KAFKA_LINGER_MS]"
        ),
        "{help}"
    );
    let short = parse_line(&["serve", "-h"]).unwrap_err().text;
    assert!(!short.contains("--kafka-linger-ms"), "{short}");
}

#[test]
fn debug_prints_hold_no_contents() {
    let arguments = sent(&["--key", "canary", "--header", "a=canary", "canary"]);
    assert!(!format!("{arguments:?}").contains("canary"));
}
