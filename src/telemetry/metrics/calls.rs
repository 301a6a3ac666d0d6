//! Owns the metrics of gRPC calls.
//! Must never have a method for a label that the sidecar does not serve: whoever counts names those `_OTHER`.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, histogram::Histogram},
    registry::Registry,
};

use super::table;

/// The bounds of the buckets, in seconds: those that OpenTelemetry's semantic conventions advise for `rpc.server.call.duration`.
const BUCKETS_SECONDS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CallLabels {
    rpc_method: &'static str,
    rpc_response_status_code: &'static str,
}

/// The metrics of gRPC calls.
#[derive(Debug)]
pub struct CallMetrics {
    duration: Family<CallLabels, Histogram, fn() -> Histogram>,
}

impl CallMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let duration =
            Family::new_with_constructor((|| Histogram::new(BUCKETS_SECONDS)) as fn() -> Histogram);
        table::CALL_DURATION.register(registry, duration.clone());
        Self { duration }
    }

    /// Observes a call that ended: its method, fully qualified, and the name of its status code.
    pub fn ended(&self, rpc_method: &'static str, rpc_response_status_code: &'static str, took: Duration) {
        let labels = CallLabels { rpc_method, rpc_response_status_code };
        self.duration.get_or_create(&labels).observe(took.as_secs_f64());
    }
}
