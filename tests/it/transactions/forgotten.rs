//! A transactional id that Kafka has forgotten, as after seven idle days or on a cluster made from scratch: the next unit commits.

use std::time::Duration;

use producer_sidecar::grpc::proto::ProcessAndForwardRequest;
use testkit::{Cluster, ClusterOptions, Sidecar, eventually, read_topic};

use crate::{
    around::metric,
    client::{BINARY, READY, connect, run, text},
    forward::{forward, input, unit},
};

crate::tests!(a_forgotten_id_is_initialised_again_and_no_unit_fails);

/// How long a node may take to forget an id, and to be asked for it.
const FORGOTTEN: Duration = Duration::from_secs(30);

fn a_forgotten_id_is_initialised_again_and_no_unit_fails() {
    let properties = [
        ("transactional.id.expiration.ms", "2000"),
        ("transaction.remove.expired.transaction.cleanup.interval.ms", "500"),
    ];
    let properties = properties.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let options = ClusterOptions { nodes: 1, properties, warm: false, ..ClusterOptions::default() };
    let cluster = Cluster::start(&options);
    let (source, target) =
        (cluster.create_topic("forgotten-in", 1, &[]), cluster.create_topic("forgotten-out", 1, &[]));
    let sidecar = Sidecar::for_cluster(BINARY, &cluster)
        .arg("serve")
        .env("SIDECAR_INSTANCE_ID", "forgotten")
        .env("SIDECAR_TRANSACTIONS_LANES", "1")
        .start();
    sidecar.wait_ready(READY);
    let send = |of| run(async { forward(&connect(&sidecar.grpc_address()), of).await.unwrap() });
    let forget = || {
        eventually(FORGOTTEN, "Kafka has forgotten the id", || {
            (!cluster.knows_id("caas-gateway.forgotten.0")).then_some(())
        });
    };
    let outputs = |value: &str| vec![text(&target, value)];
    send(unit(&target, vec![input(&source, 0, 0, 1)], outputs("first")));
    // With inputs, without, and without outputs: the first step that meets the id is another each time.
    let second = unit(&target, vec![input(&source, 0, 1, 2)], outputs("second"));
    let third = ProcessAndForwardRequest { outputs: outputs("third"), ..ProcessAndForwardRequest::default() };
    let fourth = unit(&target, vec![input(&source, 0, None, 3)], Vec::new());
    for of in [second, third, fourth] {
        forget();
        send(of);
    }
    let read = read_topic(&cluster, &target).into_iter();
    let values: Vec<_> = read.map(|read| String::from_utf8(read.value.unwrap()).unwrap()).collect();
    assert_eq!(values, ["first", "second", "third"]);
    assert!(metric(&sidecar, "producer_lanes_replaced_total") >= Some(3));
}
