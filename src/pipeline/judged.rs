//! Owns the word of a topic's rules about a record before it is handed over: Kafka would refuse it, and each refusal has
//! librdkafka number all partitions anew (decision 0008).
//! Must never refuse for good by rules that may be out of date, nor keep a caller waiting beyond its deadline.

use tokio::time::{Instant, timeout_at};

use super::send::Sender;
use crate::{
    clock::now_ms,
    failure::{Failure, Reason},
    kafka::topics::{Learnt, Rules, Verdict},
    record::{Record, Topic},
};

/// What is known of a topic's rules, to one caller's records.
#[derive(Debug, Clone, Copy)]
pub(super) struct Judge {
    rules: Option<Rules>,
    /// What was learnt on account of a record, so that it is not asked for again while it is fresh.
    learnt: Option<Learnt>,
}

impl Judge {
    /// Judges by what was known before.
    pub(super) const fn by(rules: Option<Rules>) -> Self {
        Self { rules, learnt: None }
    }

    /// Returns whether a record may go as far as is known now; else it is to be asked for what is in force.
    pub(super) fn lets_pass(&self, record: &Record, now_ms: i64) -> bool {
        self.rules.is_none_or(|rules| rules.breach(record, now_ms).is_none())
    }

    /// Judges a record that may not go as far as is known, without asking.
    pub(super) fn verdict(&self, record: &Record) -> Verdict {
        self.learnt.map_or(Verdict::Untold, |learnt| learnt.verdict(record, (Instant::now(), now_ms())))
    }

    /// Judges it by the rules that are in force; it stays untold where nobody answers.
    pub(super) async fn ask(&mut self, sender: &Sender, record: &Record, deadline: Instant) -> Verdict {
        let way = &sender.way;
        // While no broker is connected nobody would answer.
        if way.reachability.is_connected() {
            let asked = way.topics.asked_rules(&record.topic);
            if let Ok(Some(learnt)) = timeout_at(deadline, asked).await {
                *self = Self { rules: Some(learnt.rules()), learnt: Some(learnt) };
            }
        }
        self.verdict(record)
    }
}

/// Says that it is not known now whether the topic takes the record: it may be sent again, and is not handed over on a guess.
pub(super) fn untold(topic: &Topic) -> Failure {
    let sentence = format!(
        "topic {topic} would not take the record as far as is known, and Kafka cannot be asked for what is in force now"
    );
    Failure::new(Reason::BrokersUnavailable, sentence)
}
