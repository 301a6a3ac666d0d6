//! Owns what the sidecar says of itself: logs, metrics and traces.
//! Must never hold up the work that it tells of, and never print a secret, a key or a payload.

pub mod failures;
pub mod metrics;
pub mod output;
pub mod rate_limit;
pub mod repeats;
pub mod semconv;
pub mod spans;
pub mod trace_context;
pub mod traces;

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    io::{self, IsTerminal as _},
    panic::{self, PanicHookInfo},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use opentelemetry_sdk::trace::SdkTracer;
use tracing::{Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::{FilterExt as _, filter_fn},
    fmt::{self, MakeWriter, writer::MakeWriterExt as _},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use self::{
    output::Output,
    rate_limit::{PlaceFilter, PlaceLimits, Suppressed},
    spans::SPANS_TARGET,
    traces::Traces,
};
use crate::config::{Log, LogFormat};

/// The thread that writes the log.
const LOG_THREAD: &str = "log";

/// Logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is no list of directives.
    #[error("the log filter is not understood: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// Something else in the process logs already.
    #[error("logging was set up twice")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
    /// The log's thread cannot be started.
    #[error("the thread that writes the log cannot be started: {0}")]
    Thread(#[from] io::Error),
}

/// The log of the process, once it was set up.
#[derive(Debug)]
struct Written {
    output: Output,
    limits: Arc<PlaceLimits>,
    flush: Duration,
}

static WRITTEN: OnceLock<Written> = OnceLock::new();
/// Whether the process has had its last word.
static SILENT: AtomicBool = AtomicBool::new(false);

/// How many log lines were lost since the start, by cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lost {
    /// The queue was full, because standard error was not read fast enough.
    pub not_read: u64,
    /// One place of the program wrote too many.
    pub rate_limited: u64,
}

/// Lets nothing be logged from now on, and writes what was: librdkafka's threads outlive the last line, which must stay the
/// last. Takes `log.flush_ms` at most, the first time.
pub fn fall_silent() {
    if !SILENT.swap(true, Ordering::AcqRel) {
        flush();
    }
}

fn flush() {
    if let Some(log) = WRITTEN.get() {
        // A log that is not read must not keep the process from its end.
        let _is_written: bool = log.output.flush(log.flush);
    }
}

/// Logs the last lines of the process, for which there is always room, and nothing after them.
pub fn say_last<T>(say: impl FnOnce() -> T) -> T {
    if let Some(log) = WRITTEN.get() {
        tell_suppressed(log.limits.all());
    }
    SILENT.store(true, Ordering::Release);
    let said = output::urgently(say);
    flush();
    said
}

/// Returns how many log lines were lost since the start.
#[must_use]
pub fn lines_lost() -> Lost {
    let lost = |log: &Written| Lost { not_read: log.output.dropped(), rate_limited: log.limits.suppressed() };
    WRITTEN.get().map(lost).unwrap_or_default()
}

/// Reads the filter of the log.
///
/// # Errors
/// If it is no list of directives.
pub fn filter(directives: &str) -> Result<EnvFilter, LogError> {
    Ok(EnvFilter::try_new(directives)?)
}

/// Sets logging up for the whole process: one line an event, to standard error, panics included; and gives the spans to their
/// exporter.
///
/// # Errors
/// If the filter is not understood, the log's thread cannot be started, or logging was set up before.
pub fn begin(log: &Log, traces: &Traces) -> Result<(), LogError> {
    let limits = PlaceLimits::new(log.place_lines_max, log.repeat);
    let looked = Arc::clone(&limits);
    let output = Output::start(LOG_THREAD, &io::stderr(), log.queue, move |dropped| {
        // Nothing follows the last line.
        if !SILENT.load(Ordering::Acquire) {
            tell_dropped(dropped);
            tell_suppressed(looked.over(Instant::now()));
        }
    })?;
    let lines = output.clone();
    let writer =
        (move || lines.line()).with_filter(|_| !SILENT.load(Ordering::Acquire) || output::is_urgent());
    subscriber(log, Arc::clone(&limits), writer, traces.tracer())?.try_init()?;
    WRITTEN.get_or_init(|| Written { output, limits, flush: log.flush });
    panic::set_hook(Box::new(tell_panic));
    Ok(())
}

/// Composes the log's lines and the spans. Each has filters of its own: a level of the log must not switch spans off, nor a
/// span become a line. Each filter says how far its levels go, so that what is beyond all of them costs one comparison.
fn subscriber(
    log: &Log,
    limits: Arc<PlaceLimits>,
    writer: impl for<'a> MakeWriter<'a> + Send + Sync + 'static,
    tracer: Option<SdkTracer>,
) -> Result<Box<dyn Subscriber + Send + Sync>, LogError> {
    let format =
        log.format.unwrap_or(if io::stderr().is_terminal() { LogFormat::Text } else { LogFormat::Json });
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match format {
        LogFormat::Text => fmt::layer().with_writer(writer).with_ansi(io::stderr().is_terminal()).boxed(),
        LogFormat::Json => {
            let layer =
                fmt::layer().json().flatten_event(true).with_current_span(false).with_span_list(false);
            layer.with_writer(writer).boxed()
        }
    };
    let is_line = filter_fn(|about| about.target() != SPANS_TARGET).with_max_level_hint(LevelFilter::TRACE);
    let lines = lines.with_filter(filter(&log.filter)?.and(is_line).and(PlaceFilter(limits)));
    let lines = tracing_subscriber::registry().with(lines);
    // Without spans no layer of theirs: one that may be absent makes every place of the program be asked each time.
    let Some(tracer) = tracer else { return Ok(Box::new(lines)) };
    let layer = tracing_opentelemetry::layer().with_tracer(tracer);
    let layer = layer.with_location(false).with_threads(false).with_target(false).with_level(false);
    let layer = layer.with_tracked_inactivity(false).with_context_activation(false);
    let is_span = filter_fn(|about| {
        about.is_span() && about.target() == SPANS_TARGET && *about.level() <= LevelFilter::INFO
    });
    Ok(Box::new(lines.with(layer.with_filter(is_span.with_max_level_hint(LevelFilter::INFO)))))
}

fn tell_dropped(lines: u64) {
    if lines > 0 {
        tracing::warn!(
            lines,
            "log lines were dropped: standard error was not read fast enough; see producer_log_lines_lost_total"
        );
    }
}

fn tell_suppressed(suppressed: Vec<Suppressed>) {
    for Suppressed { place: (file, number), lines } in suppressed {
        let place = format!("{}:{}", file.unwrap_or("unknown"), number.unwrap_or_default());
        tracing::warn!(
            lines,
            place,
            "log lines of one place in the program were left out: it wrote more than log.place_lines_max"
        );
    }
}

/// Logs a panic, which the standard library would write past the log's queue.
fn tell_panic(panicked: &PanicHookInfo<'_>) {
    let thread = thread::current();
    let name = thread.name().unwrap_or("unnamed");
    let place = panicked.location().map(ToString::to_string);
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    let message = panicked.payload_as_str().unwrap_or("no message");
    tracing::error!(thread = name, place, backtrace, "a thread panicked, which is a bug: {message}");
}

#[cfg(test)]
mod tests;
