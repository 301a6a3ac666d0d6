//! Owns the settings of what the sidecar says of itself: logs and traces.
//! The variables of traces are OpenTelemetry's own, so that what a pod sets for all its containers holds here too. What cannot
//! be used of them is reported and ignored.

use super::{Kind, Setting};
use crate::config::{LogFormat, traces::SamplerName};

const HOUR_MS: u64 = 3_600_000;
const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
/// The exporters of traces that are built in, and none.
const EXPORTERS: &[&str] = &["otlp", "none"];

pub(super) fn settings() -> Vec<Setting> {
    let mut settings = logs();
    settings.extend(traces());
    settings.extend(export());
    settings
}

fn logs() -> Vec<Setting> {
    vec![
        Setting::of(
            "log.filter",
            Kind::Text(1024),
            "info",
            "Which log lines are written: a level, or directives such as `info,producer_sidecar=debug`.",
        )
        .environment("SIDECAR_LOG"),
        Setting::unset(
            "log.format",
            Kind::Choice(LogFormat::NAMES),
            "How log lines look; where unset, text on a terminal, else json.",
        )
        .environment("LOG_FORMAT"),
        Setting::number(
            "log.repeat_ms",
            10_000,
            (0, HOUR_MS),
            "ms",
            "How often failures of one reason and topic are logged at most; a line says how many there were since the last. 0 logs each.",
        ),
        Setting::number(
            "log.place_lines_max",
            100,
            (1, 1_000_000),
            "lines",
            "The most lines that one place of the program writes within `log.repeat_ms`, whatever they say; a line says how many more there were. Lines of the levels debug and trace are not limited.",
        ),
        Setting::number(
            "log.queue_lines_max",
            4096,
            (16, 1_000_000),
            "lines",
            "The most log lines that wait to be written. If standard error is not read, further lines are dropped and counted; the work goes on.",
        ),
        Setting::number(
            "log.queue_bytes_max",
            MIB,
            (64 * KIB, 1024 * MIB),
            "bytes",
            "The most bytes of log lines that wait to be written.",
        ),
        Setting::number(
            "log.flush_ms",
            500,
            (0, 60_000),
            "ms",
            "How long the last log lines may take to be written when the process ends.",
        ),
    ]
}

fn traces() -> Vec<Setting> {
    vec![
        Setting::unset(
            "traces.endpoint",
            Kind::Text(1024),
            "Where spans are sent to, such as `http://localhost:4317`: an OTLP receiver that speaks gRPC without TLS. Where unset, there are no spans.",
        )
        .environment("OTEL_EXPORTER_OTLP_ENDPOINT"),
        Setting::unset(
            "traces.own_endpoint",
            Kind::Text(1024),
            "The same for traces alone; wins over `traces.endpoint`.",
        )
        .environment("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"),
        Setting::of(
            "traces.protocol",
            Kind::Text(256),
            "grpc",
            "The protocol of the endpoint; where spans are made, only `grpc` will do.",
        )
            .environment("OTEL_EXPORTER_OTLP_PROTOCOL"),
        Setting::unset(
            "traces.own_protocol",
            Kind::Text(256),
            "The same for traces alone; wins over `traces.protocol`.",
        )
        .environment("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"),
        Setting::of(
            "traces.exporter",
            Kind::Choice(EXPORTERS),
            "otlp",
            "`none` switches traces off, whatever endpoint is set.",
        )
        .environment("OTEL_TRACES_EXPORTER"),
        Setting::of(
            "traces.disabled",
            Kind::Boolean,
            "false",
            "Switches traces off, whatever endpoint is set.",
        )
        .environment("OTEL_SDK_DISABLED"),
        Setting::of(
            "traces.propagators",
            Kind::Text(256),
            "tracecontext",
            "How trace contexts travel, comma separated. `tracecontext` alone is built in (W3C); without it no caller's context is read and no `traceparent` is written. Others are named in the log and left out.",
        )
        .environment("OTEL_PROPAGATORS"),
        Setting::of(
            "traces.sampler",
            Kind::Choice(SamplerName::NAMES),
            "parentbased_always_on",
            "Which traces are recorded: those that begin here, and with `parentbased_` those whose callers record them.",
        )
        .environment("OTEL_TRACES_SAMPLER"),
        Setting::of(
            "traces.sampler_arg",
            Kind::Text(1024),
            "1.0",
            "The share of traces that `traceidratio` records, 0.0 to 1.0.",
        )
        .environment("OTEL_TRACES_SAMPLER_ARG"),
    ]
}

fn export() -> Vec<Setting> {
    vec![
        Setting::number(
            "traces.queue_spans_max",
            2048,
            (1, 65_536),
            "spans",
            "The most spans that wait for their export; while there are so many, calls and frames begin none. Room for them is taken at the start.",
        )
        .environment("OTEL_BSP_MAX_QUEUE_SIZE"),
        Setting::number(
            "traces.schedule_ms",
            5000,
            (1, HOUR_MS),
            "ms",
            "How long spans wait at most until they are exported.",
        )
        .environment("OTEL_BSP_SCHEDULE_DELAY"),
        Setting::number(
            "traces.flush_ms",
            2000,
            (0, 60_000),
            "ms",
            "How long the last spans may take to be sent when the sidecar stops; never beyond `drain_ms`.",
        ),
    ]
}
