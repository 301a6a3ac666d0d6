//! Owns the step from checked values to the typed tree.
//! Must never refuse a value: what can be wrong was told by the parser and by the checks.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    path::PathBuf,
    time::Duration,
};

use secrecy::SecretString;

use super::{
    Admin, ClientCertificate, Compression, Config, Credentials, DeadLetters, Deduplication, Kafka, Limits,
    Listen, Log, LogFormat, LogQueue, Partitioners, Purpose, Queue, SaslMechanism, Security, Send, Tls,
    Topics, Transactions, checks,
    choices::SecurityProtocol,
    problem::{Origin, Problem},
    traces,
    values::{Value, Values},
};
use crate::{
    dead_letter::{Destination, Destinations},
    partition::Partitioner,
};

/// The key of the private key's password, which has no setting of its own: only its file has.
pub(super) const KEY_PASSWORD: &str = "kafka.key_password";

/// Takes values out and counts what is missing.
struct Reader<'a> {
    values: &'a Values,
    missing: Vec<Problem>,
}

/// Checks the values against each other and makes the tree of them.
///
/// The tree must be thrown away where the parser has told of a problem: a stand-in is then in the place of each wrong value.
///
/// # Errors
/// Returns every problem between settings, and none but those.
pub(super) fn assemble(values: &Values, purpose: Purpose) -> Result<Config, Vec<Problem>> {
    let problems = checks::check(values, purpose);
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut reader = Reader { values, missing: Vec::new() };
    let config = config(&mut reader, purpose);
    if reader.missing.is_empty() { Ok(config) } else { Err(reader.missing) }
}

fn config(reader: &mut Reader<'_>, purpose: Purpose) -> Config {
    Config {
        purpose,
        kafka: kafka(reader, purpose),
        listen: reader.listen("listen"),
        allow_remote: reader.boolean("allow_remote"),
        admin_listen: reader.socket("admin_listen"),
        transactional_id_prefix: reader.text("transactional_id_prefix"),
        instance_id: reader.text("instance_id"),
        send: Send {
            timeout: reader.duration("send_timeout_ms"),
            timeout_max: reader.duration("send_timeout_ms_max"),
            deadline_margin: reader.duration("deadline_margin_ms"),
            brokers_wait: reader.duration("brokers_wait_ms"),
        },
        queue: Queue {
            records_max: reader.size("queue_records_max"),
            bytes_max: reader.size("queue_bytes_max"),
        },
        deduplication: Deduplication {
            ids_max: reader.size("deduplication.message_ids_max"),
            window: reader.duration("deduplication.window_ms"),
        },
        dead_letters: dead_letters(reader),
        limits: limits(reader),
        admin: Admin {
            connections_max: reader.size("admin_connections_max"),
            request: reader.duration("admin_request_ms_max"),
        },
        topics: Topics {
            refresh: reader.duration("topic_refresh_ms"),
            unknown: reader.duration("topic_unknown_ms"),
            max: reader.size("topics_max"),
        },
        transactions: transactions(reader),
        metrics_topics_max: reader.size("metrics_topics_max"),
        drain: reader.duration("drain_ms"),
        reflection: reader.boolean("reflection"),
        partitioners: Partitioners {
            default: reader.choice("partitioner.default", Partitioner::parse, Partitioner::default()),
            topics: match reader.values.get("partitioner.topics") {
                Some(Value::Partitioners(topics)) => topics.clone(),
                _ => HashMap::new(),
            },
        },
        log: Log {
            filter: reader.text("log.filter"),
            format: reader.values.text("log.format").and_then(LogFormat::parse),
            repeat: reader.duration("log.repeat_ms"),
            place_lines_max: reader.number("log.place_lines_max"),
            queue: LogQueue {
                lines_max: reader.size("log.queue_lines_max"),
                bytes_max: reader.size("log.queue_bytes_max"),
            },
            flush: reader.duration("log.flush_ms"),
        },
        traces: traces::assemble(reader.values),
    }
}

