//! Owns the lanes at work: each takes the units that may start, runs them in one transaction, and tells how it ended.
//! Must never free a unit's keys before nothing of its transaction can happen any more.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{oneshot, watch},
    time::{sleep, timeout},
};

use super::{Forwarder, Waiting, cargo::Cargo, ends::tell_all, outcome};
use crate::{
    kafka::lane::{Ended, InProgress, Lane, LaneSettings, LaneState},
    offsets::Membership,
    pipeline::schedule::{Bounds, Number, Unit},
};

/// The steps of a transaction that may each take as long as a lane may be stuck: offsets, deliveries, end.
const STEPS: u32 = 3;
/// The pause before a thread is asked for again, in milliseconds.
const THREAD_PAUSE_MS: u64 = 1_000;
/// The longest that committed offsets are asked for, in milliseconds.
pub(super) const OFFSETS_MS_MAX: u64 = 30_000;

/// A unit that was started.
pub(super) type Started = Unit<Option<Membership>, Waiting>;

/// What is left of a transaction whose lane was given up, until its id is initialised again.
struct Left {
    /// Units that nobody has been told about; whether they are committed is not known.
    unknown: Vec<Started>,
    /// Units that surely are not, and go again.
    retried: Vec<Started>,
    /// The numbers of those whose callers were told.
    told: Vec<Number>,
}

/// Starts a lane and the task that feeds it.
///
/// # Errors
/// Where the thread cannot be started.
pub fn start(forwarder: &Arc<Forwarder>, place: usize, settings: LaneSettings) -> std::io::Result<()> {
    let lane = Lane::start(&name(place), settings.clone())?;
    let forwarder = Arc::clone(forwarder);
    tokio::spawn(async move {
        let mut lane = lane;
        let stopped = forwarder.stop.clone();
        tokio::select! {
            () = forwarder.feed(place, &mut lane, settings) => {}
            () = stopped.cancelled() => {}
        }
        forwarder.ended.lock().push(lane.end());
    });
    Ok(())
}

fn name(place: usize) -> String {
    format!("kafka-lane-{place}")
}

impl Forwarder {
    /// Feeds a lane until it is fenced or broken.
    async fn feed(&self, place: usize, lane: &mut Lane, settings: LaneSettings) {
        let mut state = lane.watch();
        while self.is_ready(place, &mut state).await {
            let units = tokio::select! {
                biased;
                // A lane that is no longer ready takes nothing from those that are.
                changed = state.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return tracing::error!(lane = place, "the lane's thread has ended"),
                },
                units = self.next_units() => units,
            };
            let Some(units) = self.still_to_run(units).await else { continue };
            let cargo = Cargo::load(&units);
            let progress = lane.run(Arc::clone(&cargo.work));
            let Some(left) = self.finish(units, &cargo, progress, &state).await else { continue };
            tracing::warn!(lane = place, "a transaction did not come back; a new producer takes its id over");
            // The old thread is left behind: no call of librdkafka can be ended from outside.
            *lane = loop {
                match Lane::start(&name(place), settings.clone()) {
                    Ok(new) => break new,
                    Err(error) => tracing::error!(lane = place, "there is no thread for a new lane: {error}"),
                }
                sleep(Duration::from_millis(THREAD_PAUSE_MS)).await;
            };
            state = lane.watch();
            if !self.is_ready(place, &mut state).await {
                // Nothing was fenced, so nothing is certain.
                let mut told = tell_all(left.unknown, &outcome::unanswered());
                told.extend(left.told);
                return self.conclude(left.retried, told, cargo.units / 2);
            }
            let (retried, mut told) = self.resolve(left.unknown, None).await;
            told.extend(left.told);
            self.conclude(left.retried.into_iter().chain(retried).collect(), told, cargo.units / 2);
        }
    }

    /// Follows the lane's state until it is ready; false where it never will be.
    async fn is_ready(&self, place: usize, state: &mut watch::Receiver<LaneState>) -> bool {
        loop {
            let now = state.borrow_and_update().clone();
            {
                let mut lanes = self.lanes.lock();
                if let Some(known) = lanes.get_mut(place) {
                    *known = now.clone();
                }
                let ready = lanes.iter().filter(|lane| **lane == LaneState::Ready).count();
                self.sender.metrics().lanes_ready(ready);
            }
            match &now {
                LaneState::Ready => return true,
                LaneState::Initialising(_) => {}
                LaneState::Fenced | LaneState::Broken(_) => {
                    tracing::error!(lane = place, state = ?now, "the lane has stopped");
                    if let Some(failure) = self.without_hope() {
                        self.refuse_waiting(&failure);
                    }
                    return false;
                }
            }
            if state.changed().await.is_err() {
                return false;
            }
        }
    }

    /// Waits for units that may start.
    async fn next_units(&self) -> Vec<Started> {
        let bounds = Bounds {
            units_max: self.settings.units_max,
            records_max: self.settings.records_max,
            bytes_max: self.settings.bytes_max,
        };
        loop {
            let (units, more) = {
                let mut schedule = self.schedule.lock();
                let units = schedule.start(&bounds);
                (units, schedule.waiting() > 0)
            };
            if !units.is_empty() {
                if more {
                    self.changed.notify_one();
                }
                return units;
            }
            self.changed.notified().await;
        }
    }

    /// Awaits the end of a transaction and answers its units; returns what is left where the lane has to be given up.
    async fn finish(
        &self,
        units: Vec<Started>,
        cargo: &Cargo,
        progress: InProgress,
        state: &watch::Receiver<LaneState>,
    ) -> Option<Left> {
        let InProgress { ended, settled } = progress;
        let Some(ended) = self.within_bound(ended, state).await else {
            return Some(Left { unknown: units, retried: Vec::new(), told: Vec::new() });
        };
        let (retried, told) = match ended {
            Ended::Committed(delivered) => (Vec::new(), self.committed(units, &delivered)),
            Ended::Aborted(culprit, error) => self.aborted(units, cargo, culprit, &error),
            Ended::Fenced(_) => (Vec::new(), tell_all(units, &outcome::fenced())),
            Ended::Unknown(error) => self.resolve(units, Some(&error)).await,
        };
        // Their keys stay taken until nothing of the transaction can happen any more.
        if self.within_bound(settled, state).await.is_none() {
            return Some(Left { unknown: Vec::new(), retried, told });
        }
        self.conclude(retried, told, cargo.units / 2);
        None
    }

    /// Waits for what a lane tells; `None` where it does not, though it is not waiting for brokers to initialise its id: a
    /// second producer would then fence the first, which is itself.
    async fn within_bound<T>(
        &self,
        mut told: oneshot::Receiver<T>,
        state: &watch::Receiver<LaneState>,
    ) -> Option<T> {
        let bound = self.settings.stuck * STEPS;
        loop {
            match timeout(bound, &mut told).await {
                Ok(told) => return told.ok(),
                Err(_) if matches!(*state.borrow(), LaneState::Initialising(_)) => {}
                Err(_) => return None,
            }
        }
    }

    /// Frees the keys of the units that were told, and lets the others wait for another transaction.
    fn conclude(&self, retried: Vec<Started>, told: Vec<Number>, company_max: usize) {
        {
            let mut schedule = self.schedule.lock();
            schedule.put_back(retried, company_max);
            told.into_iter().for_each(|number| schedule.end(number));
        }
        self.changed.notify_one();
    }
}
