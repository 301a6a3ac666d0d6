//! Owns the phases of the process and the calls in progress: Starting, Serving, Draining.
//! A leaf: imports nothing of ours. Must never go back from Draining.

use std::sync::Arc;

use tokio::sync::watch;
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

#[cfg(test)]
mod tests {
    use super::*;

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