fn limits(reader: &mut Reader<'_>) -> Limits {
    Limits {
        record_bytes_max: reader.size("record_bytes_max"),
        record_headers_max: reader.size("record_headers_max"),
        frame_records_max: reader.size("frame_records_max"),
        frame_bytes_max: reader.size("frame_bytes_max"),
        window_records: reader.size("window_records"),
        window_bytes: reader.size("window_bytes"),
        stream_buffer_bytes: reader.size("stream_buffer_bytes"),
        responses_not_read: reader.duration("responses_not_read_ms"),
        requests_bytes_max: reader.size("requests_bytes_max"),
        requests_waiting_max: reader.size("requests_waiting_max"),
        body_max: reader.duration("body_ms_max"),
        streams_max: reader.size("streams_max"),
        stream_window_bytes: reader.size("stream_window_bytes"),
        connection_window_bytes: reader.size("connection_window_bytes"),
        callers_max: reader.size("callers_max"),
        streams_per_connection_max: reader.size("streams_per_connection_max"),
        connections_max: reader.size("connections_max"),
        handshake: reader.duration("handshake_ms_max"),
        keepalive: reader.duration("keepalive_ms"),
        keepalive_timeout: reader.duration("keepalive_timeout_ms"),
        connection_idle_min: reader.duration("connection_idle_ms_min"),
        header_list_bytes_max: reader.size("header_list_bytes_max"),
    }
}

fn dead_letters(reader: &mut Reader<'_>) -> DeadLetters {
    let default = match reader.values.get("dead_letters.topic") {
        Some(Value::Destination(destination)) => destination.clone(),
        _ => Destination::Off,
    };
    let topics = match reader.values.get("dead_letters.topics") {
        Some(Value::Destinations(topics)) => topics.clone(),
        _ => HashMap::new(),
    };
    DeadLetters {
        destinations: Destinations { default, topics },
        wait: reader.duration("dead_letters.wait_ms"),
    }
}

fn transactions(reader: &mut Reader<'_>) -> Transactions {
    Transactions {
        lanes: reader.size("transactions.lanes"),
        lanes_initialised: reader.size("transactions.lanes_initialised"),
        timeout: reader.duration("transactions.timeout_ms"),
        stuck: reader.duration("transactions.stuck_ms"),
        linger: reader.duration("transactions.linger_ms"),
        units_max: reader.size("transactions.units_max"),
        records_max: reader.size("transactions.records_max"),
        bytes_max: reader.size("transactions.bytes_max"),
        waiting_max: reader.size("transactions.waiting_max"),
        outputs_max: reader.size("transactions.unit_outputs_max"),
        inputs_max: reader.size("transactions.unit_inputs_max"),
    }
}

fn kafka(reader: &mut Reader<'_>, purpose: Purpose) -> Kafka {
    let (brokers, security) = match purpose {
        Purpose::Serve => (
            match reader.values.get("kafka.brokers") {
                Some(Value::Brokers(brokers)) => brokers.clone(),
                _ => Vec::new(),
            },
            security(reader),
        ),
        Purpose::Dev => (Vec::new(), Security::Plaintext),
    };
    Kafka {
        brokers,
        client_id: reader.text("kafka.client_id"),
        security,
        files_look: reader.duration("kafka.files_look_ms"),
        linger: reader.duration("kafka.linger_ms"),
        batch_bytes: reader.size("kafka.batch_bytes"),
        batch_records: reader.size("kafka.batch_records"),
        compression: reader.choice("kafka.compression", Compression::parse, Compression::None),
        message_timeout: reader.duration("kafka.message_timeout_ms"),
        socket_timeout: reader.duration("kafka.socket_timeout_ms"),
        connection_setup_timeout: reader.duration("kafka.connection_setup_timeout_ms"),
        retry_backoff: reader.duration("kafka.retry_backoff_ms"),
        retry_backoff_max: reader.duration("kafka.retry_backoff_ms_max"),
        reconnect_backoff: reader.duration("kafka.reconnect_backoff_ms"),
        reconnect_backoff_max: reader.duration("kafka.reconnect_backoff_ms_max"),
        metadata_refresh: reader.duration("kafka.metadata_refresh_ms"),
        statistics: reader.duration("kafka.statistics_ms"),
        properties: match reader.values.get("kafka.properties") {
            Some(Value::Properties(properties)) => properties.clone(),
            _ => BTreeMap::new(),
        },
    }
}

