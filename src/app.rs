//! Owns the composition: settings in, a running sidecar out; the only place that constructs everything.
//! Must never decide about a record.

mod connect;
mod memory;
pub mod replay;

use std::{io, path::Path, sync::Arc, time::Duration};

use tokio::{
    net::TcpListener,
    sync::watch,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use self::connect::Connected;
use crate::{
    admin::{self, Admin},
    config::{Config, Limits, Listen, source::SecretFiles},
    connections::{Port, listener::Listener},
    grpc::{
        Service,
        calls::TellCalls,
        server::{self, Routes, ServerError},
    },
    kafka::{
        librdkafka_version, openssl_version,
        producer::ConnectError,
        reachability::{Reachability, State},
        statistics::Statistics,
    },
    lifecycle::{Lifecycle, Phase, SHUTDOWN, StopBy},
    pipeline::{
        dead_letters::DeadLetters,
        drain::Drained,
        forward::Forwarder,
        readiness::{self, Readiness},
        send::Sender,
    },
    tasks::{Fault, Tasks},
    telemetry::{
        failures::Failures,
        metrics::{Libraries, Metrics},
        spans::Spans,
        traces::Traces,
    },
};

/// How long one attempt to initialise a lane may take; it is resumed until it succeeds, and a stop waits for it.
const LANES_INIT_MS: u64 = 1_000;
/// The names of the listeners' tasks.
const GRPC_LISTENER: &str = "the gRPC listener";
const ADMIN_LISTENER: &str = "the admin listener";

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
    /// The gRPC server cannot be made.
    #[error(transparent)]
    Server(#[from] ServerError),
}

/// A sidecar whose listeners are open and which serves once run.
pub struct App {
    lifecycle: Lifecycle,
    sender: Arc<Sender>,
    forwarder: Arc<Forwarder>,
    limits: Limits,
    drain: Duration,
    listener: (Listener, Arc<Port>),
    routes: Routes,
    calls: TellCalls,
    failures: Arc<Failures>,
    admin_listener: TcpListener,
    admin: Admin,
    tasks: Tasks,
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
#[derive(Debug, Clone)]
pub struct Stopped {
    /// What became of the records.
    pub drained: Drained,
    /// When the last spans have to be sent.
    pub spans_by: Instant,
    /// When the rest of the stop has to be over.
    pub by: StopBy,
    /// Why it stopped, if nobody asked it to.
    pub fault: Option<Fault>,
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
        memory::compare_with_limit(config);
        let listener = Listener::open(&config.listen).await.map_err(cannot_listen(&config.listen))?;
        let admin_address = config.admin_listen;
        let admin_listener = TcpListener::bind(admin_address)
            .await
            .map_err(|source| AppError::Listen { address: admin_address.to_string(), source })?;
        let lifecycle = Lifecycle::default();
        let metrics = Metrics::new(config.metrics_topics_max);
        metrics.libraries(Libraries { librdkafka: librdkafka_version(), openssl: openssl_version() });
        let counts = Arc::clone(&metrics);
        let tasks = Tasks::new(move |task| counts.task_panicked(task));
        let (dead_letters, dead) = DeadLetters::new(config.dead_letters.destinations.clone());
        let Connected { way, access, statistics, refused } =
            connect::connect(config, files, bootstrap_servers, dead_letters, (&metrics, &tasks))?;
        let reachability = Arc::clone(&way.reachability);
        let sender = Arc::new(Sender::new(config, way, Arc::clone(&metrics), tasks.clone()));
        tasks.spawn_vital("dead letters", Arc::clone(&sender).write_dead_letters(dead));
        tasks.spawn("age of message ids", Arc::clone(&sender).age_message_ids());
        let (tell, readiness) =
            watch::channel(readiness::decide(Phase::Starting, &State::Connecting, false, None));
        let forwarder = connect::forwarder(config, &access, &sender, &metrics)?;
        let failures = Failures::new(Arc::clone(&metrics), config.log.repeat);
        tasks.spawn("sums of failures", Arc::clone(&failures).sum_up());
        let spans = Spans::new(traces.room(), config.traces.propagates, &config.kafka.client_id);
        let calls = TellCalls::new(Arc::clone(&metrics), spans.clone());
        let told = (Arc::clone(&failures), spans);
        let service =
            Service::new(config, Arc::clone(&sender), Arc::clone(&forwarder), told, lifecycle.clone());
        let routes = server::routes(service, config.reflection, readiness.clone(), &tasks).await?;
        tasks.spawn("return of memory", memory::give_back());
        tasks.spawn("statistics", tell_statistics(statistics, Arc::clone(&metrics)));
        follow(&lifecycle, reachability, refused, tell, &sender, &metrics);
        Ok(Self {
            limits: config.limits.clone(),
            drain: config.drain,
            listener: (listener, server::port(&config.limits, &metrics, config.log.repeat)),
            admin: Admin {
                lifecycle: lifecycle.clone(),
                readiness,
                port: admin::port(config, &metrics),
                metrics,
                sender: Arc::clone(&sender),
            },
            lifecycle,
            sender,
            forwarder,
            routes,
            calls,
            failures,
            admin_listener,
            tasks,
        })
    }

    /// Returns where it listens.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        let admin = self.admin_listener.local_addr();
        Addresses {
            grpc: self.listener.0.address(),
            admin: admin.map_or_else(|_| "unknown".to_owned(), |address| address.to_string()),
        }
    }

    /// Serves until `stop` resolves or a task ends that it cannot work without, then drains; `hurry` ends the drain at once.
    pub async fn run(self, stop: impl Future<Output = ()>, hurry: impl Future<Output = ()>) -> Stopped {
        let Self { lifecycle, sender, forwarder, limits, drain, listener, routes, calls, failures, .. } =
            self;
        let (tasks, ended) = (self.tasks, CancellationToken::new());
        let serving = {
            let (tasks, ended) = (tasks.clone(), ended.clone().cancelled_owned());
            async move { server::serve(listener, routes, &limits, calls, ended, &tasks).await }
        };
        let grpc = tasks.spawn_vital(GRPC_LISTENER, tell_end(GRPC_LISTENER, serving, (&tasks, &ended)));
        let serving = {
            let (tasks, ended) = (tasks.clone(), ended.clone().cancelled_owned());
            async move { admin::serve(self.admin_listener, self.admin, ended, &tasks).await }
        };
        let admin = tasks.spawn_vital(ADMIN_LISTENER, tell_end(ADMIN_LISTENER, serving, (&tasks, &ended)));
        lifecycle.advance(Phase::Serving);
        let fault = tokio::select! {
            () = stop => None,
            fault = tasks.failed() => Some(fault),
        };
        lifecycle.advance(Phase::Draining);
        let drain_ms = u64::try_from(drain.as_millis()).unwrap_or(u64::MAX);
        match &fault {
            None => tracing::info!(calls = lifecycle.calls(), drain_ms, "draining"),
            Some(fault) => tracing::error!(calls = lifecycle.calls(), drain_ms, "draining: {fault}"),
        }
        // Taken once: what ends before and after a second signal counts alike.
        let before = sender.begin_drain();
        let deadline = Instant::now() + drain;
        let settled = async {
            drop(timeout_at(deadline, lifecycle.calls_ended()).await);
            sender.settled_by(deadline).await;
            // Also those whose callers are gone; what is left open is ended by the next start, or by its time-out.
            forwarder.finished_by(deadline).await;
        };
        let spans_by = tokio::select! {
            () = settled => deadline,
            () = hurry => Instant::now(),
        };
        let by = SHUTDOWN.from(Instant::now());
        // Before anything is waited for: units that wait hold their parts of the budget.
        forwarder.end_waiting();
        sender.give_up_by(lifecycle.calls_ended(), by.abandoned).await;
        forwarder.stop_by(by.workers).await;
        ended.cancel();
        if timeout_at(by.listeners, async { (grpc.await, admin.await) }).await.is_err() {
            tracing::debug!("connections were still open at the end");
        }
        failures.sum_up_all();
        tasks.end_by(by.listeners).await;
        let drained = sender.drained(before);
        // To end Kafka's clients may block; the process must not wait for that beyond its budget.
        tokio::task::spawn_blocking(move || drop((forwarder, sender)));
        Stopped { drained, spans_by, by, fault }
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
    let (sender, tasks) = (Arc::clone(sender), sender.tasks().clone());
    tasks.spawn_vital("lines of records", async move { sender.follow_connection().await });
    tasks.spawn("connection's state", tell_connection(reachability.watch(), Arc::clone(metrics)));
    let lifecycle = lifecycle.clone();
    tasks.spawn_vital("readiness", async move {
        readiness::follow(lifecycle, &reachability, refused, tell).await;
    });
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

/// Runs a listener, and says so if it ends before it was told to.
fn tell_end<E: std::error::Error, F: Future<Output = Result<(), E>>>(
    name: &'static str,
    serving: F,
    (tasks, told): (&Tasks, &CancellationToken),
) -> impl Future<Output = ()> + use<E, F> {
    let (tasks, told) = (tasks.clone(), told.clone());
    async move {
        let cause = match serving.await {
            Ok(()) => "it takes no more connections".to_owned(),
            Err(error) => with_causes(&error),
        };
        if !told.is_cancelled() {
            tasks.fail(name, cause);
        }
    }
}

/// Says an error with its causes on one line.
#[must_use]
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[cfg(test)]
mod tests;
