//! Owns the settings of traces once they are checked: where spans go, which are recorded, what of callers' contexts is read.
//! Must never look at the process's environment: what is said there comes through the table.

use std::time::Duration;

use super::{
    problem::Problem,
    values::{Value, Values},
};

/// The propagator of W3C Trace Context, by OpenTelemetry's name.
const TRACE_CONTEXT: &str = "tracecontext";
/// What switches propagation or the exporter off, by OpenTelemetry's name.
const NONE: &str = "none";
/// The ways to say the endpoint's protocol, the stronger first, and the only one that is built in.
const PROTOCOLS: [&str; 2] = ["traces.own_protocol", "traces.protocol"];
const GRPC: &str = "grpc";
/// The ways to say where spans go, the stronger first.
const ENDPOINTS: [&str; 2] = ["traces.own_endpoint", "traces.endpoint"];
const SHARE: &str = "traces.sampler_arg";

/// Which spans are made and where they go.
#[derive(Debug, Clone, PartialEq)]
pub struct Traces {
    /// The OTLP receiver, `http://host:port`; none where there are no spans.
    pub endpoint: Option<String>,
    /// Whether the endpoint was said for the sidecar alone, not by a variable that a pod sets for all its containers.
    pub is_endpoint_ours: bool,
    /// Whether W3C trace contexts are read from calls and written into records.
    pub propagates: bool,
    /// The propagators that were asked for and are not built in.
    pub unknown_propagators: Vec<String>,
    /// Which traces are recorded.
    pub sampler: Sampler,
    /// The most spans that wait for their export.
    pub queue_spans_max: usize,
    /// How long spans wait at most until they are exported.
    pub schedule: Duration,
    /// How long the last spans may take to be sent at a stop.
    pub flush: Duration,
}

/// Which traces are recorded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampler {
    /// Whether those that a caller began are recorded where the caller records them, and only there.
    pub follows_caller: bool,
    /// The share of all others, 0.0 to 1.0.
    pub share: f64,
}

/// OpenTelemetry's names of the samplers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SamplerName {
    AlwaysOn,
    AlwaysOff,
    Ratio,
}

impl SamplerName {
    pub(super) const NAMES: &'static [&'static str] = &[
        "always_on",
        "always_off",
        "traceidratio",
        "parentbased_always_on",
        "parentbased_always_off",
        "parentbased_traceidratio",
    ];

    /// Reads a name: whether it follows the caller, and what it does else.
    fn parse(name: &str) -> Option<(bool, Self)> {
        let (follows, own) = match name.strip_prefix("parentbased_") {
            Some(own) => (true, own),
            None => (false, name),
        };
        let own = match own {
            "always_on" => Self::AlwaysOn,
            "always_off" => Self::AlwaysOff,
            "traceidratio" => Self::Ratio,
            _ => return None,
        };
        Some((follows, own))
    }
}

/// Returns every problem of the settings of traces, save of OpenTelemetry's variables.
pub(super) fn check(values: &Values) -> Vec<Problem> {
    faults(values).into_iter().filter(|fault| !fault.place.is_opentelemetrys()).collect()
}

/// Returns OpenTelemetry's variables that cannot be used, and what holds in their place.
pub(super) fn ignored(values: &Values) -> Vec<Problem> {
    let mut ignored: Vec<_> =
        faults(values).into_iter().filter(|fault| fault.place.is_opentelemetrys()).collect();
    for fault in &mut ignored {
        fault.mend = match fault.key.as_str() {
            SHARE => "it is ignored, and the share is 1.0".to_owned(),
            _ if usable_endpoint(values).is_some() => {
                "it is ignored, and spans are exported over grpc".to_owned()
            }
            _ => format!("no spans are exported; {}", fault.mend),
        };
    }
    ignored
}

/// Returns what is wrong. What a pod sets for its application is nothing wrong while no spans are asked for.
fn faults(values: &Values) -> Vec<Problem> {
    let mut problems = Vec::new();
    if let Some((key, endpoint)) = endpoint_in_force(values) {
        if let Some(wrong) = endpoint_fault(endpoint) {
            let mend =
                "write http://host:port of an OTLP receiver that speaks gRPC, or set traces.exporter to none";
            problems.push(Problem::new(key, values.origin(key), wrong, mend));
        }
        if let Some((key, protocol)) = protocol_in_force(values).filter(|(_, protocol)| *protocol != GRPC) {
            let wrong = format!("{protocol:?} is not built in");
            let mend = "write grpc and an endpoint that speaks it, or set traces.exporter to none";
            problems.push(Problem::new(key, values.origin(key), wrong, mend));
        }
    }
    if let Some(text) = values.text(SHARE)
        && share(text).is_none()
    {
        let wrong = format!("{text:?} is no number from 0.0 to 1.0");
        problems.push(Problem::new(SHARE, values.origin(SHARE), wrong, "write a share such as 0.1"));
    }
    problems
}

