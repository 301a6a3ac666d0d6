//! What goes into a partition's state machine and comes out of it: limits, batches, answers, ends.
//! Must never hold more than is known: an offset or a cause that was not said is none.

use bytes::Bytes;

use crate::kafka::code::ErrorCode;

/// What bounds batches.
#[derive(Debug, Clone, Copy)]
pub struct BatchLimits {
    /// The most records of a batch, at least 1.
    pub records_max: usize,
    /// The most bytes of a batch's records; a larger record goes alone.
    pub bytes_max: usize,
    /// The most batches of a partition on the wire, 1 to 5: brokers remember the last five of a producer id.
    pub in_flight_max: usize,
}

/// A batch to be written to the leader's connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Names it in the partition.
    pub number: u64,
    /// The sealed batch.
    pub bytes: Bytes,
}

/// What a produce response says of a batch.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    /// The partition's error code.
    pub code: ErrorCode,
    /// The first record's offset, if the broker says it.
    pub base_offset: Option<i64>,
    /// The time of the append in milliseconds, if the topic keeps that.
    pub append_ms: Option<i64>,
    /// The places in the batch of the records at fault (KIP-467).
    pub refused: &'a [i32],
}

/// What became of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended<T> {
    /// The record.
    pub item: T,
    /// How often it was written to a socket.
    pub attempts: u32,
    /// How it ended.
    pub end: End,
}

/// How a record ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It is in the log.
    Written {
        /// Its offset, if the broker still knew it.
        offset: Option<i64>,
        /// The time of the append in milliseconds, if the topic keeps that.
        append_ms: Option<i64>,
    },
    /// It is surely not in the log.
    NotWritten(Cause),
    /// It may be in the log.
    InDoubt(Cause),
}

/// Why a record ended without being written for certain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The broker's error.
    Code(ErrorCode),
    /// Its time was over; the last error that it met, if any.
    TimedOut(Option<ErrorCode>),
    /// The sidecar stops.
    GivenUp,
}
