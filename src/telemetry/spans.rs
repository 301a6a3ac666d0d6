//! Owns the spans of calls, of what they send, and of transactions: their names, kinds, links and attributes.
//! Must never hold a key, a payload or a header's value, and must cost next to nothing where traces are off.

use std::sync::Arc;

use opentelemetry::{
    Context, KeyValue, Value,
    trace::{SpanContext, SpanId, Status, TraceContextExt as _, TraceFlags, TraceId, TraceState},
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::{
    semconv::{
        COMMIT, ERROR_TYPE, GRPC, KAFKA, MESSAGING_BATCH_MESSAGE_COUNT, MESSAGING_CLIENT_ID,
        MESSAGING_CONSUMER_GROUP_NAME, MESSAGING_DESTINATION_NAME, MESSAGING_DESTINATION_PARTITION_ID,
        MESSAGING_KAFKA_MESSAGE_TOMBSTONE, MESSAGING_KAFKA_OFFSET, MESSAGING_OPERATION_NAME,
        MESSAGING_OPERATION_TYPE, MESSAGING_SYSTEM, RPC_METHOD, RPC_RESPONSE_STATUS_CODE, RPC_SYSTEM_NAME,
        SEND,
    },
    trace_context::{TRACEPARENT, TraceContext},
    traces::Room,
};
use crate::{
    failure::{Failure, Fault, Reason},
    offsets::Unit,
    record::{Receipt, Record, Topic},
};

/// The target of all spans that are exported; nothing else may have it.
pub const SPANS_TARGET: &str = "producer_sidecar::spans";
/// The most links of a span; OpenTelemetry's own default bound.
const LINKS_MAX: usize = 128;

/// Makes spans, by default none; cheap to clone. While the queue of spans is full it makes none either: they would be lost.
#[derive(Debug, Clone, Default)]
pub struct Spans {
    /// None where traces are off.
    room: Option<Arc<Room>>,
    propagates: bool,
    client_id: Arc<str>,
}

/// A call: its span, and what its records are told of it.
#[derive(Debug, Clone, Default)]
pub struct CallSpan {
    span: Option<Open>,
    /// The span's own context where it is recorded, else the caller's.
    context: Option<TraceContext>,
}

/// The sending of one record or of several.
#[derive(Debug, Default)]
pub struct SendSpan {
    span: Option<Open>,
    context: Option<TraceContext>,
}

/// A unit's way through transactions: a span for each that it is in.
#[derive(Debug, Default)]
pub struct UnitSpans {
    about: Option<Box<AboutUnit>>,
    open: Option<Open>,
}

#[derive(Debug)]
struct AboutUnit {
    call: Context,
    client_id: Arc<str>,
    group: Option<String>,
    outputs: usize,
}

/// A span that has begun and is recorded; ends with its last clone.
#[derive(Debug, Clone)]
struct Open {
    _span: Span,
    /// Attributes are set through it: asking the subscriber for the span each time costs more than the span.
    context: Context,
}

// === impl Spans ===

impl Spans {
    /// Makes what makes spans; `propagates` says whether callers' contexts are read and records get one.
    #[must_use]
    pub fn new(room: Option<Arc<Room>>, propagates: bool, client_id: &str) -> Self {
        Self { room, propagates, client_id: client_id.into() }
    }

    /// Returns whether records get a `traceparent`.
    #[must_use]
    pub const fn propagates(&self) -> bool {
        self.propagates
    }

    /// Returns whether spans are made, and exported fast enough.
    fn has_room(&self) -> bool {
        self.room.as_ref().is_some_and(|room| room.is_left())
    }

    /// Begins a call's span, below the caller's where there is one.
    #[must_use]
    pub fn call(&self, method: &'static str, caller: Option<TraceContext>) -> CallSpan {
        let caller = caller.filter(|_| self.propagates);
        if !self.has_room() {
            return CallSpan { span: None, context: caller };
        }
        let above =
            caller.as_ref().map(|caller| Context::new().with_remote_span_context(span_context(caller)));
        let Some(span) = Open::begin(method, "server", above) else {
            return CallSpan { span: None, context: caller };
        };
        span.set([KeyValue::new(RPC_SYSTEM_NAME, GRPC), KeyValue::new(RPC_METHOD, method)]);
        CallSpan { context: Some(span.trace_context()), span: Some(span) }
    }

    /// Begins the sending of a call's one record.
    #[must_use]
    pub fn send(&self, call: &CallSpan, record: &Record) -> SendSpan {
        self.sending(call, std::slice::from_ref(record).iter(), 1, Among::Call)
    }

    /// Begins the sending of a frame's records: a trace of its own, linked to the stream's.
    #[must_use]
    pub fn frame<'a>(
        &self,
        stream: &CallSpan,
        records: impl Iterator<Item = &'a Record> + Clone,
    ) -> SendSpan {
        // A caller who does not record the stream records none of it; else each frame is the sampler's to decide.
        let is_left_out = stream.context.as_ref().is_some_and(|context| !context.is_sampled());
        if is_left_out || !self.has_room() {
            return SendSpan::default();
        }
        let count = records.clone().count();
        self.sending(stream, records, count, Among::Stream)
    }

    /// Begins the sending of a unit's outputs.
    #[must_use]
    pub fn outputs(&self, call: &CallSpan, unit: &Unit) -> SendSpan {
        self.sending(call, unit.outputs.iter(), unit.outputs.len(), Among::Unit)
    }

    /// Takes what the spans of a unit's transactions need.
    #[must_use]
    pub fn unit(&self, call: &CallSpan, unit: &Unit) -> UnitSpans {
        let Some(span) = &call.span else { return UnitSpans::default() };
        let about = AboutUnit {
            call: span.context.clone(),
            client_id: Arc::clone(&self.client_id),
            group: unit.group.as_ref().map(|group| group.id.clone()),
            outputs: unit.outputs.len(),
        };
        UnitSpans { about: Some(Box::new(about)), open: None }
    }

    fn sending<'a>(
        &self,
        call: &CallSpan,
        records: impl Iterator<Item = &'a Record> + Clone,
        count: usize,
        among: Among,
    ) -> SendSpan {
        let above = call.span.as_ref();
        if count == 0 || (above.is_none() && among != Among::Stream) {
            return SendSpan::default();
        }
        let topic = only_topic(records.clone());
        let own: Vec<_> = records.clone().filter_map(own_context).collect();
        // Where every record keeps its own context, this span's goes nowhere.
        let kind = if own.len() == count { "client" } else { "producer" };
        let parent = match among {
            Among::Call | Among::Unit => above.map(|above| above.context.clone()),
            Among::Stream => None,
        };
        let span = match topic {
            Some(topic) => Open::begin(&format!("{SEND} {topic}"), kind, parent),
            None => Open::begin(SEND, kind, parent),
        };
        let Some(span) = span else { return SendSpan::default() };
        if let Some(stream) = call.context.as_ref().filter(|_| among == Among::Stream) {
            span.link(span_context(stream));
        }
        own.iter().take(LINKS_MAX).for_each(|context| span.link(span_context(context)));
        let tombstone = among == Among::Call && records.clone().any(|record| record.value.is_none());
        let batch = (among != Among::Call).then(|| number(count));
        let about = [
            Some(KeyValue::new(MESSAGING_SYSTEM, KAFKA)),
            Some(KeyValue::new(MESSAGING_OPERATION_NAME, SEND)),
            Some(KeyValue::new(MESSAGING_OPERATION_TYPE, SEND)),
            Some(KeyValue::new(MESSAGING_CLIENT_ID, Arc::clone(&self.client_id))),
            topic.map(|topic| KeyValue::new(MESSAGING_DESTINATION_NAME, topic.shared())),
            tombstone.then(|| KeyValue::new(MESSAGING_KAFKA_MESSAGE_TOMBSTONE, true)),
            batch.map(|count| KeyValue::new(MESSAGING_BATCH_MESSAGE_COUNT, count)),
        ];
        span.set(about.into_iter().flatten());
        SendSpan { context: Some(span.trace_context()), span: Some(span) }
    }
}

