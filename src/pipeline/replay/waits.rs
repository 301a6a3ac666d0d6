//! Owns the waits for a replay's lane, and what its run is told where there is nothing more to wait for.
//! Must never decide about a letter.

use std::{
    thread,
    time::{Duration, Instant},
};

use tokio::sync::oneshot::error::TryRecvError;

use super::LOOK_MS;
use crate::{
    failure::{Failure, Reason},
    kafka::{
        lane::{Ended, Lane, LaneState, Work},
        transaction::CallError,
    },
};

/// How long the transactional id may take to be initialised, and a transaction to end.
const TRANSACTION_MS_MAX: u64 = 120_000;

/// Waits until the lane takes transactions.
pub(super) fn ready(lane: &Lane) -> Result<(), Failure> {
    let state = lane.watch();
    let by = Instant::now() + Duration::from_millis(TRANSACTION_MS_MAX);
    loop {
        let now = state.borrow().clone();
        match now {
            LaneState::Ready => return Ok(()),
            LaneState::Fenced | LaneState::Broken(_) => return Err(stopped(lane)),
            LaneState::Initialising(error) if Instant::now() >= by => {
                let sentence = error.map_or_else(String::new, |error| format!(": {error}"));
                let sentence = format!("no transaction can be begun{sentence}");
                return Err(Failure::new(Reason::BrokersUnavailable, sentence));
            }
            LaneState::Initialising(_) => thread::sleep(Duration::from_millis(LOOK_MS)),
        }
    }
}

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

fn stopped(lane: &Lane) -> Failure {
    match &*lane.watch().borrow() {
        LaneState::Broken(words) => Failure::new(Reason::Internal, words.clone()),
        LaneState::Fenced | LaneState::Ready | LaneState::Initialising(_) => fenced(),
    }
}

pub(super) fn fenced() -> Failure {
    Failure::new(Reason::ProducerFenced, "another run over the same topic has begun")
}

pub(super) fn moved(error: &CallError) -> Failure {
    let sentence =
        format!("what is dealt with is not what was noted at first ({}); run the same again", error.sentence);
    Failure::new(Reason::TransactionAborted, sentence)
}

pub(super) fn unknown() -> Failure {
    let sentence =
        "whether the last batch was replayed is not known; the same run knows, and goes on from there";
    Failure::new(Reason::CommitUnknown, sentence)
}
