//! Owns how large the runs of a topic's partitions may be: the settings' bound, what Kafka says, and what it taught by refusing one.
//! Must never forget: each refusal has librdkafka number all partitions anew (decision 0008), so that few are to happen.

use std::sync::atomic::{AtomicUsize, Ordering};

/// The part of a batch that its header takes, in bytes.
pub const BATCH_FRAMING_BYTES: usize = 128;

/// The most bytes of a run of one topic.
#[derive(Debug)]
pub struct Room(AtomicUsize);

impl Room {
    /// Begins with the settings' bound.
    #[must_use]
    pub const fn new(bytes_max: usize) -> Self {
        Self(AtomicUsize::new(bytes_max))
    }

    /// Returns the most bytes that a run may have now; a record that is larger goes alone. `batch_bytes_max` is the topic's own
    /// limit of a batch, where Kafka said it.
    #[must_use]
    pub fn bytes_max(&self, batch_bytes_max: Option<usize>) -> usize {
        let learnt = self.0.load(Ordering::Relaxed);
        batch_bytes_max.map_or(learnt, |most| most.saturating_sub(BATCH_FRAMING_BYTES).clamp(1, learnt))
    }

    /// Learns from a run of several records that was refused for its size: half of it stays above half of the topic's limit.
    pub fn refused(&self, run_bytes: usize) {
        self.0.fetch_min((run_bytes / 2).max(1), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_room_shrinks_until_nothing_is_refused_and_never_below_half_of_the_limit() {
        for limit in [1_000, 9_999, 123_456, 999_999] {
            let room = Room::new(1_000_000);
            let mut refusals = 0;
            while room.bytes_max(None) > limit {
                room.refused(room.bytes_max(None));
                refusals += 1;
            }
            assert!(room.bytes_max(None) > limit / 2 && refusals <= 10, "{limit}: {room:?} after {refusals}");
        }
        let room = Room::new(100);
        room.refused(1_000);
        assert_eq!(room.bytes_max(None), 100);
    }

    #[test]
    fn a_limit_that_is_known_bounds_the_room_before_anything_is_refused() {
        let room = Room::new(1_000_000);
        assert_eq!(room.bytes_max(Some(10_000)), 10_000 - BATCH_FRAMING_BYTES);
        assert_eq!(room.bytes_max(Some(2_000_000)), 1_000_000, "the settings' bound stays");
        assert_eq!(room.bytes_max(Some(0)), 1, "each record goes alone");
        room.refused(5_000);
        assert_eq!(room.bytes_max(Some(10_000)), 2_500, "what was learnt stays");
    }
}