/// What records are sent in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Among {
    Call,
    Unit,
    Stream,
}

// === impl CallSpan ===

impl CallSpan {
    /// Returns the context that the call's records continue: the span's, else the caller's.
    #[must_use]
    pub const fn context(&self) -> Option<&TraceContext> {
        self.context.as_ref()
    }

    /// Renders the trace id, where the call is in a trace: for log lines.
    #[must_use]
    pub fn trace_id(&self) -> Option<String> {
        self.context.as_ref().map(TraceContext::trace_id_text)
    }

    /// Says how the call ended; the span itself ends with its last clone.
    pub fn ended(&self, code: &'static str, fault: Option<Fault>) {
        let Some(span) = &self.span else { return };
        span.set([KeyValue::new(RPC_RESPONSE_STATUS_CODE, code)]);
        match fault {
            Some(Fault::Service) => {
                span.set([KeyValue::new(ERROR_TYPE, code)]);
                span.is_error(code);
            }
            Some(Fault::Caller) | None => {}
        }
    }
}

// === impl SendSpan ===

impl SendSpan {
    /// Returns the span's own context, where it is recorded.
    #[must_use]
    pub const fn context(&self) -> Option<&TraceContext> {
        self.context.as_ref()
    }

    /// Renders the trace id, where the span is recorded: for log lines.
    #[must_use]
    pub fn trace_id(&self) -> Option<String> {
        self.context.as_ref().map(TraceContext::trace_id_text)
    }

