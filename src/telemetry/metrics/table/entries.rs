//! Owns the rows of the table.
//! Must never say the same name twice.

use super::{
    Definition,
    Kind::{Counter, Gauge, Histogram, Info},
};

pub const SENT: Definition = Definition {
    name: "kafka_messages_sent",
    kind: Counter,
    unit: "",
    labels: &["topic", "status"],
    help: "Records whose outcome is known: success once in Kafka, else error",
    advice: "Alert on the share of `error`; `producer_failures_total` says why. What is refused while it is decoded counts there alone.",
};
pub const SEND_DURATION: Definition = Definition {
    name: "kafka_send_duration_ms",
    kind: Histogram,
    unit: "ms",
    labels: &["topic"],
    help: "Milliseconds from the arrival of a call, or of a stream's frame, to its answer",
    advice: "Alert on its 99th percentile. Its buckets carry the ids of sampled traces as exemplars: open one of a slow bucket.",
};
pub const FAILURES: Definition = Definition {
    name: "producer_failures",
    kind: Counter,
    unit: "",
    labels: &["reason"],
    help: "Failures answered, by reason",
    advice: "Look the reason up in [errors.md](errors.md). INTERNAL is a fault of the sidecar: report it.",
};
pub const DUPLICATES: Definition = Definition {
    name: "producer_duplicates",
    kind: Counter,
    unit: "",
    labels: &[],
    help: "Records answered by an earlier one with the same message id",
    advice: "A rise says that callers send again: see what they were answered the first time.",
};
pub const DEAD_LETTERS: Definition = Definition {
    name: "producer_dead_letters",
    kind: Counter,
    unit: "",
    labels: &["outcome"],
    help: "Records that failed for good, by what became of their dead letters: written, cut (written without what made it too large), failed",
    advice: "Alert on any; read them with `dlq list`. `failed` means that no letter was written, and the caller's error is the only trace.",
};
pub const OUTSTANDING_RECORDS: Definition = Definition {
    name: "producer_outstanding_records",
    kind: Gauge,
    unit: "records",
    labels: &[],
    help: "Records accepted and without outcome",
    advice: "Near `queue_records_max` callers are answered QUEUE_FULL.",
};
pub const OUTSTANDING_BYTES: Definition = Definition {
    name: "producer_outstanding_bytes",
    kind: Gauge,
    unit: "bytes",
    labels: &[],
    help: "Bytes of the records accepted and without outcome, with the overhead of each",
    advice: "Near `queue_bytes_max` callers are answered QUEUE_FULL.",
};
pub const WAITING_RECORDS: Definition = Definition {
    name: "producer_waiting_records",
    kind: Gauge,
    unit: "records",
    labels: &[],
    help: "Records in the sidecar's own lines, which Kafka's client does not have: until a broker is connected, the request before is answered, or it is their turn again",
    advice: "Few while all is well. Many say that brokers are away or slow: see `kafka_producer_connected` and the round trip.",
};
pub const WAITING_OLDEST_AGE: Definition = Definition {
    name: "producer_waiting_oldest_age_seconds",
    kind: Gauge,
    unit: "seconds",
    labels: &[],
    help: "Age of the oldest record in the sidecar's own lines; 0 where none waits",
    advice: "Alert before it reaches the callers' deadlines.",
};
pub const RETRIES: Definition = Definition {
    name: "producer_retries",
    kind: Counter,
    unit: "",
    labels: &[],
    help: "Records handed over again, because their request was refused for another record's sake or for its size, or their producer was replaced before it sent them",
    advice: "A steady rate says that some caller's records are refused again and again: see `producer_failures_total`.",
};

