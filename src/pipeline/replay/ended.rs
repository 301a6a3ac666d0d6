//! Owns the wait for the end of a replay's transaction, and the words for its ends.
//! Must never wait without a bound.

use std::{
    thread,
    time::{Duration, Instant},
};

use tokio::sync::oneshot::error::TryRecvError;

use crate::{
    failure::{Failure, Reason},
    kafka::lane::{Ended, Lane, LaneState, Work},
};

/// How long the transactional id may take to be initialised, and a transaction to end.
pub(super) const TRANSACTION_MS_MAX: u64 = 120_000;
/// The pause between looks at a transaction in progress.
pub(super) const LOOK_MS: u64 = 2;

/// Runs one transaction to its end.
pub(super) fn ended(lane: &Lane, work: Work) -> Result<Ended, Failure> {
    let mut progress = lane.run(work.into());
    let by = Instant::now() + Duration::from_millis(TRANSACTION_MS_MAX);
    loop {
        match progress.ended.try_recv() {
            Ok(ended) => return Ok(ended),
            Err(TryRecvError::Closed) => return Err(stopped(lane)),
            Err(TryRecvError::Empty) if Instant::now() >= by => {
                return Err(unknown());
            }
            Err(TryRecvError::Empty) => {
                thread::sleep(Duration::from_millis(LOOK_MS));
            }
        }
    }
}

pub(super) fn stopped(lane: &Lane) -> Failure {
    match &*lane.watch().borrow() {
        LaneState::Broken(words) => Failure::new(Reason::Internal, words.clone()),
        LaneState::Fenced | LaneState::Ready | LaneState::Initialising(_) => fenced(),
    }
}

pub(super) fn fenced() -> Failure {
    Failure::new(Reason::ProducerFenced, "another run over the same topic has begun")
}

pub(super) fn unknown() -> Failure {
    let sentence =
        "whether the last batch was replayed is not known; the same run knows, and goes on from there";
    Failure::new(Reason::CommitUnknown, sentence)
}
