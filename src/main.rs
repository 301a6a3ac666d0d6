//! The binary: parse the command line, run it, exit with its code.

use std::process::ExitCode;

fn main() -> ExitCode {
    producer_sidecar::cli::run(std::env::args_os()).into()
}
