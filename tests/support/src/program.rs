//! Runs a program beside the sidecar, such as a client, as its user would: by arguments and environment.
//!
//! Owns the process and what it printed. The environment starts empty but for PATH and HOME.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use crate::process::{Process, Signal, command};
use crate::sidecar::output::Output;

/// A running program, killed on drop.
#[derive(Debug)]
pub struct Program {
    process: Process,
    output: Output,
}

impl Program {
    /// Starts it and returns at once.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    pub fn start(program: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = command(program);
        command.args(arguments).env_clear();
        for name in ["PATH", "HOME"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.envs(environment.iter().copied()).stdin(Stdio::null());
        let output = Output::capture(&mut command, true).expect("pipes can be made");
        let process = Process::start(command).expect("the program can be started");
        Self { process, output }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The lines printed to standard output so far.
    pub fn stdout(&self) -> Vec<String> {
        self.output.stdout()
    }

    /// The last lines of both outputs, for a failure's message.
    pub fn tail(&self) -> String {
        self.output.tail()
    }

    /// Sends a signal; does nothing when the program has ended.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Kills the program (SIGKILL) and waits until it is gone.
    pub fn kill(&self) {
        self.process.kill();
    }

    /// How the program ended, if it has.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.process.exit_status()
    }

    /// Waits up to `bound` for its end; then everything it printed has been captured.
    pub fn wait_exit(&self, bound: Duration) -> Option<ExitStatus> {
        let status = self.process.wait_exit(bound)?;
        self.output.wait_end();
        Some(status)
    }
}
