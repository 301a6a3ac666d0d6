//! Owns one connection to a broker, from its name to its end: TCP, TLS, versions, authentication, requests, responses.
//! Must never be driven by two: the task that owns it calls [`Connection::next`] beside whatever else it waits for.
//!
//! ```text
//! open: Connect -> Tls -> Versions -> Authentication -+
//!                                                     v
//!            +--(due, KIP-368)-- running <--> requests and responses in order
//!            v                      ^
//!         renewing --(let in)-------+      any error: the end, with `into_unanswered`
//!         (what is sent meanwhile is held back)
//! ```

mod authentication;
mod dial;
mod frame;
mod pipe;
mod session;
mod socket;

use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::BytesMut;
use kafka_protocol::{
    messages::{ApiKey, ApiVersionsRequest, ApiVersionsResponse},
    protocol::StrBytes,
};
use tokio::time::timeout;

pub use self::pipe::Unanswered;
use self::{
    authentication::{Authentication, AuthenticationStep},
    pipe::{Pipe, PipeEvent},
    session::Session,
    socket::Socket,
};
use super::{
    error::{ConnectionStage, WireError},
    message::{
        CorrelationId, RequestBuffer, Response,
        versions::{API_VERSIONS_FIRST, API_VERSIONS_LOWEST, AgreedVersions},
    },
    settings::WireSettings,
};
use crate::config::{Broker, Credentials};

/// How the sidecar calls itself towards brokers (KIP-511).
const SOFTWARE_NAME: &str = env!("CARGO_PKG_NAME");
const SOFTWARE_VERSION: &str = env!("CARGO_PKG_VERSION");
/// Kafka's UNSUPPORTED_VERSION.
const UNSUPPORTED_VERSION: i16 = 35;

/// An open connection to a broker.
#[derive(Debug)]
pub struct Connection {
    pipe: Pipe,
    settings: Arc<WireSettings>,
    versions: AgreedVersions,
    session: Session,
    /// What was sent while the session is renewed: a broker takes nothing else meanwhile.
    held: VecDeque<(CorrelationId, RequestBuffer)>,
}

/// What happened on a connection.
#[derive(Debug)]
pub enum ConnectionEvent {
    /// The last byte of a request was handed to the kernel.
    Written(CorrelationId),
    /// A response came.
    Response(Response),
}

impl Connection {
    /// Opens a connection, with all that has to be said before the first request.
    ///
    /// # Errors
    /// Any but [`WireError::File`], within `connection_setup_timeout`.
    pub async fn open(broker: &Broker, settings: Arc<WireSettings>) -> Result<Self, WireError> {
        let within = settings.connection_setup_timeout;
        let mut stage = ConnectionStage::Connect;
        let opened = timeout(within, Self::open_by_stages(broker, settings, &mut stage)).await;
        opened.unwrap_or_else(|_elapsed| Err(WireError::Timeout(stage)))
    }

    async fn open_by_stages(
        broker: &Broker,
        settings: Arc<WireSettings>,
        stage: &mut ConnectionStage,
    ) -> Result<Self, WireError> {
        let stream = dial::dial(broker).await?;
        let socket = match &settings.tls {
            None => Socket::plain(stream),
            Some(connector) => {
                *stage = ConnectionStage::Tls;
                Socket::encrypted(stream, connector, &broker.host).await?
            }
        };
        let mut pipe = Pipe::new(socket, settings.socket_timeout);
        *stage = pipe.stage;
        let known = ask_versions(&mut pipe, &settings.client_id).await?;
        let versions = AgreedVersions::choose(&known, settings.credentials.is_some())?;
        let mut lifetime = None;
        if let Some(credentials) = &settings.credentials {
            *stage = ConnectionStage::Authentication;
            pipe.stage = ConnectionStage::Authentication;
            lifetime = authenticate(&mut pipe, credentials, &versions, &settings.client_id).await?;
        }
        pipe.stage = ConnectionStage::First { is_authenticated: settings.credentials.is_some() };
        pipe.reader.bytes_max = frame::RESPONSE_BYTES_MAX;
        Ok(Self { pipe, settings, versions, session: Session::new(lifetime), held: VecDeque::new() })
    }

    /// Returns the version of each API on this connection.
    #[must_use]
    pub const fn versions(&self) -> &AgreedVersions {
        &self.versions
    }

    /// Returns whether a request that is sent now is written at once, as far as the socket takes it.
    #[must_use]
    pub fn can_write(&self) -> bool {
        self.pipe.waiting() == 0 && !self.session.is_renewing()
    }

