//! Owns the decision whether the producer has to be replaced, pure.
//! Must never read a clock.

use std::time::Duration;

/// After how many looks without a turn the polling thread counts as stuck; looks and not time, which passes also while the whole
/// process is stopped.
const LOOKS_WITHOUT_TURN_MAX: u32 = 40;
/// The first pause between attempts, in milliseconds; it doubles.
const PAUSE_MS: u64 = 1_000;
/// The longest.
const PAUSE_MS_MAX: u64 = 10_000;

/// Why the producer is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// It met a fatal error.
    Fatal,
    /// Its polling thread does not come back: no report of it can be had.
    Stuck,
    /// The files of the secrets say something else.
    Secrets,
}

/// What is seen of the producer in one look.
#[derive(Debug, Default)]
pub(super) struct Signs {
    pub looks_without_turn: u32,
    pub is_fatal: bool,
    pub has_other_secrets: bool,
    /// Whether the files have changed since the last look.
    pub is_new_wish: bool,
}

impl Signs {
    /// Returns why the producer has to be replaced, if it has to.
    pub(super) const fn cause(&self) -> Option<Cause> {
        // One that is stuck is left behind, whatever else is wrong with it.
        if self.looks_without_turn >= LOOKS_WITHOUT_TURN_MAX {
            Some(Cause::Stuck)
        } else if self.is_fatal {
            Some(Cause::Fatal)
        } else if self.has_other_secrets {
            Some(Cause::Secrets)
        } else {
            None
        }
    }
}

impl Cause {
    /// Returns its name in metrics and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fatal => "fatal",
            Self::Stuck => "stuck",
            Self::Secrets => "secrets",
        }
    }
}

/// Returns the pause after so many attempts in vain.
pub(super) fn pause(tries: u32) -> Duration {
    let doubled = PAUSE_MS.saturating_mul(1 << tries.saturating_sub(1).min(10));
    Duration::from_millis(doubled.min(PAUSE_MS_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stuck_thread_weighs_more_than_a_fatal_error_and_that_more_than_new_secrets() {
        let stuck = LOOKS_WITHOUT_TURN_MAX;
        let cause = |looks_without_turn, is_fatal, has_other_secrets| {
            Signs { looks_without_turn, is_fatal, has_other_secrets, ..Signs::default() }.cause()
        };
        assert_eq!(cause(stuck - 1, false, false), None);
        assert_eq!(cause(stuck - 1, false, true), Some(Cause::Secrets));
        assert_eq!(cause(stuck - 1, true, true), Some(Cause::Fatal));
        assert_eq!(cause(stuck, true, true), Some(Cause::Stuck));
    }

    #[test]
    fn the_pause_doubles_up_to_its_bound() {
        let pauses = [1, 2, 3, 4, 5, u32::MAX].map(|tries| pause(tries).as_millis());
        assert_eq!(pauses, [1_000, 2_000, 4_000, 8_000, 10_000, 10_000]);
    }
}
