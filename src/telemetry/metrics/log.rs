//! Owns what is said of the log: how many of its lines were lost.
//! Must never count by itself: the log does.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::counter::ConstCounter,
};

use super::table::LOG_LINES_LOST;
use crate::telemetry::{Lost, lines_lost};

/// Reads the counts of the process's log.
#[derive(Debug)]
pub struct LogLines;

impl Collector for LogLines {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Lost { not_read, rate_limited } = lines_lost();
        let help = format!("{}.", LOG_LINES_LOST.help);
        let (name, unit) = LOG_LINES_LOST.parts();
        let kind = LOG_LINES_LOST.kind.metric_type();
        let mut family = encoder.encode_descriptor(name, &help, unit.as_ref(), kind)?;
        for (cause, lines) in [("not_read", not_read), ("rate_limited", rate_limited)] {
            ConstCounter::new(lines).encode(family.encode_family(&[("cause", cause)])?)?;
        }
        Ok(())
    }
}
