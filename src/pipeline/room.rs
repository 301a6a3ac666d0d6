//! Owns how large the runs of a topic's partitions may be: the settings' bound, and what Kafka taught by refusing one.
//! Must never forget: each refusal has librdkafka number all partitions anew (decision 0008), so that few are to happen.

use std::sync::atomic::{AtomicUsize, Ordering};

/// The most bytes of a run of one topic.
#[derive(Debug)]
pub struct Room(AtomicUsize);

impl Room {
    /// Begins with the settings' bound.
    #[must_use]
    pub const fn new(bytes_max: usize) -> Self {
        Self(AtomicUsize::new(bytes_max))
    }

    /// Returns the most bytes that a run may have now; a record that is larger goes alone.
    #[must_use]
    pub fn bytes_max(&self) -> usize {
        self.0.load(Ordering::Relaxed)
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
            while room.bytes_max() > limit {
                room.refused(room.bytes_max());
                refusals += 1;
            }
            assert!(room.bytes_max() > limit / 2 && refusals <= 10, "{limit}: {room:?} after {refusals}");
        }
        let room = Room::new(100);
        room.refused(1_000);
        assert_eq!(room.bytes_max(), 100);
    }
}
