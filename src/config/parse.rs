//! Owns how a setting's text becomes a value of its kind, with all that is wrong with it.
//! Must never conclude anything from two settings (`checks.rs`), and never quote a secret.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use secrecy::SecretString;

use super::{
    Broker, Listen, librdkafka,
    problem::{Origin, Problem},
    table::{Kind, Setting},
    values::Value,
};
use crate::{dead_letter::Destination, partition::Partitioner, record::Topic};

/// The longest part of a wrong value that is quoted, in characters.
const QUOTED_CHARACTERS_MAX: usize = 80;
/// The longest path of a socket file, in bytes (`sun_path` of Linux, without its end).
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// A value as it was written.
#[derive(Clone)]
pub(super) enum Raw {
    /// A text.
    Text(String),
    /// A list, each item at its own place.
    List(Vec<Item>),
    /// A map, each entry at its own place.
    Map(Vec<(Item, Item)>),
}

/// A text with its place.
#[derive(Clone)]
pub(super) struct Item {
    pub(super) text: String,
    pub(super) place: Origin,
}

/// What is wrong with a text, and what to write instead.
struct Fault {
    wrong: String,
    mend: String,
}

type Parsed<T> = Result<T, Fault>;

/// Parses a value; none where anything is wrong, which is then among the problems.
pub(super) fn parse(
    setting: &Setting,
    raw: Raw,
    place: &Origin,
    problems: &mut Vec<Problem>,
) -> Option<Value> {
    let before = problems.len();
    let mut report = |place: &Origin, fault: Fault| {
        problems.push(Problem::new(setting.key, place.clone(), fault.wrong, fault.mend));
    };
    let value = match (setting.kind, raw) {
        (Kind::Brokers, raw @ (Raw::Text(_) | Raw::List(_))) => Some(brokers(items(raw, place), &mut report)),
        (Kind::Partitioners, raw @ (Raw::Text(_) | Raw::Map(_))) => {
            Some(partitioners(entries(raw, place, &mut report), &mut report))
        }
        (Kind::Destinations, raw @ (Raw::Text(_) | Raw::Map(_))) => {
            Some(destinations(entries(raw, place, &mut report), &mut report))
        }
        (Kind::Properties, Raw::Map(entries)) => Some(properties(entries, &mut report)),
        (kind, Raw::Text(text)) => scalar(kind, text).map_err(|fault| report(place, fault)).ok(),
        (_, Raw::List(_)) => {
            report(place, fault("is a list", format!("write {}", setting.takes())));
            None
        }
        (_, Raw::Map(_)) => {
            report(place, fault("is a map", format!("write {}", setting.takes())));
            None
        }
    };
    value.filter(|_| problems.len() == before)
}

/// Checks a secret that is about to be handed to librdkafka.
pub(super) fn secret(text: String) -> Result<SecretString, (String, String)> {
    if text.is_empty() {
        return Err(("is empty".into(), "put the secret into it".into()));
    }
    if text.contains('\0') {
        return Err(("holds a zero byte, which librdkafka cannot take".into(), "use a text".into()));
    }
    Ok(SecretString::from(text))
}

fn scalar(kind: Kind, text: String) -> Parsed<Value> {
    match kind {
        Kind::Text(bytes_max) => plain_text(text, bytes_max).map(Value::Text),
        Kind::Secret => secret(text).map(Value::Secret).map_err(|(wrong, mend)| fault(wrong, mend)),
        Kind::Choice(names) => choice(&text, names).map(Value::Text),
        Kind::Number { min, max, unit } => number(&text, min, max, unit).map(Value::Number),
        Kind::Boolean => boolean(&text).map(Value::Boolean),
        Kind::Path => plain_text(text, 4096).map(|text| Value::Path(PathBuf::from(text))),
        Kind::Listen => listen(&text).map(Value::Listen),
        Kind::Socket => socket(&text).map(Value::Socket),
        Kind::Destination => destination(&text).map(Value::Destination),
        Kind::Brokers | Kind::Partitioners | Kind::Destinations | Kind::Properties => {
            Err(fault("is a single text", "write a YAML map in the file"))
        }
    }
}

