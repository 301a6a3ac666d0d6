//! Owns the race of attempts of which the next begins beside one that is slow, and at once after one that failed.
//! Must never drop an attempt because it is slow: the first that succeeds ends the others.

use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::time::timeout;

/// Returns the first success, or all failures in the order in which they came.
pub(super) async fn first<T, E, A>(
    attempts: impl IntoIterator<Item = A>,
    next_after: Duration,
) -> Result<T, Vec<E>>
where
    A: Future<Output = Result<T, E>>,
{
    let mut attempts = attempts.into_iter().fuse();
    let (mut running, mut failures) = (FuturesUnordered::new(), Vec::new());
    loop {
        let ended = if let Some(next) = attempts.next() {
            running.push(next);
            match timeout(next_after, running.next()).await {
                Ok(ended) => ended,
                Err(_slow) => continue,
            }
        } else {
            running.next().await
        };
        match ended {
            Some(Ok(success)) => return Ok(success),
            Some(Err(failure)) => failures.push(failure),
            None => return Err(failures),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, sleep};

    use super::*;

    const MOMENT: Duration = Duration::from_millis(40);
    /// Longer than any of these tests takes.
    const PATIENT: Duration = Duration::from_secs(60);

    async fn attempt(after: Duration, outcome: Result<u8, u8>) -> Result<u8, u8> {
        sleep(after).await;
        outcome
    }

    #[tokio::test]
    async fn a_slow_attempt_holds_up_the_next_for_a_moment() {
        let begun = Instant::now();
        let attempts = [attempt(PATIENT, Ok(1)), attempt(2 * MOMENT, Ok(2)), attempt(PATIENT, Ok(3))];
        assert_eq!(first(attempts, MOMENT).await, Ok(2));
        assert!(begun.elapsed() >= 3 * MOMENT && begun.elapsed() < PATIENT);
    }

    #[tokio::test]
    async fn a_failure_begins_the_next_at_once() {
        let begun = Instant::now();
        let attempts = [attempt(Duration::ZERO, Err(1)), attempt(Duration::ZERO, Ok(2))];
        assert_eq!(first(attempts, PATIENT).await, Ok(2));
        assert!(begun.elapsed() < PATIENT);
    }

    #[tokio::test]
    async fn all_failures_are_returned() {
        let attempts = [attempt(5 * MOMENT, Err(1)), attempt(MOMENT, Err(2))];
        let mut failures = first(attempts, MOMENT).await.unwrap_err();
        failures.sort_unstable();
        assert_eq!(failures, [1, 2]);
        let none: [std::future::Ready<Result<u8, u8>>; 0] = [];
        assert_eq!(first(none, MOMENT).await, Err(Vec::new()));
    }
}
