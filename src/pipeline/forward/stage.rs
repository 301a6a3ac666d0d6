//! Owns the agreement between a unit's caller and its lane on whether the unit is in a transaction.
//! Must never let both have it: a caller that was told "not written" while the unit runs was told a lie.

use std::sync::atomic::{AtomicU8, Ordering};

const WAITING: u8 = 0;
const IN_TRANSACTION: u8 = 1;
const GIVEN_UP: u8 = 2;

/// Where a unit is.
#[derive(Debug, Default)]
pub struct Stage(AtomicU8);

impl Stage {
    /// The lane takes the unit into a transaction; false where its caller gave it up.
    pub fn enter(&self) -> bool {
        self.change(WAITING, IN_TRANSACTION)
    }

    /// The unit's transaction is aborted; it waits for another.
    pub fn leave(&self) {
        // One that was never in a transaction stays as it is.
        self.change(IN_TRANSACTION, WAITING);
    }

    /// The caller gives the unit up; false where it is in a transaction.
    pub fn give_up(&self) -> bool {
        self.change(WAITING, GIVEN_UP)
    }

    fn change(&self, from: u8, to: u8) -> bool {
        self.0.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_its_lanes_or_given_up_and_never_both() {
        let stage = Stage::default();
        assert!(stage.enter() && !stage.give_up());
        stage.leave();
        assert!(stage.give_up() && !stage.enter());
        stage.leave();
        assert!(!stage.enter());
    }
}
