//! Owns how tests talk to the sidecar: one shared process over TLS, clients, records in short, errors taken apart.

use std::{
    collections::HashMap,
    sync::{Mutex, OnceLock},
    time::{Duration, Instant},
};

use producer_sidecar::grpc::proto::{
    Header, ProducerRecord, Receipt, SendRequest, header, producer_record::Payload,
    producer_record::RecordKey, producer_service_client::ProducerServiceClient,
};
use testkit::{Cluster, Sidecar, SidecarBuilder};
use tonic::{
    Code, Request, Status,
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt as _;

/// The sidecar's binary.
pub const BINARY: &str = env!("CARGO_BIN_EXE_producer-sidecar");
/// How long a sidecar may take to become ready on a busy machine.
pub const READY: Duration = Duration::from_secs(15);

/// How long the number of connections stays as it is before it counts as final.
const UNCHANGED: Duration = Duration::from_secs(2);

/// How much earlier than the caller's deadline a sidecar answers in tests with deadlines: the clients' own clocks run out
/// too, and on a busy machine they win against the default margin.
pub const DEADLINE_MARGIN_MS: &str = "250";

pub type Client = ProducerServiceClient<Channel>;

static SHARED: OnceLock<Mutex<Option<Sidecar>>> = OnceLock::new();

/// Returns the address of the sidecar that all tests share which break nothing.
pub fn shared_address() -> String {
    with_shared(Sidecar::grpc_address)
}

/// Asks something of the shared sidecar, which is started by the first who asks.
pub fn with_shared<T>(ask: impl FnOnce(&Sidecar) -> T) -> T {
    let slot = SHARED.get_or_init(|| {
        let sidecar = over_tls().start();
        sidecar.wait_ready(READY);
        Mutex::new(Some(sidecar))
    });
    let slot = slot.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    ask(slot.as_ref().expect("the shared sidecar runs until all tests that use it have ended"))
}

/// Ends the shared sidecar.
pub fn end_shared_sidecar() {
    if let Some(slot) = SHARED.get() {
        drop(slot.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take());
    }
}

/// Waits until a ready sidecar's connections and threads to Kafka are all there: its transactional producers come after the
/// first connection, and would count as left behind.
pub fn wait_connections(sidecar: &Sidecar) {
    let mut last = ((0, 0), Instant::now());
    testkit::eventually(READY, "the connections that stay are there", || {
        let now = (sidecar.fd_count(), sidecar.thread_count());
        if now != last.0 {
            last = (now, Instant::now());
        }
        (last.1.elapsed() > UNCHANGED).then_some(())
    });
}

/// A sidecar over SASL_SSL to the shared cluster.
pub fn over_tls() -> SidecarBuilder {
    Sidecar::for_cluster(BINARY, Cluster::shared()).arg("serve")
}

/// The same as the user who may not ask for topics' settings, so that Kafka alone judges records by them; its topics are named
/// `limited-`.
pub fn over_tls_limited() -> SidecarBuilder {
    let cluster = Cluster::shared();
    let limited = over_tls().env("KAFKA_USER", cluster.limited_user());
    limited.env("KAFKA_PASSWORD", cluster.limited_password())
}

/// A sidecar over the fault proxies of the shared cluster.
pub fn through_proxies() -> SidecarBuilder {
    Sidecar::through_proxies(BINARY, Cluster::shared()).arg("serve")
}

/// Runs a test's asynchronous part.
pub fn run<T>(body: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime can be made").block_on(body)
}

/// Connects a client; it connects on its first call.
pub fn connect(address: &str) -> Client {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("the address is one");
    ProducerServiceClient::new(endpoint.connect_lazy())
}

/// A record with a text for a value.
pub fn text(topic: &str, value: &str) -> ProducerRecord {
    ProducerRecord {
        topic: topic.to_owned(),
        payload: Some(Payload::ValueText(value.to_owned())),
        ..ProducerRecord::default()
    }
}

/// Gives the record a key.
pub fn keyed(record: ProducerRecord, key: &str) -> ProducerRecord {
    ProducerRecord { record_key: Some(RecordKey::KeyText(key.to_owned())), ..record }
}

/// Gives the record one more header.
pub fn with_header(mut record: ProducerRecord, name: &str, value: &str) -> ProducerRecord {
    record
        .headers
        .push(Header { name: name.to_owned(), content: Some(header::Content::ValueText(value.to_owned())) });
    record
}

/// Sends a record.
pub async fn send(client: &Client, record: ProducerRecord) -> Result<Receipt, Refusal> {
    send_within(client, record, None).await
}

/// Sends a record with a deadline.
pub async fn send_within(
    client: &Client,
    record: ProducerRecord,
    timeout: Option<Duration>,
) -> Result<Receipt, Refusal> {
    let mut request = Request::new(SendRequest { record: Some(record), ..SendRequest::default() });
    if let Some(timeout) = timeout {
        request.set_timeout(timeout);
    }
    match client.clone().send(request).await {
        Ok(answer) => Ok(answer.into_inner().receipt.expect("an OK has a receipt")),
        Err(status) => Err(Refusal::of(&status)),
    }
}

/// An error's answer, taken apart.
#[derive(Debug, Clone)]
pub struct Refusal {
    pub code: Code,
    pub message: String,
    /// Empty where the answer is not the sidecar's own.
    pub reason: String,
    pub metadata: HashMap<String, String>,
    pub violations: Vec<String>,
    pub pushback_ms: Option<i64>,
}

impl Refusal {
    pub fn of(status: &Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info();
        let violations = details.bad_request().map(|request| &request.field_violations);
        let pushback = status.metadata().get("grpc-retry-pushback-ms");
        Self {
            code: status.code(),
            message: status.message().to_owned(),
            reason: info.map(|info| info.reason.clone()).unwrap_or_default(),
            metadata: info.map(|info| info.metadata.clone()).unwrap_or_default(),
            violations: violations.into_iter().flatten().map(|violation| violation.field.clone()).collect(),
            pushback_ms: pushback.and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok()),
        }
    }

    /// Returns `NO` or `MAYBE`; an answer without details is a maybe.
    pub fn persisted(&self) -> &str {
        self.metadata.get("persisted").map_or("MAYBE", String::as_str)
    }

    /// Checks code, reason and persistence.
    #[track_caller]
    pub fn expect(&self, code: Code, reason: &str, persisted: &str) {
        let seen = (self.code, self.reason.as_str(), self.persisted());
        assert_eq!(seen, (code, reason, persisted), "{self:?}");
    }
}
