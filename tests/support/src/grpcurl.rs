//! Runs grpcurl, to look at the service as a stranger with a standard tool does.

use std::path::PathBuf;
use std::process::Stdio;

use crate::jars::cache_folder;
use crate::process::command;

const TIMEOUT_S: &str = "60";

/// What one run of grpcurl answered.
#[derive(Clone, Debug)]
pub struct GrpcurlOutput {
    /// The exit code; 64 plus the gRPC status code if the call failed. `None` after a signal.
    pub exit: Option<i32>,
    /// Standard output: the response as JSON.
    pub stdout: String,
    /// Standard error: the status of a failed call.
    pub stderr: String,
}

/// Runs grpcurl with these arguments, for at most a minute.
///
/// # Panics
///
/// When grpcurl cannot be found or started.
pub fn grpcurl(args: &[&str]) -> GrpcurlOutput {
    let mut grpcurl = command(find());
    grpcurl.args(["-max-time", TIMEOUT_S]).args(args);
    let output = grpcurl.stdin(Stdio::null()).output();
    let output = output.expect("grpcurl can be started");
    GrpcurlOutput {
        exit: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Finds grpcurl: the variable GRPCURL, then PATH, then where `scripts/install-tools` puts it.
fn find() -> PathBuf {
    if let Some(path) = std::env::var_os("GRPCURL") {
        return path.into();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([cache_folder().join("bin")]);
    let mut candidates = folders.map(|folder| folder.join("grpcurl"));
    let found = candidates.find(|candidate| candidate.is_file());
    found.unwrap_or_else(|| panic!("grpcurl is not there: run scripts/install-tools"))
}
