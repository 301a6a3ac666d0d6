//! Owns the watch over the files of secrets and certificates: what they hold is compared, again and again.
//! Must never act on a file that is being written: what it holds has to stay the same from one look to the next.
//!
//! Contents and not notifications, because these files come by ways that notifications miss: Kubernetes swaps a symbolic link
//! above them, others rename or copy over them (decision 0013).

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};

use super::{
    Wanted,
    source::{Look, SecretFiles},
};

/// Looks at the files again and again, and tells the settings that follow from each change; ends with the receivers.
pub async fn follow(files: Arc<SecretFiles>, every: Duration, tell: watch::Sender<Wanted>) {
    if files.is_empty() {
        return tell.closed().await;
    }
    let (mut acted, mut seen) = (files.at_start().clone(), Look::new());
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !tell.is_closed() {
        ticks.tick().await;
        let looked = Arc::clone(&files);
        let Ok(now) = spawn_blocking(move || looked.look()).await else { continue };
        let is_settled = now == seen;
        seen = now;
        if !is_settled || seen == acted {
            continue;
        }
        acted.clone_from(&seen);
        let read = Arc::clone(&files);
        let (config, problem) = match spawn_blocking(move || read.read_again()).await {
            Ok(Ok(config)) => (Arc::new(config), None),
            Ok(Err(problems)) => (Arc::clone(&tell.borrow().config), Some(problems.to_string())),
            Err(_panicked) => continue,
        };
        tell.send_replace(Wanted { config, problem });
    }
}
