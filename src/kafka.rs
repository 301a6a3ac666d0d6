//! Owns the connection to Kafka: everything that knows librdkafka lives below here and nowhere else.
//! Must never know gRPC, and must never block the async runtime: blocking calls run on threads of their own.
//!
//! The facts of librdkafka that this layer relies on:
//! * A delivery report comes for every record that was taken over, once; its status says surely not written, written, or maybe.
//! * A panic in a callback would kill the polling thread, and with it every answer: callbacks are wrapped (`context`).
//! * Dropping a producer purges its queue; whoever stops drains first (`producer`, `handle`).
//! * A fatal error ends a producer for all topics, credentials of connections that stand stay as they are, and certificates are read
//!   once: only another producer mends either (`healing`).
//! * A request of a transaction that ended without an answer may be carried out later, also in the next one: its producer is
//!   replaced (`lane`). No call of a transaction is trusted to return: each lane has a thread of its own.
//! * An error code is a number (`code`): brokers send some that librdkafka's enum lacks, so that no call may make it one (`ffi::raw`).
//! * An unknown topic or a wrong password reaches the sender only as a time-out: `topics` asks for metadata before
//!   anything is handed over, `reachability` listens to the client's error callback.

pub mod access;
pub mod classify;
pub mod code;
pub mod committed;
pub mod context;
pub mod embedded;
pub mod ffi;
pub mod handle;
pub mod healing;
pub mod lane;
pub mod letters;
pub mod producer;
pub mod reachability;
pub mod statistics;
pub mod tls;
pub mod topics;
pub mod transaction;
pub mod wire;

pub use self::ffi::{give_back_free_memory, openssl_version};

/// Returns the version of librdkafka, such as `2.12.1`.
#[must_use]
pub fn librdkafka_version() -> String {
    rdkafka::util::get_rdkafka_version().1
}
