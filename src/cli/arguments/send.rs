//! Owns the arguments of `send`.
//! Must never look at what is sent: values are bytes of the tenants.

use std::{fmt, path::PathBuf, time::Duration};

use clap::{Arg, ArgAction, ArgGroup, ArgMatches, Command};

use super::UsageExit;

/// The longest time-out that can be asked for.
const TIMEOUT_MAX: Duration = Duration::from_secs(3600);

/// What to send, and through which sidecar; `Debug` prints neither key, header values nor payload.
#[derive(Clone, PartialEq, Eq)]
pub struct SendArguments {
    /// The topic, not yet checked.
    pub topic: String,
    /// The key; none is Kafka's null.
    pub key: Option<String>,
    /// The headers in order.
    pub headers: Vec<(String, String)>,
    /// The id for deduplication.
    pub message_id: Option<String>,
    /// The value.
    pub payload: Payload,
    /// How long the call may take; the sidecar's own limit where unset.
    pub timeout: Option<Duration>,
    /// Where the sidecar listens.
    pub address: Address,
}

/// The value of the record to send.
#[derive(Clone, PartialEq, Eq)]
pub enum Payload {
    /// The bytes of this text.
    Text(String),
    /// All that standard input holds.
    StandardInput,
    /// No value: Kafka's null.
    Tombstone,
}

/// Where a sidecar listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// `host:port`; the host may be a name.
    Tcp(String),
    /// The path of a socket file.
    Unix(PathBuf),
}

pub(super) fn command() -> Command {
    let long = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    Command::new("send")
        .about("Send one record through a running sidecar")
        .arg(long("topic", "TOPIC", "The topic").required(true))
        .arg(long("key", "KEY", "The key; without it the record has none"))
        .arg(
            long("header", "NAME=VALUE", "A header; may be repeated")
                .action(ArgAction::Append)
                .value_parser(header),
        )
        .arg(long("message-id", "ID", "The id by which the sidecar recognises a repeated record"))
        .arg(
            long("tombstone", "", "Send no value, which deletes the key on a compacted topic")
                .action(ArgAction::SetTrue),
        )
        .arg(long("timeout", "DURATION", "How long to wait, such as 500ms, 5s or 2m").value_parser(duration))
        .arg(
            long("address", "ADDRESS", "Where the sidecar listens: host:port or unix:/path")
                .default_value("127.0.0.1:50051")
                .value_parser(address),
        )
        .arg(
            Arg::new("value")
                .value_name("VALUE")
                .allow_negative_numbers(true)
                .help("The value; - reads it from standard input"),
        )
        // Nothing forgotten may delete: a tombstone has to be asked for.
        .group(ArgGroup::new("payload").args(["tombstone", "value"]).required(true))
}

pub(super) fn arguments(matches: &ArgMatches) -> Result<SendArguments, UsageExit> {
    let text = |name: &str| matches.get_one::<String>(name).cloned();
    let payload = match text("value") {
        Some(value) if value == "-" => Payload::StandardInput,
        Some(value) => Payload::Text(value),
        None => Payload::Tombstone,
    };
    let headers = matches.get_many::<(String, String)>("header");
    let (Some(topic), Some(address)) = (text("topic"), matches.get_one::<Address>("address")) else {
        // clap has refused both before.
        return Err(UsageExit::wrong(command().render_help().to_string()));
    };
    Ok(SendArguments {
        topic,
        key: text("key"),
        headers: headers.into_iter().flatten().cloned().collect(),
        message_id: text("message-id"),
        payload,
        timeout: matches.get_one::<Duration>("timeout").copied(),
        address: address.clone(),
    })
}

fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        Some(_) => Err("the name is empty".to_owned()),
        None => Err("write NAME=VALUE".to_owned()),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit_ms = match unit {
        "ms" => Some(1),
        "s" => Some(1000),
        "m" => Some(60_000),
        _ => None,
    };
    number
        .parse::<u64>()
        .ok()
        .zip(unit_ms)
        .and_then(|(number, unit_ms)| number.checked_mul(unit_ms))
        .map(Duration::from_millis)
        .filter(|duration| !duration.is_zero() && *duration <= TIMEOUT_MAX)
        .ok_or_else(|| "write a whole number with ms, s or m, from 1ms to 60m".to_owned())
}

fn address(text: &str) -> Result<Address, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        return if path.starts_with('/') {
            Ok(Address::Unix(PathBuf::from(path)))
        } else {
            Err("write unix: and an absolute path".to_owned())
        };
    }
    let parts = text.rsplit_once(':');
    match parts.map(|(host, port)| (host, port.parse::<u16>())) {
        Some((host, Ok(port))) if !host.is_empty() && port > 0 => Ok(Address::Tcp(text.to_owned())),
        Some(_) | None => Err("write host:port or unix:/path".to_owned()),
    }
}

// === impl SendArguments ===

impl fmt::Debug for SendArguments {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("SendArguments")
            .field("topic", &self.topic)
            .field("headers", &self.headers.len())
            .field("payload", &self.payload)
            .field("timeout", &self.timeout)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(formatter, "Text({} bytes)", text.len()),
            Self::StandardInput => formatter.write_str("StandardInput"),
            Self::Tombstone => formatter.write_str("Tombstone"),
        }
    }
}
