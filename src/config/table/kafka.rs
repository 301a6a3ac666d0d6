//! Owns the settings that say which cluster the sidecar talks to and how.
//! Must never hold a setting of the sidecar's own service: those are in `sidecar.rs`.

use std::time::Duration;

use super::{Kind, Setting};
use crate::config::choices::SecurityProtocol;
use crate::config::{Compression, SaslMechanism};

/// The longest ordinary text, in bytes.
const TEXT_BYTES_MAX: usize = 255;

pub(super) fn settings() -> Vec<Setting> {
    let mut settings = connection();
    settings.extend(credentials());
    settings.extend(tls());
    settings.extend(batching());
    settings.extend(patience());
    settings.extend(pauses());
    settings
}

fn milliseconds(duration: Duration) -> Option<String> {
    Some(duration.as_millis().to_string())
}

fn connection() -> Vec<Setting> {
    vec![
        Setting::unset(
            "kafka.brokers",
            Kind::Brokers,
            "The brokers to ask first; `serve` needs at least one. In the file a YAML list may be used.",
        )
        .environment("KAFKA_BROKERS")
        .property("bootstrap.servers", |config| {
            let brokers = config.kafka.brokers.iter();
            let texts: Vec<_> = brokers.map(ToString::to_string).collect();
            (!texts.is_empty()).then(|| texts.join(","))
        }),
        Setting::of(
            "kafka.client_id",
            Kind::Text(TEXT_BYTES_MAX),
            "caas-gateway",
            "The name under which brokers log and throttle the sidecar.",
        )
        .environment("KAFKA_CLIENT_ID")
        .property("client.id", |config| Some(config.kafka.client_id.clone())),
        Setting::of(
            "kafka.security_protocol",
            Kind::Choice(SecurityProtocol::NAMES),
            "SASL_SSL",
            "Whether connections are encrypted (SSL) and whether the sidecar logs in (SASL).",
        )
        .environment("KAFKA_SECURITY_PROTOCOL"),
    ]
}

fn credentials() -> Vec<Setting> {
    vec![
        Setting::of(
            "kafka.sasl_mechanism",
            Kind::Choice(SaslMechanism::NAMES),
            "SCRAM-SHA-512",
            "How the password is proved to the brokers.",
        )
        .environment("KAFKA_SASL_MECHANISM"),
        Setting::unset(
            "kafka.user",
            Kind::Text(TEXT_BYTES_MAX),
            "The user to log in as; needed with SASL, here or in `kafka.user_file`.",
        )
        .environment("KAFKA_USER"),
        Setting::unset(
            "kafka.user_file",
            Kind::Path,
            "A file that holds the user; one newline at its end is ignored.",
        )
        .environment("KAFKA_USER_FILE"),
        Setting::unset(
            "kafka.password",
            Kind::Secret,
            "The password; needed with SASL, here or in `kafka.password_file`. It is refused in the settings file and has no flag.",
        )
        .environment("KAFKA_PASSWORD")
        .without_flag(),
        Setting::unset(
            "kafka.password_file",
            Kind::Path,
            "A file that holds the password; one newline at its end is ignored.",
        )
        .environment("KAFKA_PASSWORD_FILE"),
    ]
}

fn tls() -> Vec<Setting> {
    vec![
        Setting::unset(
            "kafka.ca_file",
            Kind::Path,
            "The authorities that may sign the brokers' certificates, as PEM; where unset, the system's.",
        )
        .environment("KAFKA_CA_FILE"),
        Setting::unset(
            "kafka.certificate_file",
            Kind::Path,
            "The sidecar's own certificate chain, as PEM; needs `kafka.key_file`.",
        )
        .environment("KAFKA_CERTIFICATE_FILE"),
        Setting::unset("kafka.key_file", Kind::Path, "The private key of the sidecar's certificate, as PEM.")
            .environment("KAFKA_KEY_FILE"),
        Setting::unset(
            "kafka.key_password_file",
            Kind::Path,
            "A file that holds the password of the private key; one newline at its end is ignored.",
        )
        .environment("KAFKA_KEY_PASSWORD_FILE"),
        Setting::number(
            "kafka.files_look_ms",
            1000,
            (50, 60_000),
            "ms",
            "How often the files of user, password, authorities, certificate and key are looked at; what has changed is used once two looks in a row found the same.",
        ),
    ]
}

