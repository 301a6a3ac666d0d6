//! Owns the phases of the process, the calls in progress, and how long a stop may take.
//! A leaf: imports nothing of ours. Must never go back from Draining, nor let a stop take longer than the documents say.
//!
//! ```text
//! signal            T: drained, or drain_ms is over, or a second signal
//! |---- drain_ms ---|-- abandon --|- workers -|- listeners -|- log -|- runtime -| exit
//!                   |<------------------ at most 5 s after drain_ms ----------->|
//! ```
//!
//! What a part does not use, those behind it may, save the last: what blocks then does not come back.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

/// Where the process stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// The listeners are not open yet.
    Starting,
    /// Calls are taken.
    Serving,
    /// No call is taken any more; those in progress end.
    Draining,
}

/// How long the parts of a stop may take that follow its drain, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct ShutdownBudget {
    /// Until what Kafka's client had to give up has its outcome.
    abandon_ms: u64,
    /// Until the threads of transactional producers have ended.
    workers_ms: u64,
    /// Until the listeners and all other tasks have ended.
    listeners_ms: u64,
    /// Until the last log lines are written.
    log_ms: u64,
    /// Until threads that block are left behind.
    runtime_ms: u64,
}

/// When each part of a stop has to be over. No part waits beyond its own.
#[derive(Debug, Clone, Copy)]
pub struct StopBy {
    /// What was given up has its outcome.
    pub abandoned: Instant,
    /// The transactional producers have ended.
    pub workers: Instant,
    /// The listeners and all other tasks have ended.
    pub listeners: Instant,
    /// The last log lines are written.
    pub log: Instant,
    /// The process leaves behind what still blocks.
    pub runtime: Instant,
}

/// What a stop may take beyond `drain_ms`, as README.md and docs/kubernetes.md say it.
pub const AFTER_DRAIN_MS_MAX: u64 = 5_000;
/// What the end of the process itself may take of that: memory is given back, sockets are closed.
const EXIT_MS: u64 = 500;

/// The budget of every stop.
pub const SHUTDOWN: ShutdownBudget =
    ShutdownBudget { abandon_ms: 2_000, workers_ms: 1_000, listeners_ms: 500, log_ms: 500, runtime_ms: 500 };

const _: () =
    assert!(SHUTDOWN.sum_ms() + EXIT_MS <= AFTER_DRAIN_MS_MAX, "a stop takes longer than documented");

/// The phase and the calls in progress; cheap to clone.
#[derive(Debug, Clone)]
pub struct Lifecycle {
    phase: Arc<watch::Sender<Phase>>,
    calls: TaskTracker,
}

/// A call in progress, until dropped; draining waits for it.
#[derive(Debug)]
pub struct Call {
    _token: TaskTrackerToken,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self { phase: Arc::new(watch::Sender::new(Phase::Starting)), calls: TaskTracker::new() }
    }
}

impl Lifecycle {
    /// Returns a receiver of the phase.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Returns the phase.
    #[must_use]
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Moves on; a step back changes nothing.
    pub fn advance(&self, to: Phase) {
        self.phase.send_if_modified(|phase| {
            let forward = to > *phase;
            *phase = to.max(*phase);
            forward
        });
        if to == Phase::Draining {
            self.calls.close();
        }
    }

    /// Begins a call; `None` once draining has begun.
    #[must_use]
    pub fn begin_call(&self) -> Option<Call> {
        // Counted before the phase is read: a drain that begins in between waits for this call.
        let call = Call { _token: self.calls.token() };
        (self.phase() != Phase::Draining).then_some(call)
    }

    /// Returns how many calls are in progress.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.calls.len()
    }

    /// Waits until draining has begun and no call is in progress.
    pub async fn calls_ended(&self) {
        self.calls.wait().await;
    }
}

// === impl ShutdownBudget ===

impl ShutdownBudget {
    const fn sum_ms(&self) -> u64 {
        let Self { abandon_ms, workers_ms, listeners_ms, log_ms, runtime_ms } = *self;
        abandon_ms + workers_ms + listeners_ms + log_ms + runtime_ms
    }

    /// Says until when threads that block are waited for, in a stop that has come that far.
    #[must_use]
    pub fn runtime_by(&self, by: StopBy, now: Instant) -> Instant {
        by.runtime.min(now + Duration::from_millis(self.runtime_ms))
    }

    /// Says when each part has to be over, if the drain ended then.
    #[must_use]
    pub fn from(&self, drained: Instant) -> StopBy {
        let abandoned = drained + Duration::from_millis(self.abandon_ms);
        let workers = abandoned + Duration::from_millis(self.workers_ms);
        let listeners = workers + Duration::from_millis(self.listeners_ms);
        let log = listeners + Duration::from_millis(self.log_ms);
        StopBy { abandoned, workers, listeners, log, runtime: log + Duration::from_millis(self.runtime_ms) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_takes_no_longer_than_the_documents_say() {
        let begun = Instant::now();
        let last = SHUTDOWN.from(begun).runtime - begun;
        assert_eq!(last, Duration::from_millis(SHUTDOWN.sum_ms()));
        let runtime_by = SHUTDOWN.runtime_by(SHUTDOWN.from(begun), begun) - begun;
        assert_eq!(
            runtime_by,
            Duration::from_millis(SHUTDOWN.runtime_ms),
            "what is left over is not waited for"
        );
        let documented = format!("{} s", AFTER_DRAIN_MS_MAX / 1_000);
        let readme = include_str!("../README.md");
        assert!(readme.contains(&format!("Allow {documented} more than `drain_ms`")));
        let kubernetes = include_str!("../docs/kubernetes.md");
        assert!(kubernetes.contains(&format!("application's stop + drain_ms + {documented}")));
    }

    #[tokio::test]
    async fn draining_waits_for_the_calls_in_progress_and_takes_no_more() {
        let lifecycle = Lifecycle::default();
        lifecycle.advance(Phase::Serving);
        let call = lifecycle.begin_call().unwrap();
        lifecycle.advance(Phase::Draining);
        lifecycle.advance(Phase::Serving);
        assert_eq!(lifecycle.phase(), Phase::Draining);
        assert!(lifecycle.begin_call().is_none());
        assert_eq!(lifecycle.calls(), 1);
        drop(call);
        lifecycle.calls_ended().await;
    }
}
