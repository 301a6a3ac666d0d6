//! What one caller, or the one who reads the log, may do to others: nothing.

pub mod logs;
