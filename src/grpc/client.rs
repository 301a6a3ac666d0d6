//! Owns what `send` uses: a call to a running sidecar, over TCP or a unix socket.
//! Must never retry: the person who sends reads the answer and decides.

use std::{path::PathBuf, time::Duration};

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::{
    Request, Status,
    transport::{Channel, Endpoint, Error, Uri},
};
use tonic_types::StatusExt as _;

use super::proto::{
    Header, ProducerRecord, Receipt, SendRequest, Tombstone,
    header::Content,
    producer_record::{Payload, RecordKey},
    producer_service_client::ProducerServiceClient,
};

/// How much longer than the call's deadline the answer is waited for, in milliseconds.
const ANSWER_MARGIN_MS: u64 = 500;

/// Where a sidecar listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A host and port.
    Tcp(String),
    /// The path of a socket.
    Unix(PathBuf),
}

impl std::fmt::Display for Target {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => formatter.write_str(address),
            Self::Unix(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

/// A record as a person gives it; has no `Debug`, because it holds contents.
pub struct Message {
    /// The topic.
    pub topic: String,
    /// The key; none is Kafka's null.
    pub key: Option<String>,
    /// The value; none is a tombstone.
    pub value: Option<Vec<u8>>,
    /// The headers in order.
    pub headers: Vec<(String, String)>,
    /// The id for deduplication.
    pub message_id: Option<String>,
}

impl From<Message> for SendRequest {
    fn from(message: Message) -> Self {
        let headers = message.headers.into_iter();
        let headers = headers.map(|(name, value)| Header { name, content: Some(Content::ValueText(value)) });
        let record = ProducerRecord {
            topic: message.topic,
            record_key: message.key.map(RecordKey::KeyText),
            payload: Some(match message.value {
                Some(value) => Payload::Value(value.into()),
                None => Payload::Tombstone(Tombstone {}),
            }),
            headers: headers.collect(),
            message_id: message.message_id.unwrap_or_default(),
            ..ProducerRecord::default()
        };
        Self { record: Some(record), ..Self::default() }
    }
}

/// Sends one record and says where it went.
///
/// # Errors
/// A text for people: why the sidecar cannot be reached, or its answer with every detail.
pub async fn send(target: Target, message: Message, timeout: Duration) -> Result<String, String> {
    let connected = tokio::time::timeout(timeout, connect(&target)).await;
    let channel = connected
        .map_err(|_| {
            format!("the sidecar cannot be reached on {target} within {timeout:?}; nothing was sent")
        })?
        .map_err(|error| unreachable(&target, &error))?;
    let mut request = Request::new(SendRequest::from(message));
    request.set_timeout(timeout);
    let limit = timeout + Duration::from_millis(ANSWER_MARGIN_MS);
    let answer = tokio::time::timeout(limit, ProducerServiceClient::new(channel).send(request)).await;
    let answer = answer
        .map_err(|_| "the sidecar did not answer in time; the record may be in Kafka".to_owned())?
        .map_err(|status| refusal(&status))?;
    Ok(answer.into_inner().receipt.map_or_else(|| "accepted".to_owned(), |receipt| place(&receipt)))
}

async fn connect(target: &Target) -> Result<Channel, Error> {
    match target {
        Target::Tcp(address) => Endpoint::from_shared(format!("http://{address}"))?.connect().await,
        Target::Unix(path) => {
            let path = path.clone();
            // The authority is `localhost`: a socket path is none that HTTP/2 servers take.
            let connector = tower::service_fn(move |_: Uri| {
                let path = path.clone();
                async move { UnixStream::connect(path).await.map(TokioIo::new) }
            });
            Endpoint::from_static("http://localhost").connect_with_connector(connector).await
        }
    }
}

fn unreachable(target: &Target, error: &Error) -> String {
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    let cause = causes.last().map(|cause| format!(": {cause}")).unwrap_or_default();
    format!("the sidecar cannot be reached on {target}{cause}; nothing was sent")
}

fn place(receipt: &Receipt) -> String {
    let partition = receipt.partition.map_or_else(|| "?".to_owned(), |partition| partition.to_string());
    let offset = receipt.offset.map_or_else(|| "?".to_owned(), |offset| offset.to_string());
    format!("{}[{partition}]@{offset}", receipt.topic)
}

fn refusal(status: &Status) -> String {
    let mut text = format!("{:?}: {}", status.code(), status.message());
    let details = status.get_error_details();
    if let Some(info) = details.error_info() {
        let mut metadata: Vec<_> = info.metadata.iter().collect();
        metadata.sort();
        text.push_str(&format!("\n  reason: {}", info.reason));
        for (name, value) in metadata {
            text.push_str(&format!("\n  {name}: {value}"));
        }
    }
    if let Some(request) = details.bad_request() {
        for violation in &request.field_violations {
            text.push_str(&format!("\n  {}: {}", violation.field, violation.description));
        }
    }
    text
}
