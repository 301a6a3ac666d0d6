//! Owns what is said of failures that are answered: each counts, and is one line, or one of many alike.
//! Must never say a failure twice, nor let a flood of failures become a flood of lines.

use std::{
    borrow::Cow,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{metrics::Metrics, repeats::Repeats};
use crate::{
    failure::{Failure, Fault, Reason},
    record::Topic,
};

/// How often what is over is looked for.
const LOOK_MS: u64 = 1_000;

/// How the path of a violation begins below which a caller's own names stand.
const JSON_FIELD: &str = ".json";

type Kind = (Reason, Option<Topic>);

/// Counts and logs failures.
#[derive(Debug)]
pub struct Failures {
    metrics: Arc<Metrics>,
    repeats: Mutex<Repeats<Kind>>,
}

impl Failures {
    /// Logs failures of one reason and topic at most once a period.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>, period: Duration) -> Arc<Self> {
        Arc::new(Self { metrics, repeats: Mutex::new(Repeats::new(period)) })
    }

    /// Takes a failure that is answered, of a call or of a record.
    pub fn one(&self, failure: &Failure, trace_id: impl FnOnce() -> Option<String>) {
        let reason = failure.reason();
        self.metrics.failure(reason);
        let kind = (reason, failure.failed_topic().cloned());
        let Some(repeated) = self.repeats.lock().one(kind, Instant::now()) else { return };
        let (reason, persisted) = (reason.name(), failure.persisted().name());
        let topic = failure.failed_topic().map(Topic::as_str);
        let (kafka_error, trace_id) = (failure.kafkas_name(), trace_id());
        let words = words(failure);
        match failure.reason().fault() {
            Fault::Service => {
                tracing::warn!(reason, persisted, topic, kafka_error, trace_id, repeated, "{words}");
            }
            Fault::Caller => {
                tracing::info!(reason, persisted, topic, kafka_error, trace_id, repeated, "{words}");
            }
        }
    }

    /// Says how many failures were not logged, of all kinds: at the end.
    pub fn sum_up_all(&self) {
        let all = self.repeats.lock().all();
        tell_counts(all);
    }

    /// Says how many failures were not logged, once their period is over, for as long as the process runs.
    pub async fn sum_up(self: Arc<Self>) {
        let mut look = tokio::time::interval(Duration::from_millis(LOOK_MS));
        loop {
            look.tick().await;
            let over = self.repeats.lock().over(Instant::now());
            tell_counts(over);
        }
    }
}

fn tell_counts(kinds: Vec<(Option<Kind>, u64)>) {
    for (kind, repeated) in kinds {
        let reason = kind.as_ref().map(|(reason, _)| reason.name());
        let topic = kind.as_ref().and_then(|(_, topic)| topic.as_ref()).map(Topic::as_str);
        tracing::info!(reason, topic, repeated, "failures like the last line of this reason and topic");
    }
}

/// Returns what the caller is told, without the names of a payload's properties: those are data.
fn words(failure: &Failure) -> Cow<'_, str> {
    let (violations, total) = failure.violations();
    let Some(first) = violations.first() else { return failure.message().into() };
    let field = match first.field.split_once(JSON_FIELD) {
        Some((record, _)) => format!("{record}{JSON_FIELD}"),
        None => first.field.clone(),
    };
    format!("{field}: {} ({total} in all)", first.description).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Violation;

    #[test]
    fn names_of_properties_are_not_in_the_log() {
        let violation = |field: &str| Violation { field: field.into(), description: "is wrong".into() };
        let fields = ["record.json.balances[\"alice\"]", "record.topic"];
        let failure = |field| Failure::invalid(vec![violation(field)], 3);
        let said = fields.map(|field| words(&failure(field)).into_owned());
        assert_eq!(said, ["record.json: is wrong (3 in all)", "record.topic: is wrong (3 in all)"]);
        assert_eq!(words(&Failure::new(Reason::Draining, "stopping")), "stopping");
    }
}
