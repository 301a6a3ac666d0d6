//! Owns the checks that take more than one setting, or that depend on what the settings are for.
//! Must never touch the disk or the network, and never conclude anything from a setting that was said wrongly.

use std::net::SocketAddr;

use super::{
    Listen, Purpose,
    choices::SecurityProtocol,
    problem::{Origin, Problem},
    table, traces,
    values::{Value, Values},
};

/// Pairs of which the first must not be above the second.
const ORDERED: &[(&str, &str)] = &[
    ("send_timeout_ms", "send_timeout_ms_max"),
    ("record_bytes_max", "frame_bytes_max"),
    ("record_bytes_max", "queue_bytes_max"),
    ("frame_bytes_max", "queue_bytes_max"),
    // A frame that is larger than its stream's window could never be taken.
    ("frame_records_max", "window_records"),
    ("frame_bytes_max", "window_bytes"),
    ("frame_bytes_max", "requests_bytes_max"),
    ("stream_window_bytes", "connection_window_bytes"),
    ("kafka.retry_backoff_ms", "kafka.retry_backoff_ms_max"),
    ("kafka.reconnect_backoff_ms", "kafka.reconnect_backoff_ms_max"),
    // A record that librdkafka drops before one request can fail leaves a gap behind which later ones land.
    ("kafka.socket_timeout_ms", "kafka.message_timeout_ms"),
    ("send_timeout_ms", "kafka.message_timeout_ms"),
];

/// Returns every problem between settings.
pub(super) fn check(values: &Values, purpose: Purpose) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (lesser, greater) in ORDERED {
        problems.extend(above(values, lesser, greater));
    }
    problems.extend(addresses(values));
    problems.extend(traces::check(values));
    if values.has("spool.dir") {
        problems.push(Problem::new(
            "spool.dir",
            values.origin("spool.dir"),
            "is set, and the spool is not built yet",
            "remove it",
        ));
    }
    if !values.has("instance_id") && !values.is_broken("instance_id") {
        let wrong = "is not set, and the host has no name";
        problems.push(unset(&["instance_id"], wrong, ""));
    }
    match purpose {
        Purpose::Serve => {
            problems.extend(brokers(values));
            problems.extend(security(values));
        }
        Purpose::Dev => {}
    }
    problems
}

fn above(values: &Values, lesser: &'static str, greater: &'static str) -> Option<Problem> {
    let (low, high) = (values.number(lesser)?, values.number(greater)?);
    if low <= high {
        return None;
    }
    // The problem stands where somebody said something.
    if values.origin(lesser) == Origin::Default {
        return Some(Problem::new(
            greater,
            values.origin(greater),
            format!("{high} is less than {lesser}, which is {low} ({})", values.origin(lesser)),
            format!("raise it to at least {low}, or lower {lesser}"),
        ));
    }
    Some(Problem::new(
        lesser,
        values.origin(lesser),
        format!("{low} is more than {greater}, which is {high} ({})", values.origin(greater)),
        format!("lower it to at most {high}, or raise {greater}"),
    ))
}

fn addresses(values: &Values) -> Vec<Problem> {
    let mut problems = Vec::new();
    let Some(Value::Listen(Listen::Tcp(listen))) = values.get("listen") else {
        return problems;
    };
    let remote_allowed = matches!(values.get("allow_remote"), Some(Value::Boolean(true)));
    let loopback = listen.ip().to_canonical().is_loopback();
    if !loopback && !remote_allowed && !values.is_broken("allow_remote") && !values.is_broken("listen") {
        problems.push(Problem::new(
            "listen",
            values.origin("listen"),
            format!("{listen} can be reached from other machines, and allow_remote is false"),
            "listen on 127.0.0.1, [::1] or unix:/path, or set allow_remote to true",
        ));
    }
    if let Some(Value::Socket(admin)) = values.get("admin_listen")
        && clash(*listen, *admin)
    {
        problems.push(Problem::new(
            "admin_listen",
            values.origin("admin_listen"),
            format!("{admin} is taken by listen, which is {listen} ({})", values.origin("listen")),
            "choose another port",
        ));
    }
    problems
}

/// Says whether both cannot be listened on at once; port 0 is a new one each time.
fn clash(one: SocketAddr, other: SocketAddr) -> bool {
    let overlap = one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port() && one.port() != 0 && overlap
}

fn brokers(values: &Values) -> Option<Problem> {
    let some = matches!(values.get("kafka.brokers"), Some(Value::Brokers(brokers)) if !brokers.is_empty());
    (!some && !values.is_broken("kafka.brokers"))
        .then(|| unset(&["kafka.brokers"], "is not set", " to a list such as kafka-1:9092"))
}

fn security(values: &Values) -> Vec<Problem> {
    let mut problems = Vec::new();
    let key = "kafka.security_protocol";
    let Some(protocol) = values.text(key).and_then(SecurityProtocol::parse) else {
        return problems;
    };
    let said = format!("{key} is {} ({})", protocol.name(), values.origin(key));
    if protocol.sasl() {
        for pair in [["kafka.user", "kafka.user_file"], ["kafka.password", "kafka.password_file"]] {
            if !pair.iter().any(|key| values.has(key) || values.is_broken(key)) {
                let wrong = format!("is not set, and {said}");
                problems.push(unset(&pair, &wrong, &format!(", or choose another {key}")));
            }
        }
    }
    if protocol.tls() {
        problems.extend(certificate(values));
    }
    problems
}

fn certificate(values: &Values) -> Vec<Problem> {
    let known = |key: &str| values.has(key) || values.is_broken(key);
    let needs = [
        ("kafka.certificate_file", "kafka.key_file"),
        ("kafka.key_file", "kafka.certificate_file"),
        ("kafka.key_password_file", "kafka.key_file"),
    ];
    let broken = needs.into_iter().filter(|(set, needed)| known(set) && !known(needed));
    broken
        .map(|(set, needed)| {
            let wrong = format!("is not set, and {set} is ({})", values.origin(set));
            unset(&[needed], &wrong, &format!(", or remove {set}"))
        })
        .collect()
}

/// Makes the problem of a setting that is missing; any of the keys would mend it.
fn unset(keys: &[&str], wrong: &str, after: &str) -> Problem {
    let settings = keys.iter().filter_map(|key| table::find(key));
    let ways: Vec<_> = settings
        .flat_map(|setting| {
            let flag = setting.flag.as_ref().map(|flag| format!("--{flag}"));
            [setting.environment.clone(), flag]
        })
        .flatten()
        .collect();
    let key = keys.first().copied().unwrap_or_default();
    let mend = format!("set {}{after}", ways.join(" or "));
    Problem::new(key, Origin::Nowhere, wrong, mend)
}

#[cfg(test)]
mod tests;
