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

    const SECOND: Duration = Duration::from_secs(1);

    async fn attempt(after: Duration, outcome: Result<u8, u8>) -> Result<u8, u8> {
        sleep(after).await;
        outcome
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_attempt_holds_up_the_next_for_a_moment() {
        let begun = Instant::now();
        let attempts = [attempt(60 * SECOND, Ok(1)), attempt(2 * SECOND, Ok(2)), attempt(60 * SECOND, Ok(3))];
        assert_eq!(first(attempts, SECOND).await, Ok(2));
        assert_eq!(begun.elapsed(), 3 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_begins_the_next_at_once() {
        let begun = Instant::now();
        let attempts = [attempt(Duration::ZERO, Err(1)), attempt(Duration::ZERO, Ok(2))];
        assert_eq!(first(attempts, SECOND).await, Ok(2));
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn all_failures_are_returned() {
        let attempts = [attempt(5 * SECOND, Err(1)), attempt(SECOND, Err(2))];
        assert_eq!(first(attempts, SECOND).await, Err(vec![2, 1]));
        let none: [std::future::Ready<Result<u8, u8>>; 0] = [];
        assert_eq!(first(none, SECOND).await, Err(Vec::new()));
    }
}
