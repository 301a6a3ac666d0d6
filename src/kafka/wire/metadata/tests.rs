use kafka_protocol::messages::metadata_response::MetadataResponseBroker;
use proptest::prelude::*;

use super::*;

fn orders() -> Topic {
    Topic::parse("orders").unwrap()
}

fn text(text: &'static str) -> StrBytes {
    StrBytes::from_static_str(text)
}

fn partition(number: i32, leader: i32, epoch: i32) -> MetadataResponsePartition {
    MetadataResponsePartition::default()
        .with_partition_index(number)
        .with_leader_id(leader.into())
        .with_leader_epoch(epoch)
}

/// An answer about `orders`.
fn answer(id: u128, partitions: Vec<MetadataResponsePartition>) -> MetadataResponse {
    let topic = MetadataResponseTopic::default()
        .with_name(Some(text("orders").into()))
        .with_topic_id(Uuid::from_u128(id))
        .with_partitions(partitions);
    MetadataResponse::default()
        .with_cluster_id(Some(text("c")))
        .with_brokers(brokers())
        .with_topics(vec![topic])
}

fn brokers() -> Vec<MetadataResponseBroker> {
    let broker = |id: i32, host| {
        MetadataResponseBroker::default().with_node_id(id.into()).with_host(text(host)).with_port(9092)
    };
    vec![broker(1, "b1"), broker(2, "b2").with_rack(Some(text("zone-a")))]
}

fn hint(leader: i32, epoch: i32) -> LeaderIdAndEpoch {
    LeaderIdAndEpoch::default().with_leader_id(leader.into()).with_leader_epoch(epoch)
}

/// A view that has taken these answers.
fn after(answers: impl IntoIterator<Item = MetadataResponse>) -> ClusterView {
    let mut view = ClusterView::default();
    for answer in answers {
        view.update(answer).unwrap();
    }
    view
}

#[test]
fn brokers_and_leaders_are_read() {
    let view = after([answer(1, vec![partition(1, 2, 5), partition(0, 1, 4)])]);
    assert_eq!(view.cluster_id(), Some("c"));
    let (id, node) = view.leader(&orders(), 1).unwrap();
    assert_eq!((id, node.address.host.as_str(), node.rack.as_deref()), (2, "b2", Some("zone-a")));
    assert_eq!(view.leader(&orders(), 0).unwrap().0, 1);
    assert!(view.leader(&orders(), 2).is_none() && view.leader(&orders(), -1).is_none());
    assert_eq!(view.topic(&orders()).unwrap().id, Some(Uuid::from_u128(1)));
}

#[test]
fn an_older_leader_is_not_taken_and_a_missing_one_is() {
    let mut view = after([answer(1, vec![partition(0, 1, 5)]), answer(1, vec![partition(0, 2, 4)])]);
    assert_eq!(view.leader(&orders(), 0).unwrap().0, 1);
    let gone = partition(0, -1, 5).with_error_code(5);
    view.update(answer(1, vec![gone])).unwrap();
    assert!(view.leader(&orders(), 0).is_none());
    let known = view.topic(&orders()).unwrap().partitions[0];
    assert_eq!((known.leader, known.error), (None, ErrorCode::LEADER_NOT_AVAILABLE));
    view.update(answer(1, vec![partition(0, 2, 6)])).unwrap();
    assert_eq!(view.leader(&orders(), 0).unwrap().0, 2);
}

#[test]
fn partitions_are_added_and_none_is_lost() {
    let all = vec![partition(0, 1, 5), partition(1, 1, 5), partition(2, 1, 5)];
    let view = after([answer(1, all.clone()), answer(1, all[..1].to_vec())]);
    assert_eq!(view.topic(&orders()).unwrap().partitions.len(), 3);
    let view = after([answer(1, all[..1].to_vec()), answer(1, all)]);
    assert_eq!(view.topic(&orders()).unwrap().partitions.len(), 3);
}

#[test]
fn another_id_is_another_topic() {
    let mut view = after([answer(1, vec![partition(0, 1, 9), partition(1, 1, 9)])]);
    let change = view.update(answer(2, vec![partition(0, 2, 0)])).unwrap();
    assert_eq!(change.recreated, [orders()]);
    assert_eq!(view.topic(&orders()).unwrap().partitions.len(), 1);
    assert_eq!(view.leader(&orders(), 0).unwrap().0, 2);
    // A broker that says no id speaks of the same one.
    let change = view.update(answer(0, vec![partition(0, 1, 1)])).unwrap();
    assert_eq!(change, MetadataChange::default());
    assert_eq!(view.topic(&orders()).unwrap().id, Some(Uuid::from_u128(2)));
}

