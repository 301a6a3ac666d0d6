//! Owns the callers that send one record after the other.

use std::{sync::Arc, time::Duration};

use rand::{SeedableRng as _, rngs::StdRng};
use testkit::history::Outcome;
use tokio::time::{MissedTickBehavior, interval};

use super::{
    drawn::{Drawn, Topics, deadline},
    ledger::{Begun, Ledger, Target, pass, told},
};
use crate::client::{Client, Refusal, connect, send_within};

/// How often a caller sends where nothing holds it up.
const PACE: Duration = Duration::from_millis(60);

/// A caller of Send.
pub struct Caller {
    pub number: usize,
    pub topics: Topics,
    /// Whether it sends again what failed.
    pub is_careful: bool,
}

impl Caller {
    /// Sends until the run is over.
    pub async fn run(self, ledger: Arc<Ledger>, seed: u64) {
        let mut random = StdRng::seed_from_u64(seed);
        let mut pace = interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (source, mut position) = (ledger.source(), 0);
        let mut connected = Connected::to(ledger.target());
        let mut records = 0_u64;
        while !ledger.is_over() {
            pace.tick().await;
            records += 1;
            let mut drawn = Drawn::draw((seed, records), &self.topics, &format!("{}-{records}", self.number));
            loop {
                connected.follow(&ledger);
                position += 1;
                let begun = Begun {
                    drawn: drawn.clone(),
                    source,
                    position,
                    life: connected.target.life,
                    begun_ms: ledger.now_ms(),
                };
                let deadline = deadline(&mut random);
                let answer = send_within(&connected.client, drawn.record(), Some(deadline)).await;
                let refusal = match answer {
                    Ok(receipt) => {
                        let (partition, duplicate) = (receipt.partition.unwrap(), receipt.duplicate);
                        let outcome = Outcome::Ok { partition, offset: receipt.offset, duplicate };
                        ledger.note(self.number, &begun, outcome);
                        break;
                    }
                    Err(refusal) => refusal,
                };
                ledger.note_error(format!("{refusal:?}"));
                ledger.note(self.number, &begun, told(&refusal));
                let is_maybe = refusal.persisted() != "NO";
                let again = drawn.again(delay(&refusal), is_maybe).filter(|_| self.is_careful);
                let Some(delay) = again else { break };
                pass(delay).await;
            }
        }
    }
}

/// After how long the sidecar says that the same may be sent again.
fn delay(refusal: &Refusal) -> Option<Duration> {
    let pushback = refusal.pushback_ms.and_then(|pushback| u64::try_from(pushback).ok());
    pushback.map(Duration::from_millis)
}

/// A connection to the sidecar, wherever it is.
struct Connected {
    target: Target,
    client: Client,
}

impl Connected {
    fn to(target: Target) -> Self {
        let client = connect(&target.address);
        Self { target, client }
    }

    fn follow(&mut self, ledger: &Ledger) {
        let now = ledger.target();
        if now.life != self.target.life {
            *self = Self::to(now);
        }
    }
}
