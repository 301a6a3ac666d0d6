//! Signals that come early, as process 1 too: each is honoured, none is lost.

use std::{fs, path::Path, process::Command, time::Duration};

use rustix::process::{Pid, kill_process};
use testkit::{Program, Signal, eventually, free_port, try_eventually};

use crate::{
    client::{BINARY, READY},
    commands::without_brokers,
};

crate::tests!(
    a_signal_while_settings_are_read_ends_the_start_at_once,
    process_1_honours_a_signal_from_its_first_moment,
    sighup_stays_ignored_under_nohup,
);

/// As the kernel cuts the program's name.
const NAME: &str = "producer-sideca";
/// When the signal comes, after the handlers are there, in milliseconds.
const DELAYS_MS: [u64; 6] = [0, 5, 15, 30, 60, 120];

/// Returns one of the signal masks of a process that is the sidecar's program by now.
fn mask(pid: u32, name: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let value = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let is_program = value("Name:") == Some(NAME);
    u64::from_str_radix(value(name).filter(|_| is_program)?, 16).ok()
}

fn has(mask: u64, signal: Signal) -> bool {
    mask >> (signal.as_raw() - 1) & 1 == 1
}

/// Waits until a process, which is the sidecar's program by then, has its handlers.
fn wait_handlers(pid: u32) {
    eventually(READY, "the handlers are there", || {
        let caught = mask(pid, "SigCgt:")?;
        [Signal::TERM, Signal::INT, Signal::HUP].iter().all(|signal| has(caught, *signal)).then_some(())
    });
}

fn a_signal_while_settings_are_read_ends_the_start_at_once() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let builder = without_brokers(&["serve"]);
        // Nobody writes into it, so that reading does not come back.
        let fifo = builder.folder().join("sidecar.yaml");
        assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let sidecar = builder.env("SIDECAR_CONFIG", fifo.display().to_string()).start();
        wait_handlers(sidecar.pid());
        sidecar.signal(signal);
        let status = sidecar.wait_exit(READY);
        assert_eq!(status.code(), Some(0), "{signal:?}: {:?}", sidecar.stderr());
        let last = sidecar.stderr().pop().unwrap();
        assert!(last.contains("nothing was served"), "{signal:?}: {last}");
    }
}

/// Starts the sidecar as process 1 of a namespace of its own.
fn as_process_1() -> Program {
    let address = || format!("127.0.0.1:{}", free_port());
    let environment = [
        ("KAFKA_BROKERS", address()),
        ("KAFKA_SECURITY_PROTOCOL", "PLAINTEXT".to_owned()),
        ("SIDECAR_LISTEN", address()),
        ("SIDECAR_ADMIN_LISTEN", address()),
    ];
    let environment: Vec<_> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut arguments = vec!["--pid", "--fork", "--kill-child"];
    if !rustix::process::geteuid().is_root() {
        arguments.extend(["--user", "--map-root-user"]);
    }
    arguments.extend([BINARY, "serve"]);
    Program::start(Path::new("unshare"), &arguments, &environment)
}

/// Returns the only child of a process.
fn child(pid: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

fn process_1_honours_a_signal_from_its_first_moment() {
    for delay_ms in DELAYS_MS {
        let namespace = as_process_1();
        let sidecar = eventually(READY, "the sidecar's process", || child(namespace.pid()));
        wait_handlers(sidecar);
        try_eventually(Duration::from_millis(delay_ms), || None::<()>);
        let pid = Pid::from_raw(i32::try_from(sidecar).unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        let status = namespace.wait_exit(READY);
        let code = status.and_then(|status| status.code());
        assert_eq!(code, Some(0), "{delay_ms} ms: {status:?}\n{}", namespace.tail());
    }
}

fn sighup_stays_ignored_under_nohup() {
    let address = || format!("127.0.0.1:{}", free_port());
    let environment = [
        ("KAFKA_BROKERS", address()),
        ("KAFKA_SECURITY_PROTOCOL", "PLAINTEXT".to_owned()),
        ("SIDECAR_LISTEN", address()),
        ("SIDECAR_ADMIN_LISTEN", address()),
    ];
    let environment: Vec<_> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let program = Program::start(Path::new("nohup"), &[BINARY, "serve"], &environment);
    eventually(READY, "SIGTERM is caught", || {
        mask(program.pid(), "SigCgt:").filter(|caught| has(*caught, Signal::TERM))
    });
    let ignored = mask(program.pid(), "SigIgn:").unwrap();
    assert!(has(ignored, Signal::HUP), "{ignored:x}");
    program.signal(Signal::HUP);
    program.signal(Signal::TERM);
    let status = program.wait_exit(READY);
    assert_eq!(status.and_then(|status| status.code()), Some(0), "{}", program.tail());
}
