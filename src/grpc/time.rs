//! Owns the reading of times that people write, as protobuf's `Timestamp` reads them (RFC 3339).
//! Must never guess a zone.

use std::str::FromStr as _;

use prost_types::Timestamp;

/// Reads a time such as `2026-11-24T10:00:00Z`, in milliseconds since the epoch; none where it is no such time.
#[must_use]
pub fn milliseconds(text: &str) -> Option<i64> {
    let time = Timestamp::from_str(text).ok()?;
    time.seconds.checked_mul(1000)?.checked_add(i64::from(time.nanos / 1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_their_zone() {
        assert_eq!(milliseconds("1970-01-01T00:00:01.5Z"), Some(1_500));
        assert_eq!(milliseconds("1970-01-01T01:00:00+01:00"), Some(0));
        for wrong in ["yesterday", "", "99"] {
            assert_eq!(milliseconds(wrong), None, "{wrong}");
        }
    }
}