fn batching() -> Vec<Setting> {
    vec![
        Setting::number(
            "kafka.linger_ms",
            5,
            (1, 1000),
            "ms",
            "How long a batch waits. Records that come in its first millisecond, or half where that is less, go with it; later ones of the partition wait for its outcome. A short one lets a sidecar that is short of processor time split a batch in two.",
        )
        .property("linger.ms", |config| milliseconds(config.kafka.linger)),
        Setting::number(
            "kafka.batch_bytes",
            1_000_000,
            (1024, 10_485_760),
            "bytes",
            "The largest batch. A topic's own `max.message.bytes` bounds its batches too, where the principal may ask for it (DescribeConfigs); where not, keep this at or below the smallest of them.",
        )
        .property("batch.size", |config| Some(config.kafka.batch_bytes.to_string())),
        Setting::number(
            "kafka.batch_records",
            8000,
            (1, 100_000),
            "records",
            "The most records of a batch, and so the most that are sent again together. A full batch does not wait out `kafka.linger_ms`. Transactions have librdkafka's own bound.",
        )
        .property("batch.num.messages", |config| Some(config.kafka.batch_records.to_string())),
        Setting::of(
            "kafka.compression",
            Kind::Choice(Compression::NAMES),
            "none",
            "How batches are compressed. With `none`, records that are too large for their topic are refused before Kafka has them; what others take there is known only once they are compressed.",
        )
        .property("compression.codec", |config| Some(config.kafka.compression.name().to_owned())),
    ]
}

fn pauses() -> Vec<Setting> {
    vec![
        Setting::number(
            "kafka.retry_backoff_ms",
            100,
            (1, 10_000),
            "ms",
            "The first pause before records are sent again that a broker refused for now, give or take a fifth. It doubles with each refusal, but not while a partition's leader is looked for. Transactions have shorter ones of their own.",
        )
        .property("retry.backoff.ms", |config| milliseconds(config.kafka.retry_backoff)),
        Setting::number(
            "kafka.retry_backoff_ms_max",
            1000,
            (1, 60_000),
            "ms",
            "The longest pause before records are sent again. Later records of their partition wait with them.",
        )
        .property("retry.backoff.max.ms", |config| milliseconds(config.kafka.retry_backoff_max)),
        Setting::number(
            "kafka.reconnect_backoff_ms",
            50,
            (1, 60_000),
            "ms",
            "The first pause before a lost connection is opened again; it doubles with each failure.",
        )
        .property("reconnect.backoff.ms", |config| milliseconds(config.kafka.reconnect_backoff)),
        Setting::number(
            "kafka.reconnect_backoff_ms_max",
            1000,
            (1, 60_000),
            "ms",
            "The longest pause before a lost connection is opened again.",
        )
        .property("reconnect.backoff.max.ms", |config| {
            milliseconds(config.kafka.reconnect_backoff_max)
        }),
    ]
}

fn patience() -> Vec<Setting> {
    vec![
        Setting::number(
            "kafka.message_timeout_ms",
            300_000,
            (10_000, 3_600_000),
            "ms",
            "How long librdkafka keeps a record before it gives up. A short one leaves gaps when a broker is slow.",
        )
        .property("message.timeout.ms", |config| milliseconds(config.kafka.message_timeout)),
        Setting::number(
            "kafka.socket_timeout_ms",
            10_000,
            (1000, 60_000),
            "ms",
            "How long a request to a broker may take.",
        )
        .property("socket.timeout.ms", |config| milliseconds(config.kafka.socket_timeout)),
        Setting::number(
            "kafka.connection_setup_timeout_ms",
            10_000,
            (1000, 300_000),
            "ms",
            "How long opening a connection may take, with encryption and login. A broker that was frozen may be found again by the next attempt only.",
        )
        .property("socket.connection.setup.timeout.ms", |config| {
            milliseconds(config.kafka.connection_setup_timeout)
        }),
        Setting::number(
            "kafka.metadata_refresh_ms",
            60_000,
            (1000, 3_600_000),
            "ms",
            "How often librdkafka asks for the cluster's layout again.",
        )
        .property("topic.metadata.refresh.interval.ms", |config| {
            milliseconds(config.kafka.metadata_refresh)
        }),
        Setting::number(
            "kafka.statistics_ms",
            1000,
            (100, 60_000),
            "ms",
            "How often librdkafka reports its queues and connections, which the metrics show.",
        )
        .property("statistics.interval.ms", |config| milliseconds(config.kafka.statistics)),
        Setting::unset(
            "kafka.properties",
            Kind::Properties,
            "Further librdkafka properties, save the reserved ones below. In the file only; the values are never shown.",
        )
        .file_only(),
    ]
}
