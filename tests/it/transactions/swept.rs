//! What a dead process with more lanes left open is ended by the next start, where that is told how many there were.

use testkit::{ApiKey, Cluster, Sidecar, eventually, try_eventually};
use tonic::Request;

use super::STEP;
use crate::{
    client::{READY, connect, run, text, through_proxies},
    forward::{input, unit},
};

crate::tests!(the_ids_of_lanes_that_are_no_more_are_initialised);

const LANES: usize = 3;

fn id(name: &str, lane: usize) -> String {
    format!("caas-gateway.{name}.{lane}")
}

fn open(name: &str) -> usize {
    (0..LANES).filter(|lane| Cluster::shared().is_open(&id(name, *lane))).count()
}

fn start(name: &str, lanes: &str, initialised: &str) -> Sidecar {
    let sidecar = through_proxies()
        .env("SIDECAR_INSTANCE_ID", name)
        .env("KAFKA_CLIENT_ID", name)
        .env("SIDECAR_TRANSACTIONS_LANES", lanes)
        .env("SIDECAR_TRANSACTIONS_LANES_INITIALISED", initialised)
        .start();
    sidecar.wait_ready(READY);
    sidecar
}

/// Opens a transaction on each lane and kills the process while they are open.
fn leave_open(source: &str, name: &str) {
    let sidecar = start(name, "3", "3");
    let faults = Cluster::shared().faults_of(name);
    faults.hold(ApiKey::EndTxn);
    run(async {
        let client = connect(&sidecar.grpc_address());
        for lane in 0..LANES {
            let group = format!("{name}-{lane}");
            let inputs = vec![input(source, 0, 0, 1)];
            let request = Request::new(unit(&group, inputs, vec![text(name, "lost")]));
            let mut client = client.clone();
            // Nobody answers it: its commit does not arrive.
            tokio::spawn(async move { client.process_and_forward(request).await });
            eventually(STEP, "another lane's transaction", || (open(name) == lane + 1).then_some(()));
        }
        sidecar.kill();
    });
    // What is held is dropped with its connections.
    Cluster::shared().proxies().for_each(testkit::FaultProxy::reset);
    faults.hold_no_more(ApiKey::EndTxn);
}

fn the_ids_of_lanes_that_are_no_more_are_initialised() {
    let cluster = Cluster::shared();
    let source = cluster.create_topic("swept-in", 1, &[]);
    let name = cluster.create_topic("swept", 1, &[]);
    leave_open(&source, &name);
    // Without being told, the one lane's own id is taken over and no more: the others wait for their time-outs.
    let untold = start(&name, "1", "1");
    eventually(STEP, "its own id", || (!cluster.is_open(&id(&name, 0))).then_some(()));
    assert!(try_eventually(READY / 10, || (open(&name) < LANES - 1).then_some(())).is_none());
    drop(untold);
    let told = start(&name, "1", "3");
    eventually(STEP, "all ids", || (open(&name) == 0).then_some(()));
    drop(told);
    cluster.nothing_hangs(&[&name]);
    assert!(super::values(&name).is_empty());
}
