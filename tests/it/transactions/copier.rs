//! One sidecar that commits one unit after the other, in an order that shows what is lost, doubled or taken back.

use std::{
    thread,
    time::{Duration, Instant},
};

use producer_sidecar::grpc::proto::{ProcessAndForwardRequest, ProducerRecord};
use testkit::{ClientFaults, Cluster, Sidecar, try_eventually};
use tonic::Request;

use super::{IMPATIENT, STEP, committed};
use crate::{
    client::{Client, READY, Refusal, connect, run, text, through_proxies},
    forward::{input, unit},
    neighbours,
};

/// Answers after which the same unit is sent again.
const AGAIN: [&str; 4] =
    ["TRANSACTION_ABORTED", "COMMIT_UNKNOWN", "BROKERS_UNAVAILABLE", "DEADLINE_NOT_WRITTEN"];

/// How long a unit may take on a busy machine.
const DEADLINE: Duration = Duration::from_secs(30);
/// How much earlier the sidecar answers: the client's own clock runs out too, and must not win there.
const MARGIN_MS: &str = "1000";
/// How much later than the deadline an answer may arrive there.
const SLACK: Duration = Duration::from_secs(1);

/// Sends a unit with a deadline, which the answer has to keep; returns why it is not committed, if so.
pub async fn within(client: &Client, unit: ProcessAndForwardRequest, deadline: Duration) -> Option<Refusal> {
    let mut request = Request::new(unit);
    request.set_timeout(deadline);
    let begun = Instant::now();
    let answer = client.clone().process_and_forward(request).await;
    let took = begun.elapsed();
    assert!(took < deadline + SLACK, "{took:?} of {deadline:?}: {answer:?}");
    answer.err().map(|status| Refusal::of(&status))
}

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
        Self::start_with(source, &Cluster::shared().create_topic("copier", 1, &[]), &[])
    }

    /// The same with that name, the one of a topic, and further settings.
    pub fn start_with(source: &str, name: &str, settings: &[(&str, &str)]) -> Self {
        let mut copier = Self::start_away(source, name, settings);
        copier.sidecar.wait_ready(READY * 4);
        copier.copy();
        copier
    }

    /// The same without waiting for any broker.
    pub fn start_away(source: &str, name: &str, settings: &[(&str, &str)]) -> Self {
        neighbours::commit();
        let builder = through_proxies()
            .env("SIDECAR_INSTANCE_ID", name)
            .env("KAFKA_CLIENT_ID", name)
            .env("SIDECAR_DEADLINE_MARGIN_MS", MARGIN_MS)
            .env("SIDECAR_TRANSACTIONS_LANES", "1");
        let settings = IMPATIENT.iter().chain(settings);
        let sidecar = settings.fold(builder, |builder, (name, value)| builder.env(name, *value)).start();
        let faults = Cluster::shared().faults_of(name);
        let (name, source) = (name.to_owned(), source.to_owned());
        Self { name, sidecar, faults, source, next: 0, copied: Vec::new() }
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
        self.send_within(unit, DEADLINE)
    }

    /// The same with a deadline.
    pub fn send_within(&self, unit: ProcessAndForwardRequest, deadline: Duration) -> Option<Refusal> {
        run(async { within(&connect(&self.sidecar.grpc_address()), unit, deadline).await })
    }

    /// Commits the next unit: sends it again where the answer says that it may be. An answer has to come from the sidecar: one
    /// of the client's own clock has no reason.
    pub fn copy(&mut self) {
        let mut last = None;
        let copied = try_eventually(STEP * 4, || match self.send(self.unit([])) {
            None => Some(()),
            Some(refusal) => {
                assert!(
                    AGAIN.contains(&refusal.reason.as_str()),
                    "{}: {refusal:?}, {}",
                    self.name,
                    self.says()
                );
                last = Some(refusal);
                None
            }
        });
        assert!(copied.is_some(), "{} at {}: {last:?}", self.name, self.next);
        self.copied.push(self.next.to_string());
        self.next += 1;
    }

    /// Copies on and checks that nothing was torn, lost, doubled or taken back.
    pub fn goes_on(&mut self) {
        self.copy();
        self.check();
    }

    /// Whether the process still runs, and its last words.
    fn says(&self) -> String {
        let lines = self.sidecar.stderr();
        let last = lines[lines.len().saturating_sub(10)..].join("\n");
        format!("exit: {:?}\n{last}", self.sidecar.exit_status())
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
