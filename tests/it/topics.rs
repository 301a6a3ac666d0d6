//! What is known of topics, in process: how large a batch may be, for those who may ask and those who may not.

use std::{sync::Arc, time::Duration};

use producer_sidecar::{
    kafka::{
        access::Access,
        context::{Context, Observer},
        handle::Handle,
        producer::Producer,
        topics::{Topics, TopicsSettings},
    },
    record::Topic,
    tasks::Tasks,
};
use testkit::Cluster;
use tokio::time::timeout;

use crate::{client::run, transactions::config};

crate::tests!(
    the_limit_of_a_topic_is_known_and_followed,
    a_limit_that_the_principal_may_not_see_is_not_known_and_nothing_else_is_lost,
);

const WAIT: Duration = Duration::from_secs(30);
const REFRESH: Duration = Duration::from_millis(200);
/// Kafka's default of `max.message.bytes`.
const DEFAULT_BYTES: usize = 1_048_588;

/// What a principal learns of topics, by default the one that may ask for all.
fn topics(id: &str, settings: &[(&str, &str)]) -> Arc<Topics> {
    let settings = config(id, settings);
    let observer = Observer::default();
    let context = Context::new(observer.clone(), |_, _| {});
    let producer = Producer::start(&Access::fixed(&settings).producer_of(&settings), context).unwrap();
    let topics_settings = TopicsSettings {
        refresh: REFRESH,
        unknown: WAIT,
        max: 10,
        is_compressing: false,
        are_made_by_asking: false,
    };
    Topics::start(Handle::new(producer, observer), topics_settings, &Tasks::default()).unwrap()
}

async fn counted(topics: &Topics, topic: &Topic) -> u32 {
    timeout(WAIT, topics.lookup(topic)).await.expect("metadata comes in time").expect("the topic is there")
}

fn batch_bytes_max(topics: &Topics, topic: &Topic) -> Option<usize> {
    topics.rules(topic).and_then(|rules| rules.batch_bytes_max)
}

async fn until_limit(topics: &Topics, topic: &Topic, bytes: usize) {
    let mut look = tokio::time::interval(Duration::from_millis(10));
    let known = async {
        while batch_bytes_max(topics, topic) != Some(bytes) {
            look.tick().await;
        }
    };
    timeout(WAIT, known)
        .await
        .unwrap_or_else(|_| panic!("{bytes}, not {:?}", batch_bytes_max(topics, topic)));
}

fn the_limit_of_a_topic_is_known_and_followed() {
    let cluster = Cluster::shared();
    let name = cluster.create_topic("limit", 2, &[("max.message.bytes", "10000")]);
    let (small, plain) = (Topic::parse(&name).unwrap(), cluster.create_topic("limit-default", 1, &[]));
    let plain = Topic::parse(&plain).unwrap();
    run(async {
        let topics = topics("limit", &[]);
        assert_eq!(batch_bytes_max(&topics, &small), None, "nobody asked for it");
        // With the count, unless the machine stood still.
        let mut is_told = false;
        for _ in 0..3 {
            topics.forget(&small);
            assert_eq!(counted(&topics, &small).await, 2);
            is_told |= batch_bytes_max(&topics, &small) == Some(10_000);
        }
        assert!(is_told, "the first record is held against it");
        assert_eq!(counted(&topics, &plain).await, 1);
        until_limit(&topics, &plain, DEFAULT_BYTES).await;
        cluster.alter_topic_config(&name, &[("max.message.bytes", "20000")]);
        until_limit(&topics, &small, 20_000).await;
        topics.stop();
    });
}

fn a_limit_that_the_principal_may_not_see_is_not_known_and_nothing_else_is_lost() {
    let cluster = Cluster::shared();
    let settings = [("KAFKA_USER", cluster.limited_user()), ("KAFKA_PASSWORD", cluster.limited_password())];
    let topic = cluster.create_topic("limited-hidden", 2, &[("max.message.bytes", "10000")]);
    let topic = Topic::parse(&topic).unwrap();
    run(async {
        let topics = topics("hidden", &settings);
        assert_eq!(counted(&topics, &topic).await, 2);
        let mut look = tokio::time::interval(REFRESH);
        for _ in 0..5 {
            look.tick().await;
            assert_eq!(batch_bytes_max(&topics, &topic), None);
        }
        topics.forget(&topic);
        assert_eq!(counted(&topics, &topic).await, 2, "it is asked for as before");
        topics.stop();
    });
}
