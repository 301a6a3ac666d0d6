//! Owns the list of settings: each once, with its key, kind, unit, default, bounds, names and sentence.
//! The file's parser, the environment, the flags, the help, docs/configuration.md and librdkafka's properties are all driven
//! by it. Must never hold a setting's value, and no other module may name a default or a bound.

mod kafka;
mod markdown;
mod ports;
mod sidecar;
mod telemetry;
mod transactions;

pub use self::markdown::markdown;

use std::sync::LazyLock;

use super::Config;

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// The key in the file, sections separated by dots.
    pub key: &'static str,
    /// What values it takes.
    pub kind: Kind,
    /// What holds when nothing is said.
    pub default: Default,
    /// The environment variable; none for maps that only a file can hold.
    pub environment: Option<String>,
    /// The flag without its dashes; none for secrets and for maps that only a file can hold.
    pub flag: Option<String>,
    /// The librdkafka property that it becomes, where that is one to one.
    pub property: Option<Property>,
    /// One or two sentences for whoever sets it.
    pub doc: &'static str,
}

/// What values a setting takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A text without control characters, 1 to that many bytes.
    Text(usize),
    /// A secret; only the environment may hold it, and it is never shown.
    Secret,
    /// A list of `host:port`.
    Brokers,
    /// One of these names, upper or lower case.
    Choice(&'static [&'static str]),
    /// A whole number within bounds, both included.
    Number {
        /// The smallest.
        min: u64,
        /// The largest.
        max: u64,
        /// What is counted.
        unit: &'static str,
    },
    /// `true` or `false`.
    Boolean,
    /// The path of a file or folder.
    Path,
    /// `IP:port`, `localhost:port` or `unix:/path`.
    Listen,
    /// `IP:port` or `localhost:port`.
    Socket,
    /// A map from topic to partition function.
    Partitioners,
    /// `off`, a topic, or a topic's name with `{topic}` in it.
    Destination,
    /// A map from topic to the topic of its dead letters.
    Destinations,
    /// A map of librdkafka properties.
    Properties,
}

/// What holds when nothing is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Default {
    /// This value, as it would be written.
    Value(String),
    /// The machine's host name.
    HostName,
    /// Nothing; the setting is optional, or `serve` demands it.
    Unset,
}

/// A librdkafka property that one setting decides alone.
pub struct Property {
    /// librdkafka's name.
    pub name: &'static str,
    /// Takes the value from the checked settings; none where the property is to be left alone.
    pub value: fn(&Config) -> Option<String>,
}

static SETTINGS: LazyLock<Vec<Setting>> = LazyLock::new(|| {
    let mut settings = kafka::settings();
    settings.extend(sidecar::settings());
    settings.extend(transactions::settings());
    settings.extend(telemetry::settings());
    settings
});

/// Returns every setting, in the order of the documentation.
#[must_use]
pub fn settings() -> &'static [Setting] {
    &SETTINGS
}

/// Returns the setting of that key.
#[must_use]
pub fn find(key: &str) -> Option<&'static Setting> {
    settings().iter().find(|setting| setting.key == key)
}

// === impl Setting ===

impl Setting {
    fn new(key: &'static str, kind: Kind, default: Default, doc: &'static str) -> Self {
        let environment = format!("SIDECAR_{}", key.replace('.', "_").to_uppercase());
        Self {
            key,
            kind,
            default,
            environment: Some(environment),
            flag: Some(key.replace(['.', '_'], "-")),
            property: None,
            doc,
        }
    }

    fn number(
        key: &'static str,
        default: u64,
        (min, max): (u64, u64),
        unit: &'static str,
        doc: &'static str,
    ) -> Self {
        let default = Default::Value(default.to_string());
        Self::new(key, Kind::Number { min, max, unit }, default, doc)
    }

    fn of(key: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Self {
        Self::new(key, kind, Default::Value(default.to_owned()), doc)
    }

    fn unset(key: &'static str, kind: Kind, doc: &'static str) -> Self {
        Self::new(key, kind, Default::Unset, doc)
    }

    /// Replaces the derived name of the environment variable.
    fn environment(mut self, name: &'static str) -> Self {
        self.environment = Some(name.to_owned());
        self
    }

    fn without_flag(mut self) -> Self {
        self.flag = None;
        self
    }

    fn file_only(mut self) -> Self {
        self.environment = None;
        self.without_flag()
    }

    fn property(mut self, name: &'static str, value: fn(&Config) -> Option<String>) -> Self {
        self.property = Some(Property { name, value });
        self
    }

    /// Returns the section of the key, such as `kafka`; empty for keys without one.
    #[must_use]
    pub fn section(&self) -> &'static str {
        self.key.split_once('.').map_or("", |(section, _)| section)
    }

    /// Returns what may be written, in words.
    #[must_use]
    pub fn takes(&self) -> String {
        match self.kind {
            Kind::Text(bytes_max) => format!("text of 1 to {bytes_max} bytes"),
            Kind::Secret => "text (secret)".to_owned(),
            Kind::Brokers => "host:port, comma separated".to_owned(),
            Kind::Choice(names) => names.join(", "),
            Kind::Number { min, max, unit } => format!("{min} to {max} {unit}"),
            Kind::Boolean => "true or false".to_owned(),
            Kind::Path => "path".to_owned(),
            Kind::Listen => "IP:port, localhost:port or unix:/path".to_owned(),
            Kind::Socket => "IP:port or localhost:port".to_owned(),
            Kind::Partitioners => "topic=partitioner, comma separated".to_owned(),
            Kind::Destination => "topic, may hold {topic}; or off".to_owned(),
            Kind::Destinations => "topic=topic or off, comma separated".to_owned(),
            Kind::Properties => "map of property to value".to_owned(),
        }
    }

    /// Returns what holds when nothing is said, in words.
    #[must_use]
    pub fn default_shown(&self) -> &str {
        match &self.default {
            Default::Value(text) => text,
            Default::HostName => "host name",
            Default::Unset => "none",
        }
    }
}

impl std::fmt::Debug for Property {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn keys_variables_flags_and_properties_are_unique() {
        let mut seen = HashSet::new();
        for setting in settings() {
            assert!(seen.insert(setting.key.to_owned()), "{}", setting.key);
            for name in [&setting.environment, &setting.flag].into_iter().flatten() {
                // A flag without sections reads like its key.
                assert!(name == setting.key || seen.insert(name.clone()), "{name}");
            }
            if let Some(property) = &setting.property {
                assert!(seen.insert(property.name.to_owned()), "{} is owned twice", property.name);
            }
        }
    }

    #[test]
    fn defaults_stand_within_their_bounds() {
        for setting in settings() {
            if let (Kind::Number { min, max, .. }, Default::Value(text)) = (setting.kind, &setting.default) {
                let number: u64 = text.parse().unwrap();
                assert!((min..=max).contains(&number), "{}", setting.key);
            }
        }
    }

    #[test]
    fn secrets_have_no_flag_and_sentences_end() {
        for setting in settings() {
            let is_secret = matches!(setting.kind, Kind::Secret | Kind::Properties);
            assert!(!(is_secret && setting.flag.is_some()), "{}", setting.key);
            assert!(setting.doc.ends_with('.'), "{}", setting.key);
        }
    }
}
