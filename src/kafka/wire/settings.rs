//! Owns what the client of the wire protocol takes from the settings, with certificates read and ready.
//! Must never be half new: a change is taken as a whole or not at all.

use std::{fmt, sync::Arc, time::Duration};

use openssl::ssl::SslConnector;
use tokio::{sync::watch, task::spawn_blocking};

use super::{error::WireError, tls};
use crate::config::{Broker, Config, Credentials, Purpose, Security};

/// What connections are opened with. `Debug` prints no secret.
#[derive(Clone)]
pub struct WireSettings {
    /// Where to find the cluster first; not empty.
    pub brokers: Vec<Broker>,
    /// The name under which brokers log and throttle the sidecar.
    pub client_id: String,
    /// How connections are encrypted, if they are.
    pub tls: Option<SslConnector>,
    /// Who we are, if brokers ask.
    pub credentials: Option<Credentials>,
    /// How long a request may take.
    pub socket_timeout: Duration,
    /// How long opening a connection may take: name, TCP, TLS, ApiVersions and SASL together.
    pub connection_setup_timeout: Duration,
    /// The first pause before a lost connection is opened again.
    pub reconnect_backoff: Duration,
    /// The longest such pause.
    pub reconnect_backoff_max: Duration,
    /// How often the cluster's layout is asked for again.
    pub metadata_refresh: Duration,
    /// Whether asking for a topic makes it; in `dev` alone.
    pub allow_auto_topic_creation: bool,
}

impl WireSettings {
    /// Takes what is needed, and reads the certificates' files: not for the async runtime. `servers` take the place of the brokers
    /// that the settings name.
    ///
    /// # Errors
    /// As of [`tls::connector`].
    pub fn read(config: &Config, servers: Option<&[Broker]>) -> Result<Self, WireError> {
        let kafka = &config.kafka;
        let (credentials, encryption) = match &kafka.security {
            Security::Plaintext => (None, None),
            Security::Ssl(tls) => (None, Some(tls)),
            Security::SaslPlaintext(credentials) => (Some(credentials), None),
            Security::SaslSsl(credentials, tls) => (Some(credentials), Some(tls)),
        };
        Ok(Self {
            brokers: servers.unwrap_or(&kafka.brokers).to_vec(),
            client_id: kafka.client_id.clone(),
            tls: encryption.map(tls::connector).transpose()?,
            credentials: credentials.cloned(),
            socket_timeout: kafka.socket_timeout,
            connection_setup_timeout: kafka.connection_setup_timeout,
            reconnect_backoff: kafka.reconnect_backoff,
            reconnect_backoff_max: kafka.reconnect_backoff_max,
            metadata_refresh: kafka.metadata_refresh,
            allow_auto_topic_creation: config.purpose == Purpose::Dev,
        })
    }
}

impl fmt::Debug for WireSettings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("WireSettings")
            .field("brokers", &self.brokers)
            .field("client_id", &self.client_id)
            .field("tls", &self.tls.is_some())
            .field("credentials", &self.credentials)
            .finish_non_exhaustive()
    }
}

/// The settings that connections are opened with now; they follow those in force.
#[derive(Debug)]
pub struct SettingsInUse {
    config: watch::Receiver<Arc<Config>>,
    servers: Option<Vec<Broker>>,
    in_use: Arc<WireSettings>,
    /// What was read last, be it in vain.
    read: Arc<Config>,
}

impl SettingsInUse {
    /// Reads the settings as they are, and follows them.
    ///
    /// # Errors
    /// As of [`WireSettings::read`].
    pub async fn begin(
        mut config: watch::Receiver<Arc<Config>>,
        servers: Option<Vec<Broker>>,
    ) -> Result<Self, WireError> {
        let now = Arc::clone(&config.borrow_and_update());
        let in_use = read(&now, servers.clone()).await?;
        Ok(Self { config, servers, in_use, read: now })
    }

    /// Returns the settings in use.
    #[must_use]
    pub const fn now(&self) -> &Arc<WireSettings> {
        &self.in_use
    }

    /// Waits until other settings are in force, and takes them. Can be dropped at any time: the next call reads them then. Never
    /// ends once they can no longer change.
    ///
    /// # Errors
    /// If the files cannot be used: the former settings stay in use until the next change.
    pub async fn changed(&mut self) -> Result<&Arc<WireSettings>, WireError> {
        let now = loop {
            let now = Arc::clone(&self.config.borrow_and_update());
            if !Arc::ptr_eq(&now, &self.read) {
                break now;
            }
            if self.config.changed().await.is_err() {
                return std::future::pending().await;
            }
        };
        let settings = read(&now, self.servers.clone()).await;
        self.read = now;
        self.in_use = settings?;
        Ok(&self.in_use)
    }
}

async fn read(config: &Arc<Config>, servers: Option<Vec<Broker>>) -> Result<Arc<WireSettings>, WireError> {
    let config = Arc::clone(config);
    let read = spawn_blocking(move || WireSettings::read(&config, servers.as_deref())).await;
    let read = read
        .unwrap_or_else(|gone| Err(WireError::Protocol(format!("the settings could not be read: {gone}"))));
    read.map(Arc::new)
}
