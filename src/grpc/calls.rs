//! Owns what is said of every call: its metric and its span, by its method and the status that its caller got.
//! Must never hold up a call or touch its answer, nor end one twice.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::Instant;
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};

use super::{
    status::{code_name, fault_of},
    traced,
};
use crate::telemetry::{
    metrics::Metrics,
    semconv::OTHER,
    spans::{CallSpan, Spans},
};

/// The methods that the sidecar serves, as `OpenTelemetry` names them.
const METHODS: [&str; 8] = [
    "caas.producer.v1.ProducerService/Send",
    "caas.producer.v1.ProducerService/SendBatch",
    "caas.producer.v1.ProducerService/ProcessAndForward",
    "caas.producer.v1.ProducerService/GetInfo",
    "grpc.health.v1.Health/Check",
    "grpc.health.v1.Health/Watch",
    "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];
/// How the methods begin that have spans: nobody wants those of probes and of reflection.
const TRACED: &str = "caas.producer.v1.ProducerService/";

/// Makes services tell of their calls.
#[derive(Debug, Clone)]
pub struct TellCalls {
    metrics: Arc<Metrics>,
    spans: Spans,
}

/// A service whose calls are told of.
#[derive(Debug, Clone)]
pub struct Told<S> {
    service: S,
    metrics: Arc<Metrics>,
    spans: Spans,
}

/// A call until its answer begins.
#[derive(Debug)]
pub struct ToldCall<F> {
    answer: F,
    /// None once the answer has begun.
    open: Option<OpenCall>,
}

/// An answer until its trailers, or until the caller goes away.
#[derive(Debug)]
pub struct ToldBody {
    body: Body,
    open: OpenCall,
}

/// A call whose end is told, as CANCELLED where it is dropped before.
#[derive(Debug)]
struct OpenCall {
    method: &'static str,
    arrived: Instant,
    metrics: Arc<Metrics>,
    span: CallSpan,
    is_told: bool,
}

// === impl TellCalls ===

impl TellCalls {
    /// Tells these metrics, and makes these spans.
    #[must_use]
    pub const fn new(metrics: Arc<Metrics>, spans: Spans) -> Self {
        Self { metrics, spans }
    }
}

impl<S> Layer<S> for TellCalls {
    type Service = Told<S>;

    fn layer(&self, service: S) -> Told<S> {
        Told { service, metrics: Arc::clone(&self.metrics), spans: self.spans.clone() }
    }
}

// === impl Told ===

impl<S, Sent> Service<Request<Sent>> for Told<S>
where
    S: Service<Request<Sent>, Response = Response<Body>>,
    S::Future: Unpin,
{
    type Response = Response<ToldBody>;
    type Error = S::Error;
    type Future = ToldCall<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Sent>) -> Self::Future {
        let method = method(request.uri().path());
        let mut span = CallSpan::default();
        if method.starts_with(TRACED) {
            span = self.spans.call(method, traced::context_of(request.headers()));
            request.extensions_mut().insert(span.clone());
        }
        let metrics = Arc::clone(&self.metrics);
        let open = OpenCall { method, arrived: Instant::now(), metrics, span, is_told: false };
        ToldCall { answer: self.service.call(request), open: Some(open) }
    }
}

// === impl ToldCall ===

impl<F, E> Future for ToldCall<F>
where
    F: Future<Output = Result<Response<Body>, E>> + Unpin,
{
    type Output = Result<Response<ToldBody>, E>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(Pin::new(&mut self.answer).poll(context));
        let Some(mut open) = self.open.take() else { return Poll::Pending };
        Poll::Ready(match answer {
            Ok(answer) => {
                // A refusal is told in the headers alone.
                open.told_in(answer.headers());
                if answer.body().is_end_stream() {
                    // Nothing follows, so nobody will ask.
                    open.end(Code::Unknown);
                }
                Ok(answer.map(|body| ToldBody { body, open }))
            }
            Err(error) => {
                open.end(Code::Internal);
                Err(error)
            }
        })
    }
}

// === impl ToldBody ===

impl http_body::Body for ToldBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    self.open.told_in(trailers);
                }
            }
            Some(Err(status)) => self.open.end(status.code()),
            None => self.open.end(Code::Unknown),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

// === impl OpenCall ===

impl OpenCall {
    /// Ends the call where the headers or trailers have its status.
    fn told_in(&mut self, headers: &HeaderMap) {
        if let Some(code) = headers.get(Status::GRPC_STATUS) {
            self.end(Code::from_bytes(code.as_bytes()));
        }
    }

