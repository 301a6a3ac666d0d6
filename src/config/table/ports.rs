//! Owns the settings of the two ports: how many connections and calls they take, and how long a peer may take for what it owes.
//! Must never hold a setting of what a call brings: those are in `sidecar.rs`.

use super::Setting;

const HOUR_MS: u64 = 3_600_000;

pub(super) fn settings() -> Vec<Setting> {
    let mut settings = connections();
    settings.extend(windows());
    settings.extend(admin());
    settings
}

fn connections() -> Vec<Setting> {
    vec![
        Setting::number(
            "callers_max",
            8192,
            (1024, 1_000_000),
            "calls",
            "The most calls in progress at once, all connections together; beyond it, QUEUE_FULL. One connection gets at most as many as are free: half of them if all others are idle.",
        ),
        Setting::number(
            "streams_per_connection_max",
            8192,
            (1, 100_000),
            "calls",
            "The most calls in progress at once on one connection.",
        ),
        Setting::number(
            "connections_max",
            1024,
            (1, 100_000),
            "connections",
            "The most connections of callers at once. A newcomer beyond it takes the place of one that never began, or has been idle for `connection_idle_ms_min`; if there is none, it is refused at once.",
        ),
        Setting::number(
            "connection_idle_ms_min",
            10_000,
            (0, HOUR_MS),
            "ms",
            "For how long a connection must have had no call in progress before it makes room for a newcomer. It is closed with GOAWAY.",
        ),
        Setting::number(
            "handshake_ms_max",
            10_000,
            (100, HOUR_MS),
            "ms",
            "How long a caller may take to begin a connection (HTTP/2's preface). After it the connection is closed.",
        ),
        Setting::number(
            "keepalive_ms",
            30_000,
            (100, HOUR_MS),
            "ms",
            "After how long without a byte from a caller it is sent a PING (HTTP/2), so that one that vanished is noticed.",
        ),
        Setting::number(
            "keepalive_timeout_ms",
            20_000,
            (100, HOUR_MS),
            "ms",
            "How long the answer to that PING may take. After it the connection is closed.",
        ),
    ]
}

/// What HTTP/2 lets a caller send.
fn windows() -> Vec<Setting> {
    vec![
        Setting::number(
            "stream_window_bytes",
            65_536,
            (65_536, 16_777_216),
            "bytes",
            "What a caller may send on one stream before it is read (HTTP/2's window). A larger one lets more tiny frames lie unread, for which HTTP/2 closes connections.",
        ),
        Setting::number(
            "connection_window_bytes",
            536_870_912,
            (1_048_576, 2_147_483_647),
            "bytes",
            "What a caller may send on one connection before it is read. Half of it is what HTTP/2 allows for tiny frames that lie unread.",
        ),
        Setting::number(
            "header_list_bytes_max",
            16_384,
            (1024, 1_048_576),
            "bytes",
            "The largest metadata of a call.",
        ),
    ]
}

/// The bounds of the admin port.
fn admin() -> Vec<Setting> {
    vec![
        Setting::number(
            "admin_connections_max",
            128,
            (4, 10_000),
            "connections",
            "The most connections of the admin port at once. A newcomer beyond it takes the place of one without a request in progress.",
        ),
        Setting::number(
            "admin_request_ms_max",
            10_000,
            (100, HOUR_MS),
            "ms",
            "How long a request of the admin port may take to arrive, and how long a connection may wait for its next one.",
        ),
    ]
}
