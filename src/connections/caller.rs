//! Owns who asks: the connection on whose behalf the current task runs.
//! Must never decide anything: it is a key, by which what callers share is shared fairly.

use tokio::task::futures::TaskLocalFuture;

/// A connection's number; [`Caller::SIDECAR`] for what the sidecar does by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Caller(u64);

tokio::task_local! {
    static CURRENT: Caller;
}

impl Caller {
    /// The sidecar itself.
    pub const SIDECAR: Self = Self(0);

    /// Names the caller of a connection.
    #[must_use]
    pub const fn new(connection: u64) -> Self {
        Self(connection)
    }

    /// Returns the caller on whose behalf the current task runs.
    #[must_use]
    pub fn current() -> Self {
        CURRENT.try_with(|caller| *caller).unwrap_or(Self::SIDECAR)
    }

    /// Runs a future on the caller's behalf. A task that it spawns is not: give it [`inherit`].
    pub fn scope<F: Future>(self, future: F) -> TaskLocalFuture<Self, F> {
        CURRENT.scope(self, future)
    }
}

/// Runs a future, on whatever task, on behalf of the caller of the current one.
pub fn inherit<F: Future>(future: F) -> TaskLocalFuture<Caller, F> {
    Caller::current().scope(future)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_is_its_callers_only_if_it_is_told() {
        let caller = Caller::new(7);
        let seen = caller.scope(async {
            let plain = tokio::spawn(async { Caller::current() });
            let told = tokio::spawn(inherit(async { Caller::current() }));
            (Caller::current(), plain.await.unwrap(), told.await.unwrap())
        });
        assert_eq!(seen.await, (caller, Caller::SIDECAR, caller));
        assert_eq!(Caller::current(), Caller::SIDECAR);
    }
}
