//! Owns the records of a mixed load: drawn by chance, each with a value of its own, and what is sent again.

use std::time::Duration;

use producer_sidecar::grpc::proto::ProducerRecord;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use crate::client::{keyed, text, with_header};

/// What every value and every key begins with: it must turn up nowhere but in Kafka.
pub const VALUE_CANARY: &str = "canary-value-";
pub const KEY_CANARY: &str = "canary-key-";

/// More than a topic takes that takes little.
const TOO_LARGE: usize = 40_000;
const FILLER_MAX: usize = 600;
const KEYS: u32 = 60;
const TENANTS: u32 = 6;
/// One of how many fails by its own fault.
const DOOMED: u32 = 50;
/// How often a record is sent, until its caller gives it up.
const TRIES: u32 = 12;
/// After how long one is sent again of which nothing is known.
const AGAIN: Duration = Duration::from_millis(100);
const DEADLINE_MS: std::ops::Range<u64> = 1_500..5_000;

/// Where records go.
#[derive(Clone)]
pub struct Topics {
    /// By name.
    pub known: Vec<String>,
    pub unknown: String,
    /// Takes nothing of the sidecar's principal.
    pub forbidden: String,
    /// Takes nothing without a key, and is sent nothing else.
    pub compacted: String,
}

/// One record, and how often it was sent.
#[derive(Clone)]
pub struct Drawn {
    pub value: String,
    pub topic: String,
    pub key: Option<String>,
    pub message_id: Option<String>,
    pub is_doomed: bool,
    tenant: Option<String>,
    sent: u32,
}

impl Drawn {
    /// Draws a caller's record of that number, the same for the same seed whatever became of those before it; `name` is its
    /// own.
    pub fn draw((seed, number): (u64, u64), topics: &Topics, name: &str) -> Self {
        let mut random = StdRng::seed_from_u64(seed ^ number.rotate_left(32));
        let (mut key, mut tenant) = (None, None);
        match random.random_range(0..10) {
            0..6 => key = Some(format!("{KEY_CANARY}{}", random.random_range(0..KEYS))),
            6..8 => tenant = Some(format!("tenant-{}", random.random_range(0..TENANTS))),
            _ => {}
        }
        let is_doomed = random.random_range(0..DOOMED) == 0;
        let mut topic = &topics.known[random.random_range(0..topics.known.len())];
        let mut filler = random.random_range(0..FILLER_MAX);
        if is_doomed {
            match random.random_range(0..4) {
                0 => filler = TOO_LARGE,
                1 => topic = &topics.unknown,
                2 => topic = &topics.forbidden,
                _ => (topic, key) = (&topics.compacted, None),
            }
        }
        let topic = topic.clone();
        let message_id = random.random_bool(0.5).then(|| format!("id-{name}"));
        let value = format!("{VALUE_CANARY}{name}-{}", "x".repeat(filler));
        Self { value, topic, key, message_id, is_doomed, tenant, sent: 0 }
    }

    /// The record as it is sent.
    pub fn record(&self) -> ProducerRecord {
        let mut record = text(&self.topic, &self.value);
        if let Some(key) = &self.key {
            record = keyed(record, key);
        }
        if let Some(tenant) = &self.tenant {
            record = with_header(record, "tenant-id", tenant);
        }
        record.message_id = self.message_id.clone().unwrap_or_default();
        record
    }

    /// After how long a careful caller sends it again (docs/errors.md): where that is safe and may help, or where nothing is
    /// known of it and it has an id. None where it is given up.
    pub fn again(&mut self, delay: Option<Duration>, is_maybe: bool) -> Option<Duration> {
        self.sent += 1;
        let unknown = (is_maybe && self.message_id.is_some()).then_some(AGAIN);
        delay.or(unknown).filter(|_| self.sent < TRIES)
    }
}

/// Draws how long a call or a frame may take.
pub fn deadline(random: &mut StdRng) -> Duration {
    Duration::from_millis(random.random_range(DEADLINE_MS))
}
