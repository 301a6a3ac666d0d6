//! The command line as a shell sees it: exit codes, what goes to which output, which source of a setting wins, and how a
//! stop is asked for.

use std::{net::TcpListener, thread, time::Duration};

use testkit::{Sidecar, SidecarBuilder, Signal, eventually, free_port};
use tonic::Code;

use crate::client::{BINARY, connect, run, send, text};

crate::tests!(
    wrong_usage_is_64_and_what_was_asked_for_is_0,
    every_problem_of_the_settings_is_told_in_one_run,
    clean_settings_are_printed_with_their_origins,
    a_flag_wins_over_the_environment_over_the_file_over_the_default,
    the_config_flag_wins_over_the_variable,
    a_spool_is_refused_until_it_is_built,
    a_taken_address_is_a_fault,
    an_interrupt_stops_like_a_termination,
    a_second_signal_ends_the_drain_at_once,
);

/// How long a command that ends by itself may take on a busy machine.
const ENDS: Duration = Duration::from_secs(20);

/// How a command ended, and what it printed.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: Vec<String>,
    pub stderr: Vec<String>,
}

/// Runs a command that ends by itself.
pub fn to_end(command: SidecarBuilder) -> Ended {
    let process = command.start();
    let code = process.wait_exit(ENDS).code();
    Ended { code, stdout: process.stdout(), stderr: process.stderr() }
}

/// A command with these arguments, and nothing set but two free ports.
pub fn command(arguments: &[&str]) -> SidecarBuilder {
    arguments.iter().fold(Sidecar::builder(BINARY), |builder, argument| builder.arg(*argument))
}

/// A command whose settings are complete, for brokers that are not there.
pub fn without_brokers(arguments: &[&str]) -> SidecarBuilder {
    command(arguments)
        .env("KAFKA_BROKERS", format!("127.0.0.1:{}", free_port()))
        .env("KAFKA_SECURITY_PROTOCOL", "PLAINTEXT")
}

/// Starts a sidecar whose brokers are not there and waits until it listens.
pub fn listening_without_brokers(builder: SidecarBuilder) -> Sidecar {
    let sidecar = builder.start();
    eventually(ENDS, "the sidecar listens", || {
        sidecar.try_http_get("/startupz").ok().filter(|(status, _)| *status == 200)
    });
    sidecar
}

fn wrong_usage_is_64_and_what_was_asked_for_is_0() {
    let wrong: [&[&str]; 7] = [
        &[],
        &["--no-such-flag"],
        &["no-such-command"],
        &["serve", "--no-such-flag"],
        &["serve", "--kafka-password", "p"],
        &["check-config", "stray"],
        &["send", "--topic", "orders"],
    ];
    for arguments in wrong {
        let ended = to_end(command(arguments));
        assert_eq!(ended.code, Some(64), "{arguments:?}: {ended:?}");
        assert!(ended.stdout.is_empty() && !ended.stderr.is_empty(), "{arguments:?}: {ended:?}");
    }
    let asked: [(&[&str], &str); 4] = [
        (&["--help"], "check-config"),
        (&["serve", "--help"], "SIDECAR_DRAIN_MS"),
        (&["send", "--help"], "--tombstone"),
        (&["--version"], env!("CARGO_PKG_VERSION")),
    ];
    for (arguments, printed) in asked {
        let ended = to_end(command(arguments));
        assert_eq!(ended.code, Some(0), "{arguments:?}: {ended:?}");
        assert!(ended.stdout.iter().any(|line| line.contains(printed)), "{arguments:?}: {ended:?}");
        assert!(ended.stderr.is_empty(), "{arguments:?}: {ended:?}");
    }
}

fn every_problem_of_the_settings_is_told_in_one_run() {
    let broken = |name: &str| {
        without_brokers(&[name, "--queue-records-max=many"])
            .config("kafka:\n  linger_ms: 2\ndrain_msec: 5\n")
            .env("SIDECAR_SEND_TIMEOUT_MS", "0")
    };
    for name in ["check-config", "serve"] {
        let builder = broken(name);
        let file = builder.folder().join("sidecar.yaml");
        let ended = to_end(builder);
        assert_eq!(ended.code, Some(64), "{name}: {ended:?}");
        assert!(ended.stdout.is_empty(), "{name}: {ended:?}");
        let line = |beginning: String| {
            let found: Vec<_> = ended.stderr.iter().filter(|line| line.starts_with(&beginning)).collect();
            assert_eq!(found.len(), 1, "{name}: {beginning} in {ended:?}");
            found[0].as_str()
        };
        let misspelt = line(format!("drain_msec ({}:3:1): ", file.display()));
        assert!(misspelt.contains("drain_ms"), "{misspelt}");
        let too_small = line("send_timeout_ms (environment SIDECAR_SEND_TIMEOUT_MS): ".to_owned());
        assert!(too_small.ends_with("; write a whole number of ms from 1 to 3600000"), "{too_small}");
        let no_number = line("queue_records_max (--queue-records-max): \"many\" ".to_owned());
        assert!(no_number.contains("; write a whole number of records from 1 to "), "{no_number}");
    }
    let counted = to_end(broken("check-config"));
    assert_eq!(counted.stderr.last().map(String::as_str), Some("3 problems"));
}

