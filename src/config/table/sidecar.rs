//! Owns the settings of the sidecar itself: where it listens, what it takes, how long it waits.
//! Must never hold a setting that only librdkafka reads: those are in `kafka.rs`.

use super::{Default, Kind, Setting};
use crate::partition::Partitioner;

const HOUR_MS: u64 = 3_600_000;

pub(super) fn settings() -> Vec<Setting> {
    let mut settings = service();
    settings.extend(sending());
    settings.extend(limits());
    settings.extend(requests());
    settings.extend(super::ports::settings());
    settings.extend(topics());
    settings.extend(dead_letters());
    settings.extend(operations());
    settings
}

fn service() -> Vec<Setting> {
    vec![
        Setting::of(
            "listen",
            Kind::Listen,
            "127.0.0.1:50051",
            "Where the gRPC service listens. Anything but loopback or a socket file needs `allow_remote`.",
        ),
        Setting::of(
            "allow_remote",
            Kind::Boolean,
            "false",
            "Whether `listen` may be reachable from other machines. The service asks nobody who they are.",
        ),
        Setting::of(
            "admin_listen",
            Kind::Socket,
            "127.0.0.1:9464",
            "Where metrics and probes listen. A pod's probes need 0.0.0.0.",
        ),
        Setting::of(
            "transactional_id_prefix",
            Kind::Text(100),
            "caas-gateway",
            "The first part of every transactional id, which is PREFIX.INSTANCE.LANE.",
        ),
        Setting::new(
            "instance_id",
            Kind::Text(255),
            Default::HostName,
            "The second part of every transactional id. A stable one is taken over at once after a restart; two sidecars with the same one fence each other.",
        ),
        Setting::unset(
            "spool.dir",
            Kind::Path,
            "Reserved for the spool, which is not built yet: any value is refused.",
        ),
    ]
}

fn sending() -> Vec<Setting> {
    vec![
        Setting::number(
            "send_timeout_ms",
            30_000,
            (1, HOUR_MS),
            "ms",
            "How long a call without a deadline, or a frame without a time-out, may take. At most `send_timeout_ms_max`.",
        ),
        Setting::number(
            "send_timeout_ms_max",
            300_000,
            (1, HOUR_MS),
            "ms",
            "The longest that a caller may ask for.",
        ),
        Setting::number(
            "deadline_margin_ms",
            20,
            (0, 1000),
            "ms",
            "How long before the caller's deadline the answer leaves, so that its details arrive.",
        ),
        Setting::number(
            "brokers_wait_ms",
            5000,
            (0, HOUR_MS),
            "ms",
            "How long a record waits in the sidecar for a broker connection before it is answered BROKERS_UNAVAILABLE.",
        ),
        Setting::number(
            "queue_records_max",
            100_000,
            (1, 10_000_000),
            "records",
            "The most records accepted and not yet answered; beyond it, QUEUE_FULL. One partition gets at most three times what is free, one tenant twice: three quarters and two thirds where all others are idle.",
        ),
        Setting::number(
            "queue_bytes_max",
            50_331_648,
            (1_048_576, 8_589_934_592),
            "bytes",
            "The most bytes of records accepted and not yet answered; beyond it, QUEUE_FULL. Shared as the records are. Kafka's client has a copy, so that they take twice as much memory.",
        ),
        Setting::number(
            "deduplication.message_ids_max",
            50_000,
            (0, 10_000_000),
            "ids",
            "How many message ids of records that have ended are remembered. 0 switches deduplication off.",
        ),
        Setting::number(
            "deduplication.window_ms",
            600_000,
            (1000, 24 * HOUR_MS),
            "ms",
            "For how long the message id of a record that has ended is remembered.",
        ),
    ]
}

fn limits() -> Vec<Setting> {
    vec![
        Setting::number(
            "record_bytes_max",
            1_000_000,
            (1024, 16_777_216),
            "bytes",
            "The largest record: key, value, header names and header values. Beyond it, RECORD_TOO_LARGE.",
        ),
        Setting::number("record_headers_max", 100, (0, 10_000), "headers", "The most headers of a record."),
        Setting::number(
            "frame_records_max",
            1000,
            (1, 1000),
            "records",
            "The most records of a frame of SendBatch; one with more ends its stream with INVALID_RECORD. At most `window_records`.",
        ),
        Setting::number(
            "frame_bytes_max",
            4_194_304,
            (1024, 67_108_864),
            "bytes",
            "The largest message of a caller: a frame of SendBatch, or a call, also once gzip has unpacked it. A larger one is RECORD_TOO_LARGE, and ends its stream. At least `record_bytes_max`, at most `queue_bytes_max`.",
        ),
        Setting::number(
            "window_records",
            10_000,
            (1, 1_000_000),
            "records",
            "The most records of one stream in flight; beyond it the stream is read into its buffer only.",
        ),
        Setting::number(
            "window_bytes",
            16_777_216,
            (1_048_576, 1_073_741_824),
            "bytes",
            "The most bytes of one stream in flight. At least `frame_bytes_max`.",
        ),
        Setting::number(
            "stream_buffer_bytes",
            1_048_576,
            (65_536, 1_073_741_824),
            "bytes",
            "The most bytes of frames of one stream that are read and wait for its window; a small frame counts as 256.",
        ),
        Setting::number(
            "responses_not_read_ms",
            30_000,
            (100, HOUR_MS),
            "milliseconds",
            "How long a stream may leave an answer unread before it is ended with RESPONSES_NOT_READ.",
        ),
    ]
}

