//! Owns the signals that ask the process to stop: SIGTERM, SIGINT and SIGHUP.
//! Must be listened to before anything else is done: as process 1 of a container a signal without a handler is lost for good, and
//! elsewhere it kills without a drain.
//!
//! SIGHUP stops too: nothing is read again at a signal, because files of secrets are watched. It stays ignored if the process
//! was started so, as by `nohup`. SIGPIPE is ignored by Rust's runtime. SIGQUIT, SIGUSR1 and SIGUSR2 keep what the system does:
//! they end the process at once, and do nothing to process 1.

use std::{fs, future::poll_fn, io, task::Poll};

use tokio::{
    runtime::Runtime,
    signal::unix::{Signal, SignalKind, signal},
    sync::Semaphore,
};

/// The stops that were asked for, in their order.
#[derive(Debug)]
pub(super) struct Signals {
    streams: Vec<(SignalKind, Signal)>,
}

/// How often a stop was asked for and not acted on yet.
#[derive(Debug)]
pub(super) struct Stops(Semaphore);

impl Signals {
    /// Installs the handlers; a signal that comes from now on is kept until somebody waits for it.
    ///
    /// # Errors
    /// If the system does not let a handler be installed.
    pub(super) fn listen(runtime: &Runtime) -> io::Result<Self> {
        let _within = runtime.enter();
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let kinds = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()];
        let kept = |kind: &SignalKind| *kind != SignalKind::hangup() || !is_ignored(&status, *kind);
        let listened = |kind| Ok((kind, signal(kind)?));
        let streams = kinds.into_iter().filter(kept).map(listened).collect::<io::Result<_>>()?;
        Ok(Self { streams })
    }

    /// Waits for the next signal.
    pub(super) async fn next(&mut self) -> SignalKind {
        poll_fn(|context| {
            let mut streams = self.streams.iter_mut();
            let came =
                streams.find_map(|(kind, stream)| stream.poll_recv(context).is_ready().then_some(*kind));
            came.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Passes signals on for as long as it is polled. SIGHUP begins a stop and hurries none: it often comes along with another.
    pub(super) async fn pass(&mut self, stops: &Stops) {
        let mut has_begun = false;
        loop {
            let kind = self.next().await;
            if kind != SignalKind::hangup() || !has_begun {
                stops.0.add_permits(1);
            }
            has_begun = true;
        }
    }
}

impl Stops {
    /// Begins with none.
    pub(super) const fn new() -> Self {
        Self(Semaphore::const_new(0))
    }

    /// Waits for a stop that nobody has acted on, and acts on it.
    pub(super) async fn next(&self) {
        if let Ok(permit) = self.0.acquire().await {
            permit.forget();
        }
    }
}

/// Returns whether the process ignores a signal, as `/proc/self/status` says it.
fn is_ignored(status: &str, kind: SignalKind) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    let bit = u32::try_from(kind.as_raw_value() - 1).unwrap_or(0);
    mask.checked_shr(bit).is_some_and(|mask| mask & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ignored_signal_is_read_from_the_process_status() {
        let status = "SigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\nSigCgt:\t0000000000004002\n";
        assert!(is_ignored(status, SignalKind::hangup()));
        assert!(is_ignored(status, SignalKind::pipe()));
        assert!(!is_ignored(status, SignalKind::terminate()));
        assert!(!is_ignored("", SignalKind::hangup()));
    }
}
