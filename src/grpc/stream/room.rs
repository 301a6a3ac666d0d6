//! Owns what a frame holds from its decoding until it is answered: its part of the stream's window, and of the memory of all requests.
//! Must never let a frame through that holds no part of either, however small it is.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::super::{
    memory::{Memory, Owner, Permit},
    scan::Parts,
};
use crate::{
    config::Limits,
    failure::{Failure, Reason},
};

/// What a frame on its way takes beside its records, in bytes.
const FRAME_BYTES: usize = 768;
/// What a record takes from its acceptance until its frame is answered, beside what the pipeline counts: its place, its outcome.
const OUTCOME_BYTES: usize = 192;

/// The window of one stream: what of it may be in flight.
#[derive(Debug)]
pub(super) struct Window {
    records: Arc<Semaphore>,
    records_max: usize,
    bytes: Arc<Semaphore>,
    bytes_max: usize,
}

/// What a frame holds until it is answered.
#[derive(Debug)]
pub(super) struct Room {
    _records: OwnedSemaphorePermit,
    _bytes: OwnedSemaphorePermit,
    built: Permit,
}

// === impl Window ===

impl Window {
    /// Opens the window of a stream.
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            records: Arc::new(Semaphore::new(limits.window_records)),
            records_max: limits.window_records,
            bytes: Arc::new(Semaphore::new(limits.window_bytes)),
            bytes_max: limits.window_bytes,
        }
    }

    /// Waits for room for a frame of so many bytes; none where too many wait for memory already.
    pub(super) async fn room(
        &self,
        parts: &Parts,
        bytes: usize,
        (memory, owner): (&Memory, Owner),
    ) -> Option<Room> {
        // An empty frame has its place too.
        let records = permits(parts.records.clamp(1, self.records_max));
        let records = Arc::clone(&self.records).acquire_many_owned(records).await.ok()?;
        let bytes = permits(bytes.clamp(1, self.bytes_max));
        let bytes = Arc::clone(&self.bytes).acquire_many_owned(bytes).await.ok()?;
        let built = (parts.bytes + kept_bytes(parts.records)).min(memory.built_bytes_max());
        Some(Room { _records: records, _bytes: bytes, built: memory.built(owner, built).await.ok()? })
    }
}

// === impl Room ===

impl Room {
    /// Gives back what the decoded records took: the pipeline counts them now.
    pub(super) fn accepted(&mut self, records: usize) {
        self.built.shrink_to(kept_bytes(records));
    }
}

pub(super) fn permits(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Returns what a frame of so many records takes until it is answered, beside what the pipeline counts.
const fn kept_bytes(records: usize) -> usize {
    FRAME_BYTES + records * OUTCOME_BYTES
}

pub(super) fn no_room() -> Failure {
    let sentence = "the frame's time ran out before there was room for it; its records were not handed over";
    Failure::new(Reason::DeadlineNotWritten, sentence)
}
