//! Finds and runs the standard tools that look at the sidecar and at what it is deployed with.
//!
//! Tools come from where a variable says, from PATH, or from where `scripts/install-tools` puts them.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;

use crate::jars::cache_folder;
use crate::process::command;

/// The same as in `scripts/install-tools`.
const CHECKERS: &str = "checkers-kubernetes-validate-1.37.0";

/// What one run of a tool answered.
#[derive(Clone, Debug)]
pub struct ToolOutput {
    /// The exit code. `None` after a signal.
    pub exit: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Finds a tool by its name and the variable that may say where it is.
///
/// # Panics
///
/// When it is not there.
pub fn find_tool(name: &str, variable: &str) -> PathBuf {
    try_find_tool(name, variable).unwrap_or_else(|| panic!("{name} is not there: run scripts/install-tools"))
}

/// Finds a tool by its name and the variable that may say where it is, if it is there.
pub fn try_find_tool(name: &str, variable: &str) -> Option<PathBuf> {
    if let Some(path) = std::env::var_os(variable) {
        return Some(path.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([cache_folder().join("bin")]);
    let mut candidates = folders.map(|folder| folder.join(name));
    candidates.find(|candidate| candidate.is_file())
}

/// The Python that has the YAML parser and the schemas of Kubernetes.
///
/// # Panics
///
/// When it is not there.
pub fn checkers() -> PathBuf {
    let python = cache_folder().join(CHECKERS).join("bin/python");
    assert!(python.is_file(), "{} is not there: run scripts/install-tools", python.display());
    python
}

/// Runs a tool in a folder, gives it this text to read, and waits for its end.
///
/// # Panics
///
/// When it cannot be started.
pub fn run_tool(tool: &Path, args: &[&str], folder: &Path, input: &str) -> ToolOutput {
    let mut command = command(tool);
    command.args(args).current_dir(folder).env("NO_COLOR", "1");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the tool can be started");
    let mut stdin = child.stdin.take().expect("its standard input is a pipe");
    let input = input.to_owned();
    // A tool that does not read what it is given closes the pipe.
    let feeder = thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let output = child.wait_with_output().expect("the tool can be waited for");
    feeder.join().expect("the feeder does not panic");
    ToolOutput {
        exit: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
