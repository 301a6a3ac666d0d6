//! Runs the sidecar's binary as an operator would: by its environment, its arguments, its ports and its output.
//!
//! Owns the process, its config file and what it printed. The environment starts empty but for PATH and HOME, so that
//! nothing of the developer's machine changes a test.

mod http;
pub(crate) mod output;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use self::output::Output;
use crate::cluster::Cluster;
use crate::eventually::try_eventually;
use crate::folder::TestFolder;
use crate::ports::free_port;
use crate::process::{Process, Signal, command};

/// How a sidecar is to be started.
#[derive(Debug)]
#[must_use]
pub struct SidecarBuilder {
    binary: PathBuf,
    args: Vec<OsString>,
    environment: BTreeMap<String, String>,
    folder: TestFolder,
    grpc_port: u16,
    admin_port: u16,
    is_output_read: bool,
}

/// A running sidecar, killed on drop.
#[derive(Debug)]
pub struct Sidecar {
    process: Process,
    output: Output,
    grpc_port: u16,
    admin_port: u16,
    folder: TestFolder,
}

impl SidecarBuilder {
    /// Sets an environment variable, over a preset one of that name too.
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.insert(name.to_owned(), value.into());
        self
    }

    /// Takes an environment variable away that was preset or set before.
    pub fn without_env(mut self, name: &str) -> Self {
        self.environment.remove(name);
        self
    }

    /// Adds a command line argument.
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Leaves what it prints in its pipes until [`Sidecar::read_output`].
    pub fn without_reader(mut self) -> Self {
        self.is_output_read = false;
        self
    }

    /// Writes a config file and names it in SIDECAR_CONFIG.
    pub fn config(self, text: &str) -> Self {
        let path = self.folder.write("sidecar.yaml", text);
        self.env("SIDECAR_CONFIG", path.display().to_string())
    }

    /// Writes another file into the sidecar's folder and sets an environment variable to where it is.
    pub fn env_file(self, name: &str, file: &str, content: &str) -> Self {
        let path = self.folder.write(file, content);
        self.env(name, path.display().to_string())
    }

    /// The sidecar's own folder, removed with it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts the process and returns at once. See [`Sidecar::wait_ready`].
    ///
    /// # Panics
    ///
    /// When the binary cannot be started.
    pub fn start(self) -> Sidecar {
        let mut command = command(&self.binary);
        command.args(&self.args).env_clear();
        for name in ["PATH", "HOME"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.envs(&self.environment);
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        let output = Output::capture(&mut command, self.is_output_read).expect("pipes can be made");
        let process = Process::start(command).expect("the sidecar's binary can be started");
        Sidecar {
            process,
            output,
            grpc_port: self.grpc_port,
            admin_port: self.admin_port,
            folder: self.folder,
        }
    }
}

impl Sidecar {
    /// Begins a sidecar on two free ports of 127.0.0.1, with nothing else set.
    pub fn builder(binary: impl Into<PathBuf>) -> SidecarBuilder {
        let (grpc_port, admin_port) = (free_port(), free_port());
        let builder = SidecarBuilder {
            binary: binary.into(),
            args: Vec::new(),
            environment: BTreeMap::new(),
            folder: TestFolder::new("sidecar"),
            grpc_port,
            admin_port,
            is_output_read: true,
        };
        builder
            .env("SIDECAR_LISTEN", format!("127.0.0.1:{grpc_port}"))
            .env("SIDECAR_ADMIN_LISTEN", format!("127.0.0.1:{admin_port}"))
    }

    /// Begins a sidecar for a cluster, over SASL_SSL, as a user would have it.
    pub fn for_cluster(binary: impl Into<PathBuf>, cluster: &Cluster) -> SidecarBuilder {
        with_credentials(Self::builder(binary), cluster)
            .env("KAFKA_BROKERS", cluster.bootstrap_tls())
            .env("KAFKA_SECURITY_PROTOCOL", "SASL_SSL")
            .env("KAFKA_CA_FILE", cluster.ca_file().display().to_string())
    }

    /// Begins a sidecar for a cluster, over SASL_PLAINTEXT through the fault proxies.
    pub fn through_proxies(binary: impl Into<PathBuf>, cluster: &Cluster) -> SidecarBuilder {
        with_credentials(Self::builder(binary), cluster)
            .env("KAFKA_BROKERS", cluster.bootstrap_proxied())
            .env("KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT")
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Kills the process (SIGKILL) and waits until it is gone.
    pub fn kill(&self) {
        self.process.kill();
    }

    /// How the process ended, if it has.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.process.exit_status()
    }