pub const CONNECTED: Definition = Definition {
    name: "kafka_producer_connected",
    kind: Gauge,
    unit: "",
    labels: &[],
    help: "1 while a broker lets the sidecar in, else 0",
    advice: "Alert where it is 0 for minutes; `/readyz` and the log say why.",
};
pub const QUEUE_RECORDS: Definition = Definition {
    name: "kafka_queue_records",
    kind: Gauge,
    unit: "records",
    labels: &[],
    help: "Records in librdkafka's queues and on the way, as of its last statistics (`kafka.statistics_ms`)",
    advice: "With few in `producer_waiting_records` and many here it is the brokers that are slow.",
};
pub const QUEUE_BYTES: Definition = Definition {
    name: "kafka_queue_bytes",
    kind: Gauge,
    unit: "bytes",
    labels: &[],
    help: "Bytes of the records in librdkafka's queues and on the way, as of its last statistics",
    advice: "Part of the process's memory.",
};
pub const ROUND_TRIP: Definition = Definition {
    name: "kafka_broker_round_trip_microseconds",
    kind: Gauge,
    unit: "microseconds",
    labels: &["broker"],
    help: "Mean round trip of a broker's requests, as of librdkafka's last statistics",
    advice: "One broker above the others is overloaded or far away; all of them point to the network, or to replicas that lag.",
};
pub const REQUEST_RETRIES: Definition = Definition {
    name: "kafka_request_retries",
    kind: Counter,
    unit: "",
    labels: &["broker"],
    help: "Requests that librdkafka sent again to a broker, as of its last statistics",
    advice: "A rate above 0 outside of restarts says that the broker loses connections or changes its leaders.",
};
pub const PRODUCER_REPLACED: Definition = Definition {
    name: "kafka_producer_replaced",
    kind: Counter,
    unit: "",
    labels: &["cause"],
    help: "Times that another producer took the place of the one in use, by cause: fatal, stuck, secrets",
    advice: "`secrets` is a rotation. Look into the log for any other.",
};
pub const SECRETS_REFUSED: Definition = Definition {
    name: "kafka_secrets_refused",
    kind: Gauge,
    unit: "",
    labels: &[],
    help: "1 while the files hold secrets or certificates that are not in use because they do not work, else 0",
    advice: "Alert on 1: the next start will fail with them. `/readyz` says what is wrong.",
};

pub const TRANSACTIONS: Definition = Definition {
    name: "producer_transactions",
    kind: Counter,
    unit: "",
    labels: &["outcome"],
    help: "Transactions that ended, by outcome: committed, aborted, fenced, unknown",
    advice: "`fenced` says that another process has the same instance id; `unknown` costs a new producer each time.",
};
pub const TRANSACTION_UNITS: Definition = Definition {
    name: "producer_transaction_units",
    kind: Histogram,
    unit: "units",
    labels: &[],
    help: "Calls of ProcessAndForward that shared a transaction",
    advice: "More are cheaper: see `transactions.linger_ms`.",
};
pub const LANES_READY: Definition = Definition {
    name: "producer_lanes_ready",
    kind: Gauge,
    unit: "",
    labels: &[],
    help: "Transactional producers that take a transaction",
    advice: "0 for long while Kafka is connected: the log says what their initialisation meets.",
};
pub const LANES_REPLACED: Definition = Definition {
    name: "producer_lanes_replaced",
    kind: Counter,
    unit: "",
    labels: &[],
    help: "Transactional producers given up for new ones under the same id",
    advice: "Follows `fenced` and `unknown` outcomes.",
};
pub const LANES_ABANDONED: Definition = Definition {
    name: "producer_lanes_abandoned",
    kind: Counter,
    unit: "",
    labels: &[],
    help: "Threads left behind in a call that did not come back",
    advice: "Alert on any: each keeps its memory until the process ends.",
};

pub const CALL_DURATION: Definition = Definition {
    name: "rpc_server_call_duration_seconds",
    kind: Histogram,
    unit: "seconds",
    labels: &["rpc_method", "rpc_response_status_code"],
    help: "Duration of gRPC calls, of a stream from its start to its end; methods that the sidecar does not have are _OTHER",
    advice: "Rates by code are the first look at what callers see. CANCELLED are calls that their callers left.",
};

