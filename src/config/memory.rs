//! Owns the sum of what the settings let the process hold: the one place where the bounds are added up.
//! Must never leave out a bound that a caller can reach.
//!
//! What one of a kind takes was measured or follows from the code named beside it; the sum is a bound, and what is held in practice
//! is far below it.

use super::Config;

/// The process without callers: code, threads, librdkafka's clients, metrics. Measured at 14 MiB once it is connected.
const BASE_BYTES: usize = 24 << 20;
/// Key and value lie in our record and in librdkafka's message (`kafka/producer.rs`).
const QUEUE_COPIES: usize = 2;
/// An open connection: socket, h2's and hyper's state, a buffer for reading and one for writing.
const CONNECTION_BYTES: usize = 32 * 1024;
/// A call that waits: its stream in h2, hyper's task, its headers, our futures.
const CALL_BYTES: usize = 6 * 1024;
/// An open stream, beside its call: its task, its queues.
const STREAM_BYTES: usize = 16 * 1024;
/// What one stream's answers take that the connection does not take off us: what h2 buffers of them.
const ANSWERS_BYTES: usize = 64 * 1024;
/// What one stream has sent beyond its window of HTTP/2: the frame that was read last (`SETTINGS_MAX_FRAME_SIZE`).
const READ_FRAME_BYTES: usize = 16 * 1024;
/// Lines in which bodies wait for memory, small ones and large ones (`grpc/memory.rs`).
const WAITING_LINES: usize = 2;
/// A remembered message id with its receipt (`pipeline/duplicates/window.rs`).
const MESSAGE_ID_BYTES: usize = 320;

/// One part of the sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// What it is for.
    pub name: &'static str,
    /// How much it may be.
    pub bytes: usize,
}

/// Returns what the process may hold at most with these settings, part by part.
#[must_use]
pub fn parts(config: &Config) -> Vec<Part> {
    let limits = &config.limits;
    let unread = limits.stream_window_bytes.saturating_add(READ_FRAME_BYTES);
    let unread_max =
        limits.requests_waiting_max.saturating_mul(WAITING_LINES).saturating_add(limits.streams_max);
    let part = |name, count: usize, bytes: usize| Part { name, bytes: count.saturating_mul(bytes) };
    vec![
        part("the process itself", 1, BASE_BYTES),
        part("records in the queue (queue_bytes_max)", QUEUE_COPIES, config.queue.bytes_max),
        part(
            "requests that are read, decoded and answered (requests_bytes_max)",
            1,
            limits.requests_bytes_max,
        ),
        part("what HTTP/2 has received and nobody reads yet (stream_window_bytes)", unread_max, unread),
        part("streams (streams_max)", limits.streams_max, STREAM_BYTES),
        part("answers that streams do not read (streams_max)", limits.streams_max, ANSWERS_BYTES),
        part("calls (callers_max)", limits.callers_max, CALL_BYTES),
        part("connections (connections_max)", limits.connections_max, CONNECTION_BYTES),
        part(
            "connections of the admin port (admin_connections_max)",
            config.admin.connections_max,
            CONNECTION_BYTES,
        ),
        part("log lines that wait (log.queue_bytes_max)", 1, config.log.queue.bytes_max),
        part("message ids (deduplication.message_ids_max)", config.deduplication.ids_max, MESSAGE_ID_BYTES),
    ]
}

/// Returns the sum of all parts.
#[must_use]
pub fn bytes_max(config: &Config) -> usize {
    parts(config).iter().fold(0, |sum, part| sum.saturating_add(part.bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{
        Purpose,
        source::{Environment, Inputs, load},
    };

    fn config(variables: &[(&'static str, &'static str)]) -> Config {
        let given =
            [("SIDECAR_INSTANCE_ID", "one"), ("KAFKA_BROKERS", "a:1"), ("KAFKA_SECURITY_PROTOCOL", "SSL")];
        let environment = Environment::of(given.into_iter().chain(variables.iter().copied()));
        load(Inputs { config: None, flags: &[], environment: &environment }, Purpose::Serve).unwrap().config
    }

    /// Reads the memory limit of the component for Kubernetes, in bytes.
    fn manifest_bytes() -> usize {
        let manifest = include_str!("../../deploy/kubernetes/sidecar/sidecar.yaml");
        let (_, limits) = manifest.split_once("limits:").unwrap();
        let line = limits.lines().find_map(|line| line.trim().strip_prefix("memory: ")).unwrap();
        line.strip_suffix("Mi").unwrap().parse::<usize>().unwrap() << 20
    }

    #[test]
    fn the_defaults_fit_the_manifest() {
        let (most, limit) = (bytes_max(&config(&[])), manifest_bytes());
        assert!(most <= limit, "{} of {} MiB: {:#?}", most >> 20, limit >> 20, parts(&config(&[])));
        // A limit that nobody needs costs the node.
        assert!(most > limit / 8 * 7, "{} of {} MiB", most >> 20, limit >> 20);
    }

    #[test]
    fn each_bound_is_in_the_sum() {
        let least = bytes_max(&config(&[]));
        let raised = [
            ("SIDECAR_QUEUE_BYTES_MAX", "100000000"),
            ("SIDECAR_REQUESTS_BYTES_MAX", "200000000"),
            ("SIDECAR_REQUESTS_WAITING_MAX", "1000"),
            ("SIDECAR_STREAMS_MAX", "1000"),
            ("SIDECAR_STREAM_WINDOW_BYTES", "1000000"),
            ("SIDECAR_CALLERS_MAX", "100000"),
            ("SIDECAR_CONNECTIONS_MAX", "10000"),
            ("SIDECAR_ADMIN_CONNECTIONS_MAX", "1000"),
            ("SIDECAR_LOG_QUEUE_BYTES_MAX", "10000000"),
            ("SIDECAR_DEDUPLICATION_MESSAGE_IDS_MAX", "1000000"),
        ];
        for setting in raised {
            assert!(bytes_max(&config(&[setting])) > least, "{}", setting.0);
        }
    }
}
