//! Owns the process's memory as the system sees it: a warning if the settings allow more than the container has, and the return
//! of what is free.
//! Must never keep the sidecar from starting: what is held in practice is far below the bounds.

use std::{fs, time::Duration};

use crate::{
    config::{Config, memory},
    kafka,
};

/// Where a container finds its own limit (cgroup v2); `max` where it has none.
const LIMIT_FILE: &str = "/sys/fs/cgroup/memory.max";
const MIB: usize = 1 << 20;
/// Size and resident pages of this process.
const PAGES_FILE: &str = "/proc/self/statm";
const PAGE_BYTES: usize = 4_096;
/// How often free memory is given back, in milliseconds.
const GIVE_BACK_MS: u64 = 3_000;
/// A process that holds less has nothing that is worth giving back.
const RESIDENT_BYTES_MIN: usize = 32 * MIB;

/// Gives free memory back to the system, for as long as the process runs: after a burst the allocator would keep it.
pub(super) async fn give_back() {
    let mut look = tokio::time::interval(Duration::from_millis(GIVE_BACK_MS));
    loop {
        look.tick().await;
        let given_back = tokio::task::spawn_blocking(|| {
            if resident_bytes().is_some_and(|bytes| bytes > RESIDENT_BYTES_MIN) {
                kafka::give_back_free_memory();
            }
        });
        if given_back.await.is_err() {
            return;
        }
    }
}

fn resident_bytes() -> Option<usize> {
    let pages = fs::read_to_string(PAGES_FILE).ok()?;
    let resident: usize = pages.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(resident * PAGE_BYTES)
}

/// Warns if the bounds together are beyond the container's limit.
pub(super) fn compare_with_limit(config: &Config) {
    let limit = fs::read_to_string(LIMIT_FILE).ok().and_then(|text| text.trim().parse().ok());
    if let Some(warning) = limit.and_then(|limit| beyond(config, limit)) {
        tracing::warn!("{warning}");
    }
}

/// Says how far the bounds are beyond a limit in bytes, and which of them are largest.
fn beyond(config: &Config, limit: usize) -> Option<String> {
    let most = memory::bytes_max(config);
    if most <= limit {
        return None;
    }
    let mut parts = memory::parts(config);
    parts.sort_by_key(|part| std::cmp::Reverse(part.bytes));
    let largest: Vec<_> =
        parts.iter().take(3).map(|part| format!("{} {} MiB", part.name, part.bytes / MIB)).collect();
    Some(format!(
        "the settings allow {} MiB and the container has {}: under attack it may be killed; \
         raise its limit, or lower the largest: {}",
        most / MIB,
        limit / MIB,
        largest.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{
        Purpose,
        source::{Environment, Inputs, load},
    };

    #[test]
    fn a_limit_below_the_bounds_is_warned_about() {
        let variables = [("SIDECAR_INSTANCE_ID", "one")];
        let environment = Environment::of(variables);
        let inputs = Inputs { config: None, flags: &[], environment: &environment };
        let config = load(inputs, Purpose::Dev).unwrap().config;
        assert_eq!(beyond(&config, memory::bytes_max(&config)), None);
        let warning = beyond(&config, 100 * MIB).unwrap();
        assert!(warning.contains("has 100") && warning.contains("requests_bytes_max"), "{warning}");
    }
}
