//! Owns the composition of a run through dead letters: settings in, its reader and its transactional producer out.
//! Must never decide about a letter.

use std::time::Duration;

use super::{AppError, LANES_INIT_MS};
use crate::{
    config::Config,
    kafka::{
        access::Access,
        lane::{Lane, LaneSettings},
        letters::LettersReader,
        producer::check,
    },
    pipeline::replay::{Asked, Deed, Run},
    telemetry::metrics::Metrics,
};

/// Prepares a run; returns before Kafka has been reached.
///
/// # Errors
/// Where librdkafka refuses the settings, or a thread cannot be started.
pub fn build(config: &Config, asked: Asked) -> Result<Run, AppError> {
    let access = Access::fixed(config);
    let reader = LettersReader::start(&access.reader(), &asked.group, asked.topic.clone())?;
    let lane = match asked.deed {
        Deed::Nothing => None,
        Deed::Replay | Deed::Discard => {
            // The same for every run over the topic: a second one fences the first.
            let id = format!("{}.dlq.{}", config.transactional_id_prefix, asked.topic);
            check(&access.lane(&id))?;
            let settings = LaneSettings {
                access,
                id,
                init_wait: Duration::from_millis(LANES_INIT_MS),
                step_wait: config.transactions.stuck,
                transaction_timeout: config.transactions.timeout,
                metrics: Metrics::new(0),
            };
            Some(Lane::start("kafka-replay", settings).map_err(AppError::Thread)?)
        }
    };
    Ok(Run::new(asked, reader, lane, config.partitioners.clone()))
}
