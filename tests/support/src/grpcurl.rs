//! Runs grpcurl, to look at the service as a stranger with a standard tool does.

use std::process::Stdio;

use crate::process::command;
use crate::tool::find_tool;

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
    let mut grpcurl = command(find_tool("grpcurl", "GRPCURL"));
    grpcurl.args(["-max-time", TIMEOUT_S]).args(args);
    let output = grpcurl.stdin(Stdio::null()).output();
    let output = output.expect("grpcurl can be started");
    GrpcurlOutput {
        exit: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