/// What requests may take of the process while they are read and until they are answered.
fn requests() -> Vec<Setting> {
    vec![
        Setting::number(
            "requests_bytes_max",
            100_663_296,
            (8_388_608, 8_589_934_592),
            "bytes",
            "The memory of all requests from their first byte until they are answered or in the queue: small bodies get two eighths, those beyond 64 KiB three, what gzip unpacks one, decoded messages two. A request waits for its part before it is read. A request that would take more than its two eighths once it is decoded is INVALID_RECORD.",
        ),
        Setting::number(
            "requests_waiting_max",
            128,
            (1, 100_000),
            "requests",
            "The most requests that wait for each part of `requests_bytes_max`; beyond it, QUEUE_FULL. One waits at most `send_timeout_ms`, then QUEUE_FULL.",
        ),
        Setting::number(
            "body_ms_max",
            10_000,
            (100, HOUR_MS),
            "ms",
            "How long a call, or a frame from its first byte, may take until it is whole; beyond it, DEADLINE_NOT_WRITTEN. Waiting for memory does not count, and neither does the pause between two frames.",
        ),
        Setting::number(
            "streams_max",
            256,
            (1, 100_000),
            "streams",
            "The most SendBatch streams at once, all connections together; beyond it, QUEUE_FULL. One connection gets at most as many as are free: half of them if all others are idle.",
        ),
    ]
}

fn topics() -> Vec<Setting> {
    vec![
        Setting::number(
            "topic_refresh_ms",
            60_000,
            (1000, HOUR_MS),
            "ms",
            "How old a topic's known partition count may grow before it is asked for again.",
        ),
        Setting::number(
            "topic_unknown_ms",
            1000,
            (0, 60_000),
            "ms",
            "How long an unknown or forbidden topic is remembered as such.",
        ),
        Setting::number("topics_max", 10_000, (1, 1_000_000), "topics", "The most known topics kept."),
        Setting::number(
            "metrics_topics_max",
            200,
            (0, 10_000),
            "topics",
            "The most topics that get their own metric label; the others share `_other`.",
        ),
        Setting::of(
            "partitioner.default",
            Kind::Choice(PARTITIONERS),
            "tenant-md5",
            "The partition function of every topic that `partitioner.topics` does not name. All writers of a topic must use the same one.",
        ),
        Setting::unset(
            "partitioner.topics",
            Kind::Partitioners,
            "The partition functions of single topics. In the file a YAML map may be used.",
        ),
    ]
}

/// The names of `Partitioner::ALL`, which a choice needs as a constant.
const PARTITIONERS: &[&str] =
    &[Partitioner::TenantMd5.name(), Partitioner::JavaMurmur2.name(), Partitioner::LibrdkafkaCrc32.name()];

/// Where records go that failed for good.
fn dead_letters() -> Vec<Setting> {
    vec![
        Setting::of(
            "dead_letters.topic",
            Kind::Destination,
            "{topic}.dlq",
            "The topic of the dead letters of every topic that `dead_letters.topics` does not name; `{topic}` stands for that topic's name. It is not created. `off` for no dead letters.",
        ),
        Setting::unset(
            "dead_letters.topics",
            Kind::Destinations,
            "The topics of the dead letters of single topics. In the file a YAML map may be used.",
        ),
        Setting::number(
            "dead_letters.wait_ms",
            30_000,
            (100, HOUR_MS),
            "ms",
            "How long a dead letter is tried. Its caller is told at its own deadline at the latest.",
        ),
    ]
}

fn operations() -> Vec<Setting> {
    vec![
        Setting::number(
            "drain_ms",
            25_000,
            (0, HOUR_MS),
            "ms",
            "How long a stop waits for what is under way. Keep it below the pod's grace period.",
        ),
        Setting::of(
            "reflection",
            Kind::Boolean,
            "true",
            "Whether the service describes itself to tools such as grpcurl.",
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_partitioners_are_those_that_exist() {
        let names: Vec<_> = Partitioner::ALL.iter().map(|partitioner| partitioner.name()).collect();
        assert_eq!(names, PARTITIONERS);
    }
}
