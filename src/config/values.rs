//! Owns the settings between their text and the typed tree: one parsed value for each key, with its origin.
//! Must never print a secret: [`Value::shown`] is the only way to text.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::SocketAddr,
    path::PathBuf,
};

use secrecy::SecretString;

use super::{Broker, Listen, problem::Origin};
use crate::{dead_letter::Destination, partition::Partitioner, record::Topic};

/// What stands for a secret wherever settings are shown.
pub(super) const SECRET_SHOWN: &str = "(set)";

/// A setting's value, parsed by its kind.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// A text, or the name of a choice.
    Text(String),
    Secret(SecretString),
    Brokers(Vec<Broker>),
    Number(u64),
    Boolean(bool),
    Path(PathBuf),
    Listen(Listen),
    Socket(SocketAddr),
    Partitioners(HashMap<Topic, Partitioner>),
    Destination(Destination),
    Destinations(HashMap<Topic, Destination>),
    Properties(BTreeMap<String, SecretString>),
}

/// The values in force, each with its origin.
#[derive(Debug, Clone, Default)]
pub(super) struct Values {
    found: BTreeMap<&'static str, (Value, Origin)>,
    broken: BTreeSet<&'static str>,
}

// === impl Value ===

impl Value {
    /// Returns the text that may be shown to anyone.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Secret(_) => SECRET_SHOWN.to_owned(),
            Self::Brokers(brokers) => joined(brokers.iter().map(ToString::to_string)),
            Self::Number(number) => number.to_string(),
            Self::Boolean(boolean) => boolean.to_string(),
            Self::Path(path) => path.display().to_string(),
            Self::Listen(listen) => listen.to_string(),
            Self::Socket(address) => address.to_string(),
            Self::Partitioners(topics) => {
                let pairs = topics.iter();
                let mut texts: Vec<_> =
                    pairs.map(|(topic, partitioner)| format!("{topic}={}", partitioner.name())).collect();
                texts.sort();
                joined(texts)
            }
            Self::Destination(destination) => destination.to_string(),
            Self::Destinations(topics) => {
                let pairs = topics.iter();
                let mut texts: Vec<_> =
                    pairs.map(|(topic, destination)| format!("{topic}={destination}")).collect();
                texts.sort();
                joined(texts)
            }
            // librdkafka has properties that hold secrets, and not all of them are known here.
            Self::Properties(properties) => {
                joined(properties.keys().map(|name| format!("{name}={SECRET_SHOWN}")))
            }
        }
    }
}

fn joined(texts: impl IntoIterator<Item = String>) -> String {
    texts.into_iter().collect::<Vec<_>>().join(",")
}

// === impl Values ===

impl Values {
    /// Takes a value; a later one replaces an earlier one.
    pub(super) fn insert(&mut self, key: &'static str, value: Value, origin: Origin) {
        self.found.insert(key, (value, origin));
    }

    /// Remembers that the setting was said wrongly, so that nothing further is concluded from it.
    pub(super) fn mark_broken(&mut self, key: &'static str) {
        self.broken.insert(key);
    }

    /// Returns whether the setting was said wrongly anywhere.
    pub(super) fn is_broken(&self, key: &str) -> bool {
        self.broken.contains(key)
    }

    /// Returns whether the setting has a value, be it a default.
    pub(super) fn has(&self, key: &str) -> bool {
        self.found.contains_key(key)
    }

    /// Returns the value.
    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.found.get(key).map(|(value, _)| value)
    }

    /// Returns where the value comes from; [`Origin::Default`] where there is none.
    pub(super) fn origin(&self, key: &str) -> Origin {
        self.found.get(key).map_or(Origin::Default, |(_, origin)| origin.clone())
    }

    /// Returns the number under that key, unless it is missing or was said wrongly.
    pub(super) fn number(&self, key: &str) -> Option<u64> {
        match self.get(key) {
            Some(Value::Number(number)) if !self.is_broken(key) => Some(*number),
            _ => None,
        }
    }

    /// Returns the text or the choice's name under that key, unless it is missing or was said wrongly.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        match self.get(key) {
            Some(Value::Text(text)) if !self.is_broken(key) => Some(text),
            _ => None,
        }
    }

    /// Returns the path under that key, unless it is missing or was said wrongly.
    pub(super) fn path(&self, key: &str) -> Option<&PathBuf> {
        match self.get(key) {
            Some(Value::Path(path)) if !self.is_broken(key) => Some(path),
            _ => None,
        }
    }

    /// Returns the secret under that key, unless it is missing or was said wrongly.
    pub(super) fn secret(&self, key: &str) -> Option<&SecretString> {
        match self.get(key) {
            Some(Value::Secret(secret)) if !self.is_broken(key) => Some(secret),
            _ => None,
        }
    }
}
