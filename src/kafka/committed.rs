//! Owns the reading of a group's committed offsets, through one consumer that never subscribes.
//! Must never read offsets of a transaction that is still open, nor take an error for "nothing committed".
//!
//! On a producer's handle the same question ends the process where the coordinator moves (librdkafka issue 5040). On a consumer's
//! it does so where librdkafka gives up a question whose coordinator is found later (issue 4605): so librdkafka never does, and
//! a handle that owes an answer is replaced.

use std::{
    fmt,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rdkafka::{ClientConfig, config::RDKafkaLogLevel, consumer::BaseConsumer, error::RDKafkaErrorCode};

use super::{classify, ffi, producer::ConnectError};
use crate::{failure::Failure, offsets::Committed, record::Topic};

/// The pause before offsets are asked for again that a transaction is about to commit.
const PAUSE_MS: u64 = 5;
/// The longest that one question may take.
const QUESTION_MS_MAX: u64 = 5_000;

/// Asks groups for their offsets; cheap to clone.
#[derive(Clone)]
pub struct CommittedOffsets {
    shared: Arc<Shared>,
}

struct Shared {
    properties: Vec<(String, String)>,
    /// Who asks goes on with the one that it asked, also where it is replaced meanwhile.
    consumer: Mutex<Arc<BaseConsumer>>,
}

impl CommittedOffsets {
    /// Starts the consumer; returns before any broker has been reached.
    ///
    /// # Errors
    /// Where librdkafka refuses the properties.
    pub fn start(properties: &[(String, String)]) -> Result<Self, ConnectError> {
        let consumer = Mutex::new(Arc::new(consumer(properties)?));
        Ok(Self { shared: Arc::new(Shared { properties: properties.to_vec(), consumer }) })
    }

    /// Asks for what a group has committed, in the order of the partitions; waits out what is about to be committed. Blocks.
    ///
    /// # Errors
    /// Where it cannot be known in time, or Kafka does not let the sidecar know.
    pub fn read(
        &self,
        group: &str,
        partitions: &[(&Topic, i32)],
        wait: Duration,
    ) -> Result<Vec<Committed>, Failure> {
        let by = Instant::now() + wait;
        loop {
            let left = by.saturating_duration_since(Instant::now());
            let question = left.min(Duration::from_millis(QUESTION_MS_MAX));
            let code = match self.ask(group, partitions, question) {
                Ok(committed) => return Ok(committed),
                Err(code) => code,
            };
            if !classify::may_be_known_later(code) || left <= Duration::from_millis(PAUSE_MS) {
                return Err(classify::offsets(code, group));
            }
            std::thread::sleep(Duration::from_millis(PAUSE_MS));
        }
    }

    fn ask(
        &self,
        group: &str,
        partitions: &[(&Topic, i32)],
        wait: Duration,
    ) -> Result<Vec<Committed>, RDKafkaErrorCode> {
        let consumer = Arc::clone(&self.shared.consumer.lock());
        let answers = ffi::committed_offsets(&consumer, group, partitions, wait);
        // Log lines and errors wait in the consumer's queue, and would pile up there.
        while consumer.poll(Duration::ZERO).is_some() {}
        if matches!(answers, Err(RDKafkaErrorCode::OperationTimedOut)) {
            self.shared.replace(consumer);
        }
        let answers = answers?;
        let of = |offset| if offset < 0 { Committed::Nothing } else { Committed::At(offset) };
        answers.into_iter().map(|answer| answer.map(of)).collect()
    }
}

impl Shared {
    /// Puts a new consumer in the place of one that owes an answer, unless somebody has.
    fn replace(&self, old: Arc<BaseConsumer>) {
        let mut current = self.consumer.lock();
        if Arc::ptr_eq(&current, &old) {
            // The same properties made the old one; should it fail all the same, that one is asked again.
            let Ok(new) = consumer(&self.properties) else { return };
            drop(std::mem::replace(&mut *current, Arc::new(new)));
        }
        drop(current);
        // Its end waits for librdkafka's threads, and whoever asked does not; where no thread can be had, it does.
        drop(thread::Builder::new().name("kafka-reader-end".to_owned()).spawn(move || drop(old)));
    }
}

fn consumer(properties: &[(String, String)]) -> Result<BaseConsumer, ConnectError> {
    let mut config = ClientConfig::new();
    config.set_log_level(RDKafkaLogLevel::Warning);
    for (name, value) in properties {
        config.set(name, value);
    }
    // A consumer needs one; it joins no group, and the name is asked of nobody.
    config.set("group.id", "producer-sidecar");
    config.create().map_err(|error| super::producer::without_value(&error, properties))
}

impl fmt::Debug for CommittedOffsets {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("CommittedOffsets").finish_non_exhaustive()
    }
}
