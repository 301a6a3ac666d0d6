//! Owns what the sidecar says of itself: logs, metrics and traces.
//! Must never hold up the work that it tells of, and never print a secret, a key or a payload.

pub mod failures;
pub mod metrics;
pub mod repeats;
pub mod semconv;
pub mod spans;
pub mod trace_context;
pub mod traces;

use std::{
    io::{self, IsTerminal as _},
    sync::atomic::{AtomicBool, Ordering},
};

use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::{FilterExt as _, filter_fn},
    fmt::{self, writer::MakeWriterExt as _},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use self::{spans::SPANS_TARGET, traces::Traces};
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

/// Sets logging up for the whole process: one line an event, to standard error; and gives the spans to their exporter.
///
/// # Errors
/// Where the filter is not understood, or logging was set up before.
pub fn begin(log: &Log, traces: &Traces) -> Result<(), LogError> {
    let format =
        log.format.unwrap_or(if io::stderr().is_terminal() { LogFormat::Text } else { LogFormat::Json });
    let writer = io::stderr.with_filter(|_| !SILENT.load(Ordering::Acquire));
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match format {
        LogFormat::Text => fmt::layer().with_writer(writer).boxed(),
        LogFormat::Json => {
            let layer =
                fmt::layer().json().flatten_event(true).with_current_span(false).with_span_list(false);
            layer.with_writer(writer).boxed()
        }
    };
    // Each has its own: a level of the log must not switch spans off, nor a span become a line.
    let lines =
        lines.with_filter(filter(&log.filter)?.and(filter_fn(|about| about.target() != SPANS_TARGET)));
    let spans = traces.tracer().map(|tracer| {
        let layer = tracing_opentelemetry::layer().with_tracer(tracer);
        let layer = layer.with_location(false).with_threads(false).with_target(false).with_level(false);
        let layer = layer.with_tracked_inactivity(false).with_context_activation(false);
        layer.with_filter(filter_fn(|about| about.is_span() && about.target() == SPANS_TARGET))
    });
    tracing_subscriber::registry().with(lines).with(spans).try_init()?;
    Ok(())
}
