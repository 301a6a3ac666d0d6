//! Owns how many lines one place of the program may write in a period: beyond that they are counted, and one line says how many.
//! Must never limit what was asked for line by line: the levels debug and trace.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tracing::{
    Event, Level, Metadata, callsite::Identifier, level_filters::LevelFilter, subscriber::Interest,
};
use tracing_subscriber::layer::{Context, Filter};

/// How many lines each place of the program may write in a period.
#[derive(Debug)]
pub struct PlaceLimits {
    period: Duration,
    lines_max: u64,
    /// As many at most as the program has places that log.
    places: Mutex<HashMap<Identifier, Place>>,
    /// How many lines were suppressed since the start.
    suppressed: AtomicU64,
}

/// A place of the program that wrote lines in the current period.
#[derive(Debug)]
struct Place {
    metadata: &'static Metadata<'static>,
    since: Instant,
    lines: u64,
    suppressed: u64,
}

/// Lines of one place that were not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Suppressed {
    /// The file of the source and the line in it, if known.
    pub place: (Option<&'static str>, Option<u32>),
    /// How many.
    pub lines: u64,
}

/// Lets the lines through that the limits allow.
#[derive(Debug, Clone)]
pub struct PlaceFilter(pub Arc<PlaceLimits>);

impl PlaceLimits {
    /// Allows each place so many lines in a period; a period of zero allows all.
    #[must_use]
    pub fn new(lines_max: u64, period: Duration) -> Arc<Self> {
        Arc::new(Self { period, lines_max, places: Mutex::default(), suppressed: AtomicU64::new(0) })
    }

    /// Returns whether a place may write a line now, and counts it.
    fn pass(&self, metadata: &'static Metadata<'static>, now: Instant) -> bool {
        if self.period.is_zero() || *metadata.level() > Level::INFO {
            return true;
        }
        let mut places = self.places.lock();
        let fresh = || Place { metadata, since: now, lines: 0, suppressed: 0 };
        let place = places.entry(metadata.callsite()).or_insert_with(fresh);
        if now.saturating_duration_since(place.since) >= self.period {
            (place.since, place.lines) = (now, 0);
        }
        let passes = place.lines < self.lines_max;
        if passes {
            place.lines += 1;
        } else {
            place.suppressed += 1;
            self.suppressed.fetch_add(1, Ordering::Relaxed);
        }
        passes
    }

    /// Returns how many lines were suppressed since the start.
    #[must_use]
    pub fn suppressed(&self) -> u64 {
        self.suppressed.load(Ordering::Relaxed)
    }

    /// Returns what was suppressed at places whose period is over, and forgets those.
    pub fn over(&self, now: Instant) -> Vec<Suppressed> {
        self.take(|place| now.saturating_duration_since(place.since) >= self.period)
    }

    /// Returns all that was suppressed, and forgets it: at the end.
    pub fn all(&self) -> Vec<Suppressed> {
        self.take(|_| true)
    }

    fn take(&self, is_due: impl Fn(&Place) -> bool) -> Vec<Suppressed> {
        let mut places = self.places.lock();
        let due = places.extract_if(|_, place| is_due(place));
        let suppressed = due.filter(|(_, place)| place.suppressed > 0).map(|(_, place)| Suppressed {
            place: (place.metadata.file(), place.metadata.line()),
            lines: place.suppressed,
        });
        suppressed.collect()
    }
}

impl<S> Filter<S> for PlaceFilter {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn callsite_enabled(&self, _: &'static Metadata<'static>) -> Interest {
        // Not `always`: tracing-subscriber (0.3.23) takes an event that a filter refuses then for a fault of its own.
        Interest::sometimes()
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        self.0.pass(event.metadata(), Instant::now())
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        // The level is another filter's to choose.
        Some(LevelFilter::TRACE)
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::{Layer as _, Registry, layer::SubscriberExt as _};

    use super::*;

    const PERIOD: Duration = Duration::from_secs(10);

    /// Counts the lines that reach it.
    struct Counting(Arc<Mutex<u64>>);

    impl tracing_subscriber::Layer<Registry> for Counting {
        fn on_event(&self, _: &Event<'_>, _: Context<'_, Registry>) {
            *self.0.lock() += 1;
        }
    }

    /// Returns how many of 50 lines of one place, 50 of a level that is not limited and one of another place are written, and
    /// how many lines of how many places are said to be suppressed.
    fn written(lines_max: u64, period: Duration) -> (u64, Vec<u64>) {
        let (limits, count) = (PlaceLimits::new(lines_max, period), Arc::new(Mutex::new(0)));
        let layer = Counting(Arc::clone(&count)).with_filter(PlaceFilter(Arc::clone(&limits)));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            for _ in 0..50 {
                tracing::warn!("repeated");
                tracing::debug!("asked for");
            }
            tracing::warn!("another");
        });
        let written = *count.lock();
        (written, limits.all().into_iter().map(|suppressed| suppressed.lines).collect())
    }

    #[test]
    fn a_place_writes_so_many_lines_and_the_others_are_counted() {
        assert_eq!(written(20, PERIOD), (20 + 50 + 1, vec![30]));
        assert_eq!(written(50, PERIOD), (50 + 50 + 1, vec![]));
        assert_eq!(written(1, Duration::ZERO), (50 + 50 + 1, vec![]));
    }
}