fn plain_text(text: String, bytes_max: usize) -> Parsed<String> {
    if text.is_empty() {
        return Err(fault("is empty", "remove it or give it a value"));
    }
    if text.len() > bytes_max {
        return Err(fault(format!("has {} bytes", text.len()), format!("write at most {bytes_max}")));
    }
    if text.chars().any(char::is_control) {
        return Err(fault(
            format!("{} holds a control character", quoted(&text)),
            "write it on one line, without control characters",
        ));
    }
    Ok(text)
}

fn choice(text: &str, names: &[&str]) -> Parsed<String> {
    let found = names.iter().find(|name| name.eq_ignore_ascii_case(text));
    found.map(|name| (*name).to_owned()).ok_or_else(|| {
        fault(format!("{} is not known", quoted(text)), format!("write one of {}", names.join(", ")))
    })
}

fn number(text: &str, min: u64, max: u64, unit: &str) -> Parsed<u64> {
    let mend = || format!("write a whole number of {unit} from {min} to {max}");
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // A leading zero means octal to some readers of YAML and nothing to others.
    if !digits || (text.len() > 1 && text.starts_with('0')) {
        let wrong = format!("{} is not a whole number in decimal digits", quoted(text));
        return Err(fault(wrong, mend()));
    }
    // Only digits are left, so that parsing fails for what is too large alone.
    let number = text.parse().unwrap_or(u64::MAX);
    if number < min {
        return Err(fault(format!("{} is below the least, {min} {unit}", quoted(text)), mend()));
    }
    if number > max {
        return Err(fault(format!("{} is above the most, {max} {unit}", quoted(text)), mend()));
    }
    Ok(number)
}

fn boolean(text: &str) -> Parsed<bool> {
    match text {
        _ if text.eq_ignore_ascii_case("true") => Ok(true),
        _ if text.eq_ignore_ascii_case("false") => Ok(false),
        _ => Err(fault(format!("{} is neither true nor false", quoted(text)), "write true or false")),
    }
}

fn listen(text: &str) -> Parsed<Listen> {
    let Some(path) = text.strip_prefix("unix:") else {
        return socket(text).map(Listen::Tcp);
    };
    if !path.starts_with('/') || path.len() > SOCKET_PATH_BYTES_MAX || path.chars().any(char::is_control) {
        return Err(fault(
            format!("{} is no socket file's path", quoted(text)),
            format!("write unix:/ and an absolute path of at most {SOCKET_PATH_BYTES_MAX} bytes"),
        ));
    }
    Ok(Listen::Unix(PathBuf::from(path)))
}

fn socket(text: &str) -> Parsed<SocketAddr> {
    // A name is resolved by nobody here, save the one that means the same everywhere.
    if let Some(port) = text.strip_prefix("localhost:").and_then(port) {
        return Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    }
    text.parse().map_err(|_not_an_address| {
        fault(
            format!("{} is no address and port", quoted(text)),
            "write an IP address and a port, such as 127.0.0.1:50051 or [::1]:50051",
        )
    })
}

fn port(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

fn items(raw: Raw, place: &Origin) -> Vec<Item> {
    match raw {
        Raw::List(items) => items,
        Raw::Text(text) => {
            text.split(',').map(|part| Item { text: part.trim().to_owned(), place: place.clone() }).collect()
        }
        Raw::Map(_) => Vec::new(),
    }
}

fn entries(raw: Raw, place: &Origin, report: &mut impl FnMut(&Origin, Fault)) -> Vec<(Item, Item)> {
    if let Raw::Map(entries) = raw {
        return entries;
    }
    let mut entries = Vec::new();
    for Item { text, place } in items(raw, place) {
        let item = |text: &str| Item { text: text.trim().to_owned(), place: place.clone() };
        match text.split_once('=') {
            Some((name, value)) => entries.push((item(name), item(value))),
            None => report(
                &place,
                fault(format!("{} has no '='", quoted(&text)), "write topic=partitioner, comma separated"),
            ),
        }
    }
    entries
}

fn brokers(items: Vec<Item>, report: &mut impl FnMut(&Origin, Fault)) -> Value {
    let mut brokers = Vec::new();
    for Item { text, place } in items {
        match broker(&text) {
            Some(broker) => brokers.push(broker),
            None => report(
                &place,
                fault(
                    format!("{} is no host and port", quoted(&text)),
                    "write host:port, such as kafka-1:9092 or [::1]:9092",
                ),
            ),
        }
    }
    Value::Brokers(brokers)
}

fn broker(text: &str) -> Option<Broker> {
    let (host, port_text) = text.rsplit_once(':')?;
    let port = port(port_text).filter(|port| *port > 0)?;
    let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let host = match bracketed {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok().then_some(address),
        None => host_name(host).then_some(host),
    }?;
    Some(Broker { host: host.to_owned(), port })
}

/// Says whether the text may be a host's name or an IPv4 address; the underscore is wrong in DNS and common in Compose.
fn host_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    (1..=253).contains(&text.len()) && text.bytes().all(allowed)
}

