//! Owns the way of spans out of the process: the sampler, the queue, the OTLP exporter, and the last flush.
//! Must never block or slow down whoever ends a span: what the queue has no room for is dropped.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use opentelemetry::{KeyValue, trace::TracerProvider as _};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{self as sdk, SdkTracer, SdkTracerProvider, SpanData},
};
use tokio::time::Instant;

use crate::config::{self, Sampler};

/// The name of the service where nobody gave another (`OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`).
const SERVICE_NAME: &str = "producer-sidecar";
/// The key of the service's name.
const SERVICE_NAME_KEY: &str = "service.name";
/// How OpenTelemetry names a service that nobody named.
const UNNAMED_SERVICE: &str = "unknown_service";

/// The export of spans; none where no endpoint is set.
#[derive(Debug, Default)]
pub struct Traces {
    provider: Option<SdkTracerProvider>,
    flush: Duration,
}

/// An exporter that says when it begins to fail and when it succeeds again, and never each time.
#[derive(Debug)]
struct Told {
    inner: SpanExporter,
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
        let exporter = Told { inner, endpoint: endpoint.clone(), is_failing: AtomicBool::new(false) };
        let provider = SdkTracerProvider::builder()
            .with_resource(resource(instance_id))
            .with_sampler(sampler(traces.sampler))
            .with_batch_exporter(exporter)
            .build();
        Ok(Self { provider: Some(provider), flush: traces.flush })
    }

    /// Returns whether spans are made.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.provider.is_some()
    }

    pub(super) fn tracer(&self) -> Option<SdkTracer> {
        self.provider.as_ref().map(|provider| provider.tracer(env!("CARGO_PKG_NAME")))
    }

    /// Sends the last spans, for as long as is set and at most until then; those that are left are lost.
    pub async fn end(self, by: Instant) {
        let Some(provider) = self.provider else { return };
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
