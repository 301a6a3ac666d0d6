//! Owns the calls of librdkafka that take or give an error code, declared again with the code as a number (`int` in C).
//! Must never name `rd_kafka_resp_err_t`: rdkafka-sys has it as a Rust enum, and a code that the enum lacks would be
//! undefined behaviour as soon as it is one.

use std::ffi::{c_char, c_int, c_void};

use rdkafka::bindings::{
    rd_kafka_ConfigResource_t, rd_kafka_conf_t, rd_kafka_error_t, rd_kafka_event_t, rd_kafka_headers_t,
    rd_kafka_message_t, rd_kafka_metadata as rd_kafka_metadata_answer, rd_kafka_t,
    rd_kafka_topic_partition_list_t, rd_kafka_topic_t,
};

/// A line of librdkafka's table of errors (`struct rd_kafka_err_desc`).
#[repr(C)]
pub(super) struct Description {
    pub code: c_int,
    pub name: *const c_char,
    _sentence: *const c_char,
}

/// Called when a client was made.
pub(super) type OnNew =
    unsafe extern "C" fn(*mut rd_kafka_t, *const rd_kafka_conf_t, *mut c_void, *mut c_char, usize) -> c_int;

/// Called when a request ended: socket, broker, its id, API key, version, correlation id, bytes, round trip, code.
pub(super) type OnResponse = unsafe extern "C" fn(
    *mut rd_kafka_t,
    c_int,
    *const c_char,
    i32,
    i16,
    i16,
    i32,
    usize,
    i64,
    c_int,
    *mut c_void,
) -> c_int;

// SAFETY: the signatures are those of rdkafka.h 2.12.1; C passes an enum as the `int` that it is.
unsafe extern "C" {
    pub(super) fn rd_kafka_get_err_descs(table: *mut *const Description, count: *mut usize);
    pub(super) fn rd_kafka_error_code(error: *const rd_kafka_error_t) -> c_int;
    pub(super) fn rd_kafka_fatal_error(client: *mut rd_kafka_t, words: *mut c_char, bytes: usize) -> c_int;
    pub(super) fn rd_kafka_event_error(event: *mut rd_kafka_event_t) -> c_int;
    pub(super) fn rd_kafka_purge(client: *mut rd_kafka_t, flags: c_int) -> c_int;
    pub(super) fn rd_kafka_producev(client: *mut rd_kafka_t, ...) -> c_int;
    pub(super) fn rd_kafka_metadata(
        client: *mut rd_kafka_t,
        all_topics: c_int,
        topic: *mut rd_kafka_topic_t,
        answer: *mut *const rd_kafka_metadata_answer,
        wait_ms: c_int,
    ) -> c_int;
    pub(super) fn rd_kafka_committed(
        client: *mut rd_kafka_t,
        partitions: *mut rd_kafka_topic_partition_list_t,
        wait_ms: c_int,
    ) -> c_int;
    pub(super) fn rd_kafka_ConfigResource_error(resource: *const rd_kafka_ConfigResource_t) -> c_int;
    pub(super) fn rd_kafka_message_headers(
        message: *const rd_kafka_message_t,
        headers: *mut *mut rd_kafka_headers_t,
    ) -> c_int;
    pub(super) fn rd_kafka_message_detach_headers(
        message: *mut rd_kafka_message_t,
        headers: *mut *mut rd_kafka_headers_t,
    ) -> c_int;
    pub(super) fn rd_kafka_header_add(
        headers: *mut rd_kafka_headers_t,
        name: *const c_char,
        name_bytes: isize,
        value: *const c_void,
        value_bytes: isize,
    ) -> c_int;
    pub(super) fn rd_kafka_header_get_all(
        headers: *const rd_kafka_headers_t,
        place: usize,
        name: *mut *const c_char,
        value: *mut *const c_void,
        value_bytes: *mut usize,
    ) -> c_int;
    pub(super) fn rd_kafka_conf_interceptor_add_on_new(
        conf: *mut rd_kafka_conf_t,
        name: *const c_char,
        on_new: Option<OnNew>,
        opaque: *mut c_void,
    ) -> c_int;
    pub(super) fn rd_kafka_interceptor_add_on_response_received(
        client: *mut rd_kafka_t,
        name: *const c_char,
        on_response: Option<OnResponse>,
        opaque: *mut c_void,
    ) -> c_int;
}
