//! Waits for a condition, with a bound. Never waits for time alone.

use std::thread;
use std::time::{Duration, Instant};

const STEP: Duration = Duration::from_millis(25);

/// Calls `probe` every 25 ms until it answers, and returns its answer.
///
/// # Panics
///
/// When `bound` has passed without an answer; the message names `what`.
#[track_caller]
pub fn eventually<T>(bound: Duration, what: &str, probe: impl FnMut() -> Option<T>) -> T {
    match try_eventually(bound, probe) {
        Some(answer) => answer,
        None => panic!("not within {bound:?}: {what}"),
    }
}

/// Calls `probe` every 25 ms until it answers or `bound` has passed; it is called at least once.
pub fn try_eventually<T>(bound: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let started = Instant::now();
    loop {
        if let Some(answer) = probe() {
            return Some(answer);
        }
        if started.elapsed() >= bound {
            return None;
        }
        thread::sleep(STEP);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_as_soon_as_the_probe_does() {
        let mut calls = 0;
        let answer = eventually(Duration::from_secs(5), "three calls", || {
            calls += 1;
            (calls == 3).then_some(calls)
        });
        assert_eq!(answer, 3);
    }

    #[test]
    fn gives_up_after_the_bound() {
        assert_eq!(try_eventually(Duration::ZERO, || None::<()>), None);
    }
}
