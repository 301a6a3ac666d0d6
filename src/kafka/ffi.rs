//! Owns the only unsafe code: the calls into librdkafka that rust-rdkafka does not wrap.
//! Must never keep a pointer beyond the call that was given it.
#![expect(unsafe_code, reason = "rust-rdkafka wraps none of these calls")]

mod configs;
mod intercepted;
mod offsets;
mod questions;
mod rights;
mod transactional;

pub use self::{
    offsets::committed_offsets,
    questions::{TopicAnswers, topic_answers},
    transactional::Transactional,
};

use std::{
    collections::HashMap,
    ffi::{CStr, CString, c_char, c_int},
    ptr::{self, NonNull},
    slice,
    sync::OnceLock,
    time::Duration,
};

use rdkafka::{
    ClientContext,
    bindings::{
        rd_kafka_error_code, rd_kafka_error_destroy, rd_kafka_error_is_fatal, rd_kafka_error_is_retriable,
        rd_kafka_error_string, rd_kafka_error_t, rd_kafka_error_txn_requires_abort, rd_kafka_get_err_descs,
        rd_kafka_message_status, rd_kafka_metadata, rd_kafka_metadata_destroy, rd_kafka_msg_status_t,
        rd_kafka_resp_err_t, rd_kafka_t, rd_kafka_topic_partition_list_add,
        rd_kafka_topic_partition_list_destroy, rd_kafka_topic_partition_list_new,
        rd_kafka_topic_partition_list_t,
    },
    client::Client,
    error::RDKafkaErrorCode,
    message::BorrowedMessage,
};

use super::transaction::{CallClass, CallError};
use crate::record::Topic;

/// Room for librdkafka's own words, in bytes.
const WORDS_BYTES: usize = 512;

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

/// Returns whether the record of a delivery report was written.
#[must_use]
pub fn message_status(message: &BorrowedMessage<'_>) -> MessageStatus {
    // SAFETY: the message is borrowed from a delivery event that outlives this call, and the function only reads it.
    let status = unsafe { rd_kafka_message_status(message.ptr()) };
    match status {
        rd_kafka_msg_status_t::RD_KAFKA_MSG_STATUS_NOT_PERSISTED => MessageStatus::NotPersisted,
        rd_kafka_msg_status_t::RD_KAFKA_MSG_STATUS_POSSIBLY_PERSISTED => MessageStatus::PossiblyPersisted,
        rd_kafka_msg_status_t::RD_KAFKA_MSG_STATUS_PERSISTED => MessageStatus::Persisted,
    }
}

/// Returns Kafka's name of an error code, such as `NOT_ENOUGH_REPLICAS`; librdkafka's own begin with an underscore.
#[must_use]
pub fn error_name(code: RDKafkaErrorCode) -> &'static str {
    static NAMES: OnceLock<HashMap<i32, &'static str>> = OnceLock::new();
    let names = NAMES.get_or_init(error_names);
    #[expect(clippy::as_conversions, reason = "the enum's discriminants are librdkafka's numbers")]
    let number = code as i32;
    names.get(&number).copied().unwrap_or("UNKNOWN")
}

fn error_names() -> HashMap<i32, &'static str> {
    let mut table = ptr::null();
    let mut length = 0;
    // SAFETY: the function writes the address and the length of a static table.
    let table = unsafe {
        rd_kafka_get_err_descs(&raw mut table, &raw mut length);
        slice::from_raw_parts(table, length)
    };
    // The table has holes, whose name is null.
    let named = table.iter().filter(|entry| !entry.name.is_null());
    named
        .map(|entry| {
            // SAFETY: not null, and the strings of librdkafka's table are static and end with NUL.
            let name = unsafe { CStr::from_ptr(entry.name) };
            #[expect(clippy::as_conversions, reason = "the enum's discriminants are librdkafka's numbers")]
            (entry.code as i32, name.to_str().unwrap_or("UNKNOWN"))
        })
        .collect()
}

