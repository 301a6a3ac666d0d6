//! Captures what a process prints, line by line, while it runs.
//!
//! Reads from pipes that it makes itself, because the process is started by another thread.

use std::io::{self, BufRead, BufReader, PipeReader};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;

use crate::eventually::try_eventually;

const TAIL_LINES: usize = 60;

/// The captured output of one process.
#[derive(Debug)]
pub(crate) struct Output {
    stdout: Lines,
    stderr: Lines,
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
    /// Connects a command's standard output and error to two capturing threads.
    pub(crate) fn capture(command: &mut Command) -> io::Result<Self> {
        let (stdout, stdout_writer) = io::pipe()?;
        let (stderr, stderr_writer) = io::pipe()?;
        command.stdout(stdout_writer).stderr(stderr_writer);
        Ok(Self { stdout: Lines::read(stdout)?, stderr: Lines::read(stderr)? })
    }

    pub(crate) fn stdout(&self) -> Vec<String> {
        self.stdout.captured.lock().lines.clone()
    }

    pub(crate) fn stderr(&self) -> Vec<String> {
        self.stderr.captured.lock().lines.clone()
    }

    /// Waits until both outputs are closed and read to their end; the process has ended then, or closed them.
    pub(crate) fn wait_end(&self) {
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
    fn read(pipe: PipeReader) -> io::Result<Self> {
        let lines = Self::default();
        let captured = Arc::clone(&lines.captured);
        thread::Builder::new().name("output".to_owned()).spawn(move || {
            for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
                captured.lock().lines.push(line);
            }
            captured.lock().has_ended = true;
        })?;
        Ok(lines)
    }
}
