//! Owns a receiver of OTLP over gRPC, as a collector is one, and the spans that came: looked up by name, kind and parent.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{KeyValue, any_value::Value},
    trace::v1::{Span, span::SpanKind, status::StatusCode},
};
use testkit::eventually;
use tokio::{net::TcpListener, runtime::Runtime};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

/// How long a span may take to be exported: the exporters wait up to five seconds for more.
const EXPORTED: Duration = Duration::from_secs(20);

/// A receiver on a port of its own; ends when dropped.
pub struct Receiver {
    address: SocketAddr,
    spans: Arc<Mutex<Vec<Received>>>,
    _runtime: Runtime,
}

/// A span that came.
#[derive(Debug, Clone, PartialEq)]
pub struct Received {
    pub service: String,
    pub name: String,
    pub kind: SpanKind,
    pub trace_id: String,
    pub span_id: String,
    /// Empty where it has none.
    pub parent_id: String,
    pub attributes: BTreeMap<String, String>,
    /// The trace and span ids of its links.
    pub links: Vec<(String, String)>,
    pub is_error: bool,
    pub nanos: u64,
}

struct Collector(Arc<Mutex<Vec<Received>>>);

impl Receiver {
    pub fn start() -> Self {
        Self::start_on(0)
    }

    /// Starts one on that port of 127.0.0.1.
    pub fn start_on(port: u16) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime can be made");
        let spans = Arc::<Mutex<Vec<Received>>>::default();
        let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", port))).expect("the port is free");
        let address = listener.local_addr().expect("it has an address");
        let server = Server::builder().add_service(TraceServiceServer::new(Collector(Arc::clone(&spans))));
        runtime.spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        Self { address, spans, _runtime: runtime }
    }

    /// The endpoint, as OTEL_EXPORTER_OTLP_ENDPOINT takes it.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All spans that have come.
    pub fn spans(&self) -> Vec<Received> {
        self.spans.lock().expect("no panic holds it").clone()
    }

    /// Forgets all spans that have come.
    pub fn forget(&self) {
        self.spans.lock().expect("no panic holds it").clear();
    }

    /// Waits for the one span that is chosen.
    #[track_caller]
    pub fn wait(&self, what: &str, choose: impl Fn(&Received) -> bool) -> Received {
        let found = eventually(EXPORTED, &format!("the span {what}"), || {
            let chosen: Vec<_> = self.spans().into_iter().filter(|span| choose(span)).collect();
            (!chosen.is_empty()).then_some(chosen)
        });
        assert_eq!(found.len(), 1, "{what}: {found:#?}");
        found.into_iter().next().expect("one is there")
    }

    /// Waits for the one span of that name below another.
    #[track_caller]
    pub fn below(&self, parent: &Received, name: &str) -> Received {
        self.wait(name, |span| span.name == name && span.is_below(parent))
    }
}

impl Received {
    pub fn is_below(&self, parent: &Self) -> bool {
        (&self.trace_id, &self.parent_id) == (&parent.trace_id, &parent.span_id)
    }

    /// Where the span stands, as a link names it.
    pub fn place(&self) -> (String, String) {
        (self.trace_id.clone(), self.span_id.clone())
    }

    /// The `traceparent` of what continues it.
    pub fn traceparent(&self) -> String {
        format!("00-{}-{}-01", self.trace_id, self.span_id)
    }

    /// Whether a `traceparent` names the span; with the flag of Level 2 too, that the trace id is random.
    pub fn is_named_in(&self, traceparent: &str) -> bool {
        [self.traceparent(), format!("00-{}-{}-03", self.trace_id, self.span_id)]
            .contains(&traceparent.to_owned())
    }

    /// Checks all attributes: none is missing, none is more.
    #[track_caller]
    pub fn expect(&self, kind: SpanKind, attributes: &[(&str, &str)]) {
        assert_eq!(self.kind, kind, "{self:#?}");
        let expected = attributes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        assert_eq!(self.attributes, expected.collect(), "{self:#?}");
    }

    fn of(service: &str, span: &Span) -> Self {
        let hex = |id: &[u8]| id.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let status = span.status.as_ref().map_or(StatusCode::Unset, |status| status.code());
        Self {
            service: service.to_owned(),
            name: span.name.clone(),
            kind: span.kind(),
            trace_id: hex(&span.trace_id),
            span_id: hex(&span.span_id),
            parent_id: hex(&span.parent_span_id),
            attributes: span.attributes.iter().map(text).collect(),
            links: span.links.iter().map(|link| (hex(&link.trace_id), hex(&link.span_id))).collect(),
            is_error: status == StatusCode::Error,
            nanos: span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano),
        }
    }
}

fn text(attribute: &KeyValue) -> (String, String) {
    let value = match attribute.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => format!("int {number}"),
        Some(Value::BoolValue(is)) => format!("bool {is}"),
        other => format!("{other:?}"),
    };
    (attribute.key.clone(), value)
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut spans = self.0.lock().expect("no panic holds it");
        for resource in request.into_inner().resource_spans {
            let about = resource.resource.map(|resource| resource.attributes).unwrap_or_default();
            let service = about.iter().map(text).find(|(key, _)| key == "service.name");
            let service = service.map(|(_, name)| name).unwrap_or_default();
            let of_scopes = resource.scope_spans.iter().flat_map(|scope| &scope.spans);
            spans.extend(of_scopes.map(|span| Received::of(&service, span)));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}
