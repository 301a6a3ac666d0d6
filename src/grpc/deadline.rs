//! Owns the deadline of a call: the caller's `grpc-timeout`, or ours, early enough that the answer still arrives.
//! tonic enforces `grpc-timeout` too, but answers CANCELLED without details: ours must fire before it.

use std::time::Duration;

use tokio::time::Instant;
use tonic::metadata::MetadataMap;

use crate::config;

/// The numbers that deadlines are made of.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    default: Duration,
    max: Duration,
    margin: Duration,
}

impl Deadlines {
    /// Takes the numbers from the settings.
    #[must_use]
    pub const fn new(send: &config::Send) -> Self {
        Self { default: send.timeout, max: send.timeout_max, margin: send.deadline_margin }
    }

    /// Returns when a call that arrived then must be answered.
    #[must_use]
    pub fn of_call(&self, metadata: &MetadataMap, arrived: Instant) -> Instant {
        let asked = metadata.get("grpc-timeout").and_then(|value| value.to_str().ok()).and_then(parse);
        arrived + self.budget(asked)
    }

    /// Returns when a stream that began then ends by its own deadline, where it has one.
    #[must_use]
    pub fn of_stream(&self, metadata: &MetadataMap, began: Instant) -> Option<Instant> {
        let asked = metadata.get("grpc-timeout").and_then(|value| value.to_str().ok()).and_then(parse)?;
        // A stream may last as long as it likes: `send_timeout_ms_max` bounds its frames.
        Some(began + asked.saturating_sub(self.margin).max(asked / 2))
    }

    /// Returns when a frame that arrived then must be answered.
    #[must_use]
    pub fn of_frame(&self, timeout: Option<Duration>, arrived: Instant) -> Instant {
        arrived + timeout.unwrap_or(self.default).min(self.max)
    }

    /// Returns how long a call may take that asked for so long.
    fn budget(&self, asked: Option<Duration>) -> Duration {
        match asked {
            // A margin as long as the deadline itself would leave nothing: half of it is kept at least.
            Some(asked) => asked.min(self.max).saturating_sub(self.margin).max(asked.min(self.max) / 2),
            None => self.default,
        }
    }
}

/// Parses `grpc-timeout` as the gRPC protocol writes it: up to eight digits and a unit. What is malformed counts as absent,
/// as it does in tonic.
fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3_600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINES: Deadlines = Deadlines {
        default: Duration::from_secs(30),
        max: Duration::from_secs(300),
        margin: Duration::from_millis(20),
    };

    #[test]
    fn timeouts_are_read_as_the_protocol_writes_them() {
        let cases = [
            ("1S", Some(Duration::from_secs(1))),
            ("500m", Some(Duration::from_millis(500))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3_600))),
            ("7u", Some(Duration::from_micros(7))),
            ("", None),
            ("S", None),
            ("1", None),
            ("123456789S", None),
            ("-1S", None),
            ("1s", None),
            ("1é", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text), expected, "{text:?}");
        }
    }

    #[test]
    fn the_answer_leaves_before_the_callers_own_clock_runs_out() {
        let budget = |ms| DEADLINES.budget(Some(Duration::from_millis(ms)));
        assert_eq!(budget(1_000), Duration::from_millis(980));
        assert_eq!(budget(30), Duration::from_millis(15));
        assert_eq!(budget(0), Duration::ZERO);
        assert_eq!(budget(10_000_000), Duration::from_millis(300_000 - 20));
        assert_eq!(DEADLINES.budget(None), Duration::from_secs(30));
    }
}
