//! Owns the messages of one authentication: `SaslHandshake`, then `SaslAuthenticate` until both sides are content (KIP-152), pure.
//! Must never end well before the mechanism's exchange has: a broker's "no error" alone proves nothing.

use std::time::Duration;

use kafka_protocol::{
    messages::{
        ApiKey, SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest,
        SaslHandshakeResponse,
    },
    protocol::StrBytes,
};

use crate::{
    config::Credentials,
    kafka::{
        code::ErrorCode,
        wire::{
            error::WireError,
            message::Response,
            sasl::{SaslExchange, SaslStep},
        },
    },
};

/// The most characters of a broker's words that are repeated.
const WORDS_MAX: usize = 500;
/// The most mechanisms of a broker's that are named.
const MECHANISMS_MAX: usize = 10;

/// One authentication, at the beginning of a connection or again on it.
#[derive(Debug)]
pub(super) struct Authentication {
    credentials: Credentials,
    exchange: SaslExchange,
}

/// What follows a broker's answer.
#[derive(Debug)]
pub(super) enum AuthenticationStep {
    /// This is sent next.
    Ask(SaslAuthenticateRequest),
    /// We are in, for so long at most where there is a limit (KIP-368).
    Done(Option<Duration>),
}

impl Authentication {
    /// Begins; the request names the mechanism.
    pub(super) fn begin(credentials: &Credentials) -> Result<(Self, SaslHandshakeRequest), WireError> {
        let exchange = SaslExchange::begin(credentials);
        let exchange = exchange.map_err(|error| failed(credentials, error.to_string()))?;
        let mechanism = StrBytes::from_static_str(credentials.mechanism.name());
        let request = SaslHandshakeRequest::default().with_mechanism(mechanism);
        Ok((Self { credentials: credentials.clone(), exchange }, request))
    }

    /// Goes on with the broker's answer.
    pub(super) fn heard(&mut self, response: Response) -> Result<AuthenticationStep, WireError> {
        if response.api == ApiKey::SaslHandshake {
            self.offered(&response.decode::<SaslHandshakeRequest>()?)
        } else {
            self.answered(response.decode::<SaslAuthenticateRequest>()?)
        }
    }

    fn offered(&mut self, response: &SaslHandshakeResponse) -> Result<AuthenticationStep, WireError> {
        let code = ErrorCode::new(response.error_code.into());
        let words = match code {
            ErrorCode::NO_ERROR => return self.step(&[], 0),
            ErrorCode::ILLEGAL_SASL_STATE => {
                "the broker asks for no user there; check KAFKA_SECURITY_PROTOCOL and the port".to_owned()
            }
            ErrorCode::UNSUPPORTED_SASL_MECHANISM => {
                let offered = response.mechanisms.iter().take(MECHANISMS_MAX);
                let offered: Vec<_> = offered.map(|name| name.escape_default().to_string()).collect();
                format!("the broker takes {} there; check KAFKA_SASL_MECHANISM", offered.join(", "))
            }
            code => format!("the broker answers the handshake with {code}"),
        };
        Err(failed(&self.credentials, words))
    }

    fn answered(&mut self, response: SaslAuthenticateResponse) -> Result<AuthenticationStep, WireError> {
        let SaslAuthenticateResponse { error_code, error_message, auth_bytes, session_lifetime_ms, .. } =
            response;
        let code = ErrorCode::new(error_code.into());
        if !code.is_error() {
            return self.step(&auth_bytes, session_lifetime_ms);
        }
        let words = error_message.filter(|words| !words.is_empty());
        let words = words.map(|words| words.chars().take(WORDS_MAX).collect::<String>());
        let words = words.map_or_else(|| code.to_string(), |words| words.escape_default().to_string());
        Err(failed(&self.credentials, words))
    }

    fn step(&mut self, words: &[u8], session_lifetime_ms: i64) -> Result<AuthenticationStep, WireError> {
        match self.exchange.step(&self.credentials, words) {
            Ok(SaslStep::Say(bytes)) => {
                let request = SaslAuthenticateRequest::default().with_auth_bytes(bytes.into());
                Ok(AuthenticationStep::Ask(request))
            }
            Ok(SaslStep::Done) => {
                let lifetime = u64::try_from(session_lifetime_ms).ok().filter(|lifetime| *lifetime > 0);
                Ok(AuthenticationStep::Done(lifetime.map(Duration::from_millis)))
            }
            Err(error) => Err(failed(&self.credentials, error.to_string())),
        }
    }
}

fn failed(credentials: &Credentials, words: String) -> WireError {
    WireError::AuthenticationFailed { mechanism: credentials.mechanism.name(), words }
}
