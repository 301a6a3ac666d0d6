//! Owns the questions for metadata: whether the cluster answers, and how many partitions a topic has.
//! Must never take an error for an answer.

use std::{ptr, time::Duration};

use rdkafka::{
    ClientContext,
    bindings::{
        rd_kafka_metadata, rd_kafka_metadata_destroy, rd_kafka_t, rd_kafka_topic_destroy, rd_kafka_topic_new,
        rd_kafka_topic_t,
    },
    client::Client,
};

use super::{Owned, c_text, code_at, milliseconds, raw};
use crate::{kafka::code::ErrorCode, record::Topic};

/// What a broker says of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicPartitions {
    /// The topic's own error; `NO_ERROR` if there is none.
    pub code: ErrorCode,
    /// How many partitions it has.
    pub count: usize,
}

/// Asks any broker for the list of brokers and waits for the answer: whether the cluster can be reached and lets us in.
///
/// Blocks the thread for up to `wait`. Asks for no topic that the client does not use already, so that it costs a large cluster nothing.
#[must_use]
pub fn cluster_answers<C: ClientContext>(client: &Client<C>, wait: Duration) -> bool {
    // SAFETY: the client lives through the call.
    unsafe { answers(client.native_ptr(), wait) }
}

/// The same.
///
/// # Safety
/// The client must live.
pub(super) unsafe fn answers(client: *mut rd_kafka_t, wait: Duration) -> bool {
    // SAFETY: the caller's promise; no topic is named.
    unsafe { ask(client, ptr::null_mut(), wait) }.is_ok()
}

/// Asks for a topic's partitions; none if the answer does not name it. Blocks for up to `wait`.
///
/// The client keeps the topic's name until it ends (`rd_kafka_topic_new`).
///
/// # Errors
/// Why there is no answer.
pub fn topic_partitions<C: ClientContext>(
    client: &Client<C>,
    topic: &Topic,
    wait: Duration,
) -> Result<Option<TopicPartitions>, ErrorCode> {
    let name = c_text(topic.as_str()).map_err(|error| error.code)?;
    let client = client.native_ptr();
    // SAFETY: the client lives through the call; what is made here is given back by its `Owned`, and what is read of the answer
    // is read while it lives. The counts are those of the arrays, which may have no address if they are empty.
    unsafe {
        let asked = rd_kafka_topic_new(client, name.as_ptr(), ptr::null_mut());
        let asked = Owned::new(asked, rd_kafka_topic_destroy).ok_or(ErrorCode::LOCAL_INVALID_ARG)?;
        let answer = ask(client, asked.ptr(), wait)?;
        let (topics, count) = ((*answer.ptr()).topics, (*answer.ptr()).topic_cnt);
        if topics.is_null() {
            return Ok(None);
        }
        let found = (0..usize::try_from(count).unwrap_or(0)).map(|place| topics.add(place)).find(|found| {
            let found = (&raw const (**found).topic).read();
            !found.is_null() && std::ffi::CStr::from_ptr(found) == name.as_c_str()
        });
        Ok(found.map(|found| TopicPartitions {
            code: code_at(&raw const (*found).err),
            count: usize::try_from((&raw const (*found).partition_cnt).read()).unwrap_or(0),
        }))
    }
}

/// Asks.
///
/// # Safety
/// The client must live, and the topic be null or one of its own.
unsafe fn ask(
    client: *mut rd_kafka_t,
    topic: *mut rd_kafka_topic_t,
    wait: Duration,
) -> Result<Owned<rd_kafka_metadata>, ErrorCode> {
    let mut answer = ptr::null();
    // SAFETY: the caller's promise; `answer` is written on success and then ours to give back, once.
    unsafe {
        let code = raw::rd_kafka_metadata(client, 0, topic, &raw mut answer, milliseconds(wait));
        let answer = Owned::new(answer.cast_mut(), destroy);
        ErrorCode::new(code).ok()?;
        answer.ok_or(ErrorCode::UNKNOWN)
    }
}

/// Gives an answer back.
///
/// # Safety
/// As of `rd_kafka_metadata_destroy`.
unsafe extern "C" fn destroy(answer: *mut rd_kafka_metadata) {
    // SAFETY: the caller's promise.
    unsafe { rd_kafka_metadata_destroy(answer) }
}
