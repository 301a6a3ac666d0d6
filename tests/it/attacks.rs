//! Attacks: what one caller, or the one who reads the log, may do to the others and to the process: nothing.

pub mod logs;
pub mod memory;
pub mod ports;
