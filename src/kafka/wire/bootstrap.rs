//! Owns the finding of a broker that lets us in: of those that are known, then of those that the settings name.
//! Must never try in a fixed order or without a pause: all sidecars of a machine would come to the same broker at the same time.

use std::{fmt, sync::Arc, time::Duration};

use rand::{RngExt as _, seq::SliceRandom as _};
use tokio::time::sleep;

use super::{connection::Connection, error::WireError, settings::WireSettings, staggered};
use crate::config::Broker;

/// How long one broker is tried alone; a frozen one takes connections and does not answer.
const NEXT_BROKER_AFTER: Duration = Duration::from_millis(500);
/// By how many parts of a hundred a pause is shorter or longer than its turn (as `reconnect.backoff.ms` of Kafka's clients).
const JITTER_PERCENT: u32 = 20;

/// Pauses that double from one to the next.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    turns: u32,
}

impl Backoff {
    /// Begins before the first pause.
    #[must_use]
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, turns: 0 }
    }

    /// Returns the next pause, by chance up to a fifth shorter or longer.
    pub fn pause(&mut self) -> Duration {
        let turn = self.first.saturating_mul(2_u32.saturating_pow(self.turns));
        self.turns = self.turns.saturating_add(1);
        let percent = rand::rng().random_range(100 - JITTER_PERCENT..=100 + JITTER_PERCENT);
        turn.min(self.longest).saturating_mul(percent) / 100
    }

    /// Begins again before the first pause: something went well.
    pub const fn reset(&mut self) {
        self.turns = 0;
    }
}

/// Why no broker let us in: each that was tried, and how it failed.
#[derive(Debug, thiserror::Error)]
pub struct BootstrapError(pub Vec<(Broker, WireError)>);

impl fmt::Display for BootstrapError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (broker, error)) in self.0.iter().enumerate() {
            let between = if place == 0 { "" } else { "; " };
            write!(formatter, "{between}{broker}: {error}")?;
        }
        Ok(())
    }
}

impl BootstrapError {
    /// Returns whether a broker was there and refused us: this counts more than others that were not there.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        self.0.iter().any(|(_, error)| error.is_refusal())
    }
}

/// The finding of a broker, round by round.
#[derive(Debug)]
pub struct Bootstrap {
    backoff: Backoff,
    has_failed: bool,
}

impl Bootstrap {
    /// Begins with the pauses of these settings.
    #[must_use]
    pub const fn new(settings: &WireSettings) -> Self {
        let backoff = Backoff::new(settings.reconnect_backoff, settings.reconnect_backoff_max);
        Self { backoff, has_failed: false }
    }

    /// Tries each broker once, those that are known first; pauses before if the round before failed. Can be dropped at any time.
    ///
    /// # Errors
    /// If none lets us in.
    pub async fn round(
        &mut self,
        settings: &Arc<WireSettings>,
        known: &[Broker],
    ) -> Result<(Broker, Connection), BootstrapError> {
        if self.has_failed {
            sleep(self.backoff.pause()).await;
        }
        self.has_failed = true;
        let attempts = candidates(known, &settings.brokers).into_iter().map(|broker| async {
            match Connection::open(&broker, Arc::clone(settings)).await {
                Ok(connection) => Ok((broker, connection)),
                Err(error) => Err((broker, error)),
            }
        });
        let found = staggered::first(attempts, NEXT_BROKER_AFTER).await.map_err(BootstrapError)?;
        self.has_failed = false;
        self.backoff.reset();
        Ok(found)
    }
}

/// Puts those that are known before those that are configured, each in random order and once.
fn candidates(known: &[Broker], configured: &[Broker]) -> Vec<Broker> {
    let mut candidates: Vec<Broker> = Vec::new();
    for brokers in [known, configured] {
        let mut brokers = brokers.to_vec();
        brokers.shuffle(&mut rand::rng());
        for broker in brokers {
            if !candidates.contains(&broker) {
                candidates.push(broker);
            }
        }
    }
    candidates
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broker(host: &str) -> Broker {
        Broker { host: host.to_owned(), port: 9092 }
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(ms(100), ms(1000));
        for turn in [100, 200, 400, 800, 1000, 1000] {
            let pause = backoff.pause();
            assert!(pause >= ms(turn * 8 / 10) && pause <= ms(turn * 12 / 10), "{turn}: {pause:?}");
        }
        for _ in 0..100 {
            backoff.pause();
        }
        assert!(backoff.pause() <= ms(1200));
        backoff.reset();
        assert!(backoff.pause() <= ms(120));
    }

    #[test]
    fn known_brokers_come_first_and_each_once() {
        let (one, two, three) = (broker("b1"), broker("b2"), broker("b3"));
        let mut firsts = std::collections::HashSet::new();
        for _ in 0..200 {
            let order = candidates(&[two.clone(), three.clone()], &[one.clone(), two.clone()]);
            assert_eq!(order.len(), 3);
            assert_eq!(order[2], one);
            firsts.insert(order[0].host.clone());
        }
        assert_eq!(firsts.len(), 2, "the order is random");
    }

    #[test]
    fn a_refusal_counts_more_than_silence() {
        let silent =
            || (broker("b1"), WireError::Timeout(crate::kafka::wire::error::ConnectionStage::Connect));
        let refused = WireError::AuthenticationFailed { mechanism: "PLAIN", words: "no".to_owned() };
        assert!(!BootstrapError(vec![silent()]).is_refusal());
        let both = BootstrapError(vec![silent(), (broker("b2"), refused)]);
        assert!(both.is_refusal());
        assert!(both.to_string().contains("; b2:9092: PLAIN authentication failed: no"), "{both}");
    }

    /// A frozen broker takes connections and says nothing.
    #[tokio::test]
    async fn a_silent_broker_holds_up_the_next_for_a_moment() {
        let silent = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let gone = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let at = |listener: &tokio::net::TcpListener| Broker {
            host: "127.0.0.1".to_owned(),
            port: listener.local_addr().unwrap().port(),
        };
        let (known, configured) = (at(&silent), at(&gone));
        drop(gone);
        let settings = Arc::new(WireSettings {
            brokers: vec![configured.clone()],
            client_id: String::new(),
            tls: None,
            credentials: None,
            socket_timeout: Duration::from_secs(60),
            connection_setup_timeout: NEXT_BROKER_AFTER * 3,
            reconnect_backoff: Duration::from_millis(200),
            reconnect_backoff_max: Duration::from_millis(200),
            metadata_refresh: Duration::from_secs(60),
            allow_auto_topic_creation: false,
        });
        let mut bootstrap = Bootstrap::new(&settings);
        let BootstrapError(tried) =
            bootstrap.round(&settings, std::slice::from_ref(&known)).await.unwrap_err();
        let order: Vec<_> = tried.into_iter().map(|(broker, _)| broker).collect();
        assert_eq!(
            order,
            [configured, known],
            "the one that is gone fails while the silent one is waited for"
        );
        let begun = tokio::time::Instant::now();
        assert!(bootstrap.round(&settings, &[]).await.is_err());
        assert!(begun.elapsed() >= Duration::from_millis(160), "after a pause");
    }
}
