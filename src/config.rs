//! Owns the settings as the rest of the program sees them: typed, bounded and checked against each other.
//! Must never hold a value that has not been checked, never print a secret, and never read a file's or the environment's text
//! itself: that is `config/source.rs`, which only the command line and the composition root may use.

pub mod librdkafka;
pub mod memory;
pub mod problem;
pub mod source;
pub mod table;
pub mod watch;

mod assemble;
mod checks;
mod choices;
mod log;
mod parse;
mod traces;
mod values;

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use secrecy::SecretString;

pub use self::{
    log::{Log, LogFormat, LogQueue},
    traces::{Sampler, Traces},
};
use crate::{dead_letter::Destinations, partition::Partitioner, record::Topic};

/// What the settings are for; decides which of them are needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A sidecar before a real cluster: brokers and, with SASL, credentials are needed.
    Serve,
    /// A sidecar on an embedded cluster: brokers and security are ignored.
    Dev,
}

/// What the files of secrets and certificates ask for.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The settings with what the files held when they were last whole.
    pub config: Arc<Config>,
    /// What is wrong with the files as they are now.
    pub problem: Option<String>,
}

/// Every setting, checked; `Debug` prints no secret.
#[derive(Debug, Clone)]
pub struct Config {
    /// What the settings were read for.
    pub purpose: Purpose,
    /// The cluster and how to talk to it.
    pub kafka: Kafka,
    /// Where the gRPC service listens.
    pub listen: Listen,
    /// Whether `listen` may be reachable from other machines.
    pub allow_remote: bool,
    /// Where metrics and probes listen.
    pub admin_listen: SocketAddr,
    /// The first part of every transactional id.
    pub transactional_id_prefix: String,
    /// The second part of every transactional id; the host name by default.
    pub instance_id: String,
    /// How long sending may take.
    pub send: Send,
    /// How much may wait in the sidecar.
    pub queue: Queue,
    /// Which message ids are remembered.
    pub deduplication: Deduplication,
    /// Where records go that failed for good.
    pub dead_letters: DeadLetters,
    /// What one caller, call, frame or record may ask for.
    pub limits: Limits,
    /// What the admin port allows.
    pub admin: Admin,
    /// What is remembered of topics.
    pub topics: Topics,
    /// How transactions are run.
    pub transactions: Transactions,
    /// The most topics that get their own metric label; the others share `_other`.
    pub metrics_topics_max: usize,
    /// How long a stop waits for what is under way.
    pub drain: Duration,
    /// Whether the service describes itself to tools such as grpcurl.
    pub reflection: bool,
    /// The partition function of each topic.
    pub partitioners: Partitioners,
    /// What is logged and how.
    pub log: Log,
    /// Which spans are made and where they go.
    pub traces: Traces,
}

/// The cluster and how to talk to it.
#[derive(Debug, Clone)]
pub struct Kafka {
    /// Where to find the cluster first; not empty for [`Purpose::Serve`], empty for [`Purpose::Dev`].
    pub brokers: Vec<Broker>,
    /// The name under which brokers log and throttle the sidecar.
    pub client_id: String,
    /// Encryption and credentials.
    pub security: Security,
    /// How often the files of secrets and certificates are looked at.
    pub files_look: Duration,
    /// How long a batch waits for more records.
    pub linger: Duration,
    /// The largest batch, in bytes.
    pub batch_bytes: usize,
    /// The most records of a batch.
    pub batch_records: usize,
    /// How batches are compressed.
    pub compression: Compression,
    /// How long librdkafka keeps a record before it gives up.
    pub message_timeout: Duration,
    /// How long a request to a broker may take.
    pub socket_timeout: Duration,
    /// How long opening a connection to a broker may take.
    pub connection_setup_timeout: Duration,
    /// The first pause before records are sent again that a broker refused for now.
    pub retry_backoff: Duration,
    /// The longest pause before records are sent again.
    pub retry_backoff_max: Duration,
    /// The first pause before a lost connection is opened again.
    pub reconnect_backoff: Duration,
    /// The longest pause before a lost connection is opened again.
    pub reconnect_backoff_max: Duration,
    /// How often librdkafka asks for the cluster's layout again.
    pub metadata_refresh: Duration,
    /// How often librdkafka reports its statistics.
    pub statistics: Duration,
    /// Further librdkafka properties, none of them reserved; the values may be secret.
    pub properties: BTreeMap<String, SecretString>,
}

/// A broker's address; the host is a name or an IP address, without brackets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    /// A DNS name, an IPv4 address or an IPv6 address.
    pub host: String,
    /// The port, at least 1.
    pub port: u16,
}

/// Encryption and credentials towards the brokers; holds what its protocol needs and nothing else.
#[derive(Debug, Clone)]
pub enum Security {
    /// Neither encryption nor credentials.
    Plaintext,
    /// TLS, with a client certificate where one is set.
    Ssl(Tls),
    /// Credentials without encryption.
    SaslPlaintext(Credentials),
    /// Credentials over TLS.
    SaslSsl(Credentials, Tls),
}

/// How brokers are verified and how the sidecar shows who it is.
#[derive(Debug, Clone)]
pub struct Tls {
    /// The authorities that are trusted, as PEM; the system's where unset.
    pub ca_file: Option<PathBuf>,
    /// The sidecar's own certificate.
    pub client: Option<ClientCertificate>,
}

/// A certificate with its key.
#[derive(Debug, Clone)]
pub struct ClientCertificate {
    /// The certificate chain, as PEM.
    pub certificate_file: PathBuf,
    /// The private key, as PEM.
    pub key_file: PathBuf,
    /// The password of the private key, where it has one.
    pub key_password: Option<SecretString>,
}

