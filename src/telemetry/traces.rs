//! Owns the way of spans out of the process: the sampler, the queue, the OTLP exporter, and the last flush.
//! Must never block or slow down whoever ends a span: while the queue is full none is begun, and what it has no room for is
//! dropped.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use opentelemetry::{Context, KeyValue, trace::TracerProvider as _};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{
        self as sdk, BatchConfigBuilder, BatchSpanProcessor, SdkTracer, SdkTracerProvider, SpanData,
        SpanProcessor,
    },
};
use tokio::time::Instant;

use crate::config::{self, Sampler};

/// The name of the service where nobody gave another (`OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`).
const SERVICE_NAME: &str = "producer-sidecar";
/// The key of the service's name.
const SERVICE_NAME_KEY: &str = "service.name";
/// The most spans of one export (OpenTelemetry's default).
const BATCH_SPANS_MAX: usize = 512;
/// How OpenTelemetry names a service that nobody named.
const UNNAMED_SERVICE: &str = "unknown_service";

/// The export of spans; none where no endpoint is set.
#[derive(Debug, Default)]
pub struct Traces {
    export: Option<(SdkTracerProvider, Arc<Room>)>,
    flush: Duration,
}

/// How full the queue of spans is.
#[derive(Debug)]
pub struct Room {
    /// Spans that were let in and not taken for export: at least as many as the queue has.
    waiting: AtomicUsize,
    spans_max: usize,
}

/// The queue and its exporter, with spans counted on their way in.
#[derive(Debug)]
struct Counted {
    inner: BatchSpanProcessor,
    room: Arc<Room>,
}

/// An exporter that says when it begins to fail and when it succeeds again, and never each time.
#[derive(Debug)]
struct Told {
    inner: SpanExporter,
    room: Arc<Room>,
    endpoint: String,
    is_failing: AtomicBool,
}

impl Traces {
    /// Starts the export where an endpoint is set; needs a runtime around it, and connects when there are spans.
    ///
    /// # Errors
    /// Where the endpoint cannot be used, or one of OpenTelemetry's own variables is wrong.
    pub fn start(traces: &config::Traces, instance_id: &str) -> Result<Self, ExporterBuildError> {
        let Some(endpoint) = &traces.endpoint else { return Ok(Self::default()) };
        let inner = SpanExporter::builder().with_tonic().with_endpoint(endpoint).build()?;
        let spans_max = traces.queue_spans_max;
        let room = Arc::new(Room { waiting: AtomicUsize::new(0), spans_max });
        let exporter = Told {
            inner,
            room: Arc::clone(&room),
            endpoint: endpoint.clone(),
            is_failing: AtomicBool::new(false),
        };
        let queue = BatchConfigBuilder::default()
            .with_max_queue_size(spans_max)
            .with_scheduled_delay(traces.schedule)
            .with_max_export_batch_size(BATCH_SPANS_MAX.min(spans_max));
        let inner = BatchSpanProcessor::new(exporter, queue.build());
        let provider = SdkTracerProvider::builder()
            .with_resource(resource(instance_id))
            .with_sampler(sampler(traces.sampler))
            .with_span_processor(Counted { inner, room: Arc::clone(&room) })
            .build();
        Ok(Self { export: Some((provider, room)), flush: traces.flush })
    }

    /// Returns the room for spans; none where no spans are to be made.
    #[must_use]
    pub fn room(&self) -> Option<Arc<Room>> {
        self.export.as_ref().map(|(_, room)| Arc::clone(room))
    }

    pub(super) fn tracer(&self) -> Option<SdkTracer> {
        self.export.as_ref().map(|(provider, _)| provider.tracer(env!("CARGO_PKG_NAME")))
    }

    /// Sends the last spans, for as long as is set and at most until then; those that are left are lost.
    pub async fn end(self, by: Instant) {
        let Some((provider, _)) = self.export else { return };
        let wait = self.flush.min(by.saturating_duration_since(Instant::now()));
        let ended = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(wait));
        // Where the exporter does not come back the process must end all the same.
        match tokio::time::timeout(wait, ended).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::warn!("the last spans may be lost: {error}"),
            Ok(Err(_)) | Err(_) => tracing::warn!("the last spans are lost: they were not sent in time"),
        }
    }
}

// === impl Room ===

impl Room {
    /// Returns whether a span that begins now may find a place when it ends.
    #[must_use]
    pub fn is_left(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) < self.spans_max
    }

    /// Lets a span in; false where there is no place for it.
    fn lets_in(&self) -> bool {
        let more = |waiting: usize| (waiting < self.spans_max).then_some(waiting + 1);
        self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// Frees the places of spans that were let in and are out of the queue.
    fn taken(&self, spans: usize) {
        self.waiting.fetch_sub(spans, Ordering::Relaxed);
    }
}

impl SpanProcessor for Counted {
    fn on_start(&self, span: &mut sdk::Span, context: &Context) {
        self.inner.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        // So the queue itself never is too full, and every span that is counted comes out of it.
        if self.room.lets_in() {
            self.inner.on_end(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

fn resource(instance_id: &str) -> Resource {
    let named = Resource::builder().build();
    let name = named.iter().find(|(key, _)| key.as_str() == SERVICE_NAME_KEY);
    let is_named = name.is_some_and(|(_, name)| !name.as_str().starts_with(UNNAMED_SERVICE));
    let about = [
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("service.instance.id", instance_id.to_owned()),
    ];
    let resource = Resource::builder().with_attributes(about);
    if is_named { resource.build() } else { resource.with_service_name(SERVICE_NAME).build() }
}

fn sampler(sampler: Sampler) -> sdk::Sampler {
    let own = match sampler.share {
        share if share >= 1.0 => sdk::Sampler::AlwaysOn,
        share if share <= 0.0 => sdk::Sampler::AlwaysOff,
        share => sdk::Sampler::TraceIdRatioBased(share),
    };
    if sampler.follows_caller { sdk::Sampler::ParentBased(Box::new(own)) } else { own }
}

impl sdk::SpanExporter for Told {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        self.room.taken(spans);
        let exported = self.inner.export(batch).await;
        match &exported {
            Ok(()) => {
                if self.is_failing.swap(false, Ordering::AcqRel) {
                    tracing::info!(endpoint = self.endpoint, "spans are exported again");
                }
            }
            Err(error) => {
                if !self.is_failing.swap(true, Ordering::AcqRel) {
                    tracing::warn!(
                        endpoint = self.endpoint,
                        spans,
                        "spans cannot be exported and are dropped; said once until they can be: {error}"
                    );
                }
            }
        }
        exported
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_lets_nothing_in_until_spans_are_taken() {
        for spans_max in [1, BATCH_SPANS_MAX, 4 * BATCH_SPANS_MAX] {
            let room = Room { waiting: AtomicUsize::new(0), spans_max };
            let batch = BATCH_SPANS_MAX.min(spans_max);
            for _ in 0..3 {
                // Many had begun before it was full.
                let let_in = (0..3 * spans_max).filter(|_| room.lets_in()).count();
                assert_eq!((let_in, room.is_left()), (spans_max, false));
                (0..spans_max / batch).for_each(|_| room.taken(batch));
                assert!(room.is_left());
            }
        }
    }
}
