//! Owns the lanes at work: each takes the units that may start, runs them in one transaction, and tells how it ended.
//! Must never free a unit's keys before nothing of its transaction can happen any more.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{
    sync::{oneshot, watch},
    time::{sleep, timeout},
};

use super::{
    Forwarder, Waiting,
    cargo::Cargo,
    ends::{Sorted, tell_all},
    outcome,
};
use crate::{
    kafka::lane::{Ended, InProgress, Lane, LaneSettings, LaneState},
    offsets::Membership,
    pipeline::schedule::Unit,
    telemetry::metrics::TransactionEnd,
};

/// How much longer than its own bound a step may take before the lane is given up, in milliseconds.
const STUCK_MARGIN_MS: u64 = 2_000;
/// How often a lane is looked at, in milliseconds.
const LOOK_MS: u64 = 250;
/// The pause before a thread is asked for again, in milliseconds.
const THREAD_PAUSE_MS: u64 = 1_000;

/// A unit that was started.
pub(super) type Started = Unit<Option<Membership>, Waiting>;

/// What is left of a transaction whose lane was given up, until its id is initialised again.
#[derive(Default)]
struct Left {
    /// Units that nobody has been told about; whether they are committed is not known.
    unknown: Vec<Started>,
    sorted: Sorted,
}

/// What a lane that was waited for came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Ready,
    /// It is within a call that does not come back, or its thread has ended: another takes its id over.
    Lost,
    /// It is fenced.
    Over,
}

/// Starts a lane and the task that feeds it.
///
/// # Errors
/// Where the thread cannot be started.
pub fn start(forwarder: &Arc<Forwarder>, place: usize, settings: LaneSettings) -> std::io::Result<()> {
    let lane = Lane::start(&name(place), settings.clone())?;
    let forwarder = Arc::clone(forwarder);
    forwarder.feeding.fetch_add(1, Ordering::AcqRel);
    let tasks = forwarder.sender.tasks().clone();
    tasks.spawn_vital("lane", async move {
        let mut lane = lane;
        let stopped = forwarder.stop.clone();
        tokio::select! {
            () = forwarder.feed(place, &mut lane, settings) => {}
            () = stopped.cancelled() => {}
        }
        forwarder.ended(lane);
    });
    Ok(())
}

/// Initialises ids that no lane has, one after the other, which ends what an earlier process with more lanes left open.
pub fn sweep(forwarder: &Arc<Forwarder>, left: Vec<(usize, LaneSettings)>) {
    let forwarder = Arc::clone(forwarder);
    forwarder.feeding.fetch_add(1, Ordering::AcqRel);
    let tasks = forwarder.sender.tasks().clone();
    tasks.spawn("lanes that are no more", async move {
        for (place, settings) in left {
            let lane = match Lane::start(&name(place), settings) {
                Ok(lane) => lane,
                Err(error) => {
                    tracing::warn!(lane = place, "there is no thread to initialise an old id on: {error}");
                    continue;
                }
            };
            let mut state = lane.watch();
            let initialised = state.wait_for(|state| matches!(state, LaneState::Ready | LaneState::Fenced));
            tokio::select! {
                _ = initialised => {}
                () = forwarder.stop.cancelled() => {}
            }
            match &*state.borrow() {
                LaneState::Ready => {
                    tracing::debug!(lane = place, "the id of a lane that is no more was initialised");
                }
                LaneState::Fenced | LaneState::Initialising(_) | LaneState::Broken(_) => {
                    tracing::warn!(
                        lane = place,
                        "the id of a lane that is no more was not initialised; a transaction that an earlier \
                         process left open there holds readers up until its time-out"
                    );
                }
            }
            forwarder.ended.lock().push(lane.end());
        }
        forwarder.feeding.fetch_sub(1, Ordering::AcqRel);
    });
}

fn name(place: usize) -> String {
    format!("kafka-lane-{place}")
}