/// A user with its password.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// How the password is proved.
    pub mechanism: SaslMechanism,
    /// The user's name.
    pub user: String,
    /// The password.
    pub password: SecretString,
}

/// How a password is proved to the brokers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaslMechanism {
    /// A challenge over SHA-512 (RFC 5802, RFC 7677).
    ScramSha512,
    /// A challenge over SHA-256.
    ScramSha256,
    /// The password itself.
    Plain,
}

/// How batches are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip.
    Gzip,
    /// Snappy.
    Snappy,
    /// LZ4.
    Lz4,
    /// Zstandard.
    Zstd,
}

/// Where the gRPC service listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// An IP address and port; loopback unless remote callers are allowed.
    Tcp(SocketAddr),
    /// The absolute path of a socket file.
    Unix(PathBuf),
}

/// How long sending may take.
#[derive(Debug, Clone)]
pub struct Send {
    /// For calls without a deadline of their own; at most `timeout_max`.
    pub timeout: Duration,
    /// The longest that a caller may ask for.
    pub timeout_max: Duration,
    /// How long before the caller's deadline the answer leaves.
    pub deadline_margin: Duration,
    /// How long a record waits in the sidecar for a broker connection.
    pub brokers_wait: Duration,
}

/// How much may wait in the sidecar.
#[derive(Debug, Clone)]
pub struct Queue {
    /// Records accepted and not yet answered.
    pub records_max: usize,
    /// Their bytes.
    pub bytes_max: usize,
}

/// Which message ids are remembered.
#[derive(Debug, Clone)]
pub struct Deduplication {
    /// The most ids whose record has ended; none where deduplication is off.
    pub ids_max: usize,
    /// For how long.
    pub window: Duration,
}

/// Where records go that failed for good.
#[derive(Debug, Clone)]
pub struct DeadLetters {
    /// To which topic.
    pub destinations: Destinations,
    /// How long a dead letter is tried.
    pub wait: Duration,
}

/// What one caller, call, frame or record may ask for.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The largest record: key, value and headers.
    pub record_bytes_max: usize,
    /// The most headers of a record.
    pub record_headers_max: usize,
    /// The most records of a frame.
    pub frame_records_max: usize,
    /// The largest frame; at least `record_bytes_max`.
    pub frame_bytes_max: usize,
    /// The most records of one stream in flight.
    pub window_records: usize,
    /// The most bytes of one stream in flight.
    pub window_bytes: usize,
    /// The most bytes of frames of one stream that are read and wait for its window.
    pub stream_buffer_bytes: usize,
    /// How long a stream may leave an answer unread.
    pub responses_not_read: Duration,
    /// The memory of all requests until they are answered or in the queue.
    pub requests_bytes_max: usize,
    /// The most requests that wait for a part of it.
    pub requests_waiting_max: usize,
    /// How long a message may take until it is whole.
    pub body_max: Duration,
    /// The most streams, all connections together.
    pub streams_max: usize,
    /// What a caller may send on one stream before it is read.
    pub stream_window_bytes: usize,
    /// What a caller may send on one connection before it is read.
    pub connection_window_bytes: usize,
    /// The most calls in progress at once, all connections together.
    pub callers_max: usize,
    /// The most calls in progress on one connection.
    pub streams_per_connection_max: usize,
    /// The most connections.
    pub connections_max: usize,
    /// How long the beginning of a connection may take.
    pub handshake: Duration,
    /// How often a connection on which nothing is heard is asked whether its caller is there.
    pub keepalive: Duration,
    /// How long the answer to that may take.
    pub keepalive_timeout: Duration,
    /// For how long a connection must have had no call before it makes room for another.
    pub connection_idle_min: Duration,
    /// The largest header list of a call.
    pub header_list_bytes_max: usize,
}

/// What the admin port allows.
#[derive(Debug, Clone)]
pub struct Admin {
    /// The most connections.
    pub connections_max: usize,
    /// How long a request may take to arrive.
    pub request: Duration,
}

/// What is remembered of topics.
#[derive(Debug, Clone)]
pub struct Topics {
    /// How old a known partition count may grow before it is asked for again.
    pub refresh: Duration,
    /// How long an unknown or forbidden topic is remembered as such.
    pub unknown: Duration,
    /// The most known topics kept.
    pub max: usize,
}

/// How transactions are run.
#[derive(Debug, Clone)]
pub struct Transactions {
    /// How many run at once, each under an id of its own.
    pub lanes: usize,
    /// How many ids are initialised at start, where they are more than the lanes.
    pub lanes_initialised: usize,
    /// After how long the coordinator ends an open transaction by itself.
    pub timeout: Duration,
    /// After how long a lane that does not come back is given up.
    pub stuck: Duration,
    /// How long units wait for others while transactions run.
    pub linger: Duration,
    /// The most units of one transaction.
    pub units_max: usize,
    /// The most records of one transaction.
    pub records_max: usize,
    /// The most bytes of one transaction.
    pub bytes_max: usize,
    /// The most units that wait or run.
    pub waiting_max: usize,
    /// The most outputs of one unit.
    pub outputs_max: usize,
    /// The most inputs of one unit.
    pub inputs_max: usize,
}

/// The partition function of each topic.
#[derive(Debug, Clone)]
pub struct Partitioners {
    /// For every topic that is not named.
    pub default: Partitioner,
    /// For the topics named.
    pub topics: HashMap<Topic, Partitioner>,
}
