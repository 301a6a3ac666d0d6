//! Owns what the sidecar says of itself: logs and metrics.
//! Must never hold up the work that it tells of, and never print a secret, a key or a payload.

pub mod metrics;
pub mod trace_context;

use std::{
    io::{self, IsTerminal as _},
    sync::atomic::{AtomicBool, Ordering},
};

use tracing_subscriber::{
    EnvFilter,
    fmt::{self, writer::MakeWriterExt as _},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use crate::config::{Log, LogFormat};

/// Logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is no list of directives.
    #[error("the log filter is not understood: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// Something else in the process logs already.
    #[error("logging was set up twice")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// Whether the process has had its last word.
static SILENT: AtomicBool = AtomicBool::new(false);

/// Lets nothing be logged from now on: librdkafka's threads outlive the last line, which must stay the last.
pub fn fall_silent() {
    SILENT.store(true, Ordering::Release);
}

/// Reads the filter of the log.
///
/// # Errors
/// Where it is no list of directives.
pub fn filter(directives: &str) -> Result<EnvFilter, LogError> {
    Ok(EnvFilter::try_new(directives)?)
}

/// Sets logging up for the whole process: one line an event, to standard error.
///
/// # Errors
/// Where the filter is not understood, or logging was set up before.
pub fn log_to_stderr(log: &Log) -> Result<(), LogError> {
    let filter = filter(&log.filter)?;
    let format =
        log.format.unwrap_or(if io::stderr().is_terminal() { LogFormat::Text } else { LogFormat::Json });
    let registry = tracing_subscriber::registry().with(filter);
    let writer = io::stderr.with_filter(|_| !SILENT.load(Ordering::Acquire));
    match format {
        LogFormat::Text => registry.with(fmt::layer().with_writer(writer)).try_init()?,
        LogFormat::Json => {
            let layer =
                fmt::layer().json().flatten_event(true).with_current_span(false).with_span_list(false);
            registry.with(layer.with_writer(writer)).try_init()?;
        }
    }
    Ok(())
}