fn partitioners(entries: Vec<(Item, Item)>, report: &mut impl FnMut(&Origin, Fault)) -> Value {
    let read = |_topic: Option<&Topic>, text: &str| {
        Partitioner::parse(text).ok_or_else(|| {
            let names = Partitioner::ALL.map(Partitioner::name).join(", ");
            fault(format!("{} is no partitioner", quoted(text)), format!("write one of {names}"))
        })
    };
    Value::Partitioners(by_topic(entries, report, read))
}

fn destinations(entries: Vec<(Item, Item)>, report: &mut impl FnMut(&Origin, Fault)) -> Value {
    let read = |topic: Option<&Topic>, text: &str| {
        let destination = destination(text)?;
        match topic.map(|topic| destination.of(topic)) {
            Some(Err(error)) => Err(fault(
                format!("{} takes no dead letters: {error}", quoted(text)),
                "write a shorter name, or off",
            )),
            Some(Ok(None)) if destination != Destination::Off => {
                Err(fault(format!("{} is the topic itself", quoted(text)), "write another topic, or off"))
            }
            Some(Ok(_)) | None => Ok(destination),
        }
    };
    Value::Destinations(by_topic(entries, report, read))
}

fn destination(text: &str) -> Parsed<Destination> {
    Destination::parse(text).map_err(|error| {
        let wrong = format!("{} is no topic for dead letters: it {error}", quoted(text));
        fault(wrong, "write a topic's name, one with {topic} in it, or off")
    })
}

/// Reads a map from topics to something.
fn by_topic<T>(
    entries: Vec<(Item, Item)>,
    report: &mut impl FnMut(&Origin, Fault),
    read: impl Fn(Option<&Topic>, &str) -> Parsed<T>,
) -> HashMap<Topic, T> {
    let mut topics = HashMap::new();
    for (name, value) in entries {
        let topic = Topic::parse(&name.text).map_err(|error| {
            let wrong = format!("{} is no topic: it {error}", quoted(&name.text));
            report(&name.place, fault(wrong, "write a topic's name"));
        });
        let read = read(topic.as_ref().ok(), &value.text).map_err(|fault| report(&value.place, fault));
        let (Ok(topic), Ok(read)) = (topic, read) else { continue };
        if topics.insert(topic, read).is_some() {
            let wrong = format!("{} is said twice", quoted(&name.text));
            report(&name.place, fault(wrong, "say it once"));
        }
    }
    topics
}

fn properties(entries: Vec<(Item, Item)>, report: &mut impl FnMut(&Origin, Fault)) -> Value {
    let mut properties = BTreeMap::new();
    for (name, value) in entries {
        let well_formed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_');
        if name.text.is_empty() || !name.text.bytes().all(well_formed) {
            let wrong = format!("{} is no property of librdkafka", quoted(&name.text));
            report(&name.place, fault(wrong, "write a name such as client.rack"));
        } else if let Some(reason) = librdkafka::reserved(&name.text) {
            let wrong = format!("{} is reserved: {reason}", quoted(&name.text));
            report(&name.place, fault(wrong, "remove it"));
        } else if value.text.chars().any(char::is_control) {
            let wrong = format!("the value of {} holds a control character", quoted(&name.text));
            report(&value.place, fault(wrong, "write it on one line"));
        } else {
            properties.insert(name.text, SecretString::from(value.text));
        }
    }
    Value::Properties(properties)
}

fn fault(wrong: impl Into<String>, mend: impl Into<String>) -> Fault {
    Fault { wrong: wrong.into(), mend: mend.into() }
}

/// Quotes a value, cut where it is long.
fn quoted(text: &str) -> String {
    let cut: String = text.chars().take(QUOTED_CHARACTERS_MAX).collect();
    let more = if cut.len() < text.len() { "..." } else { "" };
    format!("{cut:?}{more}")
}

#[cfg(test)]
mod tests;
