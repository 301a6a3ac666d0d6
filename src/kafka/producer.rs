//! Owns one librdkafka producer: handing a record over, the thread that polls for reports, and its end.
//! Must never choose a partition, wait for a report or decide about a retry; those who call it do.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode},
};

use super::{
    code::ErrorCode,
    context::{Context, Observer, Undelivered},
    ffi::{self, NativeHeaders, ReportQueue},
};
use crate::record::Record;

/// How long one turn of the polling thread lasts at most; also how long an end waits for it.
const POLL_MS: u64 = 100;
/// How long the reports of what is given up at the end may take, in milliseconds.
const FINISH_MS_MAX: u64 = 500;
/// How long one look for them lasts at most, in milliseconds.
const FINISH_POLL_MS: u64 = 10;

/// A producer could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// librdkafka refuses a property. Its own message would print the value, so only the name is kept.
    #[error("librdkafka refuses the property {0}")]
    Property(String),
    /// The properties contradict each other, or something they name cannot be read.
    #[error("librdkafka refuses the configuration: {0}")]
    Configuration(String),
    /// A thread could not be started.
    #[error("the polling thread could not be started")]
    Thread(#[source] std::io::Error),
}

/// The number of a record is librdkafka's opaque pointer, which must hold it.
const _: () = assert!(usize::BITS == u64::BITS, "records are numbered with 64 bits");

/// The rdkafka client of a producer.
pub type Client = rdkafka::client::Client<Context>;

/// A running producer.
pub struct Producer {
    client: Arc<Client>,
    serial: u64,
    stop: Arc<AtomicBool>,
    /// How many turns its polling thread has begun.
    turns: Arc<AtomicU64>,
    polling: Option<JoinHandle<()>>,
    is_left_behind: AtomicBool,
}

impl Producer {
    /// Starts a producer; returns before any broker has been reached.
    ///
    /// # Errors
    /// Where librdkafka refuses the properties; no value is in the error.
    pub fn start(properties: &[(String, String)], context: Context) -> Result<Self, ConnectError> {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        let config = client_config(properties);
        let client = ffi::producer(&config, context).map_err(|error| without_value(&error, properties))?;
        let client = Arc::new(client);
        let (stop, turns) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let queue = ReportQueue::of(Arc::clone(&client));
        let queue = queue.ok_or_else(|| ConnectError::Configuration("no queue".to_owned()))?;
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&turns));
        let polling = thread::Builder::new()
            .name("kafka-poll".to_owned())
            .spawn(move || {
                while !stopped.load(Ordering::Acquire) {
                    counted.fetch_add(1, Ordering::Relaxed);
                    turn(&queue, Duration::from_millis(POLL_MS));
                }
                finish(&queue);
            })
            .map_err(ConnectError::Thread)?;
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        Ok(Self {
            client,
            serial,
            stop,
            turns,
            polling: Some(polling),
            is_left_behind: AtomicBool::new(false),
        })
    }

    /// Returns the number that tells it from all other producers of the process.
    #[must_use]
    pub const fn serial(&self) -> u64 {
        self.serial
    }

    /// Returns how many turns its polling thread has begun; one that makes no more of them is stuck in a callback, or dead.
    #[must_use]
    pub fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    /// Returns how many records and other messages of librdkafka's have not come back yet.
    #[must_use]
    pub fn unreported(&self) -> usize {
        ffi::unreported(&self.client)
    }

    /// Returns the words of the fatal error that it met, after which it takes no record.
    #[must_use]
    pub fn fatal_error(&self) -> Option<String> {
        ffi::fatal_error(&self.client).map(|(_, words)| words)
    }

    /// Asks any broker whether it lets this producer in, and waits for the answer. Blocks.
    #[must_use]
    pub fn is_answered(&self, wait: Duration) -> bool {
        ffi::cluster_answers(&self.client, wait)
    }

    /// Has its callbacks tell another observer.
    pub fn tell(&self, observer: Observer) {
        self.client.context().tell(observer);
    }

    /// Returns the client, for metadata.
    #[must_use]
    pub fn client(&self) -> Arc<Client> {
        Arc::clone(&self.client)
    }

    /// Hands the record to librdkafka, with these headers and not its own, for that partition; never blocks. A report with the record's number follows, once, for
    /// every record taken over.
    ///
    /// # Errors
    /// Where librdkafka does not take the record over; it is then surely not written, and no report follows.
    pub fn hand_over(
        &self,
        record: &Record,
        headers: Option<NativeHeaders>,
        partition: i32,
        number: u64,
    ) -> Result<(), Undelivered> {
        let taken = ffi::hand_over(&self.client, record, headers, partition, number);
        taken.map_err(|(code, headers)| Undelivered::not_taken(code, headers))
    }

    /// Gives up every record still in librdkafka; reports follow that say of each whether it may be written.
    pub fn give_up(&self) {
        ffi::purge(&self.client);
    }

    /// Leaves it behind, because its polling thread does not come back: nothing more of it is sent, and no report of it is to be
    /// waited for.
    pub fn leave_behind(&self) {
        self.is_left_behind.store(true, Ordering::Release);
        self.stop.store(true, Ordering::Release);
        self.give_up();
    }
}

