//! Tests of the checks between settings.

use std::net::SocketAddr;

use super::clash;
use crate::config::{
    Purpose,
    source::{Environment, Inputs, load},
};

fn told(variables: &[(&str, &str)]) -> String {
    let all = [("SIDECAR_INSTANCE_ID", "one")].iter().chain(variables).copied();
    let environment = Environment::of(all);
    let result = load(Inputs { config: None, flags: &[], environment: &environment }, Purpose::Dev);
    result.map_or_else(|problems| problems.to_string(), |_| String::new())
}

#[test]
fn the_problem_stands_where_something_was_said() {
    let cases: [(&[(&str, &str)], &str); 8] = [
        (
            &[("SIDECAR_SEND_TIMEOUT_MS", "300001")],
            "send_timeout_ms (environment SIDECAR_SEND_TIMEOUT_MS): 300001 is more than send_timeout_ms_max, which is 300000 (default); lower it to at most 300000, or raise send_timeout_ms_max\n\
             send_timeout_ms (environment SIDECAR_SEND_TIMEOUT_MS): 300001 is more than kafka.message_timeout_ms, which is 300000 (default); lower it to at most 300000, or raise kafka.message_timeout_ms",
        ),
        (
            &[("SIDECAR_SEND_TIMEOUT_MS_MAX", "29999")],
            "send_timeout_ms_max (environment SIDECAR_SEND_TIMEOUT_MS_MAX): 29999 is less than send_timeout_ms, which is 30000 (default); raise it to at least 30000, or lower send_timeout_ms",
        ),
        (
            &[("SIDECAR_RECORD_BYTES_MAX", "4194305")],
            "record_bytes_max (environment SIDECAR_RECORD_BYTES_MAX): 4194305 is more than frame_bytes_max, which is 4194304 (default); lower it to at most 4194304, or raise frame_bytes_max",
        ),
        (
            &[("SIDECAR_QUEUE_BYTES_MAX", "1048576")],
            "queue_bytes_max (environment SIDECAR_QUEUE_BYTES_MAX): 1048576 is less than frame_bytes_max, which is 4194304 (default); raise it to at least 4194304, or lower frame_bytes_max",
        ),
        (
            &[("SIDECAR_WINDOW_RECORDS", "10")],
            "window_records (environment SIDECAR_WINDOW_RECORDS): 10 is less than frame_records_max, which is 1000 (default); raise it to at least 1000, or lower frame_records_max",
        ),
        (
            &[("SIDECAR_KAFKA_RECONNECT_BACKOFF_MS", "2000")],
            "kafka.reconnect_backoff_ms (environment SIDECAR_KAFKA_RECONNECT_BACKOFF_MS): 2000 is more than kafka.reconnect_backoff_ms_max, which is 1000 (default); lower it to at most 1000, or raise kafka.reconnect_backoff_ms_max",
        ),
        (
            &[("SIDECAR_ADMIN_LISTEN", "0.0.0.0:50051")],
            "admin_listen (environment SIDECAR_ADMIN_LISTEN): 0.0.0.0:50051 is taken by listen, which is 127.0.0.1:50051 (default); choose another port",
        ),
        // Nothing is concluded from what was said wrongly.
        (
            &[("SIDECAR_SEND_TIMEOUT_MS", "300000"), ("SIDECAR_SEND_TIMEOUT_MS_MAX", "x")],
            "send_timeout_ms_max (environment SIDECAR_SEND_TIMEOUT_MS_MAX): \"x\" is not a whole number in decimal digits; write a whole number of ms from 1 to 3600000",
        ),
    ];
    for (variables, expected) in cases {
        assert_eq!(told(variables), expected);
    }
}

#[test]
fn loopback_needs_no_permission() {
    for listen in
        ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1", "localhost:1", "unix:/run/s.sock"]
    {
        assert_eq!(told(&[("SIDECAR_LISTEN", listen)]), "", "{listen}");
    }
    for listen in ["0.0.0.0:1", "[::]:1", "10.0.0.1:1"] {
        assert!(told(&[("SIDECAR_LISTEN", listen)]).contains("other machines"), "{listen}");
        assert_eq!(told(&[("SIDECAR_LISTEN", listen), ("SIDECAR_ALLOW_REMOTE", "true")]), "", "{listen}");
    }
}

#[test]
fn addresses_clash_where_one_covers_the_other() {
    let cases = [
        ("127.0.0.1:1", "127.0.0.1:1", true),
        ("127.0.0.1:1", "127.0.0.1:2", false),
        ("127.0.0.1:1", "127.0.0.2:1", false),
        ("127.0.0.1:1", "0.0.0.0:1", true),
        ("127.0.0.1:0", "127.0.0.1:0", false),
    ];
    for (one, other, expected) in cases {
        let parse = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert_eq!(clash(parse(one), parse(other)), expected, "{one} {other}");
    }
}