/// Makes the typed settings; what is wrong in them was told by [`check`].
pub(super) fn assemble(values: &Values) -> Traces {
    let endpoint = usable_endpoint(values);
    let propagators = values.text("traces.propagators").unwrap_or(TRACE_CONTEXT);
    let (known, unknown): (Vec<&str>, Vec<&str>) = propagators
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty() && *name != NONE)
        .partition(|name| *name == TRACE_CONTEXT);
    let named = values.text("traces.sampler").and_then(SamplerName::parse);
    let (follows_caller, own) = named.unwrap_or((true, SamplerName::AlwaysOn));
    Traces {
        endpoint: endpoint.map(|(_, endpoint)| endpoint.to_owned()),
        is_endpoint_ours: endpoint.is_none_or(|(key, _)| !values.origin(key).is_opentelemetrys()),
        propagates: !known.is_empty(),
        unknown_propagators: unknown.into_iter().map(str::to_owned).collect(),
        sampler: Sampler {
            follows_caller,
            share: match own {
                SamplerName::AlwaysOn => 1.0,
                SamplerName::AlwaysOff => 0.0,
                SamplerName::Ratio => values.text(SHARE).and_then(share).unwrap_or(1.0),
            },
        },
        queue_spans_max: values
            .number("traces.queue_spans_max")
            .and_then(|most| usize::try_from(most).ok())
            .unwrap_or(1),
        schedule: Duration::from_millis(values.number("traces.schedule_ms").unwrap_or(1)),
        flush: Duration::from_millis(values.number("traces.flush_ms").unwrap_or_default()),
    }
}

/// Returns where spans go, and by which key that is said; none where there are none.
fn endpoint_in_force(values: &Values) -> Option<(&'static str, &str)> {
    let is_off = matches!(values.get("traces.disabled"), Some(Value::Boolean(true)))
        || values.text("traces.exporter") == Some(NONE);
    let said = ENDPOINTS.into_iter().find_map(|key| Some((key, values.text(key)?)));
    said.filter(|_| !is_off)
}

/// Returns which protocol the endpoint speaks, and by which key that is said.
fn protocol_in_force(values: &Values) -> Option<(&'static str, &str)> {
    PROTOCOLS.into_iter().find_map(|key| Some((key, values.text(key)?)))
}

/// Returns where spans go, unless the pod's variables name an endpoint that cannot be used.
fn usable_endpoint(values: &Values) -> Option<(&'static str, &str)> {
    let (key, endpoint) = endpoint_in_force(values)?;
    // A protocol that is said for the application does not tell of an endpoint that is said for the sidecar.
    let speaks_grpc = protocol_in_force(values).is_none_or(|(_, protocol)| protocol == GRPC)
        || !values.origin(key).is_opentelemetrys();
    (speaks_grpc && endpoint_fault(endpoint).is_none()).then_some((key, endpoint))
}

fn share(text: &str) -> Option<f64> {
    text.trim().parse().ok().filter(|share| (0.0..=1.0).contains(share))
}

fn endpoint_fault(endpoint: &str) -> Option<&'static str> {
    if endpoint.starts_with("https://") {
        return Some("asks for TLS, which the export of traces does not speak: send to a collector nearby");
    }
    let address = endpoint.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
    let is_whole = |address: &str| {
        let Some((host, port)) = address.rsplit_once(':') else { return false };
        !host.is_empty()
            && !address.contains(['/', '@', ' '])
            && port.parse::<u16>().is_ok_and(|port| port > 0)
    };
    match address {
        Some(address) if is_whole(address) => None,
        Some(_) | None => Some("is no http://host:port"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_plain_http_with_a_host() {
        for good in
            ["http://localhost:4317", "http://10.0.0.1:4317/", "http://[::1]:4317", "http://collector:80"]
        {
            assert_eq!(endpoint_fault(good), None, "{good}");
        }
        for bad in [
            "",
            "localhost:4317",
            "http://collector",
            "http://",
            "http://:4317",
            "http://h:0",
            "http://h:4317/v1/traces",
            "https://h:4317",
        ] {
            assert!(endpoint_fault(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn every_sampler_of_the_table_is_read() {
        for name in SamplerName::NAMES {
            assert!(SamplerName::parse(name).is_some(), "{name}");
        }
        assert_eq!(SamplerName::parse("jaeger_remote"), None);
    }

    #[test]
    fn shares_stand_between_none_and_all() {
        assert_eq!(share("0.25"), Some(0.25));
        for bad in ["", "-0.1", "1.1", "NaN", "half"] {
            assert_eq!(share(bad), None, "{bad}");
        }
    }
}