    /// Tells the call's end; only the first counts.
    fn end(&mut self, code: Code) {
        if !std::mem::replace(&mut self.is_told, true) {
            self.metrics.calls().ended(self.method, code_name(code), self.arrived.elapsed());
            std::mem::take(&mut self.span).ended(code_name(code), fault_of(code));
        }
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        self.end(Code::Cancelled);
    }
}

/// Returns the method of a path, for a label.
fn method(path: &str) -> &'static str {
    let asked = path.strip_prefix('/').unwrap_or(path);
    METHODS.into_iter().find(|method| *method == asked).unwrap_or(OTHER)
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, future::pending, future::ready};

    use prost::Message as _;
    use prost_types::FileDescriptorSet;
    use tower::ServiceExt as _;

    use super::*;
    use crate::grpc::proto;

    fn count(metrics: &Metrics, method: &str, code: &str) -> Option<u64> {
        let line = format!(
            r#"rpc_server_call_duration_seconds_count{{rpc_method="{method}",rpc_response_status_code="{code}"}} "#
        );
        let text = metrics.render().unwrap();
        text.lines().find_map(|found| found.strip_prefix(&line)).map(|value| value.parse().unwrap())
    }

    fn request(path: &str) -> Request<()> {
        Request::builder().uri(path).body(()).unwrap()
    }

    #[test]
    fn all_methods_that_are_served_have_their_names() {
        let sets = [
            proto::DESCRIPTOR_SET,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ];
        let mut served = Vec::new();
        for file in sets.into_iter().flat_map(|set| FileDescriptorSet::decode(set).unwrap().file) {
            for service in &file.service {
                let name = |method: &str| format!("{}.{}/{method}", file.package(), service.name());
                served.extend(service.method.iter().map(|method| name(method.name())));
            }
        }
        let mut named = METHODS.map(ToOwned::to_owned).to_vec();
        served.sort();
        named.sort();
        assert_eq!(served, named);
        assert_eq!(method("/caas.producer.v1.ProducerService/Send"), METHODS[0]);
        for other in ["", "/", "/caas.producer.v1.ProducerService/Sent", "/Send"] {
            assert_eq!(method(other), OTHER);
        }
    }

    #[tokio::test]
    async fn an_answer_counts_once_with_the_status_of_its_headers_or_of_its_trailers() {
        let metrics = Metrics::new(1);
        let refusing = tower::service_fn(|_: Request<()>| {
            ready(Ok::<_, Infallible>(Status::not_found("no").into_http::<Body>()))
        });
        let counted = TellCalls::new(Arc::clone(&metrics), Spans::default()).layer(refusing);
        drop(counted.oneshot(request("/grpc.health.v1.Health/Check")).await.unwrap());
        assert_eq!(count(&metrics, "grpc.health.v1.Health/Check", "NOT_FOUND"), Some(1));
        assert_eq!(count(&metrics, "grpc.health.v1.Health/Check", "CANCELLED"), None);

        let mut open = open(&metrics);
        let mut trailers = HeaderMap::new();
        open.told_in(&trailers);
        trailers.insert(Status::GRPC_STATUS, "0".parse().unwrap());
        open.told_in(&trailers);
        open.end(Code::Unknown);
        drop(open);
        assert_eq!(count(&metrics, "_OTHER", "OK"), Some(1));
        assert_eq!(count(&metrics, "_OTHER", "UNKNOWN"), None);
        assert_eq!(count(&metrics, "_OTHER", "CANCELLED"), None);
    }

    #[tokio::test]
    async fn a_call_that_its_caller_leaves_counts_as_cancelled() {
        let metrics = Metrics::new(1);
        let silent = tower::service_fn(|_: Request<()>| pending::<Result<Response<Body>, Infallible>>());
        let mut counted = TellCalls::new(Arc::clone(&metrics), Spans::default()).layer(silent);
        drop(counted.call(request("/caas.producer.v1.ProducerService/Send")));
        assert_eq!(count(&metrics, METHODS[0], "CANCELLED"), Some(1));

        let answered = ToldBody { body: Body::empty(), open: open(&metrics) };
        drop(answered);
        assert_eq!(count(&metrics, "_OTHER", "CANCELLED"), Some(1));
    }

    fn open(metrics: &Arc<Metrics>) -> OpenCall {
        let metrics = Arc::clone(metrics);
        OpenCall {
            method: OTHER,
            arrived: Instant::now(),
            metrics,
            span: CallSpan::default(),
            is_told: false,
        }
    }
}