pub const CONNECTIONS: Definition = Definition {
    name: "producer_connections",
    kind: Gauge,
    unit: "connections",
    labels: &["port"],
    help: "Open connections of a port, grpc or admin",
    advice: "Near `connections_max` or `admin_connections_max`, idle connections are closed to make room for new ones.",
};
pub const CONNECTIONS_CLOSED: Definition = Definition {
    name: "producer_connections_closed",
    kind: Counter,
    unit: "",
    labels: &["port", "reason"],
    help: "Connections that ended: ended (by the peer), broken, no_handshake (it never began), silent (no answer to a PING), made_room (idle, and the port full), stopping",
    advice: "`no_handshake` and `made_room` say that somebody opens connections without using them; `silent` that peers vanish.",
};
pub const CONNECTIONS_REFUSED: Definition = Definition {
    name: "producer_connections_refused",
    kind: Counter,
    unit: "",
    labels: &["port", "reason"],
    help: "Connections that were not taken: full (the port is full and no connection is idle), accept_failed (mostly because no file descriptor is left)",
    advice: "Alert on any. `full`: raise `connections_max` or have callers share connections. `accept_failed`: see `process_open_fds`.",
};

pub const PROCESS_CPU: Definition = Definition {
    name: "process_cpu_seconds",
    kind: Counter,
    unit: "seconds",
    labels: &[],
    help: "Processor time spent, by the user and by the system",
    advice: "A rate near the container's limit throttles the sidecar.",
};
pub const PROCESS_RESIDENT_MEMORY: Definition = Definition {
    name: "process_resident_memory_bytes",
    kind: Gauge,
    unit: "bytes",
    labels: &[],
    help: "Memory that is resident",
    advice: "Compare with the container's limit; `queue_bytes_max` bounds most of it.",
};
pub const PROCESS_VIRTUAL_MEMORY: Definition = Definition {
    name: "process_virtual_memory_bytes",
    kind: Gauge,
    unit: "bytes",
    labels: &[],
    help: "Memory that is mapped",
    advice: "Of little use by itself: stacks and arenas are reserved, not used.",
};
pub const PROCESS_OPEN_FDS: Definition = Definition {
    name: "process_open_fds",
    kind: Gauge,
    unit: "",
    labels: &[],
    help: "Open file descriptors",
    advice: "Grows with callers' connections and with brokers.",
};
pub const PROCESS_MAX_FDS: Definition = Definition {
    name: "process_max_fds",
    kind: Gauge,
    unit: "",
    labels: &[],
    help: "The most file descriptors that may be open",
    advice: "Alert where `process_open_fds` comes near: connections are then not accepted.",
};
pub const PROCESS_THREADS: Definition = Definition {
    name: "process_threads",
    kind: Gauge,
    unit: "",
    labels: &[],
    help: "Threads of the process",
    advice: "librdkafka has some for each producer and broker; growth without end is a fault.",
};
pub const PROCESS_START_TIME: Definition = Definition {
    name: "process_start_time_seconds",
    kind: Gauge,
    unit: "seconds",
    labels: &[],
    help: "When the process started, since the epoch",
    advice: "A change is a restart.",
};
pub const LOG_LINES_LOST: Definition = Definition {
    name: "producer_log_lines_lost",
    kind: Counter,
    unit: "",
    labels: &["cause"],
    help: "Log lines that were not written: cause is not_read if standard error was not read fast enough, rate_limited if one place of the program wrote too many",
    advice: "With `not_read`, mend the reader of the log or raise `log.queue_lines_max`. With `rate_limited`, read the lines that were written: something repeats.",
};
pub const TASK_PANICS: Definition = Definition {
    name: "producer_task_panics",
    kind: Counter,
    unit: "",
    labels: &["task"],
    help: "Tasks and threads of the sidecar that panicked, by name",
    advice: "Alert on any: it is a bug, and the log has its text. The sidecar stops by itself if it cannot work without the task.",
};
pub const BUILD: Definition = Definition {
    name: "producer_build",
    kind: Info,
    unit: "",
    labels: &["version", "librdkafka_version", "openssl_version"],
    help: "The build of this process",
    advice: "Join it with others to compare versions during a rollout.",
};
