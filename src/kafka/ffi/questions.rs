//! Owns questions of Kafka's admin protocol, asked through a client that is there: rust-rdkafka asks through its own alone.
//! Must never keep the caller longer than it waits: a late answer finds its queue closed, and librdkafka drops it.

use std::{collections::HashMap, time::Duration};

use rdkafka::{
    ClientContext,
    bindings::{
        rd_kafka_AdminOptions_destroy, rd_kafka_AdminOptions_new, rd_kafka_AdminOptions_set_request_timeout,
        rd_kafka_AdminOptions_t, rd_kafka_admin_op_t, rd_kafka_event_destroy, rd_kafka_event_t,
        rd_kafka_queue_destroy, rd_kafka_queue_new, rd_kafka_queue_poll, rd_kafka_queue_t, rd_kafka_t,
    },
    client::Client,
};
use tokio::time::Instant;

use super::{Owned, WORDS_BYTES, c_text, configs, milliseconds, raw, rights};
use crate::{kafka::code::ErrorCode, record::Topic};

/// What is said where librdkafka refuses to make what a question needs, or its answer is not one.
pub(super) const NOTHING: ErrorCode = ErrorCode::LOCAL_INVALID_ARG;

/// What is told of a topic, each with why it is not.
#[derive(Debug)]
pub struct TopicAnswers {
    /// Whether the principal may write to it; none where the brokers do not tell. `TOPIC_AUTHORIZATION_FAILED` where the
    /// principal may not describe it.
    pub may_write: Result<Option<bool>, ErrorCode>,
    /// When that was told: it is waited for first.
    pub right_told: Instant,
    /// Its settings, as they are in force; those that the brokers do not know are left out. `TOPIC_AUTHORIZATION_FAILED` where the
    /// principal may not describe them.
    pub settings: Result<HashMap<&'static str, String>, ErrorCode>,
    /// Since when those may have been told: when they were asked for.
    pub settings_told: Instant,
}

/// Asks for settings of a topic and for the right to write to it, both at once; blocks for up to `wait`. Without names the
/// settings are not asked for.
pub fn topic_answers<C: ClientContext>(
    client: &Client<C>,
    topic: &Topic,
    names: &[&'static str],
    wait: Duration,
) -> TopicAnswers {
    let begun = Instant::now();
    let topic = c_text(topic.as_str()).map_err(|error| error.code);
    let left = || wait.saturating_sub(begun.elapsed());
    let settings = match &topic {
        Ok(topic) if !names.is_empty() => configs::ask(client, topic, wait).map(Some),
        Ok(_) => Ok(None),
        Err(code) => Err(*code),
    };
    let right = topic.and_then(|topic| rights::ask(client, &topic, wait));
    let may_write = right.and_then(|question| rights::read(&question.answer(left())?));
    let right_told = Instant::now();
    let settings = settings.and_then(|question| match question {
        Some(question) => configs::read(&question.answer(left())?, names),
        None => Ok(HashMap::new()),
    });
    // The answer may have lain there while the other one was waited for.
    TopicAnswers { may_write, right_told, settings, settings_told: begun }
}

/// A question that was asked.
pub(super) struct Question {
    queue: Owned<rd_kafka_queue_t>,
}

impl Question {
    /// Asks; `send` sends the question, which is given up after `wait`.
    ///
    /// # Errors
    /// That librdkafka does not make what it needs.
    ///
    /// # Safety
    /// The client must live for as long as the question. `send` may use what it is given for its own call alone, and must ask the
    /// operation's question.
    pub(super) unsafe fn ask<C: ClientContext>(
        client: &Client<C>,
        operation: rd_kafka_admin_op_t,
        wait: Duration,
        send: impl FnOnce(*mut rd_kafka_t, *mut rd_kafka_AdminOptions_t, *mut rd_kafka_queue_t),
    ) -> Result<Self, ErrorCode> {
        let client = client.native_ptr();
        let mut words = [0; WORDS_BYTES];
        // SAFETY: the client lives through the call, and everything made here is destroyed by its `Owned`.
        unsafe {
            let options = rd_kafka_AdminOptions_new(client, operation);
            let options = Owned::new(options, rd_kafka_AdminOptions_destroy).ok_or(NOTHING)?;
            let (milliseconds, length) = (milliseconds(wait), WORDS_BYTES);
            rd_kafka_AdminOptions_set_request_timeout(
                options.ptr(),
                milliseconds,
                words.as_mut_ptr(),
                length,
            );
            let queue = Owned::new(rd_kafka_queue_new(client), rd_kafka_queue_destroy).ok_or(NOTHING)?;
            send(client, options.ptr(), queue.ptr());
            Ok(Self { queue })
        }
    }

    /// Blocks for the answer for up to `wait`.
    ///
    /// # Errors
    /// Why there is none.
    fn answer(&self, wait: Duration) -> Result<Owned<rd_kafka_event_t>, ErrorCode> {
        // SAFETY: the queue is the question's own, and the event is destroyed by its `Owned`.
        unsafe {
            let event = rd_kafka_queue_poll(self.queue.ptr(), milliseconds(wait));
            let event = Owned::new(event, rd_kafka_event_destroy).ok_or(ErrorCode::LOCAL_TIMED_OUT)?;
            ErrorCode::new(raw::rd_kafka_event_error(event.ptr())).ok()?;
            Ok(event)
        }
    }
}

/// Takes the one part of an answer to a question for one thing.
///
/// # Safety
/// `found` must be null, or point to as many parts as are counted, of an event that lives.
pub(super) unsafe fn only<T>(found: *mut *const T, count: usize) -> Result<*const T, ErrorCode> {
    // SAFETY: the caller's promise; there is one.
    unsafe { if found.is_null() || count != 1 { Err(NOTHING) } else { Ok(*found) } }
}
