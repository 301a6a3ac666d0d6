//! Owns for how long a broker lets us in, and the renewal before that ends (KIP-368).
//! Must never let a session come to its end by itself: the broker would end the connection with what is on its way.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use rand::RngExt as _;
use tokio::time::{Sleep, sleep};

use super::authentication::{Authentication, AuthenticationStep};
use crate::kafka::wire::{
    error::WireError,
    message::{CorrelationId, Response},
};

/// When a session is renewed, in parts of a hundred of its lifetime; by chance within, so that not all come at once.
const RENEWAL_PERCENT: std::ops::RangeInclusive<u32> = 85..=95;

/// A session.
#[derive(Debug)]
pub(super) enum Session {
    /// Without end.
    Endless,
    /// It lasts until the timer says that it has to be renewed.
    Lasting(Pin<Box<Sleep>>),
    /// It is being renewed; the request that the broker has to answer next.
    Renewing(Box<Authentication>, CorrelationId),
}

impl Session {
    pub(super) fn new(lifetime: Option<Duration>) -> Self {
        lifetime.map_or(Self::Endless, |lifetime| Self::Lasting(Box::pin(sleep(renewal(lifetime)))))
    }

    pub(super) const fn is_renewing(&self) -> bool {
        matches!(self, Self::Renewing(..))
    }

    /// Returns whether a request belongs to the renewal.
    pub(super) fn owns(&self, request: CorrelationId) -> bool {
        matches!(self, Self::Renewing(_, id) if *id == request)
    }

    /// Is ready when the session has to be renewed.
    pub(super) fn poll_due(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Lasting(timer) => timer.as_mut().poll(context),
            Self::Endless | Self::Renewing(..) => Poll::Pending,
        }
    }

    pub(super) fn renews(&mut self, authentication: Authentication, id: CorrelationId) {
        *self = Self::Renewing(Box::new(authentication), id);
    }

    pub(super) fn awaits(&mut self, request: CorrelationId) {
        if let Self::Renewing(_, id) = self {
            *id = request;
        }
    }

    pub(super) fn lasts(&mut self, lifetime: Option<Duration>) {
        *self = Self::new(lifetime);
    }

    /// Goes on with the broker's answer.
    pub(super) fn heard(&mut self, response: Response) -> Result<AuthenticationStep, WireError> {
        match self {
            Self::Renewing(authentication, _) => authentication.heard(response),
            Self::Endless | Self::Lasting(_) => {
                Err(WireError::Protocol("an answer to an authentication that is over".to_owned()))
            }
        }
    }
}

fn renewal(lifetime: Duration) -> Duration {
    // Further than the timer reaches is as good as endless.
    let lifetime = lifetime.min(Duration::from_hours(24 * 365));
    lifetime * rand::rng().random_range(RENEWAL_PERCENT) / 100
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_renewed_before_its_end() {
        for lifetime in [Duration::from_secs(10), Duration::from_hours(1)] {
            let due: Vec<_> = (0..200).map(|_| renewal(lifetime)).collect();
            assert!(due.iter().all(|due| *due >= lifetime * 85 / 100 && *due <= lifetime * 95 / 100));
            assert!(due.iter().any(|one| one != &due[0]), "all at once");
        }
        assert!(renewal(Duration::MAX) < Duration::MAX);
    }
}
