//! Owns what comes off a client's queue: delivery reports, errors, statistics, log lines and records read.
//! Must never let a code become librdkafka's enum, and never keep an event beyond the call that it is told in.

use std::{marker::PhantomData, ptr, sync::Arc, time::Duration};

use rdkafka::{
    ClientContext,
    bindings::{
        RD_KAFKA_EVENT_DR, RD_KAFKA_EVENT_ERROR, RD_KAFKA_EVENT_FETCH, RD_KAFKA_EVENT_LOG,
        RD_KAFKA_EVENT_STATS, rd_kafka_event_destroy, rd_kafka_event_error_string, rd_kafka_event_log,
        rd_kafka_event_message_array, rd_kafka_event_message_count, rd_kafka_event_message_next,
        rd_kafka_event_stats, rd_kafka_event_t, rd_kafka_event_type, rd_kafka_message_status,
        rd_kafka_message_t, rd_kafka_message_timestamp, rd_kafka_msg_status_t, rd_kafka_queue_destroy,
        rd_kafka_queue_get_consumer, rd_kafka_queue_get_main, rd_kafka_queue_poll, rd_kafka_queue_t,
        rd_kafka_t, rd_kafka_timestamp_type_t,
    },
    client::Client,
    consumer::{BaseConsumer, Consumer as _, ConsumerContext},
};

use super::{NativeHeaders, Owned, code_at, milliseconds, raw, records, text};
use crate::{
    kafka::{code::ErrorCode, context::Delivered},
    record::{Record, Topic},
};

/// What librdkafka knows of a record's way into the log (`rd_kafka_msg_status_t`, rdkafka.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageStatus {
    /// It was never sent, or was sent and surely refused.
    NotPersisted,
    /// It was sent and no answer came.
    PossiblyPersisted,
    /// It was acknowledged by all in-sync replicas.
    Persisted,
}

/// What comes off a queue, valid for as long as it is told.
#[derive(Debug)]
pub enum Event<'a> {
    /// A delivery report.
    Report(Report<'a>),
    /// A record that was read: topic and partition as asked for.
    Read(Read<'a>),
    /// A client-wide error, or one of reading, and librdkafka's sentence for it.
    Error(ErrorCode, String),
    /// A log line: syslog's level, facility, text.
    Log(i32, String, String),
    /// The statistics, as JSON.
    Statistics(&'a [u8]),
}

/// A delivery report.
#[derive(Debug)]
pub struct Report<'a> {
    message: *mut rd_kafka_message_t,
    event: PhantomData<&'a ()>,
}

/// A record that was read.
#[derive(Debug)]
pub struct Read<'a> {
    message: *const rd_kafka_message_t,
    event: PhantomData<&'a ()>,
}

/// The queue of a producer of rust-rdkafka's, polled here and not there: that one makes the enum of every code.
pub struct ReportQueue<C: ClientContext> {
    // Goes before the client.
    queue: Owned<rd_kafka_queue_t>,
    client: Arc<Client<C>>,
}

// SAFETY: librdkafka's queues may be used from any thread; the client may be too.
unsafe impl<C: ClientContext> Send for ReportQueue<C> {}

impl<C: ClientContext> ReportQueue<C> {
    /// Takes the producer's queue; nobody else may poll it. `None` if librdkafka has none.
    #[must_use]
    pub fn of(client: Arc<Client<C>>) -> Option<Self> {
        // SAFETY: the client lives for as long as the queue.
        let queue = unsafe { rd_kafka_queue_get_main(client.native_ptr()) };
        Some(Self { queue: Owned::new(queue, rd_kafka_queue_destroy)?, client })
    }

    /// Returns the producer.
    #[must_use]
    pub fn client(&self) -> &Client<C> {
        &self.client
    }

