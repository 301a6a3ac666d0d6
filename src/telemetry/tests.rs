use std::sync::atomic::AtomicU64;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::trace::SdkTracerProvider;

use super::*;
use crate::config::LogQueue;

fn log(filter: &str) -> Log {
    Log {
        filter: filter.into(),
        format: Some(LogFormat::Json),
        repeat: Duration::from_secs(10),
        place_lines_max: 100,
        queue: LogQueue { lines_max: 100, bytes_max: 65_536 },
        flush: Duration::ZERO,
    }
}

fn composed(filter: &str, has_traces: bool) -> Box<dyn Subscriber + Send + Sync> {
    let tracer = has_traces.then(|| SdkTracerProvider::builder().build().tracer("test"));
    let log = log(filter);
    let limits = PlaceLimits::new(log.place_lines_max, log.repeat);
    subscriber(&log, limits, io::sink, tracer).unwrap()
}

#[test]
fn the_maximum_level_is_what_the_filter_says() {
    let levels = [
        ("off", LevelFilter::OFF),
        ("error", LevelFilter::ERROR),
        ("info", LevelFilter::INFO),
        ("info,librdkafka=warn", LevelFilter::INFO),
        ("warn,producer_sidecar=debug", LevelFilter::DEBUG),
        ("trace", LevelFilter::TRACE),
    ];
    for (filter, level) in levels {
        assert_eq!(composed(filter, false).max_level_hint(), Some(level), "{filter}");
        // Spans are at info.
        assert_eq!(composed(filter, true).max_level_hint(), Some(level.max(LevelFilter::INFO)), "{filter}");
    }
}

#[test]
fn what_no_filter_lets_through_is_not_asked_for_again() {
    for (has_traces, needs) in [(false, 0), (true, 0)] {
        let asked = Arc::new(AtomicU64::new(0));
        tracing::subscriber::with_default(composed("info", has_traces), || {
            for _ in 0..3 {
                // A field's value is computed only if the place is enabled.
                tracing::trace_span!("frame", asked = asked.fetch_add(1, Ordering::Relaxed));
                tracing::debug!(asked = asked.fetch_add(1, Ordering::Relaxed), "frame");
            }
        });
        assert_eq!(asked.load(Ordering::Relaxed), needs, "{has_traces}");
    }
}

/// A place for lines, shared with the writer of a log.
#[derive(Clone, Default)]
struct Lines(Arc<parking_lot::Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_panic_is_a_line_of_the_log() {
    let (log, lines) = (log("info"), Lines::default());
    let writer = lines.clone();
    let limits = PlaceLimits::new(log.place_lines_max, log.repeat);
    let composed = subscriber(&log, limits, move || writer.clone(), None).unwrap();
    let before = panic::take_hook();
    panic::set_hook(Box::new(tell_panic));
    let panicked =
        tracing::subscriber::with_default(composed, || panic::catch_unwind(|| panic!("planted {}", 7)));
    panic::set_hook(before);
    assert!(panicked.is_err());
    let text = String::from_utf8(lines.0.lock().clone()).unwrap();
    let line: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(line["message"], "a thread panicked, which is a bug: planted 7");
    assert!(line["place"].as_str().unwrap().starts_with("src/telemetry/tests.rs:"), "{line}");
    assert_eq!(line["level"], "ERROR");
}
