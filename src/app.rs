//! Owns the composition: settings in, a running sidecar out; the only place that constructs everything.
//! Must never decide about a record.

mod connect;
pub mod replay;

use std::{io, path::Path, sync::Arc, time::Duration};

use tokio::{net::TcpListener, sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use self::connect::Connected;
use crate::{
    admin::{self, Admin},
    config::{Config, Limits, Listen, source::SecretFiles},
    failure::{Failure, Reason},
    grpc::{
        Service,
        calls::TellCalls,
        connection::Listener,
        server::{self, Routes, ServerError},
    },
    kafka::{
        librdkafka_version, openssl_version,
        producer::ConnectError,
        reachability::{Reachability, State},
        statistics::Statistics,
    },
    lifecycle::{Lifecycle, Phase},
    pipeline::{
        dead_letters::DeadLetters,
        forward::Forwarder,
        readiness::{self, Readiness},
        send::{Drained, Sender},
    },
    telemetry::{
        failures::Failures,
        metrics::{Libraries, Metrics},
        spans::Spans,
        traces::Traces,
    },
};

/// How long one attempt to initialise a lane may take; it is resumed until it succeeds, and a stop waits for it.
const LANES_INIT_MS: u64 = 1_000;
/// How long the lanes' threads may take to end, once no transaction is open.
const LANES_END_MS_MAX: u64 = 2_000;
/// How long the listeners may take to end once no call is in progress, in milliseconds.
const LISTENERS_END_MS_MAX: u64 = 2_000;

/// The sidecar could not start, or broke.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// A listener cannot be opened.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address as it was set.
        address: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// librdkafka refuses the settings.
    #[error("the Kafka client cannot be made")]
    Kafka(#[from] ConnectError),
    /// A thread cannot be started.
    #[error("a thread cannot be started")]
    Thread(#[source] io::Error),
    /// The gRPC server broke.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The admin server broke.
    #[error("the admin server ended")]
    Admin(#[source] io::Error),
}

/// A sidecar whose listeners are open and which serves once run.
pub struct App {
    lifecycle: Lifecycle,
    sender: Arc<Sender>,
    forwarder: Arc<Forwarder>,
    limits: Limits,
    drain: Duration,
    listener: Listener,
    routes: Routes,
    calls: TellCalls,
    failures: Arc<Failures>,
    admin_listener: TcpListener,
    admin: Admin,
}

/// The addresses that the sidecar listens on, as clients write them.
#[derive(Debug, Clone)]
pub struct Addresses {
    /// The gRPC service.
    pub grpc: String,
    /// Metrics and probes.
    pub admin: String,
}

/// How a sidecar stopped.
#[derive(Debug, Clone, Copy)]
pub struct Stopped {
    /// What became of the records.
    pub drained: Drained,
    /// When the whole stop is to be over.
    pub by: Instant,
}

impl App {
    /// Opens the listeners and starts the producer; returns before Kafka has been reached.
    ///
    /// # Errors
    /// Where an address is taken or librdkafka refuses the settings.
    pub async fn build(
        config: &Config,
        files: Arc<SecretFiles>,
        bootstrap_servers: Option<String>,
        traces: &Traces,
    ) -> Result<Self, AppError> {
        let listener = Listener::open(&config.listen).await.map_err(cannot_listen(&config.listen))?;
        let admin_address = config.admin_listen;
        let admin_listener = TcpListener::bind(admin_address)
            .await
            .map_err(|source| AppError::Listen { address: admin_address.to_string(), source })?;
        let lifecycle = Lifecycle::default();
        let metrics = Metrics::new(config.metrics_topics_max);
        metrics.libraries(Libraries { librdkafka: librdkafka_version(), openssl: openssl_version() });
        let (dead_letters, dead) = DeadLetters::new(config.dead_letters.destinations.clone());
        let Connected { way, access, statistics, refused } =
            connect::connect(config, files, bootstrap_servers, dead_letters, &metrics)?;
        let reachability = Arc::clone(&way.reachability);
        let sender = Arc::new(Sender::new(config, way, Arc::clone(&metrics)));
        tokio::spawn(Arc::clone(&sender).write_dead_letters(dead));
        tokio::spawn(Arc::clone(&sender).age_message_ids());
        let (tell, readiness) =
            watch::channel(readiness::decide(Phase::Starting, &State::Connecting, false, None));
        let forwarder = connect::forwarder(config, &access, &sender, &metrics)?;
        let failures = Failures::new(Arc::clone(&metrics), config.log.repeat);
        tokio::spawn(Arc::clone(&failures).sum_up());
        let spans = Spans::new(traces.room(), config.traces.propagates, &config.kafka.client_id);
        let calls = TellCalls::new(Arc::clone(&metrics), spans.clone());
        let told = (Arc::clone(&failures), spans);
        let service =
            Service::new(config, Arc::clone(&sender), Arc::clone(&forwarder), told, lifecycle.clone());
        let routes = server::routes(service, &config.limits, config.reflection, readiness.clone()).await?;
        tokio::spawn(tell_statistics(statistics, Arc::clone(&metrics)));
        follow(&lifecycle, reachability, refused, tell, &sender, &metrics);
        Ok(Self {
            limits: config.limits.clone(),
            drain: config.drain,
            admin: Admin { lifecycle: lifecycle.clone(), readiness, metrics, sender: Arc::clone(&sender) },
            lifecycle,
            sender,
            forwarder,
            listener,
            routes,
            calls,
            failures,
            admin_listener,
        })
    }

    /// Returns where it listens.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        let admin = self.admin_listener.local_addr();
        Addresses {
            grpc: self.listener.address(),
            admin: admin.map_or_else(|_| "unknown".to_owned(), |address| address.to_string()),
        }
    }

    /// Serves until `stop` resolves, then drains; `hurry` ends the drain at once.
    ///
    /// # Errors
    /// Where a listener breaks while serving.
    pub async fn run(
        self,
        stop: impl Future<Output = ()>,
        hurry: impl Future<Output = ()>,
    ) -> Result<Stopped, AppError> {
        let ended = CancellationToken::new();
        let limits = self.limits.clone();
        let (listener, routes) = (self.listener, self.routes);
        let calls = self.calls;
        let grpc_ended = ended.clone().cancelled_owned();
        let mut grpc =
            tokio::spawn(async move { server::serve(listener, routes, &limits, calls, grpc_ended).await });
        let admin_ended = ended.clone().cancelled_owned();
        let mut admin = tokio::spawn(admin::serve(self.admin_listener, self.admin, admin_ended));
        self.lifecycle.advance(Phase::Serving);
        tokio::select! {
            () = stop => {}
            broken = &mut grpc => return Err(broke(broken, |error| error.map_err(AppError::Server))),
            broken = &mut admin => return Err(broke(broken, |error| error.map_err(AppError::Admin))),
        }
        self.lifecycle.advance(Phase::Draining);
        tracing::info!(
            calls = self.lifecycle.calls(),
            drain_ms = u64::try_from(self.drain.as_millis()).unwrap_or(u64::MAX),
            "draining"
        );
        let deadline = Instant::now() + self.drain;
        let (drained, deadline) = tokio::select! {
            drained = self.sender.drain(self.lifecycle.calls_ended(), deadline) => (drained, deadline),
            () = hurry => {
                let now = Instant::now();
                (self.sender.drain(std::future::ready(()), now).await, now)
            }
        };
        let stopped = "the sidecar stopped before the unit's turn came";
        self.forwarder.refuse_waiting(&Failure::new(Reason::Draining, stopped));
        // Also those whose callers are gone; what is left open is ended by the next start, or by its time-out.
        self.forwarder.finished_by(deadline).await;
        self.forwarder.stop_by(Instant::now() + Duration::from_millis(LANES_END_MS_MAX)).await;
        ended.cancel();
        let end = async { (grpc.await, admin.await) };
        if tokio::time::timeout(Duration::from_millis(LISTENERS_END_MS_MAX), end).await.is_err() {
            tracing::debug!("connections were still open at the end");
        }
        self.failures.sum_up_all();
        Ok(Stopped { drained, by: deadline })
    }
}

impl std::fmt::Debug for App {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("App").field("addresses", &self.addresses()).finish_non_exhaustive()
    }
}

/// Starts what follows the state of the cluster for as long as the process runs.
fn follow(
    lifecycle: &Lifecycle,
    reachability: Arc<Reachability>,
    refused: watch::Receiver<Option<String>>,
    tell: watch::Sender<Readiness>,
    sender: &Arc<Sender>,
    metrics: &Arc<Metrics>,
) {
    let sender = Arc::clone(sender);
    tokio::spawn(async move { sender.follow_connection().await });
    tokio::spawn(tell_connection(reachability.watch(), Arc::clone(metrics)));
    let lifecycle = lifecycle.clone();
    tokio::spawn(async move { readiness::follow(lifecycle, &reachability, refused, tell).await });
}

/// Logs each change of the connection and keeps its gauge.
async fn tell_connection(mut state: watch::Receiver<State>, metrics: Arc<Metrics>) {
    loop {
        let now = state.borrow_and_update().clone();
        metrics.client().connected(now == State::Connected);
        match &now {
            State::Connecting | State::Connected => tracing::info!("{}", now.sentence()),
            State::Unreachable(_) => tracing::warn!("{}", now.sentence()),
            State::Refused(_) | State::Fatal(_) => tracing::error!("{}", now.sentence()),
        }
        if state.changed().await.is_err() {
            return;
        }
    }
}

async fn tell_statistics(mut statistics: watch::Receiver<Statistics>, metrics: Arc<Metrics>) {
    while statistics.changed().await.is_ok() {
        let now = statistics.borrow_and_update().clone();
        metrics.client().queue(now.queue_records, now.queue_bytes);
        metrics.client().brokers(&now.brokers);
    }
}

fn cannot_listen(listen: &Listen) -> impl FnOnce(io::Error) -> AppError {
    let address = match listen {
        Listen::Tcp(address) => address.to_string(),
        Listen::Unix(path) => unix(path),
    };
    |source| AppError::Listen { address, source }
}

fn unix(path: &Path) -> String {
    format!("unix:{}", path.display())
}

/// Says why a listener's task ended while it should have served.
fn broke<E>(
    ended: Result<Result<(), E>, tokio::task::JoinError>,
    error: impl FnOnce(Result<(), E>) -> Result<(), AppError>,
) -> AppError {
    let unexpected = || AppError::Admin(io::Error::other("a listener ended while serving"));
    match ended {
        Ok(result) => error(result).err().unwrap_or_else(unexpected),
        Err(_panicked) => unexpected(),
    }
}