    /// Tells what has come, waiting for the first event.
    pub fn poll(&self, wait: Duration, told: impl FnMut(Event<'_>)) {
        // SAFETY: the queue is ours.
        unsafe { poll(self.queue.ptr(), wait, told) };
    }
}

/// Tells what has come off a consumer's queue, waiting for the first event; false if there was none.
pub fn poll_consumer<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    wait: Duration,
    told: impl FnMut(Event<'_>),
) -> bool {
    // SAFETY: the consumer lives through the call; the queue is ours to give back.
    unsafe {
        let queue = rd_kafka_queue_get_consumer(consumer.client().native_ptr());
        let queue = Owned::new(queue, rd_kafka_queue_destroy);
        queue.is_some_and(|queue| poll(queue.ptr(), wait, told))
    }
}

/// Tells what has come off a queue, waiting for the first event; false if there was none.
///
/// # Safety
/// The queue must live.
pub(super) unsafe fn poll(
    queue: *mut rd_kafka_queue_t,
    wait: Duration,
    mut told: impl FnMut(Event<'_>),
) -> bool {
    // SAFETY: the event is ours, and outlives what is told of it.
    unsafe {
        let event = rd_kafka_queue_poll(queue, milliseconds(wait));
        let Some(event) = Owned::new(event, rd_kafka_event_destroy) else { return false };
        tell(event.ptr(), &mut told);
    }
    true
}

/// Tells an event.
///
/// # Safety
/// The event must live through the call.
unsafe fn tell(event: *mut rd_kafka_event_t, told: &mut impl FnMut(Event<'_>)) {
    // SAFETY: the caller's promise; texts and messages are the event's.
    unsafe {
        match rd_kafka_event_type(event) {
            RD_KAFKA_EVENT_DR => {
                let mut messages = vec![ptr::null(); rd_kafka_event_message_count(event)];
                let count = rd_kafka_event_message_array(event, messages.as_mut_ptr(), messages.len());
                for message in messages.into_iter().take(count).map(<*const _>::cast_mut) {
                    told(Event::Report(Report { message, event: PhantomData }));
                }
            }
            RD_KAFKA_EVENT_FETCH => loop {
                let message = rd_kafka_event_message_next(event);
                if message.is_null() {
                    break;
                }
                match message_code(message).ok() {
                    Ok(()) => told(Event::Read(Read { message, event: PhantomData })),
                    Err(code) => told(Event::Error(code, String::new())),
                }
            },
            RD_KAFKA_EVENT_ERROR => {
                let code = ErrorCode::new(raw::rd_kafka_event_error(event));
                told(Event::Error(code, text(rd_kafka_event_error_string(event))));
            }
            RD_KAFKA_EVENT_LOG => {
                let (mut facility, mut line, mut level) = (ptr::null(), ptr::null(), 0);
                rd_kafka_event_log(event, &raw mut facility, &raw mut line, &raw mut level);
                told(Event::Log(level, text(facility), text(line)));
            }
            RD_KAFKA_EVENT_STATS => {
                let json = rd_kafka_event_stats(event);
                if !json.is_null() {
                    told(Event::Statistics(std::ffi::CStr::from_ptr(json).to_bytes()));
                }
            }
            _ => {}
        }
    }
}

/// Reads a message's code without making the enum of it.
///
/// # Safety
/// The message must live.
unsafe fn message_code(message: *const rd_kafka_message_t) -> ErrorCode {
    // SAFETY: the caller's promise.
    unsafe { code_at(&raw const (*message).err) }
}

impl Report<'_> {
    /// Returns the number that the record was handed over with.
    #[must_use]
    pub fn number(&self) -> u64 {
        // SAFETY: the event lives for as long as this value; only the field is read.
        let opaque = unsafe { (&raw const (*self.message)._private).read() };
        u64::try_from(opaque.addr()).unwrap_or(u64::MAX)
    }

    /// Returns where the record lies, or why it was not delivered.
    ///
    /// # Errors
    /// Why not.
    pub fn outcome(&self) -> Result<Delivered, ErrorCode> {
        let mut kind = rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: as in `number`; the kind is librdkafka's own and never a broker's.
        unsafe {
            message_code(self.message).ok()?;
            let offset = (&raw const (*self.message).offset).read();
            let timestamp = rd_kafka_message_timestamp(self.message, &raw mut kind);
            Ok(Delivered {
                offset: Some(offset).filter(|offset| *offset >= 0),
                timestamp_ms: Some(timestamp).filter(|timestamp| *timestamp > 0),
            })
        }
    }

    /// Returns whether the record was written.
    #[must_use]
    pub fn status(&self) -> MessageStatus {
        // SAFETY: as in `number`; the status is librdkafka's own and never a broker's.
        match unsafe { rd_kafka_message_status(self.message) } {
            rd_kafka_msg_status_t::RD_KAFKA_MSG_STATUS_NOT_PERSISTED => MessageStatus::NotPersisted,
            rd_kafka_msg_status_t::RD_KAFKA_MSG_STATUS_POSSIBLY_PERSISTED => MessageStatus::PossiblyPersisted,
            rd_kafka_msg_status_t::RD_KAFKA_MSG_STATUS_PERSISTED => MessageStatus::Persisted,
        }
    }

    /// Takes the headers of a record that came back.
    #[must_use]
    pub fn take_headers(&mut self) -> Option<NativeHeaders> {
        let mut headers = ptr::null_mut();
        // SAFETY: as in `number`; detached headers are ours, and librdkafka forgets them.
        unsafe {
            let code = raw::rd_kafka_message_detach_headers(self.message, &raw mut headers);
            if code == 0 { NativeHeaders::owned(headers) } else { None }
        }
    }
}

impl Read<'_> {
    /// Returns the record's offset.
    #[must_use]
    pub fn offset(&self) -> i64 {
        // SAFETY: the event lives for as long as this value; only the field is read.
        unsafe { (&raw const (*self.message).offset).read() }
    }

    /// Copies the record, which was read from that topic.
    #[must_use]
    pub fn record(&self, topic: Topic) -> Record {
        let mut kind = rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        let mut headers = ptr::null_mut();
        // SAFETY: as in `offset`. Key and value are null or as long as said; the headers stay the message's. The kind is made
        // of two bits of the batch (rdkafka_msgset_reader.c).
        unsafe {
            let message = self.message;
            let key = records::bytes_at((*message).key, (*message).key_len);
            let value = records::bytes_at((*message).payload, (*message).len);
            let has_headers = raw::rd_kafka_message_headers(message, &raw mut headers) == 0;
            // A record with a name that is no text was not written by a sidecar: without headers it is no letter.
            let headers = if has_headers && !headers.is_null() { records::read(headers) } else { None };
            let headers = headers.unwrap_or_default();
            let timestamp_ms = rd_kafka_message_timestamp(message, &raw mut kind).max(1);
            Record { topic, key, value, headers, partition: None, timestamp_ms, message_id: None }
        }
    }
}

/// Returns the fatal error that a client met.
pub fn fatal_error<C: ClientContext>(client: &Client<C>) -> Option<(ErrorCode, String)> {
    // SAFETY: the client lives through the call.
    unsafe { fatal_error_of(client.native_ptr()) }
}

/// The same.
///
/// # Safety
/// The client must live.
pub(super) unsafe fn fatal_error_of(client: *mut rd_kafka_t) -> Option<(ErrorCode, String)> {
    let mut words = [0; super::WORDS_BYTES];
    // SAFETY: the words are written within their length and end with NUL.
    unsafe {
        let code = ErrorCode::new(raw::rd_kafka_fatal_error(client, words.as_mut_ptr(), super::WORDS_BYTES));
        code.is_error().then(|| (code, text(words.as_ptr())))
    }
}
