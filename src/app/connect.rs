//! Owns the composition of all that reaches Kafka: the producer with what heals it, the lanes, the reader of offsets.
//! Must never decide about a record.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

use super::{AppError, LANES_INIT_MS};
use crate::{
    config::{Compression, Config, Wanted, source::SecretFiles, watch as files},
    kafka::{
        access::Access,
        committed::CommittedOffsets,
        context::{Context, Observer},
        handle::Handle,
        healing,
        lane::LaneSettings,
        producer::Producer,
        statistics::Statistics,
        topics::{Topics, TopicsSettings},
    },
    pipeline::{
        dead_letters::DeadLetters,
        forward::Forwarder,
        send::Sender,
        way::{Flows, Way},
    },
    tasks::Tasks,
    telemetry::metrics::Metrics,
};

/// What reaches Kafka, and what is told of it.
pub(super) struct Connected {
    pub way: Arc<Way>,
    /// How all further clients reach the cluster.
    pub access: Access,
    pub statistics: watch::Receiver<Statistics>,
    /// Why the secrets on disk are not in use, while they are not.
    pub refused: watch::Receiver<Option<String>>,
}

/// Starts the producer, its metadata thread, and what heals it; `files` is watched for as long as the process runs.
pub(super) fn connect(
    config: &Config,
    files: Arc<SecretFiles>,
    servers: Option<String>,
    dead_letters: DeadLetters,
    (metrics, tasks): (&Arc<Metrics>, &Tasks),
) -> Result<Connected, AppError> {
    let settings = Arc::new(config.clone());
    let (in_force, followed) = watch::channel(Arc::clone(&settings));
    let is_embedded = servers.is_some();
    let access = Access::following(followed, servers);
    let flows = Arc::new(Flows::default());
    let context = {
        let flows = Arc::clone(&flows);
        move |observer| {
            let reported = Arc::clone(&flows);
            Context::new(observer, move |number, delivery| reported.reported(number, delivery))
        }
    };
    let observer = Observer::default();
    let statistics = observer.statistics.subscribe();
    let producer = Producer::start(&access.producer_of(config), context(observer.clone()))?;
    let handle = Handle::new(producer, observer.clone());
    let topics_settings = TopicsSettings {
        refresh: config.topics.refresh,
        unknown: config.topics.unknown,
        max: config.topics.max,
        is_compressing: config.kafka.compression != Compression::None,
        are_made_by_asking: is_embedded,
    };
    let topics = Topics::start(Arc::clone(&handle), topics_settings, tasks).map_err(AppError::Thread)?;
    let (tell_wanted, wanted) = watch::channel(Wanted { config: settings, problem: None });
    let (tell_refused, refused) = watch::channel(None);
    let left_behind = Arc::clone(&flows);
    let parts = healing::Parts {
        handle: Arc::downgrade(&handle),
        access: access.clone(),
        wanted,
        in_force,
        refused: tell_refused,
        context: Box::new(context),
        left_behind: Box::new(move |producer| left_behind.left_behind(producer)),
        metrics: Arc::clone(metrics),
    };
    healing::start(parts, tasks).map_err(AppError::Thread)?;
    tasks.spawn_vital("files of secrets", files::follow(files, config.kafka.files_look, tell_wanted));
    let way = Way::new(handle, observer.reachability, topics, flows, dead_letters);
    Ok(Connected { way, access, statistics, refused })
}

/// Starts the lanes and the reader of committed offsets.
pub(super) fn forwarder(
    config: &Config,
    access: &Access,
    sender: &Arc<Sender>,
    metrics: &Arc<Metrics>,
) -> Result<Arc<Forwarder>, AppError> {
    let committed = CommittedOffsets::start(access.clone())?;
    let settings = |lane: usize| LaneSettings {
        access: access.clone(),
        id: format!("{}.{}.{lane}", config.transactional_id_prefix, config.instance_id),
        init_wait: Duration::from_millis(LANES_INIT_MS),
        step_wait: config.transactions.stuck,
        transaction_timeout: config.transactions.timeout,
        metrics: Arc::clone(metrics),
    };
    Forwarder::start(config, Arc::clone(sender), committed, settings).map_err(AppError::Thread)
}
