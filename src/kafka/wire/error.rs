//! Owns the ways in which a connection to a broker fails.
//! Must never hold a password, a key or a record's content: its words end up in logs and in callers' hands.

use std::{fmt, io, path::PathBuf};

/// Why a connection to a broker could not be opened, or ended. Whether a request was written is not said here but by
/// [`super::connection::Connection::into_unanswered`].
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// No address of the broker takes a connection, or its name has no address.
    #[error("the broker cannot be reached: {0}")]
    Unreachable(#[source] io::Error),
    /// TLS failed; OpenSSL's words, from which `kafka/tls.rs` reads the cause.
    #[error("SSL handshake failed: {0}")]
    Tls(String),
    /// The broker does not let us in with these credentials.
    #[error("{mechanism} authentication failed: {words}")]
    AuthenticationFailed {
        /// The SASL mechanism.
        mechanism: &'static str,
        /// The broker's words, or what was wrong with its answer.
        words: String,
    },
    /// The broker is older than Kafka 2.8, or so new that it left our versions behind.
    #[error("the broker is not supported: {0}")]
    UnsupportedBroker(String),
    /// A step took longer than its setting allows.
    #[error("the broker did not answer in time, in {0}")]
    Timeout(ConnectionStage),
    /// The connection is gone.
    #[error("the broker closed the connection, in {stage}{}", hint(*.stage))]
    Closed {
        /// What was under way.
        stage: ConnectionStage,
        /// What the socket said, if it said more than that the stream ended.
        #[source]
        cause: Option<io::Error>,
    },
    /// The broker sent what the protocol does not allow, or we would have.
    #[error("{0}")]
    Protocol(String),
    /// A certificate or key of ours cannot be used.
    #[error("{}: {words}", .file.display())]
    File {
        /// The file of the setting.
        file: PathBuf,
        /// What is wrong with it.
        words: String,
    },
}

/// How far a connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionStage {
    /// The broker's name is resolved, and TCP connects.
    Connect,
    /// TLS shakes hands.
    Tls,
    /// The first request, `ApiVersions`.
    Versions {
        /// Whether the connection is encrypted.
        is_tls: bool,
    },
    /// SASL, at the beginning or again.
    Authentication,
    /// It is open, and nothing has been answered since.
    First {
        /// Whether the broker knows who we are.
        is_authenticated: bool,
    },
    /// It is open and has answered.
    Open,
}

impl fmt::Display for ConnectionStage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Connect => "the TCP handshake",
            Self::Tls => "the TLS handshake",
            Self::Versions { .. } => "ApiVersions",
            Self::Authentication => "SASL authentication",
            Self::First { .. } | Self::Open => "the exchange of requests",
        })
    }
}

/// Says what such an end hints at, in librdkafka's words: `kafka/tls.rs` knows their meanings.
const fn hint(stage: ConnectionStage) -> &'static str {
    match stage {
        ConnectionStage::Tls => " (connecting to a PLAINTEXT broker listener?)",
        ConnectionStage::Versions { is_tls: false } => " (connecting to a SSL listener?)",
        ConnectionStage::First { is_authenticated: false } => " (broker might require SASL authentication?)",
        ConnectionStage::Connect
        | ConnectionStage::Versions { is_tls: true }
        | ConnectionStage::Authentication
        | ConnectionStage::First { is_authenticated: true }
        | ConnectionStage::Open => "",
    }
}

impl WireError {
    /// Returns whether the broker is there and does not let us in, or we do not trust it: to try again changes nothing by itself.
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        match self {
            Self::Tls(_)
            | Self::AuthenticationFailed { .. }
            | Self::UnsupportedBroker(_)
            | Self::File { .. } => true,
            Self::Unreachable(_) | Self::Timeout(_) | Self::Closed { .. } | Self::Protocol(_) => false,
        }
    }

    /// Says that the stream ended or broke, or what TLS said of it.
    pub(super) fn of_stream(error: io::Error, stage: ConnectionStage) -> Self {
        let of_tls = error.get_ref().and_then(|cause| cause.downcast_ref::<openssl::ssl::Error>());
        match of_tls {
            Some(cause) if cause.ssl_error().is_some() && !super::tls::is_end(cause) => {
                Self::Tls(cause.to_string())
            }
            Some(_) => Self::Closed { stage, cause: None },
            None => Self::Closed { stage, cause: Some(error) },
        }
    }

    /// Says that the stream ended.
    pub(super) const fn end_of_stream(stage: ConnectionStage) -> Self {
        Self::Closed { stage, cause: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::tls::explained;

    #[test]
    fn an_early_end_hints_at_the_listener() {
        let closed = |stage| WireError::end_of_stream(stage).to_string();
        let cases = [
            (ConnectionStage::Tls, "does not speak TLS"),
            (ConnectionStage::Versions { is_tls: false }, "speaks TLS there"),
            (ConnectionStage::First { is_authenticated: false }, "asks for a user and password"),
        ];
        for (stage, meaning) in cases {
            let words = closed(stage);
            assert!(explained(&words, None).contains(meaning), "{words}");
        }
        let silent = [
            ConnectionStage::Connect,
            ConnectionStage::Versions { is_tls: true },
            ConnectionStage::Authentication,
            ConnectionStage::First { is_authenticated: true },
            ConnectionStage::Open,
        ];
        for stage in silent {
            assert!(!crate::kafka::tls::tells(&closed(stage)), "{stage}");
        }
    }
}
