//! Owns how the sidecar proves to a broker who it is: what is said in each turn, mechanism by mechanism, pure.
//! Must never put a password, or what is made of one, into an error or a `Debug` text.
//!
//! The messages that carry the turns are `SaslHandshake` and `SaslAuthenticate` (KIP-152), see `connection/authentication.rs`.
//! OAUTHBEARER is one more variant of [`SaslExchange`]: its first turn is the token.

mod scram;

use secrecy::ExposeSecret as _;

pub use self::scram::{ScramExchange, ScramHash};
use crate::config::{Credentials, SaslMechanism};

/// Why an exchange cannot go on: what the server said makes no sense, or shows that it does not know the password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SaslError(pub(super) String);

/// One attempt to show who we are.
#[derive(Debug)]
pub enum SaslExchange {
    /// The password itself (RFC 4616).
    Plain(PlainExchange),
    /// Proof on both sides that the password is known (RFC 5802, RFC 7677).
    Scram(Box<ScramExchange>),
}

/// What follows the server's turn.
#[derive(Debug, PartialEq, Eq)]
pub enum SaslStep {
    /// These bytes go to the server.
    Say(Vec<u8>),
    /// The server has let us in, and has shown what it has to.
    Done,
}

impl SaslExchange {
    /// Begins with these credentials.
    ///
    /// # Errors
    /// If the system has no randomness.
    pub fn begin(credentials: &Credentials) -> Result<Self, SaslError> {
        let scram = |hash| ScramExchange::begin(hash).map(|scram| Self::Scram(Box::new(scram)));
        match credentials.mechanism {
            SaslMechanism::Plain => Ok(Self::Plain(PlainExchange { is_said: false })),
            SaslMechanism::ScramSha256 => scram(ScramHash::Sha256),
            SaslMechanism::ScramSha512 => scram(ScramHash::Sha512),
        }
    }

    /// Returns what follows the server's words; the first turn follows no words.
    ///
    /// # Errors
    /// If the server's words are wrong.
    pub fn step(&mut self, credentials: &Credentials, words: &[u8]) -> Result<SaslStep, SaslError> {
        match self {
            Self::Plain(plain) => Ok(plain.step(credentials)),
            Self::Scram(scram) => scram.step(credentials, words),
        }
    }
}

/// PLAIN: one turn, and the server's word for it.
#[derive(Debug)]
pub struct PlainExchange {
    is_said: bool,
}

impl PlainExchange {
    fn step(&mut self, credentials: &Credentials) -> SaslStep {
        if self.is_said {
            return SaslStep::Done;
        }
        self.is_said = true;
        let Credentials { user, password, .. } = credentials;
        SaslStep::Say([&[0], user.as_bytes(), &[0], password.expose_secret().as_bytes()].concat())
    }
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;

    #[test]
    fn plain_says_user_and_password_in_one_turn() {
        let mechanism = SaslMechanism::Plain;
        let password = SecretString::from("pencil");
        let credentials = Credentials { mechanism, user: "user".to_owned(), password };
        let mut exchange = SaslExchange::begin(&credentials).unwrap();
        let said = exchange.step(&credentials, b"").unwrap();
        assert_eq!(said, SaslStep::Say(b"\0user\0pencil".to_vec()));
        assert_eq!(exchange.step(&credentials, b"").unwrap(), SaslStep::Done);
    }
}