    /// Ends it with the outcome of its one record.
    pub fn ended(self, outcome: &Result<Receipt, Failure>) {
        let Some(span) = self.span else { return };
        match outcome {
            Ok(receipt) => {
                let partition = receipt.partition.to_string();
                let offset = receipt.offset.map(|offset| KeyValue::new(MESSAGING_KAFKA_OFFSET, offset));
                let partition = Some(KeyValue::new(MESSAGING_DESTINATION_PARTITION_ID, partition));
                span.set([partition, offset].into_iter().flatten());
            }
            Err(failure) => span.failed(failure),
        }
    }

    /// Ends it with what went wrong with any of its records: the service's fault first.
    pub fn ended_with<'a>(self, failures: impl Iterator<Item = &'a Failure> + Clone) {
        let Some(span) = self.span else { return };
        let ours = failures.clone().find(|failure| failure.reason().fault() == Fault::Service);
        if let Some(failure) = ours.or_else(|| failures.clone().next()) {
            span.failed(failure);
        }
    }
}

// === impl UnitSpans ===

impl UnitSpans {
    /// The unit is in a transaction now.
    pub fn begins(&mut self) {
        let Some(about) = &self.about else { return };
        self.open = Open::begin(COMMIT, "client", Some(about.call.clone()));
        let Some(span) = &self.open else { return };
        let group = about.group.clone();
        let facts = [
            Some(KeyValue::new(MESSAGING_SYSTEM, KAFKA)),
            Some(KeyValue::new(MESSAGING_OPERATION_NAME, COMMIT)),
            Some(KeyValue::new(MESSAGING_CLIENT_ID, Arc::clone(&about.client_id))),
            group.map(|group| KeyValue::new(MESSAGING_CONSUMER_GROUP_NAME, group)),
            Some(KeyValue::new(MESSAGING_BATCH_MESSAGE_COUNT, number(about.outputs))),
        ];
        span.set(facts.into_iter().flatten());
    }

    /// The transaction has ended; what it failed with, where it failed for this unit.
    pub fn ends(&mut self, failure: Option<&Failure>) {
        if let (Some(span), Some(failure)) = (self.open.take(), failure) {
            span.failed(failure);
        }
    }

    /// The transaction was aborted through no fault of the unit's, which goes again.
    pub fn goes_again(&mut self) {
        if let Some(span) = self.open.take() {
            span.set([KeyValue::new(ERROR_TYPE, Reason::TransactionAborted.name())]);
        }
    }
}

// === impl Open ===

impl Open {
    /// Begins a span; none where it is not recorded. The samplers that are built in look at the trace alone, so that attributes
    /// can wait until it is known that somebody wants them.
    fn begin(name: &str, kind: &'static str, parent: Option<Context>) -> Option<Self> {
        let span = tracing::info_span!(target: SPANS_TARGET, parent: None, "span", otel.name = name, otel.kind = kind);
        if let Some(parent) = parent {
            // It fails for a span that has begun or that nobody listens to, and neither can be here.
            drop(span.set_parent(parent));
        }
        let context = span.context();
        let is_recorded = context.span().span_context().is_sampled();
        is_recorded.then_some(Self { _span: span, context })
    }

    fn set(&self, attributes: impl IntoIterator<Item = KeyValue>) {
        self.context.span().set_attributes(attributes);
    }

    fn link(&self, to: SpanContext) {
        self.context.span().add_link(to, Vec::new());
    }

    fn is_error(&self, why: &'static str) {
        self.context.span().set_status(Status::error(why));
    }

    fn failed(&self, failure: &Failure) {
        let kind = match failure.kafkas_name() {
            Some(name) => Value::from(name.to_owned()),
            None => Value::from(failure.reason().name()),
        };
        self.set([KeyValue::new(ERROR_TYPE, kind)]);
        if failure.reason().fault() == Fault::Service {
            self.is_error(failure.reason().name());
        }
    }

    fn trace_context(&self) -> TraceContext {
        let span = self.context.span();
        let context = span.span_context();
        TraceContext::recorded(
            u128::from_be_bytes(context.trace_id().to_bytes()),
            u64::from_be_bytes(context.span_id().to_bytes()),
            context.trace_flags().to_u8(),
            &context.trace_state().header(),
        )
    }
}

/// Makes OpenTelemetry's context of one that came from elsewhere.
fn span_context(context: &TraceContext) -> SpanContext {
    let state = context.tracestate().and_then(|state| state.parse().ok());
    SpanContext::new(
        TraceId::from(context.trace_id()),
        SpanId::from(context.parent_id()),
        TraceFlags::new(context.flags()),
        true,
        state.unwrap_or(TraceState::NONE),
    )
}

fn own_context(record: &Record) -> Option<TraceContext> {
    let own = record.header(TRACEPARENT)??;
    TraceContext::parse(std::str::from_utf8(own).ok()?)
}

fn only_topic<'a>(mut records: impl Iterator<Item = &'a Record>) -> Option<&'a Topic> {
    let first = &records.next()?.topic;
    records.all(|record| record.topic == *first).then_some(first)
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