    /// Returns how many requests have no response yet.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.pipe.in_flight() + self.held.len()
    }

    /// Has the next renewal of the session show these credentials. The user must be the same: a broker ends the connection else.
    pub fn use_settings(&mut self, settings: Arc<WireSettings>) {
        self.settings = settings;
    }

    /// Begins a request of an API that [`Connection::versions`] knows.
    ///
    /// # Errors
    /// [`WireError::Protocol`] if it does not.
    pub fn request(&mut self, api: ApiKey) -> Result<RequestBuffer, WireError> {
        begin(self.pipe.buffer(), api, &self.versions, &self.settings.client_id)
    }

    /// Takes a request; it is written as [`Connection::next`] is called.
    ///
    /// # Errors
    /// [`WireError::Protocol`] if it is longer than 2 GiB; nothing of it is written then, and the connection stays.
    pub fn send(&mut self, request: RequestBuffer) -> Result<CorrelationId, WireError> {
        let id = self.pipe.next_id();
        if self.session.is_renewing() {
            self.held.push_back((id, request));
        } else {
            self.pipe.send(id, request)?;
        }
        Ok(id)
    }

    /// Waits until something has happened. Can be dropped and called again at any time; nothing is lost.
    ///
    /// # Errors
    /// The connection is at its end then: what it still knows is [`Connection::into_unanswered`].
    pub async fn next(&mut self) -> Result<ConnectionEvent, WireError> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// The same, for a task that polls.
    ///
    /// # Errors
    /// As of [`Connection::next`].
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<ConnectionEvent, WireError>> {
        loop {
            if self.session.poll_due(context).is_ready() {
                self.begin_renewal()?;
            }
            match ready!(self.pipe.poll_next(context))? {
                PipeEvent::Written(id) if self.session.owns(id) => {}
                PipeEvent::Written(id) => return Poll::Ready(Ok(ConnectionEvent::Written(id))),
                PipeEvent::Response(response) if self.session.owns(response.id) => self.renew(response)?,
                PipeEvent::Response(response) => {
                    if !self.session.is_renewing() {
                        self.pipe.stage = ConnectionStage::Open;
                    }
                    return Poll::Ready(Ok(ConnectionEvent::Response(response)));
                }
            }
        }
    }

    /// Returns the requests without a response, in the order in which they were sent, and ends the connection.
    #[must_use]
    pub fn into_unanswered(self) -> Vec<Unanswered> {
        let session = self.session;
        let held = self.held.into_iter();
        let held = held.map(|(id, request)| Unanswered { id, api: request.api(), is_written: false });
        let unanswered = self.pipe.into_unanswered().into_iter();
        unanswered.filter(|request| !session.owns(request.id)).chain(held).collect()
    }

    fn begin_renewal(&mut self) -> Result<(), WireError> {
        // Without credentials there is no lifetime; the settings may have lost them since.
        let Some(credentials) = &self.settings.credentials else {
            self.session.lasts(None);
            return Ok(());
        };
        let (authentication, handshake) = Authentication::begin(credentials)?;
        let mut request = self.request(ApiKey::SaslHandshake)?;
        request.encode(&handshake)?;
        let id = self.pipe.next_id();
        self.pipe.send(id, request)?;
        self.pipe.stage = ConnectionStage::Authentication;
        self.session.renews(authentication, id);
        Ok(())
    }

    fn renew(&mut self, response: Response) -> Result<(), WireError> {
        match self.session.heard(response)? {
            AuthenticationStep::Ask(turn) => {
                let mut request = self.request(ApiKey::SaslAuthenticate)?;
                request.encode(&turn)?;
                let id = self.pipe.next_id();
                self.pipe.send(id, request)?;
                self.session.awaits(id);
            }
            AuthenticationStep::Done(lifetime) => {
                self.session.lasts(lifetime);
                self.pipe.stage = ConnectionStage::Open;
                for (id, request) in std::mem::take(&mut self.held) {
                    self.pipe.send(id, request)?;
                }
            }
        }
        Ok(())
    }
}

fn begin(
    buffer: BytesMut,
    api: ApiKey,
    versions: &AgreedVersions,
    client_id: &str,
) -> Result<RequestBuffer, WireError> {
    let version = versions.of(api);
    let version =
        version.ok_or_else(|| WireError::Protocol(format!("{api:?} is not asked by the sidecar")))?;
    Ok(RequestBuffer::begin(buffer, api, version, client_id))
}

/// Asks which versions the broker knows: in one that most know, and in the first one if it is older (KIP-511).
async fn ask_versions(pipe: &mut Pipe, client_id: &str) -> Result<ApiVersionsResponse, WireError> {
    let software = ApiVersionsRequest::default()
        .with_client_software_name(StrBytes::from_static_str(SOFTWARE_NAME))
        .with_client_software_version(StrBytes::from_static_str(SOFTWARE_VERSION));
    let asked = [(API_VERSIONS_FIRST, software), (API_VERSIONS_LOWEST, ApiVersionsRequest::default())];
    for (version, body) in asked {
        let mut request = RequestBuffer::begin(BytesMut::new(), ApiKey::ApiVersions, version, client_id);
        request.encode(&body)?;
        let response = pipe.call(request).await?;
        // The answer to a version that the broker does not know is one of version 0; both begin with the error's code.
        if response.bytes.starts_with(&UNSUPPORTED_VERSION.to_be_bytes()) {
            continue;
        }
        let response = response.decode::<ApiVersionsRequest>()?;
        return match response.error_code {
            0 => Ok(response),
            code => Err(WireError::Protocol(format!("the broker answers ApiVersions with error {code}"))),
        };
    }
    Err(WireError::UnsupportedBroker("it knows no version of ApiVersions".to_owned()))
}

/// Shows who we are; returns for how long it counts.
async fn authenticate(
    pipe: &mut Pipe,
    credentials: &Credentials,
    versions: &AgreedVersions,
    client_id: &str,
) -> Result<Option<Duration>, WireError> {
    let (mut authentication, handshake) = Authentication::begin(credentials)?;
    let mut request = begin(BytesMut::new(), ApiKey::SaslHandshake, versions, client_id)?;
    request.encode(&handshake)?;
    loop {
        let response = pipe.call(request).await?;
        match authentication.heard(response)? {
            AuthenticationStep::Done(lifetime) => return Ok(lifetime),
            AuthenticationStep::Ask(turn) => {
                request = begin(BytesMut::new(), ApiKey::SaslAuthenticate, versions, client_id)?;
                request.encode(&turn)?;
            }
        }
    }
}

#[cfg(test)]
mod tests;
