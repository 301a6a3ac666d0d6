//! Owns the only unsafe code: the calls into librdkafka that rust-rdkafka does not wrap.
//! Must never keep a pointer beyond the call that was given it.
#![expect(unsafe_code, reason = "rust-rdkafka wraps none of these calls")]

mod allocator;
mod configs;
mod events;
mod intercepted;
mod metadata;
mod offsets;
mod plain;
mod questions;
mod raw;
mod records;
mod rights;
mod tls;
mod transactional;
mod verified;

pub use self::{
    allocator::give_back_free_memory,
    events::{Event, MessageStatus, Report, ReportQueue, fatal_error, poll_consumer},
    metadata::{TopicPartitions, cluster_answers, topic_partitions},
    offsets::{CommittedOffset, committed_offsets, committed_with_text},
    plain::{producer, purge, unreported},
    questions::{TopicAnswers, topic_answers},
    records::{NativeHeaders, hand_over},
    tls::openssl_version,
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

use rdkafka::bindings::{
    rd_kafka_error_destroy, rd_kafka_error_is_fatal, rd_kafka_error_is_retriable, rd_kafka_error_string,
    rd_kafka_error_t, rd_kafka_error_txn_requires_abort, rd_kafka_resp_err_t,
    rd_kafka_topic_partition_list_add, rd_kafka_topic_partition_list_destroy,
    rd_kafka_topic_partition_list_new, rd_kafka_topic_partition_list_t,
};

use super::{
    code::ErrorCode,
    transaction::{CallClass, CallError},
};
use crate::record::Topic;

/// Room for librdkafka's own words, in bytes.
const WORDS_BYTES: usize = 512;

/// Returns librdkafka's name of an error code, such as `NOT_ENOUGH_REPLICAS`; its own begin with an underscore.
#[must_use]
pub fn error_name(code: ErrorCode) -> Option<&'static str> {
    static NAMES: OnceLock<HashMap<i32, &'static str>> = OnceLock::new();
    NAMES.get_or_init(error_names).get(&code.number()).copied()
}

fn error_names() -> HashMap<i32, &'static str> {
    let mut table = ptr::null();
    let mut length = 0;
    // SAFETY: the function writes the address and the length of a static table.
    let table = unsafe {
        raw::rd_kafka_get_err_descs(&raw mut table, &raw mut length);
        slice_or_empty(table, length)
    };
    // The table has holes, whose name is null.
    let named = table.iter().filter(|entry| !entry.name.is_null());
    named
        .filter_map(|entry| {
            // SAFETY: not null, and the strings of librdkafka's table are static and end with NUL.
            let name = unsafe { CStr::from_ptr(entry.name) };
            Some((entry.code, name.to_str().ok()?))
        })
        .collect()
}

/// Reads a code as the number that it is in memory: the enum is never made.
///
/// # Safety
/// The pointer must be that of a code that lives.
unsafe fn code_at(code: *const rd_kafka_resp_err_t) -> ErrorCode {
    // SAFETY: the caller's promise; a C enum of these values is an `int`.
    ErrorCode::new(unsafe { code.cast::<c_int>().read() })
}

/// Borrows an array that librdkafka gave; one without elements may have no address.
///
/// # Safety
/// The pointer must be null, or that of as many elements as are counted, which live for as long as the slice.
const unsafe fn slice_or_empty<'a, T>(pointer: *const T, count: usize) -> &'a [T] {
    if pointer.is_null() || count == 0 {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { slice::from_raw_parts(pointer, count) }
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
        let code = ErrorCode::new(raw::rd_kafka_error_code(error));
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
    let code = ErrorCode::LOCAL_INVALID_ARG;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_without_an_address_is_empty() {
        let numbers = [1, 2, 3];
        // SAFETY: null, and an array of this function.
        let (none, null, all) = unsafe {
            (
                slice_or_empty(numbers.as_ptr(), 0),
                slice_or_empty::<i32>(ptr::null(), 3),
                slice_or_empty(numbers.as_ptr(), 3),
            )
        };
        assert_eq!((none, null, all), (&[][..], &[][..], &numbers[..]));
    }

    #[test]
    fn a_code_that_the_enum_lacks_is_read_as_its_number() {
        for number in [-1000, 0, 101, 120, 135, 300] {
            let code = std::mem::MaybeUninit::<c_int>::new(number);
            // SAFETY: the number lives, and is never read as the enum.
            assert_eq!(unsafe { code_at(code.as_ptr().cast()) }, ErrorCode::new(number));
        }
    }
}
