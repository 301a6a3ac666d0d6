//! Fatal errors in mid load, within this process: what the producer had not sent goes through the next one.

use std::{collections::HashSet, sync::Arc, time::Duration};

use producer_sidecar::{
    config::Wanted,
    kafka::{
        access::Access,
        context::{Context, Observer},
        handle::Handle,
        healing,
        producer::Producer,
        topics::{Topics, TopicsBounds},
    },
    pipeline::{
        dead_letters::DeadLetters,
        send::Sender,
        way::{Flows, Way},
    },
    telemetry::metrics::Metrics,
};
use rdkafka::producer::Producer as _;
use testkit::{Cluster, make_fatal, read_topic_until};
use tokio::{sync::watch, time::Instant};

use crate::{
    client::run,
    transactions::{config, record},
};

crate::tests!(what_a_fatal_producer_had_goes_through_the_next_one);

const CALLERS: usize = 32;
const RECORDS: usize = 200;
const FATAL_ERRORS: usize = 3;
const WAIT: Duration = Duration::from_secs(60);

/// A sender over the shared cluster with all that heals it.
struct Whole {
    sender: Arc<Sender>,
    handle: Arc<Handle>,
    /// Healing ends with it.
    _wish: watch::Sender<Wanted>,
}

fn whole() -> Whole {
    let settings = Arc::new(config("fatal", &[]));
    let access = Access::fixed(&settings);
    let flows = Arc::new(Flows::default());
    let reported = Arc::clone(&flows);
    let context = move |observer| {
        let reported = Arc::clone(&reported);
        Context::new(observer, move |number, delivery| reported.reported(number, delivery))
    };
    let observer = Observer::default();
    let producer = Producer::start(&access.producer_of(&settings), context(observer.clone())).unwrap();
    let handle = Handle::new(producer, observer.clone());
    let (refresh, unknown) = (settings.topics.refresh, settings.topics.unknown);
    let bounds = TopicsBounds { refresh, unknown, max: settings.topics.max, is_compressing: false };
    let topics = Topics::start(Arc::clone(&handle), bounds).unwrap();
    let (wish, wanted) = watch::channel(Wanted { config: Arc::clone(&settings), problem: None });
    let metrics = Metrics::new(1);
    let left_behind = Arc::clone(&flows);
    healing::start(healing::Parts {
        handle: Arc::downgrade(&handle),
        access,
        wanted,
        in_force: watch::channel(Arc::clone(&settings)).0,
        refused: watch::channel(None).0,
        context: Box::new(context),
        left_behind: Box::new(move |producer| left_behind.left_behind(producer)),
        metrics: Arc::clone(&metrics),
    })
    .unwrap();
    let (dead_letters, _nobody) = DeadLetters::new(settings.dead_letters.destinations.clone());
    let way = Way::new(Arc::clone(&handle), observer.reachability, topics, flows, dead_letters);
    Whole { sender: Arc::new(Sender::new(&settings, way, metrics)), handle, _wish: wish }
}

fn what_a_fatal_producer_had_goes_through_the_next_one() {
    let cluster = Cluster::shared();
    let topic = cluster.create_topic("fatal", 3, &[]);
    run(async {
        let whole = whole();
        let sender = Arc::clone(&whole.sender);
        tokio::spawn(async move { sender.follow_connection().await });
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| {
                let (sender, topic) = (Arc::clone(&whole.sender), topic.clone());
                tokio::spawn(async move {
                    for number in 0..RECORDS {
                        let (record, _) = record(&topic, &format!("{caller}-{number}"));
                        let outcome = sender.send(record, "record", Instant::now() + WAIT).await;
                        outcome.unwrap_or_else(|failure| panic!("{caller}-{number}: {failure}"));
                    }
                })
            })
            .collect();
        let mut fatal = HashSet::new();
        let mut outstanding = tokio::time::interval(Duration::from_millis(1));
        while fatal.len() < FATAL_ERRORS {
            outstanding.tick().await;
            let producer = whole.handle.current();
            if whole.sender.outstanding().0 > 0 && fatal.insert(producer.serial()) {
                make_fatal(producer.client().client());
            }
            assert!(callers.iter().any(|caller| !caller.is_finished()), "the load lasts long enough");
        }
        for caller in callers {
            caller.await.unwrap();
        }
    });
    let read = read_topic_until(cluster, &topic, CALLERS * RECORDS, WAIT);
    let distinct: HashSet<_> = read.iter().map(|read| &read.value).collect();
    assert_eq!((read.len(), distinct.len()), (CALLERS * RECORDS, CALLERS * RECORDS));
}
