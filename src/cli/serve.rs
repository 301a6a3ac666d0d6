//! Owns `serve`: the sidecar before a real cluster, from its start to its last log line.
//! Must never go on with settings that librdkafka refuses, nor do anything before signals are listened to.

use std::{sync::Arc, time::Duration};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::time::Instant;

use super::{
    Exit,
    arguments::SettingArguments,
    complain, files, prepare, runtime,
    signals::{Signals, Stops},
    with_causes,
};
use crate::{
    app::{App, AppError, Stopped},
    config::{Purpose, problem::Origin, source::Loaded},
    kafka::{self, producer::ConnectError},
    lifecycle::SHUTDOWN,
    pipeline::drain::Drained,
    tasks::Fault,
    telemetry::{self, traces::Traces},
};

/// How long what reads the settings may take to come back once a signal has ended the start, in milliseconds.
const START_END_MS_MAX: u64 = 100;

/// Runs the sidecar until a signal.
#[must_use]
pub fn run(arguments: &SettingArguments) -> Exit {
    run_with(arguments, Purpose::Serve, async |prepared, signals| {
        let Prepared { loaded, traces } = prepared;
        raise_file_limit();
        if let Some(shortage) = files::shortage(&loaded.config) {
            tracing::warn!("{shortage}");
        }
        let app = match App::build(&loaded.config, Arc::clone(&loaded.files), None, &traces).await {
            Ok(app) => app,
            Err(error) => return Ended::at_start(failed(&error)),
        };
        say_start(&app, &loaded);
        run_until_signal(app, traces, signals).await
    })
}

/// What is there before the sidecar is built.
pub(super) struct Prepared {
    pub(super) loaded: Loaded,
    pub(super) traces: Traces,
}

/// How a sidecar ended, and when its runtime has to be gone.
pub(super) struct Ended {
    exit: Exit,
    runtime_by: Instant,
}

impl Ended {
    /// Makes the end of a sidecar that never served.
    pub(super) fn at_start(exit: Exit) -> Self {
        Self { exit, runtime_by: Instant::now() + Duration::from_millis(START_END_MS_MAX) }
    }
}

/// Listens to signals, before anything else is done; prepares, and runs what is then to be run. A signal meanwhile is honoured as
/// soon as there is something to stop, and at once while the settings are read.
pub(super) fn run_with(
    arguments: &SettingArguments,
    purpose: Purpose,
    run: impl AsyncFnOnce(Prepared, Signals) -> Ended,
) -> Exit {
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(exit) => return exit,
    };
    let mut signals = match Signals::listen(&runtime) {
        Ok(signals) => signals,
        Err(error) => {
            complain(&format!("signals cannot be listened to: {error}"));
            return Exit::Fault;
        }
    };
    let arguments = arguments.clone();
    let Ended { exit, runtime_by } = runtime.block_on(async {
        // Files of settings and secrets may lie where reading takes its time.
        let preparing = tokio::task::spawn_blocking(move || prepare(&arguments, purpose));
        let prepared = tokio::select! {
            prepared = preparing => prepared,
            _signal = signals.next() => {
                complain("stopped by a signal before the settings were read; nothing was served");
                return Ended::at_start(Exit::Clean);
            }
        };
        match prepared {
            Ok(Ok((loaded, traces))) => run(Prepared { loaded, traces }, signals).await,
            Ok(Err(exit)) => Ended::at_start(exit),
            Err(_panicked) => Ended::at_start(Exit::Fault),
        }
    });
    // Dropped, it would wait for threads that block, as within a call of Kafka's client.
    runtime.shutdown_timeout(runtime_by.saturating_duration_since(Instant::now()));
    exit
}

/// Runs an app until a signal, drains it and says how that went; a second signal ends the drain at once.
pub(super) async fn run_until_signal(app: App, traces: Traces, mut signals: Signals) -> Ended {
    let stops = Stops::new();
    let stopped = tokio::select! {
        stopped = app.run(stops.next(), stops.next()) => stopped,
        () = signals.pass(&stops) => return Ended::at_start(Exit::Fault),
    };
    let Stopped { drained, spans_by, by, fault } = stopped;
    traces.end(spans_by).await;
    let exit = say_end(drained, fault.as_ref());
    Ended { exit, runtime_by: SHUTDOWN.runtime_by(by, Instant::now()) }
}

/// Raises the bound on open files to what the system lets us have: each connection is one.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the bound on open files stays at {:?}", limit.current);
    }
}

fn say_start(app: &App, loaded: &Loaded) {
    let addresses = app.addresses();
    let brokers: Vec<_> = loaded.config.kafka.brokers.iter().map(ToString::to_string).collect();
    let said: Vec<_> = loaded
        .origins
        .iter()
        .filter(|(_, origin)| !matches!(origin, Origin::Default | Origin::Nowhere))
        .map(|(key, origin)| format!("{key}: {origin}"))
        .collect();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        librdkafka = kafka::librdkafka_version(),
        "openssl" = kafka::openssl_version(),
        grpc = addresses.grpc,
        admin = addresses.admin,
        brokers = brokers.join(","),
        traces = loaded.config.traces.endpoint.as_deref().unwrap_or("off"),
        settings = said.join("; "),
        "serving"
    );
    for ((key, origin), (_, shown)) in loaded.origins.iter().zip(&loaded.shown) {
        tracing::debug!(key, value = shown, %origin, "setting");
    }
}

/// Logs the last line of the process; nothing follows it.
fn say_end(drained: Drained, fault: Option<&Fault>) -> Exit {
    let exit = telemetry::say_last(|| say_drained(drained));
    if fault.is_some() { Exit::Fault } else { exit }
}

fn say_drained(drained: Drained) -> Exit {
    let Drained { delivered, undelivered, refused } = drained;
    let total = delivered + undelivered;
    let others = match refused {
        0 => String::new(),
        _ => format!("; {refused} others were refused, or taken out at their deadlines or by their callers"),
    };
    if undelivered == 0 {
        tracing::info!("stopped: delivered {delivered} of {total} records that were on their way{others}");
        return Exit::Clean;
    }
    tracing::error!(
        "stopped: delivered {delivered} of {total} records that were on their way; {undelivered} could not be delivered{others}"
    );
    Exit::Undelivered
}

pub(super) fn failed(error: &AppError) -> Exit {
    tracing::error!("{}", with_causes(error));
    match error {
        AppError::Kafka(ConnectError::Property(_) | ConnectError::Configuration(_)) => Exit::Usage,
        AppError::Kafka(ConnectError::Thread(_)) => Exit::Fault,
        AppError::Listen { .. } | AppError::Thread(_) | AppError::Server(_) => Exit::Fault,
    }
}
