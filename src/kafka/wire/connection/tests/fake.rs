//! Owns the broker's side of one connection, as a test wants it: what it reads, and what it answers, byte by byte.

use std::{sync::Arc, time::Duration};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use kafka_protocol::{
    messages::{ApiKey, ApiVersionsResponse, RequestHeader, api_versions_response::ApiVersion},
    protocol::{Encodable, decode_request_header_from_buffer},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::{
    config::{Broker, Credentials},
    kafka::wire::{connection::Connection, error::WireError, settings::WireSettings},
};

/// A listener that a test answers for.
pub struct Fake {
    listener: TcpListener,
}

/// One connection to it.
pub struct Accepted {
    stream: TcpStream,
}

/// The versions of Kafka 4.1, as far as they are asked.
pub const KAFKA_4_1: [(ApiKey, i16, i16); 5] = [
    (ApiKey::Produce, 0, 13),
    (ApiKey::Metadata, 0, 13),
    (ApiKey::InitProducerId, 0, 6),
    (ApiKey::SaslHandshake, 0, 1),
    (ApiKey::SaslAuthenticate, 0, 2),
];

pub fn versions(ranges: &[(ApiKey, i16, i16)]) -> ApiVersionsResponse {
    let ranges = ranges.iter().map(|(api, min, max)| {
        ApiVersion::default().with_api_key(*api as i16).with_min_version(*min).with_max_version(*max)
    });
    ApiVersionsResponse::default().with_api_keys(ranges.collect())
}

impl Fake {
    pub async fn start() -> Self {
        Self { listener: TcpListener::bind(("127.0.0.1", 0)).await.unwrap() }
    }

    pub fn settings(&self, timeout: Duration, credentials: Option<Credentials>) -> Arc<WireSettings> {
        Arc::new(WireSettings {
            brokers: vec![self.broker()],
            client_id: "sidecar".to_owned(),
            tls: None,
            credentials,
            socket_timeout: timeout,
            connection_setup_timeout: timeout,
            reconnect_backoff: Duration::from_millis(1),
            reconnect_backoff_max: Duration::from_millis(1),
            metadata_refresh: Duration::from_mins(1),
            allow_auto_topic_creation: false,
        })
    }

    pub fn broker(&self) -> Broker {
        Broker { host: "127.0.0.1".to_owned(), port: self.listener.local_addr().unwrap().port() }
    }

    pub async fn accept(&self) -> Accepted {
        Accepted { stream: self.listener.accept().await.unwrap().0 }
    }

    /// Opens a connection, for which `serve` is the broker until it returns; it has to answer all that opening asks.
    pub async fn opened<T>(
        &self,
        settings: Arc<WireSettings>,
        serve: impl AsyncFnOnce(&mut Accepted) -> T,
    ) -> (Result<Connection, WireError>, Accepted) {
        let broker = self.broker();
        let serving = async {
            let mut accepted = self.accept().await;
            serve(&mut accepted).await;
            accepted
        };
        tokio::join!(Connection::open(&broker, settings), serving)
    }

    /// Opens a connection without credentials to a broker like Kafka 4.1.
    pub async fn open(&self, timeout: Duration) -> (Connection, Accepted) {
        let opened = self.opened(self.settings(timeout, None), Accepted::tell_versions).await;
        (opened.0.unwrap(), opened.1)
    }
}

impl Accepted {
    /// Reads a request: its header and its body.
    pub async fn request(&mut self) -> (RequestHeader, Bytes) {
        self.try_request().await.expect("a request")
    }

    pub async fn try_request(&mut self) -> Option<(RequestHeader, Bytes)> {
        let length = self.stream.read_i32().await.ok()?;
        let mut frame = BytesMut::zeroed(usize::try_from(length).unwrap());
        self.stream.read_exact(&mut frame).await.ok()?;
        let header = decode_request_header_from_buffer(&mut frame).unwrap();
        Some((header, frame.freeze()))
    }

    pub async fn bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Writes what follows the correlation id as one response.
    pub async fn raw(&mut self, id: i32, rest: &[u8]) {
        let mut frame = BytesMut::new();
        frame.put_i32(i32::try_from(rest.len() + 4).unwrap());
        frame.put_i32(id);
        frame.put_slice(rest);
        self.bytes(&frame).await;
    }

    /// Answers a request.
    pub async fn answer(&mut self, header: &RequestHeader, body: &impl Encodable) {
        let (api, version) = (ApiKey::try_from(header.request_api_key).unwrap(), header.request_api_version);
        let mut rest = BytesMut::new();
        if api.response_header_version(version) >= 1 {
            rest.put_u8(0);
        }
        body.encode(&mut rest, version).unwrap();
        self.raw(header.correlation_id, &rest).await;
    }

    /// Answers the question for versions as Kafka 4.1 would.
    pub async fn tell_versions(&mut self) {
        let (header, _) = self.request().await;
        assert_eq!((header.request_api_key, header.request_api_version), (18, 3));
        assert_eq!(header.client_id.as_deref(), Some("sidecar"));
        self.answer(&header, &versions(&KAFKA_4_1)).await;
    }

    /// Returns whether the other side has ended the connection.
    pub async fn is_ended(&mut self) -> bool {
        self.stream.read_u8().await.is_err()
    }

    /// Ends the connection with a reset.
    pub fn reset(self) {
        self.stream.set_zero_linger().unwrap();
    }

    /// Reads the length of the next frame alone.
    pub async fn length(&mut self) -> usize {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).await.unwrap();
        usize::try_from((&length[..]).get_i32()).unwrap()
    }
}
