//! The way of records within this process, over the shared cluster, with all that heals it.

use std::sync::Arc;

use producer_sidecar::{
    config::Wanted,
    kafka::{
        access::Access,
        context::{Context, Delivery, Observer},
        handle::Handle,
        healing,
        producer::Producer,
        topics::{Topics, TopicsSettings},
    },
    pipeline::{
        dead_letters::DeadLetters,
        send::Sender,
        way::{Flows, Way},
    },
    tasks::Tasks,
    telemetry::metrics::Metrics,
};
use tokio::sync::watch;

use crate::transactions::config;

/// A sender, and the producers that it goes through.
pub struct Whole {
    pub sender: Arc<Sender>,
    pub handle: Arc<Handle>,
    /// Healing ends with it.
    _wish: watch::Sender<Wanted>,
}

/// Makes it; `report` takes each report of a producer's in, on the thread that polls it.
pub fn whole(id: &str, report: impl Fn(&Flows, u64, Delivery) + Clone + Send + Sync + 'static) -> Whole {
    let settings = Arc::new(config(id, &[]));
    let access = Access::fixed(&settings);
    let flows = Arc::new(Flows::default());
    let reported = Arc::clone(&flows);
    let context = move |observer| {
        let (reported, report) = (Arc::clone(&reported), report.clone());
        Context::new(observer, move |number, delivery| report(&reported, number, delivery))
    };
    let observer = Observer::default();
    let producer = Producer::start(&access.producer_of(&settings), context(observer.clone())).unwrap();
    let handle = Handle::new(producer, observer.clone());
    let (refresh, unknown) = (settings.topics.refresh, settings.topics.unknown);
    let tasks = Tasks::default();
    let topics_settings = TopicsSettings {
        refresh,
        unknown,
        max: settings.topics.max,
        is_compressing: false,
        are_made_by_asking: false,
    };
    let topics = Topics::start(Arc::clone(&handle), topics_settings, &tasks).unwrap();
    let (wish, wanted) = watch::channel(Wanted { config: Arc::clone(&settings), problem: None });
    let metrics = Metrics::new(1);
    let left_behind = Arc::clone(&flows);
    let parts = healing::Parts {
        handle: Arc::downgrade(&handle),
        access,
        wanted,
        in_force: watch::channel(Arc::clone(&settings)).0,
        refused: watch::channel(None).0,
        context: Box::new(context),
        left_behind: Box::new(move |producer| left_behind.left_behind(producer)),
        metrics: Arc::clone(&metrics),
    };
    healing::start(parts, &tasks).unwrap();
    let (dead_letters, _nobody) = DeadLetters::new(settings.dead_letters.destinations.clone());
    let way = Way::new(Arc::clone(&handle), observer.reachability, topics, flows, dead_letters);
    Whole { sender: Arc::new(Sender::new(&settings, way, metrics, tasks)), handle, _wish: wish }
}
