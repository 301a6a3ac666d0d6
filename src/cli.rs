//! Owns the commands: the command line in, an exit code out. One file a command.
//! Must never do the work of a command itself, nor read a setting from anywhere but `config::source`.

pub mod arguments;
pub mod check_config;
pub mod dev;
pub mod dlq;
mod files;
pub mod send;
pub mod serve;
mod signals;

use std::{ffi::OsString, io, io::Write as _, process::ExitCode, sync::mpsc, thread, time::Duration};

use tokio::runtime::Runtime;

use self::arguments::{Invocation, SettingArguments};
use crate::{
    app::with_causes,
    config::{
        Purpose,
        source::{Environment, Loaded},
    },
    telemetry::{self, traces::Traces},
};

/// How long a text on standard error may take to be written, in milliseconds.
const COMPLAIN_MS_MAX: u64 = 1_000;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All is well: 0.
    Clean,
    /// A fault: 1.
    Fault,
    /// Ended with records left that could not be delivered: 2.
    Undelivered,
    /// Wrong usage or settings: 64.
    Usage,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Clean => Self::SUCCESS,
            Exit::Fault => Self::from(1),
            Exit::Undelivered => Self::from(2),
            Exit::Usage => Self::from(64),
        }
    }
}

/// Runs what the command line asks for, and writes what is left of the log.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> Exit {
    let exit = run_command(arguments);
    telemetry::fall_silent();
    exit
}

fn run_command(arguments: impl IntoIterator<Item = OsString>) -> Exit {
    match arguments::parse(arguments) {
        Ok(Invocation::Serve(arguments)) => serve::run(&arguments),
        Ok(Invocation::Dev(arguments)) => dev::run(&arguments),
        Ok(Invocation::CheckConfig(arguments)) => {
            let environment = Environment::of_process();
            match check_config::run(&arguments, &environment, &mut io::stdout(), &mut io::stderr()) {
                0 => Exit::Clean,
                64 => Exit::Usage,
                _ => Exit::Fault,
            }
        }
        Ok(Invocation::Send(arguments)) => send::run(arguments),
        Ok(Invocation::Dlq(arguments)) => dlq::run(&arguments),
        Err(usage) if usage.asked_for => {
            tell(&usage.text);
            Exit::Clean
        }
        Err(usage) => {
            complain(&usage.text);
            Exit::Usage
        }
    }
}

/// Loads the settings, or tells every problem of them.
fn load(arguments: &SettingArguments, purpose: Purpose) -> Result<Loaded, Exit> {
    check_config::load(arguments, &Environment::of_process(), purpose).map_err(|problems| {
        complain(&problems.to_string());
        Exit::Usage
    })
}

/// Loads the settings, and sets logs and traces up; within a runtime.
fn prepare(arguments: &SettingArguments, purpose: Purpose) -> Result<(Loaded, Traces), Exit> {
    let loaded = load(arguments, purpose)?;
    let refused = |error: &dyn std::error::Error| {
        complain(&with_causes(error));
        Exit::Usage
    };
    let config = &loaded.config;
    let (traces, refusal) = match Traces::start(&config.traces, &config.instance_id) {
        Ok(traces) => (traces, None),
        Err(error) if config.traces.is_endpoint_ours => return Err(refused(&error)),
        // What a pod sets for its application must not end the start.
        Err(error) => (Traces::default(), Some(error)),
    };
    telemetry::begin(&config.log, &traces).map_err(|error| refused(&error))?;
    if let Some(error) = refusal {
        tracing::warn!("no spans are exported: {error}");
    }
    for problem in &loaded.ignored {
        tracing::warn!("{problem}");
    }
    for name in &config.traces.unknown_propagators {
        tracing::warn!("the propagator {name:?} is not built in and is left out; tracecontext is");
    }
    Ok((loaded, traces))
}

/// Makes the runtime of a command.
fn runtime() -> Result<Runtime, Exit> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| {
        complain(&format!("the runtime cannot be started: {error}"));
        Exit::Fault
    })
}

/// Writes a text to standard output; a closed one is nobody's loss.
fn tell(text: &str) {
    let mut output = io::stdout().lock();
    drop(writeln!(output, "{}", text.trim_end()).and_then(|()| output.flush()));
}

/// Writes a text to standard error; one that is not read does not keep the process from its end.
fn complain(text: &str) {
    let (text, (written, wait)) = (format!("{}\n", text.trim_end()), mpsc::channel());
    let write = move || {
        drop(io::stderr().lock().write_all(text.as_bytes()));
        // Whoever waited may be gone.
        written.send(()).ok();
    };
    if thread::Builder::new().name("complain".to_owned()).spawn(write).is_ok() {
        wait.recv_timeout(Duration::from_millis(COMPLAIN_MS_MAX)).ok();
    }
}
