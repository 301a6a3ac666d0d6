//! Owns the reading of the wall clock in the unit that Kafka has for times.
//! Must never be read by what is pure: that takes the time from its caller.

use std::time::{SystemTime, UNIX_EPOCH};

/// Returns the time in milliseconds since the epoch. A clock that stands before the epoch reads as the first millisecond after
/// it: librdkafka takes 0 for now.
#[must_use]
pub fn now_ms() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX).max(1)
}
