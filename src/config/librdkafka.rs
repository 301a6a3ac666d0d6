//! Owns how the settings become librdkafka's properties, and which of its properties nobody may set.
//! Must never create a client: it hands out pairs, whose secret values `Debug` does not print.

use std::{collections::BTreeMap, fmt, time::Duration};

use secrecy::{ExposeSecret as _, SecretString};

use super::{Config, Credentials, Purpose, Security, Tls, table};

/// The bytes that a record's framing may add on the wire, so that librdkafka never refuses what our own limit lets through.
const MESSAGE_OVERHEAD_BYTES: usize = 65_536;
/// librdkafka's own upper bound of `message.max.bytes` (CONFIGURATION.md).
const MESSAGE_BYTES_BOUND: usize = 1_000_000_000;
/// The records that librdkafka's queue holds beyond ours: ours must be the one that fills first, because it answers truthfully.
const QUEUE_RECORDS_HEADROOM: usize = 10_000;
/// The smallest headroom of librdkafka's queue in KiB.
const QUEUE_KIB_HEADROOM: usize = 1024;

/// The properties that no setting changes.
const FIXED: &[(&str, &str)] = &[
    ("enable.idempotence", "true"),
    ("acks", "all"),
    ("max.in.flight.requests.per.connection", "5"),
    ("socket.keepalive.enable", "true"),
    ("enable.metrics.push", "false"),
];

/// The properties that `kafka.properties` must not name, beyond those that settings own; a star stands for any ending.
const RESERVED: &[(&str, &str)] = &[
    ("security.protocol", BY_SETTING),
    ("sasl.*", BY_SETTING),
    ("ssl.*", BY_SETTING),
    ("ssl_*", BY_SETTING),
    ("https.*", BY_SETTING),
    ("enable.sasl.*", BY_SETTING),
    ("enable_sasl_queue", BY_SETTING),
    ("enable.ssl.*", BY_SETTING),
    ("metadata.broker.list", BY_SETTING),
    ("queue.buffering.max.*", BY_SETTING),
    ("compression.type", BY_SETTING),
    ("delivery.timeout.ms", BY_SETTING),
    ("metadata.max.age.ms", BY_SETTING),
    ("message.max.bytes", BY_SETTING),
    ("enable.idempotence", GUARANTEE),
    ("enable.gapless.guarantee", GUARANTEE),
    ("acks", GUARANTEE),
    ("request.required.acks", GUARANTEE),
    ("max.in.flight*", GUARANTEE),
    ("retries", GUARANTEE),
    ("message.send.max.retries", GUARANTEE),
    ("queuing.strategy", GUARANTEE),
    ("allow.auto.create.topics", GUARANTEE),
    ("produce.offset.report", GUARANTEE),
    ("topic.metadata.propagation.max.ms", GUARANTEE),
    ("partitioner*", GUARANTEE),
    ("msg_order_cmp", GUARANTEE),
    ("transactional.id", GUARANTEE),
    ("transaction.timeout.ms", GUARANTEE),
    ("socket.keepalive.enable", FIXED_HERE),
    ("enable.metrics.push", FIXED_HERE),
    ("log.*", FIXED_HERE),
    ("log_*", FIXED_HERE),
    ("debug", "it prints what must not be printed"),
    ("test.mock*", "it replaces the cluster"),
    ("plugin.library.paths", "it loads foreign code"),
    ("dr_*", CALLBACK),
    ("delivery.report.only.error", CALLBACK),
    ("*_cb", CALLBACK),
    ("oauthbearer*", CALLBACK),
    ("enabled_events", CALLBACK),
    ("interceptors", CALLBACK),
    ("opaque", CALLBACK),
    ("default_topic_conf", CALLBACK),
    ("builtin.features", "it cannot be set"),
];

const BY_SETTING: &str = "settings of their own decide it";
const GUARANTEE: &str = "what the sidecar promises rests on it";
const FIXED_HERE: &str = "the sidecar sets it";
const CALLBACK: &str = "the sidecar needs librdkafka's callbacks";

/// One librdkafka property; `Debug` prints a secret's name alone.
#[derive(Clone)]
pub struct Property {
    /// librdkafka's name.
    pub name: String,
    /// Whether the value is or may be a secret.
    pub secret: bool,
    value: SecretString,
}

