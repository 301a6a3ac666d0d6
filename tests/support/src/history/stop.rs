//! Stops: in time, with the exit code that says that all is delivered, and with an answer to everybody (I15).

use super::{History, Kind, Violation, shown};

/// One process of the sidecar.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Life {
    /// When it began to listen. What was brought before may have found nobody.
    pub listens_ms: u64,
    /// How it ended; none where it runs on.
    pub end: Option<LifeEnd>,
}

/// How a process of the sidecar ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LifeEnd {
    /// By itself.
    Died,
    /// It was killed (SIGKILL).
    Killed,
    /// It was asked to stop (SIGTERM).
    Stopped {
        /// When it was asked.
        at_ms: u64,
        /// How long it took.
        took_ms: u64,
        /// How long it may take.
        grace_ms: u64,
        /// Its exit code.
        code: Option<i32>,
    },
}

pub(super) fn violations(history: &History) -> Vec<Violation> {
    let of_life = history.lives.iter().enumerate().flat_map(|(number, life)| {
        let Some(LifeEnd::Stopped { at_ms, took_ms, grace_ms, code }) = &life.end else { return Vec::new() };
        let mut told = Vec::new();
        if took_ms > grace_ms {
            told.push(format!("life {number} took {took_ms} ms to stop, the grace is {grace_ms} ms"));
        }
        if *code != Some(0) {
            told.push(format!("life {number} ended with {code:?}"));
        }
        let unanswered = history.attempts.iter().filter(|attempt| {
            let hears_nothing = attempt.outcome.refusal().is_some_and(|refusal| refusal.reason.is_empty());
            attempt.life == number && (life.listens_ms..*at_ms).contains(&attempt.begun_ms) && hears_nothing
        });
        told.extend(unanswered.map(|attempt| {
            let early = at_ms - attempt.begun_ms;
            format!("{}, brought {early} ms before the stop, has no answer", shown(&attempt.value))
        }));
        told
    });
    of_life.map(|what| Violation::new(Kind::Stop, what)).collect()
}