/// Asks any broker for the list of brokers and waits for the answer: whether the cluster can be reached and lets us in.
///
/// Blocks the thread for up to `wait`. Asks for no topic that the client does not use already, so that it costs a large cluster nothing.
#[must_use]
pub fn cluster_answers<C: ClientContext>(client: &Client<C>, wait: Duration) -> bool {
    // SAFETY: the client lives through the call.
    unsafe { answers(client.native_ptr(), wait) }
}

/// Asks any broker for the list of brokers.
///
/// # Safety
/// The client must live.
unsafe fn answers(client: *mut rd_kafka_t, wait: Duration) -> bool {
    let mut metadata = ptr::null();
    // SAFETY: `metadata` is written on success and then ours to destroy, once.
    unsafe {
        let code = rd_kafka_metadata(client, 0, ptr::null_mut(), &raw mut metadata, milliseconds(wait));
        if !metadata.is_null() {
            rd_kafka_metadata_destroy(metadata);
        }
        code == rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
    }
}

/// Owns something of librdkafka's until it is dropped or released.
struct Owned<T>(NonNull<T>, unsafe extern "C" fn(*mut T));

impl<T> Owned<T> {
    fn new(pointer: *mut T, destroy: unsafe extern "C" fn(*mut T)) -> Option<Self> {
        NonNull::new(pointer).map(|pointer| Self(pointer, destroy))
    }

    const fn ptr(&self) -> *mut T {
        self.0.as_ptr()
    }

    fn release(self) -> *mut T {
        std::mem::ManuallyDrop::new(self).0.as_ptr()
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: the pointer is ours, was made for this destructor, and is used no more.
        unsafe { (self.1)(self.0.as_ptr()) }
    }
}

/// Takes a call's error in.
///
/// # Safety
/// The error must be null or the caller's own.
unsafe fn called(error: *mut rd_kafka_error_t) -> Result<(), CallError> {
    let Some(error) = Owned::new(error, rd_kafka_error_destroy) else { return Ok(()) };
    // SAFETY: the error lives to the end of this function.
    unsafe {
        let error = error.ptr();
        let class = match () {
            () if rd_kafka_error_is_fatal(error) != 0 => CallClass::Fatal,
            () if rd_kafka_error_txn_requires_abort(error) != 0 => CallClass::Abortable,
            () if rd_kafka_error_is_retriable(error) != 0 => CallClass::Retriable,
            () => CallClass::Other,
        };
        let code = rd_kafka_error_code(error).into();
        Err(CallError { code, class, sentence: text(rd_kafka_error_string(error)) })
    }
}

fn partitions<'a>(
    named: impl ExactSizeIterator<Item = (&'a Topic, i32)>,
) -> Result<Owned<rd_kafka_topic_partition_list_t>, CallError> {
    let count = c_int::try_from(named.len()).unwrap_or(c_int::MAX);
    // SAFETY: nothing is asked of the caller.
    let list = unsafe { rd_kafka_topic_partition_list_new(count) };
    let list = Owned::new(list, rd_kafka_topic_partition_list_destroy).ok_or_else(|| unsaid("no memory"))?;
    for (topic, partition) in named {
        let topic = c_text(topic.as_str())?;
        // SAFETY: the list lives; the text is copied.
        unsafe { rd_kafka_topic_partition_list_add(list.ptr(), topic.as_ptr(), partition) };
    }
    Ok(list)
}

fn c_text(text: &str) -> Result<CString, CallError> {
    CString::new(text).map_err(|_nul| unsaid("a text holds a NUL byte"))
}

fn unsaid(sentence: &str) -> CallError {
    let code = RDKafkaErrorCode::InvalidArgument;
    CallError { code, class: CallClass::Abortable, sentence: sentence.to_owned() }
}

/// Copies a text of librdkafka's.
///
/// # Safety
/// The pointer must be null or that of a text that ends with NUL and lives.
unsafe fn text(pointer: *const c_char) -> String {
    if pointer.is_null() {
        return String::new();
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned()
}

fn milliseconds(wait: Duration) -> c_int {
    c_int::try_from(wait.as_millis()).unwrap_or(c_int::MAX)
}
