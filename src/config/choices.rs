//! Owns the names of the settings' choices and how addresses are written.
//! Must never decide anything: names in, names out.

use std::fmt;

use super::{Broker, Compression, Listen, LogFormat, SaslMechanism};

/// Which of encryption and credentials are in use, by Kafka's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SecurityProtocol {
    Plaintext,
    Ssl,
    SaslPlaintext,
    SaslSsl,
}

// === impl SecurityProtocol ===

impl SecurityProtocol {
    pub(super) const NAMES: &'static [&'static str] = &["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"];

    pub(super) fn parse(name: &str) -> Option<Self> {
        let all = [Self::Plaintext, Self::Ssl, Self::SaslPlaintext, Self::SaslSsl];
        all.into_iter().find(|protocol| protocol.name() == name)
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Plaintext => "PLAINTEXT",
            Self::Ssl => "SSL",
            Self::SaslPlaintext => "SASL_PLAINTEXT",
            Self::SaslSsl => "SASL_SSL",
        }
    }

    /// Says whether the sidecar logs in.
    pub(super) const fn sasl(self) -> bool {
        match self {
            Self::Plaintext | Self::Ssl => false,
            Self::SaslPlaintext | Self::SaslSsl => true,
        }
    }

    /// Says whether the connection is encrypted.
    pub(super) const fn tls(self) -> bool {
        match self {
            Self::Plaintext | Self::SaslPlaintext => false,
            Self::Ssl | Self::SaslSsl => true,
        }
    }
}

// === impl SaslMechanism ===

impl SaslMechanism {
    pub(super) const NAMES: &'static [&'static str] = &["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"];

    pub(super) fn parse(name: &str) -> Option<Self> {
        let all = [Self::ScramSha512, Self::ScramSha256, Self::Plain];
        all.into_iter().find(|mechanism| mechanism.name() == name)
    }

    /// Returns the name that Kafka uses.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ScramSha512 => "SCRAM-SHA-512",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::Plain => "PLAIN",
        }
    }
}

// === impl Compression ===

impl Compression {
    pub(super) const NAMES: &'static [&'static str] = &["none", "gzip", "snappy", "lz4", "zstd"];

    pub(super) fn parse(name: &str) -> Option<Self> {
        let all = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];
        all.into_iter().find(|compression| compression.name() == name)
    }

    /// Returns the name that Kafka uses.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

// === impl LogFormat ===

impl LogFormat {
    pub(super) const NAMES: &'static [&'static str] = &["json", "text"];

    pub(super) fn parse(name: &str) -> Option<Self> {
        match name {
            "json" => Some(Self::Json),
            "text" => Some(Self::Text),
            _ => None,
        }
    }
}

// === impl Broker ===

impl fmt::Display for Broker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(formatter, "[{}]:{}", self.host, self.port)
        } else {
            write!(formatter, "{}:{}", self.host, self.port)
        }
    }
}

// === impl Listen ===

impl fmt::Display for Listen {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(formatter),
            Self::Unix(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_leads_back_to_itself() {
        for name in SecurityProtocol::NAMES {
            assert_eq!(SecurityProtocol::parse(name).map(SecurityProtocol::name), Some(*name));
        }
        for name in SaslMechanism::NAMES {
            assert_eq!(SaslMechanism::parse(name).map(SaslMechanism::name), Some(*name));
        }
        for name in Compression::NAMES {
            assert_eq!(Compression::parse(name).map(Compression::name), Some(*name));
        }
        for name in LogFormat::NAMES {
            assert!(LogFormat::parse(name).is_some());
        }
    }
}
