//! One sidecar that commits one unit after the other, in an order that shows what is lost, doubled or taken back.

use std::thread;

use producer_sidecar::grpc::proto::{ProcessAndForwardRequest, ProducerRecord};
use testkit::{ClientFaults, Cluster, Sidecar, SidecarBuilder, try_eventually};

use super::{IMPATIENT, STEP, committed};
use crate::{
    client::{READY, Refusal, connect, run, text, through_proxies},
    forward::{forward, input, unit},
};

/// Answers after which the same unit is sent again.
const AGAIN: [&str; 4] =
    ["TRANSACTION_ABORTED", "COMMIT_UNKNOWN", "BROKERS_UNAVAILABLE", "DEADLINE_NOT_WRITTEN"];

/// A sidecar of one lane; its client, its instance, its group and its output topic have the same name.
pub struct Copier {
    pub name: String,
    pub sidecar: Sidecar,
    pub faults: ClientFaults<'static>,
    source: String,
    next: i64,
    copied: Vec<String>,
}

impl Copier {
    /// Starts one that is impatient with brokers, and has it commit a first unit.
    pub fn start(source: &str) -> Self {
        Self::start_with(source, |builder| builder)
    }

    /// The same with further settings.
    pub fn start_with(source: &str, set: impl FnOnce(SidecarBuilder) -> SidecarBuilder) -> Self {
        let cluster = Cluster::shared();
        let name = cluster.create_topic("copier", 1, &[]);
        let builder = through_proxies().env("SIDECAR_INSTANCE_ID", &name).env("KAFKA_CLIENT_ID", &name);
        let impatient = IMPATIENT.iter().fold(builder, |builder, (name, value)| builder.env(name, *value));
        let sidecar = set(impatient.env("SIDECAR_TRANSACTIONS_LANES", "1")).start();
        sidecar.wait_ready(READY * 4);
        let faults = cluster.faults_of(&name);
        let mut copier =
            Self { name, sidecar, faults, source: source.to_owned(), next: 0, copied: Vec::new() };
        copier.copy();
        copier
    }

    /// The transactional id of its lane.
    pub fn transactional_id(&self) -> String {
        format!("caas-gateway.{}.0", self.name)
    }

    /// The next unit, with one record for its output topic and perhaps others.
    pub fn unit(&self, others: impl IntoIterator<Item = ProducerRecord>) -> ProcessAndForwardRequest {
        let own = text(&self.name, &self.next.to_string());
        let inputs = vec![input(&self.source, 0, self.next, self.next + 1)];
        unit(&self.name, inputs, [own].into_iter().chain(others).collect())
    }

    /// Sends a unit once; returns why it is not committed, if so.
    pub fn send(&self, unit: ProcessAndForwardRequest) -> Option<Refusal> {
        run(async {
            let client = connect(&self.sidecar.grpc_address());
            forward(&client, unit).await.err()
        })
    }

    /// Commits the next unit: sends it again where the answer says that it may be.
    pub fn copy(&mut self) {
        let mut last = None;
        let copied = try_eventually(STEP * 4, || match self.send(self.unit([])) {
            None => Some(()),
            Some(refusal) => {
                assert!(AGAIN.contains(&refusal.reason.as_str()), "{}: {refusal:?}", self.name);
                last = Some(refusal);
                None
            }
        });
        assert!(copied.is_some(), "{} at {}: {last:?}", self.name, self.next);
        self.copied.push(self.next.to_string());
        self.next += 1;
    }

    /// Commits the next unit while something else happens.
    pub fn copy_during(&mut self, other: impl FnOnce(&ClientFaults<'static>)) {
        let faults = self.faults.clone();
        thread::scope(|scope| {
            let copying = scope.spawn(|| self.copy());
            other(&faults);
            copying.join().unwrap();
        });
    }

    /// Checks that all that was answered OK is there once, in order, and the offset behind it.
    pub fn check(&self) {
        assert_eq!(super::values(&self.name), self.copied, "{}", self.name);
        assert_eq!(committed(&self.name, &self.source), self.next, "{}", self.name);
    }
}