fn clean_settings_are_printed_with_their_origins() {
    let builder = without_brokers(&["check-config", "--drain-ms", "1234"])
        .config("kafka:\n  linger_ms: 7\n")
        .env("KAFKA_CLIENT_ID", "gateway-7");
    let file = builder.folder().join("sidecar.yaml").display().to_string();
    let ended = to_end(builder);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.is_empty(), "{ended:?}");
    for line in [
        "drain_ms = 1234  (--drain-ms)",
        "kafka.client_id = gateway-7  (environment KAFKA_CLIENT_ID)",
        &format!("kafka.linger_ms = 7  ({file}:2:14)"),
        "send_timeout_ms = 30000  (default)",
        "kafka.ca_file = (unset)  (default)",
    ] {
        assert!(ended.stdout.iter().any(|printed| printed == line), "{line}: {ended:?}");
    }
}

fn a_flag_wins_over_the_environment_over_the_file_over_the_default() {
    let with_file = |builder: SidecarBuilder| builder.config("drain_ms: 1001\n");
    let with_variable = |builder: SidecarBuilder| builder.env("SIDECAR_DRAIN_MS", "1002");
    let flagged = || without_brokers(&["check-config", "--drain-ms=1003"]);
    let plain = || without_brokers(&["check-config"]);
    let cases = [
        (with_variable(with_file(flagged())), "1003  (--drain-ms)"),
        (with_variable(with_file(plain())), "1002  (environment SIDECAR_DRAIN_MS)"),
        (with_file(plain()), "sidecar.yaml:1:11)"),
        (plain(), "25000  (default)"),
    ];
    for (builder, expected) in cases {
        let ended = to_end(builder);
        let shown = ended.stdout.iter().find_map(|line| line.strip_prefix("drain_ms = "));
        assert!(shown.is_some_and(|shown| shown.ends_with(expected)), "{expected}: {ended:?}");
    }
}

fn the_config_flag_wins_over_the_variable() {
    let other = testkit::TestFolder::new("config");
    let named = other.write("named.yaml", "drain_ms: 42\n");
    let builder = without_brokers(&["check-config", "--config"]).arg(&named).config("drain_ms: 43\n");
    let ended = to_end(builder);
    let line = format!("drain_ms = 42  ({}:1:11)", named.display());
    assert!(ended.stdout.contains(&line), "{ended:?}");
    let missing = to_end(without_brokers(&["check-config", "--config"]).arg(other.path().join("none.yaml")));
    assert_eq!(missing.code, Some(64));
    assert!(missing.stderr.iter().any(|line| line.contains("none.yaml")), "{missing:?}");
}

fn a_spool_is_refused_until_it_is_built() {
    for name in ["serve", "check-config", "dev"] {
        let ended = to_end(without_brokers(&[name]).env("SIDECAR_SPOOL_DIR", "/var/spool/sidecar"));
        assert_eq!(ended.code, Some(64), "{name}: {ended:?}");
        let told =
            ended.stderr.iter().any(|line| line.starts_with("spool.dir (environment SIDECAR_SPOOL_DIR): "));
        assert!(told, "{name}: {ended:?}");
    }
}

fn a_taken_address_is_a_fault() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for variable in ["SIDECAR_LISTEN", "SIDECAR_ADMIN_LISTEN"] {
        let ended = to_end(without_brokers(&["serve"]).env(variable, &address));
        assert_eq!(ended.code, Some(1), "{variable}: {ended:?}");
        let last = ended.stderr.last().unwrap();
        assert!(last.contains(&format!("cannot listen on {address}")), "{variable}: {last}");
    }
}

fn an_interrupt_stops_like_a_termination() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let sidecar = listening_without_brokers(without_brokers(&["serve"]));
        sidecar.signal(signal);
        assert_eq!(sidecar.wait_exit(ENDS).code(), Some(0), "{signal:?}: {:?}", sidecar.stderr());
        let last = sidecar.stderr().pop().unwrap();
        assert!(last.contains("stopped: delivered 0 of 0 records"), "{signal:?}: {last}");
    }
}

fn a_second_signal_ends_the_drain_at_once() {
    let builder = without_brokers(&["serve"])
        .env("SIDECAR_BROKERS_WAIT_MS", "600000")
        .env("SIDECAR_SEND_TIMEOUT_MS", "200000")
        .env("SIDECAR_DRAIN_MS", "200000");
    let sidecar = listening_without_brokers(builder);
    let address = sidecar.grpc_address();
    let held = thread::spawn(move || {
        let refusal = run(async { send(&connect(&address), text("orders", "v")).await }).unwrap_err();
        refusal.expect(Code::Unavailable, "DRAINING", "NO");
    });
    eventually(ENDS, "the call waits for a broker", || {
        let metrics = sidecar.http_get("/metrics").1;
        metrics.lines().any(|line| line == "producer_outstanding_records 1").then_some(())
    });
    sidecar.signal(Signal::TERM);
    sidecar.wait_for_line(|line| line.contains("draining"), ENDS);
    assert!(sidecar.exit_status().is_none(), "the drain waits for the call");
    sidecar.signal(Signal::INT);
    assert_eq!(sidecar.wait_exit(ENDS).code(), Some(2), "{:?}", sidecar.stderr());
    let last = sidecar.stderr().pop().unwrap();
    assert!(last.contains("delivered 0 of 1") && last.contains("1 could not be delivered"), "{last}");
    held.join().unwrap();
}