fn security(reader: &mut Reader<'_>) -> Security {
    let key = "kafka.security_protocol";
    match reader.choice(key, SecurityProtocol::parse, SecurityProtocol::SaslSsl) {
        SecurityProtocol::Plaintext => Security::Plaintext,
        SecurityProtocol::Ssl => Security::Ssl(tls(reader)),
        SecurityProtocol::SaslPlaintext => Security::SaslPlaintext(credentials(reader)),
        SecurityProtocol::SaslSsl => Security::SaslSsl(credentials(reader), tls(reader)),
    }
}

fn credentials(reader: &mut Reader<'_>) -> Credentials {
    let mechanism = reader.choice("kafka.sasl_mechanism", SaslMechanism::parse, SaslMechanism::ScramSha512);
    Credentials { mechanism, user: reader.text("kafka.user"), password: reader.secret("kafka.password") }
}

fn tls(reader: &Reader<'_>) -> Tls {
    let values = reader.values;
    let certificate = values.path("kafka.certificate_file");
    let client = certificate.zip(values.path("kafka.key_file"));
    Tls {
        ca_file: values.path("kafka.ca_file").cloned(),
        client: client.map(|(certificate_file, key_file)| ClientCertificate {
            certificate_file: certificate_file.clone(),
            key_file: key_file.clone(),
            key_password: values.secret(KEY_PASSWORD).cloned(),
        }),
    }
}

// === impl Reader ===

impl Reader<'_> {
    /// Takes a value, or a stand-in where there is none: it was said wrongly, which has been told, or the table and this
    /// file disagree about it, which is told here.
    fn take<T>(&mut self, key: &str, value: Option<T>, stand_in: T) -> T {
        value.unwrap_or_else(|| {
            if !self.values.is_broken(key) {
                self.missing.push(Problem::new(
                    key,
                    Origin::Nowhere,
                    "has no value of the kind that the program reads",
                    "report this as a bug",
                ));
            }
            stand_in
        })
    }

    fn text(&mut self, key: &str) -> String {
        let text = self.values.text(key).map(str::to_owned);
        self.take(key, text, String::new())
    }

    fn choice<T>(&mut self, key: &str, parse: fn(&str) -> Option<T>, stand_in: T) -> T {
        let choice = self.values.text(key).and_then(parse);
        self.take(key, choice, stand_in)
    }

    fn number(&mut self, key: &str) -> u64 {
        let number = self.values.number(key);
        self.take(key, number, 0)
    }

    fn duration(&mut self, key: &str) -> Duration {
        Duration::from_millis(self.number(key))
    }

    fn size(&mut self, key: &str) -> usize {
        usize::try_from(self.number(key)).unwrap_or(usize::MAX)
    }

    fn secret(&mut self, key: &str) -> SecretString {
        let secret = self.values.secret(key).cloned();
        self.take(key, secret, SecretString::default())
    }

    fn boolean(&mut self, key: &str) -> bool {
        let boolean = match self.values.get(key) {
            Some(Value::Boolean(boolean)) => Some(*boolean),
            _ => None,
        };
        self.take(key, boolean, false)
    }

    fn listen(&mut self, key: &str) -> Listen {
        let listen = match self.values.get(key) {
            Some(Value::Listen(listen)) => Some(listen.clone()),
            _ => None,
        };
        self.take(key, listen, Listen::Unix(PathBuf::new()))
    }

    fn socket(&mut self, key: &str) -> SocketAddr {
        let socket = match self.values.get(key) {
            Some(Value::Socket(socket)) => Some(*socket),
            _ => None,
        };
        self.take(key, socket, SocketAddr::from(([127, 0, 0, 1], 0)))
    }
}
