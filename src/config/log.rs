//! Owns the settings of the log as the rest of the program sees them.
//! Must never decide what is logged.

use std::time::Duration;

/// What is logged and how.
#[derive(Debug, Clone)]
pub struct Log {
    /// Directives as `tracing-subscriber`'s `EnvFilter` reads them; not checked here.
    pub filter: String,
    /// The format; where unset, text on a terminal, else JSON.
    pub format: Option<LogFormat>,
    /// How often failures alike are logged at most, and the period of `place_lines_max`.
    pub repeat: Duration,
    /// The most lines of one place in the program in a period.
    pub place_lines_max: u64,
    /// How much may wait to be written.
    pub queue: LogQueue,
    /// How long the last lines may take to be written.
    pub flush: Duration,
}

/// How many log lines may wait to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogQueue {
    /// The most lines.
    pub lines_max: usize,
    /// The most bytes.
    pub bytes_max: usize,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// Text for people.
    Text,
}
