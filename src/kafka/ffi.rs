//! Owns the only unsafe code: the calls into librdkafka that rust-rdkafka does not wrap.
//! Must never keep a pointer beyond the call that was given it.
#![expect(unsafe_code, reason = "rust-rdkafka wraps none of these calls")]

use std::{collections::HashMap, ffi::CStr, ptr, sync::OnceLock, time::Duration};

use rdkafka::{
    ClientContext,
    bindings::{
        rd_kafka_get_err_descs, rd_kafka_message_status, rd_kafka_metadata, rd_kafka_metadata_destroy,
        rd_kafka_msg_status_t, rd_kafka_resp_err_t,
    },
    client::Client,
    error::RDKafkaErrorCode,
    message::BorrowedMessage,
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
        std::slice::from_raw_parts(table, length)
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
    let wait_ms = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
    let mut metadata = ptr::null();
    // SAFETY: the client lives through the call; `metadata` is written on success and then ours to destroy, once.
    unsafe {
        let code = rd_kafka_metadata(client.native_ptr(), 0, ptr::null_mut(), &raw mut metadata, wait_ms);
        if !metadata.is_null() {
            rd_kafka_metadata_destroy(metadata);
        }
        code == rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
    }
}