impl Forwarder {
    /// Feeds a lane until it is fenced.
    async fn feed(self: &Arc<Self>, place: usize, lane: &mut Lane, settings: LaneSettings) {
        let mut left: Option<(Left, usize)> = None;
        loop {
            let mut state = lane.watch();
            match self.settled_state(place, lane, &mut state).await {
                Found::Ready => {}
                Found::Lost => {
                    *lane = self.start_again(place, lane, &settings).await;
                    continue;
                }
                Found::Over => {
                    if let Some((left, units)) = left {
                        // Nothing was fenced, so nothing is certain.
                        let mut sorted = left.sorted;
                        sorted.told.extend(tell_all(left.unknown, &outcome::unanswered()).told);
                        self.conclude(sorted, units);
                    }
                    // Those that were put back now wait too.
                    if let Some(failure) = self.without_hope() {
                        self.refuse_waiting(&failure);
                    }
                    return;
                }
            }
            if let Some((left, units)) = left.take() {
                let mut sorted = self.resolve(left.unknown, None).await;
                sorted.told.extend(left.sorted.told);
                sorted.retried.extend(left.sorted.retried);
                sorted.alone.extend(left.sorted.alone);
                self.conclude(sorted, units);
            }
            let units = tokio::select! {
                biased;
                // A lane that is no longer ready takes nothing from those that are.
                changed = state.changed() => {
                    // It may have heard of units that another lane has to take now.
                    self.changed.notify_one();
                    if changed.is_err() {
                        *lane = self.start_again(place, lane, &settings).await;
                    }
                    continue;
                }
                units = self.next_units() => units,
            };
            let Some(mut units) = self.still_to_run(units).await else { continue };
            for unit in &mut units {
                unit.item.tries = unit.item.tries.saturating_add(1);
                unit.item.spans.begins();
            }
            let cargo = Cargo::load(&units);
            let progress = lane.run(Arc::clone(&cargo.work));
            if let Some(unfinished) = self.finish(units, &cargo, progress, (place, &*lane)).await {
                left = Some((unfinished, cargo.units));
                *lane = self.start_again(place, lane, &settings).await;
            }
        }
    }

    fn ended(&self, lane: Lane) {
        self.ended.lock().push(lane.end());
        self.feeding.fetch_sub(1, Ordering::AcqRel);
    }

    /// Leaves a lane behind, in a call that cannot be ended from outside or without its thread, and starts another under its id.
    async fn start_again(&self, place: usize, lane: &Lane, settings: &LaneSettings) -> Lane {
        self.note_state(place, &LaneState::Initialising(None));
        if !self.is_stuck(lane) {
            tracing::error!(
                lane = place,
                "the lane's thread has ended, which is a bug; another takes its id over"
            );
            // One that ends at once must not be started without a pause.
            sleep(Duration::from_millis(THREAD_PAUSE_MS)).await;
        } else {
            tracing::warn!(
                lane = place,
                "a call of librdkafka did not come back; a new producer takes its id over"
            );
        }
        self.sender.metrics().transactions().abandoned();
        loop {
            match Lane::start(&name(place), settings.clone()) {
                Ok(new) => return new,
                Err(error) => tracing::error!(lane = place, "there is no thread for a new lane: {error}"),
            }
            sleep(Duration::from_millis(THREAD_PAUSE_MS)).await;
        }
    }

    /// Follows the lane's state until it is ready, or never will be.
    async fn settled_state(
        &self,
        place: usize,
        lane: &Lane,
        state: &mut watch::Receiver<LaneState>,
    ) -> Found {
        loop {
            let now = state.borrow_and_update().clone();
            self.note_state(place, &now);
            match &now {
                LaneState::Ready => return Found::Ready,
                LaneState::Initialising(_) | LaneState::Broken(_) => {}
                LaneState::Fenced => {
                    tracing::error!(
                        lane = place,
                        "the lane has stopped, because another producer has its transactional id; give each \
                         sidecar an instance id of its own and restart this one"
                    );
                    return Found::Over;
                }
            }
            match timeout(Duration::from_millis(LOOK_MS), state.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Found::Lost,
                Err(_) if self.is_stuck(lane) => return Found::Lost,
                Err(_) => {}
            }
        }
    }