/// Returns the properties of the producer, each name once, `kafka.properties` last.
///
/// In `dev` there is no `bootstrap.servers`: whoever starts the embedded cluster adds it.
#[must_use]
pub fn producer_properties(config: &Config) -> Vec<Property> {
    let mut properties = Vec::new();
    let fixed = FIXED.iter();
    properties.extend(fixed.map(|(name, value)| Property::open(name, *value)));
    let creates_topics = match config.purpose {
        Purpose::Serve => "false",
        Purpose::Dev => "true",
    };
    properties.push(Property::open("allow.auto.create.topics", creates_topics));
    properties.extend(room(config));
    properties.extend(security(&config.kafka.security));
    properties.extend(table::settings().iter().filter_map(|setting| {
        let property = setting.property.as_ref()?;
        Some(Property::open(property.name, (property.value)(config)?))
    }));
    let further = config.kafka.properties.iter();
    properties.extend(further.map(|(name, value)| Property::secret(name, value)));
    properties
}

/// What a lane sets otherwise than the plain producer: its deliveries are awaited before a commit, so that lingering only
/// delays; it is used again at once, where the coordinator may still be writing markers; an unknown topic holds it up.
const LANES: &[(&str, &str)] = &[
    ("linger.ms", "0"),
    ("retry.backoff.ms", "1"),
    ("retry.backoff.max.ms", "10"),
    ("topic.metadata.propagation.max.ms", "3000"),
    ("log.queue", "true"),
];
/// How much shorter than a transaction a request must be given up at least; librdkafka asks for 100 ms.
const SOCKET_HEADROOM: Duration = Duration::from_secs(1);
/// What a lane leaves to librdkafka, which derives it from the transaction's time-out, or does without; and the bound of a
/// batch, since more requests of a partition on their way are more that a refused one aborts.
const NOT_FOR_LANES: &[&str] = &["message.timeout.ms", "statistics.interval.ms", "batch.num.messages"];

/// Returns the properties of a transactional producer with that id; as in [`producer_properties`], `dev` adds the servers.
#[must_use]
pub fn lane_properties(config: &Config, transactional_id: &str) -> Vec<Property> {
    let lane = LANES.iter();
    let timeout = config.transactions.timeout;
    // librdkafka refuses a transaction that could end before a request does.
    let socket_timeout = config.kafka.socket_timeout.min(timeout.saturating_sub(SOCKET_HEADROOM));
    let own = lane.map(|(name, value)| Property::open(name, *value)).chain([
        Property::open("transactional.id", transactional_id),
        Property::open("transaction.timeout.ms", timeout.as_millis().to_string()),
        Property::open("socket.timeout.ms", socket_timeout.as_millis().to_string()),
    ]);
    let own: Vec<_> = own.collect();
    let is_left = |property: &Property| {
        !NOT_FOR_LANES.contains(&property.name.as_str()) && own.iter().all(|own| own.name != property.name)
    };
    let mut properties: Vec<_> = producer_properties(config).into_iter().filter(is_left).collect();
    properties.extend(own);
    properties
}

/// Returns the properties of the consumer that reads committed offsets: how to reach the cluster, and no more.
#[must_use]
pub fn reader_properties(config: &Config) -> Vec<Property> {
    const REACH: &[&str] =
        &["client.id", "socket.", "reconnect.", "security.", "sasl.", "ssl.", "bootstrap."];
    let reaches = |property: &Property| REACH.iter().any(|start| property.name.starts_with(start));
    producer_properties(config).into_iter().filter(reaches).collect()
}

/// Returns why `kafka.properties` must not name that property, or none where it may.
#[must_use]
pub fn reserved(name: &str) -> Option<&'static str> {
    let owned = table::settings()
        .iter()
        .filter_map(|setting| setting.property.as_ref())
        .any(|property| property.name == name);
    if owned {
        return Some(BY_SETTING);
    }
    let found = RESERVED.iter().find(|(pattern, _)| matches(pattern, name));
    found.map(|(_, reason)| *reason)
}

fn matches(pattern: &str, name: &str) -> bool {
    if let Some(start) = pattern.strip_suffix('*') {
        name.starts_with(start)
    } else if let Some(end) = pattern.strip_prefix('*') {
        name.ends_with(end)
    } else {
        name == pattern
    }
}

