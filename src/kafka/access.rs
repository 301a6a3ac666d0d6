//! Owns how clients reach the cluster: librdkafka's properties, made of the settings in force, which change with the secrets.
//! Must never decide which settings are in force; `healing` does.

use std::{fmt, sync::Arc};

use tokio::sync::watch;

use crate::config::{
    Config,
    librdkafka::{self, Property},
};

/// Names and values as librdkafka takes them; secrets among them.
pub type Properties = Vec<(String, String)>;

/// The settings in force, for those who make clients; cheap to clone, each clone with its own view of what is new.
#[derive(Clone)]
pub struct Access {
    config: watch::Receiver<Arc<Config>>,
    /// The embedded cluster's, in `dev`.
    servers: Option<String>,
}

impl Access {
    /// Follows the settings in force; `servers` take the place of those that the settings name.
    #[must_use]
    pub const fn following(config: watch::Receiver<Arc<Config>>, servers: Option<String>) -> Self {
        Self { config, servers }
    }

    /// Keeps to settings that never change.
    #[must_use]
    pub fn fixed(config: &Config) -> Self {
        let (_, config) = watch::channel(Arc::new(config.clone()));
        Self { config, servers: None }
    }

    /// Returns whether the settings have changed since they were last noted.
    #[must_use]
    pub fn has_changed(&self) -> bool {
        // Those that nobody can change any more have not.
        self.config.has_changed().unwrap_or(false)
    }

    /// Notes the settings as they are; whoever makes a client of them next has those, or newer ones.
    pub fn note(&mut self) {
        self.config.mark_unchanged();
    }

    /// Makes the properties of a producer with a transactional id.
    #[must_use]
    pub fn lane(&self, transactional_id: &str) -> Properties {
        let config = Arc::clone(&self.config.borrow());
        self.pairs(&librdkafka::lane_properties(&config, transactional_id))
    }

    /// Makes the properties of a consumer that reads offsets or records.
    #[must_use]
    pub fn reader(&self) -> Properties {
        let config = Arc::clone(&self.config.borrow());
        self.pairs(&librdkafka::reader_properties(&config))
    }

    /// Makes the properties of the plain producer, of these settings and not those in force.
    #[must_use]
    pub fn producer_of(&self, config: &Config) -> Properties {
        self.pairs(&librdkafka::producer_properties(config))
    }

    fn pairs(&self, properties: &[Property]) -> Properties {
        let pair = |property: &Property| (property.name.clone(), property.expose().to_owned());
        let servers = self.servers.iter().map(|servers| ("bootstrap.servers".to_owned(), servers.clone()));
        properties.iter().map(pair).chain(servers).collect()
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Access").field("servers", &self.servers).finish_non_exhaustive()
    }
}
