//! Owns the reading of a group's committed offsets, through one consumer that never subscribes.
//! Must never read offsets of a transaction that is still open, nor take an error for "nothing committed".
//!
//! On a producer's handle the same question ends the process where the coordinator moves (librdkafka issue 5040). On a
//! consumer's it does where the question itself runs out of time while the coordinator is looked for (issues 3663 and 4605):
//! so it never does, and a consumer that did not answer in time is replaced, which ends its questions in peace.
//!
//! So is one that asks a broker which is no longer the coordinator: librdkafka looks for another only once it has not asked that
//! one for a while (`rd_kafka_coord_cache_evict` is called for transactions alone, rdkafka_coord.c of 2.12.1).

use std::{
    fmt,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rdkafka::{ClientConfig, config::RDKafkaLogLevel, consumer::BaseConsumer};

use super::{
    access::{Access, Properties},
    classify,
    code::ErrorCode,
    ffi,
    producer::ConnectError,
};
use crate::{failure::Failure, offsets::Committed, record::Topic};

/// The first pause before offsets are asked for again that a transaction is about to commit, in milliseconds; it doubles.
const PAUSE_MS: u64 = 5;
/// The longest pause: a coordinator in trouble is not hammered.
const PAUSE_MS_MAX: u64 = 250;
/// The longest that one question may take.
const QUESTION_MS_MAX: u64 = 5_000;
/// How long a consumer is kept at least that asks the wrong broker: the brokers may be told of the right one a moment later.
const READER_MS_MIN: u64 = 1_000;

/// Asks groups for their offsets; cheap to clone.
#[derive(Clone)]
pub struct CommittedOffsets {
    access: Arc<Mutex<Access>>,
    /// The one that is asked next; those who ask now may still have its predecessor.
    reader: Arc<Mutex<Reader>>,
}

/// A consumer, and since when it is asked.
#[derive(Clone)]
struct Reader {
    consumer: Arc<BaseConsumer>,
    since: Instant,
}

impl CommittedOffsets {
    /// Starts the consumer; returns before any broker has been reached.
    ///
    /// # Errors
    /// Where librdkafka refuses the properties.
    pub fn start(access: Access) -> Result<Self, ConnectError> {
        let reader = Arc::new(Mutex::new(Reader::start(&access.reader())?));
        Ok(Self { access: Arc::new(Mutex::new(access)), reader })
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
        let mut pause = Duration::from_millis(PAUSE_MS);
        loop {
            let left = by.saturating_duration_since(Instant::now());
            let question = left.min(Duration::from_millis(QUESTION_MS_MAX));
            let mut reader = self.reader.lock().clone();
            if self.access.lock().has_changed() {
                self.replace(reader);
                reader = self.reader.lock().clone();
            }
            let code = match ask(&reader.consumer, group, partitions, question) {
                Ok(committed) => return Ok(committed),
                Err(code) => code,
            };
            let is_astray = code == ErrorCode::NOT_COORDINATOR
                && reader.since.elapsed() >= Duration::from_millis(READER_MS_MIN);
            if code == ErrorCode::LOCAL_TIMED_OUT || is_astray {
                self.replace(reader);
            }
            if !classify::may_be_known_later(code) || left <= Duration::from_millis(PAUSE_MS) {
                return Err(classify::offsets(code, group));
            }
            // Whoever has little time left is asked for again within it.
            thread::sleep(pause.min(left / 2));
            pause = (pause * 2).min(Duration::from_millis(PAUSE_MS_MAX));
        }
    }

    /// Takes a new consumer in place of one that did not answer in time or asks the wrong broker, or that has other secrets than
    /// those in force.
    fn replace(&self, former: Reader) {
        {
            let mut current = self.reader.lock();
            if Arc::ptr_eq(&current.consumer, &former.consumer) {
                // The settings count as noted only once a reader has them: a file may be empty while it is renewed.
                let mut access = self.access.lock().clone();
                access.note();
                match Reader::start(&access.reader()) {
                    Ok(new) => {
                        *current = new;
                        *self.access.lock() = access;
                    }
                    Err(error) => {
                        tracing::debug!(
                            "a new reader of committed offsets could not be made: {error}; the next question tries again"
                        );
                        return;
                    }
                }
            }
        }
        // To end a client waits for its threads; whoever asked need not.
        let ending = thread::Builder::new().name("kafka-reader-end".to_owned()).spawn(move || drop(former));
        drop(ending);
    }
}

impl Reader {
    fn start(properties: &Properties) -> Result<Self, ConnectError> {
        let mut config = ClientConfig::new();
        config.set_log_level(RDKafkaLogLevel::Warning);
        for (name, value) in properties {
            config.set(name, value);
        }
        // A consumer needs one; it joins no group, and the name is asked of nobody.
        config.set("group.id", "producer-sidecar");
        let consumer = config.create().map_err(|error| super::producer::without_value(&error, properties))?;
        Ok(Self { consumer: Arc::new(consumer), since: Instant::now() })
    }
}

fn ask(
    consumer: &BaseConsumer,
    group: &str,
    partitions: &[(&Topic, i32)],
    wait: Duration,
) -> Result<Vec<Committed>, ErrorCode> {
    let answers = ffi::committed_offsets(consumer, group, partitions, wait);
    // Log lines and errors wait in the consumer's queue, and would pile up there.
    while ffi::poll_consumer(consumer, Duration::ZERO, |event| {
        tracing::trace!(?event, "the reader of offsets tells");
    }) {}
    let answers = answers?;
    let of = |offset| if offset < 0 { Committed::Nothing } else { Committed::At(offset) };
    answers.into_iter().map(|answer| answer.map(of)).collect()
}

impl fmt::Debug for CommittedOffsets {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("CommittedOffsets").finish_non_exhaustive()
    }
}
