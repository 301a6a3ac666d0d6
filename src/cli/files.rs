//! Owns whether the process may have as many files open as its settings may need.
//! Must never refuse a start: few callers need few files.

use rustix::process::{Resource, getrlimit};

use crate::{config::Config, connections::LEAVING_MAX};

/// Files that every process has open, and those that are read now and then.
const OWN: usize = 64;
/// The most brokers that are reckoned with, if fewer are named: three are a usual cluster.
const BROKERS_MIN: usize = 3;
/// Files of a Kafka client for each broker: the connection, and the pipe that wakes its thread.
const FILES_PER_BROKER: usize = 3;

/// Says that the system's limit on open files is too small for the settings, if it is.
pub(super) fn shortage(config: &Config) -> Option<String> {
    shortage_of(config, getrlimit(Resource::Nofile).maximum)
}

fn shortage_of(config: &Config, limit: Option<u64>) -> Option<String> {
    let limit = usize::try_from(limit?).ok()?;
    let (callers, admin, kafka) =
        (config.limits.connections_max, config.admin.connections_max, kafka(config));
    // Those that make room are open for a moment more.
    let needed = callers + admin + 2 * LEAVING_MAX + kafka + OWN;
    (needed > limit).then(|| {
        format!(
            "at most {limit} files may be open, and the settings may need {needed} (`connections_max` {callers}, \
             `admin_connections_max` {admin}, about {kafka} for Kafka, {OWN} others): callers may find no connection. \
             Raise the limit (`ulimit -n`, `LimitNOFILE`), or lower `connections_max`"
        )
    })
}

/// Returns about how many files Kafka's clients have open.
fn kafka(config: &Config) -> usize {
    // The producer and its successor; each lane and its spare; a reader of offsets.
    let clients = 2 + 2 * config.transactions.lanes + 1;
    // One more stands for the connection by which a cluster is found first.
    clients * (config.kafka.brokers.len().max(BROKERS_MIN) + 1) * FILES_PER_BROKER
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cli::{arguments::SettingArguments, check_config},
        config::{Purpose, source::Environment},
    };

    #[test]
    fn a_limit_that_is_too_small_is_told_with_what_is_needed() {
        let environment = Environment::of([("SIDECAR_INSTANCE_ID", "one")]);
        let loaded = check_config::load(&SettingArguments::default(), &environment, Purpose::Dev).unwrap();
        let told = shortage_of(&loaded.config, Some(1024)).unwrap();
        assert!(told.contains("at most 1024 files") && told.contains("`connections_max` 1024"), "{told}");
        assert_eq!(shortage_of(&loaded.config, Some(4096)), None);
        assert_eq!(shortage_of(&loaded.config, None), None);
    }
}