#[test]
fn a_topic_that_fails_is_reported_and_what_was_known_stays() {
    let mut view = after([answer(1, vec![partition(0, 1, 5)])]);
    let mut failed = answer(0, Vec::new());
    failed.topics[0].error_code = 3;
    let change = view.update(failed.clone()).unwrap();
    assert_eq!(change.failed, [(orders(), ErrorCode::UNKNOWN_TOPIC_OR_PART)]);
    assert_eq!(view.leader(&orders(), 0).unwrap().0, 1);
    view.forget(&orders());
    assert!(view.topic(&orders()).is_none());
    view.update(failed).unwrap();
    assert!(view.topic(&orders()).is_none(), "a topic that is not there takes no room");
}

#[test]
fn a_new_leader_is_learnt_from_a_refusal() {
    let mut view = after([answer(1, vec![partition(0, 1, 5)])]);
    let endpoint = NodeEndpoint::default().with_node_id(3.into()).with_host(text("b3")).with_port(9094);
    assert!(!view.learn_leader(&orders(), 0, &hint(3, 4), &[]), "an older one");
    assert!(!view.learn_leader(&orders(), 0, &hint(-1, -1), &[]), "none");
    assert!(!view.learn_leader(&orders(), 9, &hint(3, 6), &[]), "no such partition");
    assert!(view.learn_leader(&orders(), 0, &hint(3, 6), &[endpoint]));
    let (id, node) = view.leader(&orders(), 0).unwrap();
    assert_eq!((id, node.address.to_string()), (3, "b3:9094".to_owned()));
    assert!(!view.learn_leader(&orders(), 0, &hint(3, 6), &[]), "no news");
}

#[test]
fn another_cluster_is_noticed() {
    let mut view = after([answer(1, vec![partition(0, 1, 5)])]);
    let mut other = answer(1, vec![partition(0, 2, 0)]);
    other.cluster_id = Some(text("d"));
    assert!(view.update(other).unwrap().is_other_cluster);
    assert_eq!(view.leader(&orders(), 0).unwrap().0, 2);
}

#[test]
fn a_broker_that_knows_nothing_yet_changes_nothing() {
    let mut view = after([answer(1, vec![partition(0, 1, 5)])]);
    view.update(MetadataResponse::default()).unwrap();
    assert_eq!((view.brokers().len(), view.cluster_id()), (2, Some("c")));
    let change = view.update(MetadataResponse::default().with_error_code(129)).unwrap();
    assert!(change.is_to_rebootstrap);
}

#[test]
fn what_makes_no_sense_is_refused_as_a_whole() {
    let mut gap = answer(1, vec![partition(0, 1, 5), partition(2, 1, 5)]);
    let mut twice = answer(1, vec![partition(0, 1, 5), partition(0, 1, 5)]);
    let mut portless = answer(1, Vec::new());
    portless.brokers[0].port = 0;
    let mut nameless = answer(1, Vec::new());
    nameless.topics[0].name = Some(text("no name").into());
    for wrong in [&mut gap, &mut twice, &mut portless, &mut nameless] {
        let mut view = ClusterView::default();
        assert!(view.update(wrong.clone()).is_err());
        assert!(view.brokers().is_empty() && view.topic(&orders()).is_none());
    }
}

#[test]
fn questions_name_topics_and_never_ask_for_all() {
    let asked = ask_topics([&orders()], false);
    assert_eq!(asked.topics.as_ref().unwrap()[0].name.as_ref().unwrap().0.as_str(), "orders");
    assert!(!asked.allow_auto_topic_creation && ask_topics([&orders()], true).allow_auto_topic_creation);
    assert_eq!(ask_cluster().topics, Some(Vec::new()));
}

/// What may be heard of one partition: from an answer or a hint, of a topic of one of two ids.
#[derive(Debug, Clone)]
enum Heard {
    Answer { id: u128, leader: i32, epoch: i32 },
    Hint { leader: i32, epoch: i32 },
}

fn heard() -> impl Strategy<Value = Heard> {
    prop_oneof![
        (1..3_u128, -1..4, -1..6).prop_map(|(id, leader, epoch)| Heard::Answer { id, leader, epoch }),
        (-1..4, -1..6).prop_map(|(leader, epoch)| Heard::Hint { leader, epoch }),
    ]
}

proptest! {
    /// Whatever comes in whatever order: under one topic id the epoch never falls.
    #[test]
    fn the_epoch_never_falls(all in prop::collection::vec(heard(), 1..40)) {
        let mut view = ClusterView::default();
        let mut before: Option<(Option<Uuid>, i32)> = None;
        for heard in all {
            match heard {
                Heard::Answer { id, leader, epoch } => {
                    view.update(answer(id, vec![partition(0, leader, epoch)])).unwrap();
                }
                Heard::Hint { leader, epoch } => {
                    view.learn_leader(&orders(), 0, &hint(leader, epoch), &[]);
                }
            }
            let Some(topic) = view.topic(&orders()) else { continue };
            let now = (topic.id, topic.partitions[0].leader_epoch);
            if let Some((id, epoch)) = before {
                prop_assert!(id != now.0 || epoch <= now.1, "{epoch} to {now:?}");
            }
            before = Some(now);
        }
    }
}