/// Returns the most bytes that librdkafka puts into one request for a partition, its framing included.
#[must_use]
pub fn request_bytes_max(config: &Config) -> usize {
    config.kafka.batch_bytes.min(message_bytes_max(config))
}

fn message_bytes_max(config: &Config) -> usize {
    config.limits.record_bytes_max.saturating_add(MESSAGE_OVERHEAD_BYTES).min(MESSAGE_BYTES_BOUND)
}

/// Sizes librdkafka's queue and its largest message so that ours are always the ones that refuse.
fn room(config: &Config) -> [Property; 3] {
    let records = config.queue.records_max.saturating_add(QUEUE_RECORDS_HEADROOM);
    let kib = config.queue.bytes_max / 1024;
    let kib = kib.saturating_add(kib / 4).saturating_add(QUEUE_KIB_HEADROOM);
    [
        Property::open("queue.buffering.max.messages", records.to_string()),
        Property::open("queue.buffering.max.kbytes", kib.to_string()),
        Property::open("message.max.bytes", message_bytes_max(config).to_string()),
    ]
}

fn security(security: &Security) -> Vec<Property> {
    let (protocol, credentials, tls) = match security {
        Security::Plaintext => ("plaintext", None, None),
        Security::Ssl(tls) => ("ssl", None, Some(tls)),
        Security::SaslPlaintext(credentials) => ("sasl_plaintext", Some(credentials), None),
        Security::SaslSsl(credentials, tls) => ("sasl_ssl", Some(credentials), Some(tls)),
    };
    let mut properties = vec![Property::open("security.protocol", protocol)];
    properties.extend(credentials.into_iter().flat_map(login));
    properties.extend(tls.into_iter().flat_map(encryption));
    properties
}

fn login(credentials: &Credentials) -> [Property; 3] {
    [
        Property::open("sasl.mechanism", credentials.mechanism.name()),
        Property::open("sasl.username", credentials.user.as_str()),
        Property::secret("sasl.password", &credentials.password),
    ]
}

fn encryption(tls: &Tls) -> Vec<Property> {
    let path = |path: &std::path::Path| path.display().to_string();
    // "probe" looks in the places where distributions keep their authorities; the OpenSSL linked here has none built in.
    let authorities = tls.ca_file.as_deref().map_or_else(|| "probe".to_owned(), path);
    let mut properties = vec![
        Property::open("ssl.endpoint.identification.algorithm", "https"),
        Property::open("ssl.ca.location", authorities),
    ];
    if let Some(client) = &tls.client {
        let certificate = path(&client.certificate_file);
        properties.push(Property::open("ssl.certificate.location", certificate));
        properties.push(Property::open("ssl.key.location", path(&client.key_file)));
        let password = client.key_password.iter();
        properties.extend(password.map(|value| Property::secret("ssl.key.password", value)));
    }
    properties
}

/// Renders the documentation's chapter on properties.
pub(super) fn markdown() -> String {
    let mut reasons: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (pattern, reason) in RESERVED {
        reasons.entry(reason).or_default().push(format!("`{pattern}`"));
    }
    let mut text = "\n## Reserved librdkafka properties\n\n\
        `kafka.properties` takes any property of librdkafka but those in the tables above and these:\n\n"
        .to_owned();
    for (reason, patterns) in reasons {
        text.push_str(&format!("- {}: {reason}.\n", patterns.join(", ")));
    }
    text.push_str("\nFixed whatever the settings say:\n\n");
    for (name, value) in FIXED {
        text.push_str(&format!("- `{name}={value}`\n"));
    }
    text.push_str("- `allow.auto.create.topics=false`, true in `dev` alone\n");
    text
}

// === impl Property ===

impl Property {
    fn open(name: &str, value: impl Into<String>) -> Self {
        Self { name: name.to_owned(), secret: false, value: SecretString::from(value.into()) }
    }

    fn secret(name: &str, value: &SecretString) -> Self {
        Self { name: name.to_owned(), secret: true, value: value.clone() }
    }

    /// Returns the value; for librdkafka alone where `secret` is set.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.value.expose_secret()
    }
}

impl fmt::Debug for Property {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = if self.secret { "[redacted]" } else { self.expose() };
        write!(formatter, "{}={value}", self.name)
    }
}

#[cfg(test)]
mod tests;