impl Drop for Producer {
    /// Ends the polling thread and the client; blocks for up to a second, so drop it where blocking is allowed.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        // A report may have been the last to hold the producer: that thread cannot wait for itself.
        if let Some(polling) = self.polling.take()
            && polling.thread().id() != thread::current().id()
            && !self.is_left_behind.load(Ordering::Acquire)
            && polling.join().is_err()
        {
            tracing::error!("the polling thread had panicked");
        }
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Producer").finish_non_exhaustive()
    }
}

/// Checks properties against librdkafka without connecting.
///
/// # Errors
/// The first property that librdkafka refuses, or what contradicts.
pub fn check(properties: &[(String, String)]) -> Result<(), ConnectError> {
    client_config(properties)
        .create_native_config()
        .map(drop)
        .map_err(|error| without_value(&error, properties))
}

fn client_config(properties: &[(String, String)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set_log_level(RDKafkaLogLevel::Info);
    for (name, value) in properties {
        config.set(name, value);
    }
    config
}

/// Takes the passwords out of librdkafka's words.
pub(super) fn redacted(words: &str, properties: &[(String, String)]) -> String {
    let secrets = properties.iter().filter(|(name, value)| name.contains("password") && !value.is_empty());
    secrets.fold(words.to_owned(), |words, (_, value)| words.replace(value, "(redacted)"))
}

/// Keeps what helps of rdkafka's error: its texts quote values, and a value may be a secret.
pub(super) fn without_value(error: &KafkaError, properties: &[(String, String)]) -> ConnectError {
    if let KafkaError::ClientConfig(_, _, name, _) = error {
        return ConnectError::Property(name.clone());
    }
    if let KafkaError::ClientCreation(text) = error {
        return ConnectError::Configuration(redacted(text, properties));
    }
    // The only codes that come of making a client are librdkafka's own, which the enum has.
    let code = error.rdkafka_error_code().map_or(ErrorCode::UNKNOWN, local_code);
    ConnectError::Configuration(code.name().into_owned())
}

/// Takes librdkafka's own code of rust-rdkafka's enum.
pub(super) fn local_code(code: RDKafkaErrorCode) -> ErrorCode {
    #[expect(clippy::as_conversions, reason = "the enum's discriminants are librdkafka's numbers")]
    ErrorCode::new(code as i32)
}

/// Tells what came within one turn of the polling thread.
fn turn(queue: &ReportQueue<Context>, wait: Duration) {
    let context = queue.client().context();
    queue.poll(wait, |event| context.told(event));
}

/// Reads the last reports, of what is given up now if it was not before: a client that has records would take long to end.
fn finish(queue: &ReportQueue<Context>) {
    let by = Instant::now() + Duration::from_millis(FINISH_MS_MAX);
    ffi::purge(queue.client());
    while ffi::unreported(queue.client()) > 0 && Instant::now() < by {
        turn(queue, Duration::from_millis(FINISH_POLL_MS));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn librdkafkas_own_configuration_errors_hold_no_value() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let canary = "canary-3f9a";
        for properties in [
            vec![pair("ssl.key.password", canary), pair("linger.ms", canary)],
            vec![pair("no.such.property", canary)],
            vec![pair("sasl.mechanism", canary), pair("security.protocol", "sasl_ssl")],
            vec![
                pair("security.protocol", "ssl"),
                pair("ssl.ca.location", "/nowhere"),
                pair("ssl.key.password", canary),
            ],
        ] {
            let refused = match check(&properties) {
                Ok(()) => {
                    Producer::start(&properties, Context::new(Observer::default(), |_, _| ())).map(drop)
                }
                Err(error) => Err(error),
            };
            let error = refused.expect_err("librdkafka takes none of these");
            if properties.iter().any(|(name, value)| name.contains("password") && value == canary) {
                assert!(!format!("{error} {error:?}").contains(canary), "{error}");
            }
        }
    }
}