    /// Lets callers know what a lane can do now.
    fn note_state(&self, place: usize, now: &LaneState) {
        let mut lanes = self.lanes.lock();
        if let Some(known) = lanes.get_mut(place) {
            known.clone_from(now);
        }
        let ready = lanes.iter().filter(|lane| **lane == LaneState::Ready).count();
        self.sender.metrics().transactions().lanes_ready(ready);
    }

    fn is_stuck(&self, lane: &Lane) -> bool {
        let bound = self.settings.stuck + Duration::from_millis(STUCK_MARGIN_MS);
        lane.in_step_for().is_some_and(|taken| taken > bound)
    }

    /// Awaits the end of a transaction and answers its units; returns what is left where the lane has to be given up.
    async fn finish(
        &self,
        units: Vec<Started>,
        cargo: &Cargo,
        progress: InProgress,
        lane: (usize, &Lane),
    ) -> Option<Left> {
        let InProgress { ended, settled } = progress;
        let metrics = self.sender.metrics().transactions();
        let Some(ended) = self.within_bound(ended, lane).await else {
            metrics.ended(TransactionEnd::Unknown, cargo.units);
            return Some(Left { unknown: units, ..Left::default() });
        };
        metrics.ended(counted(&ended), cargo.units);
        let sorted = match ended {
            Ended::Committed(delivered) => self.committed(units, &delivered),
            Ended::Aborted(culprit, error) => self.aborted(units, cargo, culprit, &error),
            Ended::Fenced(_) => tell_all(units, &outcome::fenced()),
            Ended::Unknown(error) => self.resolve(units, Some(&error)).await,
        };
        // Their keys stay taken until nothing of the transaction can happen any more.
        if self.within_bound(settled, lane).await.is_none() {
            return Some(Left { sorted, ..Left::default() });
        }
        self.conclude(sorted, cargo.units);
        None
    }

    /// Waits for what a lane tells; `None` where it is within a call that does not come back, or its thread has ended.
    async fn within_bound<T>(
        &self,
        mut told: oneshot::Receiver<T>,
        (place, lane): (usize, &Lane),
    ) -> Option<T> {
        let state = lane.watch();
        loop {
            match timeout(Duration::from_millis(LOOK_MS), &mut told).await {
                Ok(told) => return told.ok(),
                Err(_) if self.is_stuck(lane) => return None,
                // It may have to initialise its id again, and wait for brokers to do it.
                Err(_) => {
                    let now = state.borrow().clone();
                    self.note_state(place, &now);
                }
            }
        }
    }

    /// Frees the keys of the units that were told, and lets the others wait for another transaction of at most half as many.
    fn conclude(&self, sorted: Sorted, units: usize) {
        let Sorted { told, mut retried, mut alone } = sorted;
        for unit in retried.iter_mut().chain(&mut alone) {
            unit.item.spans.goes_again();
            unit.item.stage.leave();
        }
        {
            let mut schedule = self.schedule.lock();
            schedule.put_back(retried, units / 2);
            schedule.put_back(alone, 1);
            told.into_iter().for_each(|number| schedule.end(number));
        }
        self.changed.notify_one();
    }

    /// Lets units that were in no transaction wait for their turn again.
    pub(super) fn put_back(&self, units: Vec<Started>) {
        self.schedule.lock().put_back(units, usize::MAX);
        self.changed.notify_one();
    }
}

const fn counted(ended: &Ended) -> TransactionEnd {
    match ended {
        Ended::Committed(_) => TransactionEnd::Committed,
        Ended::Aborted(..) => TransactionEnd::Aborted,
        Ended::Fenced(_) => TransactionEnd::Fenced,
        Ended::Unknown(_) => TransactionEnd::Unknown,
    }
}
