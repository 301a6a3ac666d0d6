//! Captures what a process prints, line by line, while it runs.
//!
//! Reads from pipes that it makes itself, because the process is started by another thread.

use std::io::{self, BufRead, BufReader, PipeReader};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::eventually::try_eventually;

const TAIL_LINES: usize = 60;

/// The captured output of one process.
#[derive(Debug)]
pub(crate) struct Output {
    stdout: Lines,
    stderr: Lines,
    gate: Arc<Gate>,
}

/// Whether the outputs are read.
#[derive(Debug, Default)]
struct Gate {
    is_open: Mutex<bool>,
    opened: Condvar,
}

#[derive(Clone, Debug, Default)]
struct Lines {
    captured: Arc<Mutex<Captured>>,
}

#[derive(Debug, Default)]
struct Captured {
    lines: Vec<String>,
    has_ended: bool,
}

impl Output {
    /// Connects a command's standard output and error to two capturing threads, which read at once or after [`Self::read`].
    pub(crate) fn capture(command: &mut Command, is_read: bool) -> io::Result<Self> {
        let (stdout, stdout_writer) = io::pipe()?;
        let (stderr, stderr_writer) = io::pipe()?;
        command.stdout(stdout_writer).stderr(stderr_writer);
        let gate = Arc::new(Gate { is_open: Mutex::new(is_read), opened: Condvar::new() });
        let (stdout, stderr) = (Lines::read(stdout, &gate)?, Lines::read(stderr, &gate)?);
        Ok(Self { stdout, stderr, gate })
    }

    /// Begins to read.
    pub(crate) fn read(&self) {
        *self.gate.is_open.lock() = true;
        self.gate.opened.notify_all();
    }

    pub(crate) fn stdout(&self) -> Vec<String> {
        self.stdout.captured.lock().lines.clone()
    }

    pub(crate) fn stderr(&self) -> Vec<String> {
        self.stderr.captured.lock().lines.clone()
    }

    /// Waits until both outputs are closed and read to their end; the process has ended then, or closed them.
    pub(crate) fn wait_end(&self) {
        if !*self.gate.is_open.lock() {
            return;
        }
        for lines in [&self.stdout, &self.stderr] {
            try_eventually(Duration::from_secs(5), || lines.captured.lock().has_ended.then_some(()));
        }
    }

    /// The last lines of both, for a failure's message.
    pub(crate) fn tail(&self) -> String {
        let tail = |name: &str, lines: Vec<String>| {
            let from = lines.len().saturating_sub(TAIL_LINES);
            format!("--- {name}\n{}\n", lines[from..].join("\n"))
        };
        tail("stdout", self.stdout()) + &tail("stderr", self.stderr())
    }
}

impl Lines {
    fn read(pipe: PipeReader, gate: &Arc<Gate>) -> io::Result<Self> {
        let lines = Self::default();
        let captured = Arc::clone(&lines.captured);
        let gate = Arc::clone(gate);
        thread::Builder::new().name("output".to_owned()).spawn(move || {
            gate.opened.wait_while(&mut gate.is_open.lock(), |is_open| !*is_open);
            for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
                captured.lock().lines.push(line);
            }
            captured.lock().has_ended = true;
        })?;
        Ok(lines)
    }
}
