//! Owns the word of a topic's rules about a record before it is handed over: Kafka would refuse it, and each refusal has
//! librdkafka number all partitions anew (decision 0008).
//! Must never refuse by rules that may be out of date, nor keep a caller waiting beyond its deadline: else Kafka judges.

use tokio::time::{Instant, timeout_at};

use super::{dead_letters::now_ms, send::Sender};
use crate::{failure::Failure, kafka::topics::Rules, record::Record};

/// What is known of a topic's rules, to one caller's records.
#[derive(Debug, Clone, Copy)]
pub(super) struct Judge {
    rules: Option<Rules>,
    /// Whether they were asked for on account of a record, so that they are not asked for again.
    is_fresh: bool,
}

impl Judge {
    /// Judges by what was known before.
    pub(super) const fn by(rules: Option<Rules>) -> Self {
        Self { rules, is_fresh: false }
    }

    /// Returns whether a record may go as far as is known now; else it is to be asked for what is in force.
    pub(super) fn lets_pass(&self, record: &Record, now_ms: i64) -> bool {
        self.rules.is_none_or(|rules| rules.breach(record, now_ms).is_none())
    }

    /// Returns whether [`Self::judge`] asks Kafka, and so waits.
    pub(super) const fn has_to_ask(&self) -> bool {
        !self.is_fresh
    }

    /// Judges a record that may not go as far as is known, by the rules that are in force.
    ///
    /// # Errors
    /// `RecordRejected`, where they surely refuse the record.
    pub(super) async fn judge(
        &mut self,
        sender: &Sender,
        record: &Record,
        deadline: Instant,
    ) -> Result<(), Failure> {
        if !self.is_fresh {
            self.is_fresh = true;
            self.rules = None;
            // Nobody would answer; the record waits for a broker in its line.
            if sender.way.reachability.is_connected() {
                let asked = sender.way.topics.fresh_rules(&record.topic);
                self.rules = timeout_at(deadline, asked).await.ok().flatten();
            }
        }
        let breach = self.rules.and_then(|rules| rules.breach(record, now_ms()));
        breach.map_or(Ok(()), |breach| Err(breach.failure(&record.topic)))
    }
}
