//! Owns who leaves a full port for a newcomer; pure.
//! Must never choose a connection with a request in progress.

use std::time::Duration;

/// How long a connection without a greeting is left alone, in milliseconds: an honest peer greets at once.
const GREETING_MS_MIN: u64 = 1_000;
/// If one in so many connections has not greeted, the port is being flooded, and they are not left alone.
const FLOOD_SHARE: usize = 4;

/// What is known of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing {
    pub(super) number: u64,
    pub(super) has_greeted: bool,
    pub(super) requests: usize,
    /// Since its last request ended, or since it was opened.
    pub(super) idle: Duration,
}

/// Returns the number of the connection that leaves: one that never greeted, else one without a request for at least `idle_min`;
/// of those the one idle longest. None if nobody can leave.
pub(super) fn who_leaves(all: Vec<Standing>, idle_min: Duration) -> Option<u64> {
    let longest = |can_leave: &dyn Fn(&Standing) -> bool| {
        let leaving = all.iter().filter(|one| one.requests == 0 && can_leave(one));
        leaving.max_by_key(|one| one.idle).map(|one| one.number)
    };
    let greeting_min = Duration::from_millis(GREETING_MS_MIN);
    let ungreeted = all.iter().filter(|one| !one.has_greeted).count();
    let is_flood = ungreeted * FLOOD_SHARE >= all.len();
    longest(&|one| !one.has_greeted && (is_flood || one.idle >= greeting_min))
        .or_else(|| longest(&|one| one.has_greeted && one.idle >= idle_min))
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE_MIN: Duration = Duration::from_secs(10);

    fn one(number: u64, has_greeted: bool, requests: usize, idle_ms: u64) -> Standing {
        Standing { number, has_greeted, requests, idle: Duration::from_millis(idle_ms) }
    }

    #[test]
    fn who_never_greeted_leaves_before_who_is_idle_and_who_is_busy_stays() {
        let busy = one(1, true, 1, 99_000);
        let cases: [(&[Standing], Option<u64>); 6] = [
            (&[busy], None),
            (&[busy, one(2, true, 0, 9_999)], None),
            (&[busy, one(2, true, 0, 10_000), one(3, true, 0, 11_000)], Some(3)),
            (&[busy, one(2, true, 0, 10_000), one(3, false, 0, 1_000)], Some(3)),
            (&[busy, one(2, false, 0, 5), one(3, false, 0, 4)], Some(2)),
            (&[], None),
        ];
        for (number, (all, leaves)) in cases.into_iter().enumerate() {
            assert_eq!(who_leaves(all.to_vec(), IDLE_MIN), leaves, "case {number}");
        }
    }

    #[test]
    fn a_newcomer_has_time_to_greet_unless_newcomers_are_a_flood() {
        let mut all: Vec<_> = (0..9).map(|number| one(number, true, 1, 0)).collect();
        all.push(one(9, false, 0, 5));
        assert_eq!(who_leaves(all.clone(), IDLE_MIN), None);
        all.extend((10..13).map(|number| one(number, false, 0, number)));
        assert_eq!(who_leaves(all, IDLE_MIN), Some(12));
    }
}
