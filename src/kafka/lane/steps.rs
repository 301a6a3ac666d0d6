//! Owns how long a lane has been within one step, such as a call of librdkafka, as seen from outside of its thread.
//! Must never be held while librdkafka is called.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// When the step in progress began; none while the lane waits for work.
#[derive(Debug, Default)]
pub struct Steps(Mutex<Option<Instant>>);

impl Steps {
    /// Notes that a step begins.
    pub fn begin(&self) {
        *self.0.lock() = Some(Instant::now());
    }

    /// Notes that the lane waits for work.
    pub fn end(&self) {
        *self.0.lock() = None;
    }

    /// Returns how long the step in progress has taken so far.
    pub fn taken(&self) -> Option<Duration> {
        self.0.lock().map(|begun| begun.elapsed())
    }
}
