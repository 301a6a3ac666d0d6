//! Owns the answer to "may calls be sent here": from the phase of the process and the state of the cluster.
//! Must never turn unready for an outage: the gateway's pods would all leave at once.

use tokio::sync::watch;

use crate::{
    kafka::reachability::{Reachability, State},
    lifecycle::{Lifecycle, Phase},
};

/// Whether calls may be sent here, with the sentence that says why or why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// Whether calls may be sent here.
    pub ready: bool,
    /// Whether the cluster is connected now.
    pub connected: bool,
    /// Why, in plain words.
    pub sentence: String,
}

/// Decides readiness; `refused` says why the secrets on disk are not in use, where they are not.
#[must_use]
pub fn decide(phase: Phase, state: &State, connected_once: bool, refused: Option<&str>) -> Readiness {
    let connected = *state == State::Connected;
    let (ready, sentence) = match (phase, state) {
        (Phase::Starting, _) => (false, "starting".to_owned()),
        (Phase::Draining, _) => (false, "draining".to_owned()),
        (Phase::Serving, State::Fatal(_)) => (false, state.sentence()),
        (Phase::Serving, _) => (connected_once, state.sentence()),
    };
    let sentence = match refused {
        Some(why) => format!("{sentence}; the secrets on disk are not in use: {why}"),
        None => sentence,
    };
    Readiness { ready, connected, sentence }
}

/// Follows phase and cluster for as long as the process runs, and tells each change.
pub async fn follow(
    lifecycle: Lifecycle,
    reachability: &Reachability,
    mut refused: watch::Receiver<Option<String>>,
    tell: watch::Sender<Readiness>,
) {
    let mut phases = lifecycle.watch();
    let mut states = reachability.watch();
    let mut connected_once = false;
    loop {
        let phase = *phases.borrow_and_update();
        let state = states.borrow_and_update().clone();
        connected_once |= state == State::Connected;
        let why = refused.borrow_and_update().clone();
        let next = decide(phase, &state, connected_once, why.as_deref());
        tell.send_if_modified(|readiness| {
            let changed = *readiness != next;
            *readiness = next;
            changed
        });
        let alive = tokio::select! {
            changed = phases.changed() => changed.is_ok(),
            changed = states.changed() => changed.is_ok(),
            changed = refused.changed() => changed.is_ok(),
        };
        if !alive {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_does_not_make_the_pod_unready_but_a_fatal_error_does() {
        let away = State::Unreachable("no route".into());
        assert!(!decide(Phase::Serving, &State::Connecting, false, None).ready);
        assert!(!decide(Phase::Serving, &State::Refused("password".into()), false, None).ready);
        assert!(decide(Phase::Serving, &State::Connected, true, None).ready);
        assert!(decide(Phase::Serving, &away, true, None).ready);
        assert!(!decide(Phase::Serving, &State::Fatal("fenced".into()), true, None).ready);
        assert!(!decide(Phase::Draining, &State::Connected, true, None).ready);
        assert!(decide(Phase::Serving, &away, true, None).sentence.contains("no route"));
    }

    #[test]
    fn secrets_that_do_not_work_are_said_and_make_no_pod_unready() {
        let readiness = decide(Phase::Serving, &State::Connected, true, Some("wrong password"));
        assert!(readiness.ready && readiness.sentence.contains("wrong password"), "{readiness:?}");
    }
}
