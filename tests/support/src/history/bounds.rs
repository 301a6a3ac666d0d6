//! Bounds: what the process takes of the machine (I10).

use super::{Kind, Violation};

/// The process at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// When.
    pub at_ms: u64,
    /// Resident memory.
    pub rss_bytes: u64,
    /// Threads.
    pub threads: u64,
    /// Open file descriptors.
    pub fds: u64,
    /// Whether it says that calls may be sent to it.
    pub is_ready: bool,
}

/// The most that a process may take at any moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Resident memory.
    pub rss_bytes: u64,
    /// Threads.
    pub threads: u64,
    /// Open file descriptors.
    pub fds: u64,
}

pub(super) fn violations(bounds: &Bounds, samples: &[Sample]) -> Vec<Violation> {
    let most = |of: fn(&Sample) -> u64| samples.iter().map(|sample| (of(sample), sample.at_ms)).max();
    let taken = [
        ("bytes of memory", most(|sample| sample.rss_bytes), bounds.rss_bytes),
        ("threads", most(|sample| sample.threads), bounds.threads),
        ("file descriptors", most(|sample| sample.fds), bounds.fds),
    ];
    let over = taken.into_iter().filter_map(|(what, most, bound)| {
        let (most, at_ms) = most.filter(|(most, _)| *most > bound)?;
        Some(Violation::new(Kind::Unbounded, format!("{most} {what} at {at_ms} ms, the most are {bound}")))
    });
    over.collect()
}