    /// Waits for the process to end; then everything it printed has been captured.
    ///
    /// # Panics
    ///
    /// When it still runs after `bound`.
    #[track_caller]
    pub fn wait_exit(&self, bound: Duration) -> ExitStatus {
        match self.process.wait_exit(bound) {
            Some(status) => {
                self.output.wait_end();
                status
            }
            None => self.fail(&format!("the sidecar still runs after {bound:?}")),
        }
    }

    /// The lines printed to standard output so far.
    pub fn stdout(&self) -> Vec<String> {
        self.output.stdout()
    }

    /// The lines printed to standard error so far.
    pub fn stderr(&self) -> Vec<String> {
        self.output.stderr()
    }

    /// Begins to read what it prints, if it was started without a reader.
    pub fn read_output(&self) {
        self.output.read();
    }

    /// Waits for a line on either output, also one printed before the call, and returns it.
    ///
    /// # Panics
    ///
    /// When there is none after `bound`.
    #[track_caller]
    pub fn wait_for_line(&self, predicate: impl Fn(&str) -> bool, bound: Duration) -> String {
        let line = try_eventually(bound, || {
            let mut lines = self.stdout().into_iter().chain(self.stderr());
            lines.find(|line| predicate(line))
        });
        line.unwrap_or_else(|| self.fail(&format!("no such line within {bound:?}")))
    }

    /// Waits until `GET /readyz` answers 200.
    ///
    /// # Panics
    ///
    /// When it has not after `bound`, or the process ends; the message has what it printed.
    #[track_caller]
    pub fn wait_ready(&self, bound: Duration) {
        let mut last = None;
        let ready = try_eventually(bound, || {
            if self.exit_status().is_some() {
                return Some(false);
            }
            last = self.try_http_get("/readyz").ok();
            matches!(last, Some((200, _))).then_some(true)
        });
        match ready {
            Some(true) => {}
            Some(false) => self.fail("the sidecar ended before it was ready"),
            None => self.fail(&format!("not ready within {bound:?}, /readyz: {last:?}")),
        }
    }

    /// Asks the admin port for a path and returns status and body.
    ///
    /// # Panics
    ///
    /// When there is no HTTP answer within 5 s.
    #[track_caller]
    pub fn http_get(&self, path: &str) -> (u16, String) {
        match self.try_http_get(path) {
            Ok(answer) => answer,
            Err(error) => self.fail(&format!("GET {path}: {error}")),
        }
    }

    /// Asks the admin port for a path.
    ///
    /// # Errors
    ///
    /// When there is no HTTP answer within 5 s.
    pub fn try_http_get(&self, path: &str) -> std::io::Result<(u16, String)> {
        http::get(self.admin_port, path, "")
    }

    /// Asks the admin port for a path with an `Accept` header, and returns the answer's head and body.
    ///
    /// # Panics
    ///
    /// When there is no HTTP answer within 5 s.
    #[track_caller]
    pub fn http_get_accepting(&self, path: &str, accept: &str) -> (String, String) {
        match http::answer(self.admin_port, path, &format!("Accept: {accept}\r\n")) {
            Ok(answer) => answer,
            Err(error) => self.fail(&format!("GET {path}: {error}")),
        }
    }

    /// Where the gRPC service listens, as `127.0.0.1:port`.
    pub fn grpc_address(&self) -> String {
        format!("127.0.0.1:{}", self.grpc_port)
    }

    /// Where metrics and probes are, as `127.0.0.1:port`.
    pub fn admin_address(&self) -> String {
        format!("127.0.0.1:{}", self.admin_port)
    }

    /// The sidecar's own folder, removed with it; its config and other files are in it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Resident memory in bytes; zero once the process has ended.
    pub fn rss_bytes(&self) -> u64 {
        self.status_number("VmRSS:") * 1024
    }

    /// The number of threads; zero once the process has ended.
    pub fn thread_count(&self) -> u64 {
        self.status_number("Threads:")
    }

    /// The number of open file descriptors; zero once the process has ended.
    pub fn fd_count(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).map_or(0, Iterator::count)
    }

    fn status_number(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.split_whitespace().next());
        number.and_then(|number| number.parse().ok()).unwrap_or(0)
    }

    #[track_caller]
    fn fail(&self, what: &str) -> ! {
        let exit = self.exit_status();
        panic!("{what}; exit: {exit:?}\n{}", self.output.tail());
    }
}

fn with_credentials(builder: SidecarBuilder, cluster: &Cluster) -> SidecarBuilder {
    // Sidecars of one instance fence each other's transactions.
    let instance = format!("on-port-{}", builder.grpc_port);
    builder
        .env("SIDECAR_INSTANCE_ID", instance)
        .env("KAFKA_SASL_MECHANISM", "SCRAM-SHA-512")
        .env("KAFKA_USER", cluster.user())
        .env("KAFKA_PASSWORD", cluster.password())
}
