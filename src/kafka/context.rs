//! Owns the callbacks of librdkafka: delivery reports, errors, statistics and log lines.
//! Must never panic into librdkafka and never block: a stuck or dead polling thread leaves every caller waiting.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use parking_lot::{RwLock, RwLockReadGuard};
use rdkafka::ClientContext;
use tokio::sync::watch;

use super::{
    classify,
    code::ErrorCode,
    ffi::{self, Event, NativeHeaders},
    reachability::Reachability,
    statistics::{self, Statistics},
    tls,
};
use crate::{failure::Failure, record::Topic, retry::Fault};

/// The facility of log lines on certificates that were refused.
const CERTIFICATE_FACILITY: &str = "SSLCERTVRFY";
/// The facility of log lines on connections that failed; of one that the other side closed there is no error event
/// (`rd_kafka_broker_set_error`).
const FAILURE_FACILITY: &str = "FAIL";

/// Where a delivered record lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivered {
    /// The offset; unset where the broker recognised a repeated batch (`DUPLICATE_SEQUENCE_NUMBER`) and did not say it.
    pub offset: Option<i64>,
    /// Milliseconds since the epoch; the broker's where the topic keeps the time of appending.
    pub timestamp_ms: Option<i64>,
}

/// Why a record was not delivered, before it is known whose record it was.
pub struct Undelivered {
    code: ErrorCode,
    status: ffi::MessageStatus,
    /// The record's headers, which librdkafka had taken over.
    headers: Option<NativeHeaders>,
}

/// What became of a record that was handed to librdkafka.
pub type Delivery = Result<Delivered, Undelivered>;

type OnDelivery = Box<dyn Fn(u64, Delivery) + Send + Sync>;

/// Who hears of a producer's connections and statistics; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Observer {
    /// Whether the cluster is there, as this producer sees it.
    pub reachability: Arc<Reachability>,
    /// What it told last.
    pub statistics: watch::Sender<Statistics>,
}

/// The callbacks of one producer; a number travels with each record and comes back with its report.
pub struct Context {
    on_delivery: OnDelivery,
    /// Another one takes over when the producer comes into use, or goes out of it.
    observer: RwLock<Observer>,
}

// === impl Undelivered ===

impl Undelivered {
    /// Makes the report of a record that librdkafka did not even take over.
    #[must_use]
    pub fn not_taken(code: ErrorCode, headers: Option<NativeHeaders>) -> Self {
        Self { code, status: ffi::MessageStatus::NotPersisted, headers }
    }

    /// Makes the report of a record whose producer was left behind before it told.
    #[must_use]
    pub const fn left_behind() -> Self {
        let status = ffi::MessageStatus::PossiblyPersisted;
        Self { code: ErrorCode::LOCAL_FAIL, status, headers: None }
    }

    /// Returns what is known of why; nothing but `Lasting` where the record may be written.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self.status {
            ffi::MessageStatus::NotPersisted => classify::fault(self.code),
            ffi::MessageStatus::PossiblyPersisted | ffi::MessageStatus::Persisted => Fault::Lasting,
        }
    }

    /// Tells whether librdkafka tried for as long as it tries (`kafka.message_timeout_ms`).
    #[must_use]
    pub fn is_out_of_retries(&self) -> bool {
        classify::is_out_of_retries(self.code)
    }

    /// Returns the headers that came back with the record.
    pub fn take_headers(&mut self) -> Option<NativeHeaders> {
        self.headers.take()
    }

    /// Says it as a failure of that record.
    #[must_use]
    pub fn failure(&self, topic: &Topic, partition: i32) -> Failure {
        classify::delivery(self.code, self.status, topic, partition)
    }
}

impl fmt::Debug for Undelivered {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({:?})", self.code, self.status)
    }
}

// === impl Context ===

impl Context {
    /// Makes the callbacks; `on_delivery` runs on the polling thread and must be quick.
    pub fn new(observer: Observer, on_delivery: impl Fn(u64, Delivery) + Send + Sync + 'static) -> Self {
        Self { on_delivery: Box::new(on_delivery), observer: RwLock::new(observer) }
    }

    /// Tells another observer from now on.
    pub fn tell(&self, observer: Observer) {
        *self.observer.write() = observer;
    }

    fn observer(&self) -> RwLockReadGuard<'_, Observer> {
        self.observer.read()
    }
}

impl Context {
    /// Tells what came off the producer's queue.
    pub fn told(&self, event: Event<'_>) {
        match event {
            Event::Report(report) => self.delivery_report(report),
            Event::Error(code, sentence) => guarded("error", || {
                tracing::debug!(%code, "{sentence}");
                self.observer().reachability.client_error(code, sentence.trim());
            }),
            Event::Log(level, facility, line) => guarded("log", || {
                match facility.trim() {
                    CERTIFICATE_FACILITY => self.observer().reachability.refused_certificate(line.trim()),
                    // Of a handshake that failed there is one.
                    FAILURE_FACILITY if tls::tells(&line) && !line.contains("handshake failed") => {
                        self.observer().reachability.client_error(ErrorCode::LOCAL_TRANSPORT, line.trim());
                    }
                    _ => {}
                }
                log(level, facility.trim(), line.trim());
            }),
            Event::Statistics(json) => guarded("statistics", || {
                if let Some(read) = statistics::read(json) {
                    let observer = self.observer();
                    observer.reachability.brokers_connected(read.brokers_connected);
                    observer.statistics.send_replace(read);
                }
            }),
            Event::Read(_) => {}
        }
    }

    fn delivery_report(&self, mut report: ffi::Report<'_>) {
        guarded("delivery", || {
            let delivery = report.outcome().map_err(|code| Undelivered {
                code,
                status: report.status(),
                headers: report.take_headers(),
            });
            (self.on_delivery)(report.number(), delivery);
        });
    }
}

// Nothing of rust-rdkafka's is called: the queue is polled in `ffi`, because that one makes an enum of each code.
impl ClientContext for Context {}

/// Logs a line of librdkafka's with its own level, which is syslog's.
fn log(level: i32, facility: &str, line: &str) {
    match level {
        // Emergency to critical, error and warning, notice and informational.
        ..=2 => tracing::error!(target: "librdkafka", facility, "{line}"),
        3..=4 => tracing::warn!(target: "librdkafka", facility, "{line}"),
        5..=6 => tracing::info!(target: "librdkafka", facility, "{line}"),
        _ => tracing::debug!(target: "librdkafka", facility, "{line}"),
    }
}

/// Runs a callback's body; a panic is logged and ends there.
fn guarded(callback: &'static str, body: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(body)).is_err() {
        tracing::error!(callback, "a callback panicked; the producer goes on");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_in_a_callback_ends_there() {
        let context = Context::new(Observer::default(), |_, _| panic!("planted"));
        context.told(Event::Error(ErrorCode::LOCAL_TRANSPORT, "gone".to_owned()));
        guarded("test", || {
            (context.on_delivery)(0, Err(Undelivered::not_taken(ErrorCode::LOCAL_QUEUE_FULL, None)));
        });
    }
}
