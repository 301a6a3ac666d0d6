//! Owns the way of trace contexts into calls: out of a call's headers, and to its handler.
//! Must never read anything else of a call's metadata.

use http::{Extensions, HeaderMap};

use crate::telemetry::{
    spans::CallSpan,
    trace_context::{TRACEPARENT, TRACESTATE, TraceContext},
};

/// Reads a caller's W3C trace context; several `tracestate` are one list.
#[must_use]
pub fn context_of(headers: &HeaderMap) -> Option<TraceContext> {
    let traceparent = headers.get(TRACEPARENT)?.to_str().ok();
    let states = headers.get_all(TRACESTATE).iter().filter_map(|value| value.to_str().ok());
    TraceContext::from_headers(traceparent, states)
}

/// Returns the span of a call; that of no trace where none was begun.
#[must_use]
pub fn call_of(extensions: &Extensions) -> CallSpan {
    extensions.get::<CallSpan>().cloned().unwrap_or_default()
}

/// Begins a trace that nobody records.
#[must_use]
pub fn new_trace() -> TraceContext {
    TraceContext::start(rand::random(), rand::random(), false)
}
