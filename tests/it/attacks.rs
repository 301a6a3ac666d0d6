//! Attacks: what one caller, or the one who reads the log, may do to the others and to the process: nothing.
//!
//! Each test has a short form for `scripts/test`; `ATTACK_SECONDS` sets how long those of `neighbours` last in the long form.

pub mod logs;
pub mod memory;
pub mod neighbours;
pub mod ports;
pub mod raw;
