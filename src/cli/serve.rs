//! Owns `serve`: the sidecar before a real cluster, from its start to its last log line.
//! Must never go on with settings that librdkafka refuses.

use std::sync::Arc;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

use super::{Exit, arguments::SettingArguments, prepare, with_causes};
use crate::{
    app::{App, AppError, Stopped},
    config::{Purpose, problem::Origin, source::Loaded},
    kafka::{self, producer::ConnectError},
    pipeline::send::Drained,
    telemetry::{self, traces::Traces},
};

/// Runs the sidecar until SIGTERM or SIGINT.
#[must_use]
pub fn run(arguments: &SettingArguments) -> Exit {
    let (loaded, runtime, traces) = match prepare(arguments, Purpose::Serve) {
        Ok(prepared) => prepared,
        Err(exit) => return exit,
    };
    raise_file_limit();
    runtime.block_on(async {
        let app = match App::build(&loaded.config, Arc::clone(&loaded.files), None, &traces).await {
            Ok(app) => app,
            Err(error) => return failed(&error),
        };
        say_start(&app, &loaded);
        run_until_signal(app, traces).await
    })
}

/// Runs an app until a signal, drains it and says how that went; a second signal ends the drain at once.
pub(super) async fn run_until_signal(app: App, traces: Traces) -> Exit {
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    let (Ok(mut terminate), Ok(mut interrupt)) = signals else {
        tracing::error!("signals cannot be listened to");
        return Exit::Fault;
    };
    let signals = tokio::sync::Semaphore::new(0);
    let listen = async {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            signals.add_permits(1);
        }
    };
    let next = || async {
        if let Ok(permit) = signals.acquire().await {
            permit.forget();
        }
    };
    let stopped = tokio::select! {
        stopped = app.run(next(), next()) => stopped,
        () = listen => return Exit::Fault,
    };
    match stopped {
        Ok(Stopped { drained, by }) => {
            traces.end(by).await;
            say_end(drained)
        }
        Err(error) => failed(&error),
    }
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
        openssl = kafka::openssl_version(),
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
fn say_end(drained: Drained) -> Exit {
    telemetry::say_last(|| say_drained(drained))
}

fn say_drained(drained: Drained) -> Exit {
    let Drained { delivered, undelivered } = drained;
    let total = delivered + undelivered;
    if undelivered == 0 {
        tracing::info!("stopped: delivered {delivered} of {total} records that were on their way");
        return Exit::Clean;
    }
    tracing::error!(
        "stopped: delivered {delivered} of {total} records that were on their way; {undelivered} could not be delivered"
    );
    Exit::Undelivered
}

pub(super) fn failed(error: &AppError) -> Exit {
    tracing::error!("{}", with_causes(error));
    match error {
        AppError::Kafka(ConnectError::Property(_) | ConnectError::Configuration(_)) => Exit::Usage,
        AppError::Kafka(ConnectError::Thread(_)) => Exit::Fault,
        AppError::Listen { .. } | AppError::Thread(_) | AppError::Server(_) | AppError::Admin(_) => {
            Exit::Fault
        }
    }
}
