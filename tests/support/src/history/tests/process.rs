//! The promises about the process and its offsets, broken on purpose.

use super::*;

#[test]
fn offsets_that_go_back_or_skip_are_found() {
    each_is(
        Kind::Offsets,
        &[
            |history| history.committed.swap(1, 2),
            |history| history.inputs[0].outputs = 0,
            |history| history.inputs[0].outputs = 2,
            |history| history.inputs[1].outputs = 1,
        ],
    );
}

#[test]
fn what_the_process_takes_too_much_is_found() {
    each_is(
        Kind::Unbounded,
        &[
            |history| history.samples[0].rss_bytes += 1,
            |history| history.samples[0].threads += 1,
            |history| history.samples[0].fds += 1,
        ],
    );
}

#[test]
fn progress_that_does_not_come_back_is_found() {
    each_is(
        Kind::NoProgress,
        &[
            // The last one, well after the cure.
            |history| {
                history.healings[0].within_ms = 100;
                history.attempts.push(attempt("late", 18, Outcome::No(refusal("BROKERS_UNAVAILABLE"))));
            },
            // All went well only before the cure, and then nothing was answered.
            |history| history.healings[0].at_ms = 210,
            |history| history.healings[0].unserved = 1,
            |history| history.samples[0].is_ready = false,
            |history| history.lives[1].end = Some(LifeEnd::Died),
        ],
    );
    // It was broken again meanwhile, or fails by its own fault.
    none_in(&[
        |history| {
            history.attempts.push(attempt("broken", 100, Outcome::No(refusal("BROKERS_UNAVAILABLE"))));
        },
        |history| {
            let failed = attempt("late", 40, Outcome::No(refusal("NOT_AUTHORIZED")));
            history.attempts.push(Attempt { is_doomed: true, ..failed });
        },
    ]);
}

#[test]
fn secrets_that_come_out_are_found() {
    each_is(Kind::SecretTold, &[|history| history.outputs[0].text.push_str(": canary-1")]);
    let told = planted(|history| history.outputs[0].text = "canary-1".to_owned());
    assert!(!told[0].what.contains("canary"), "{told:?}");
}

#[test]
fn stops_that_are_not_graceful_are_found() {
    fn stopped(history: &mut History, took_ms: u64, code: Option<i32>) {
        let end = LifeEnd::Stopped { at_ms: 5_000, took_ms, grace_ms: 1_000, code };
        history.lives[0].end = Some(end);
    }
    each_is(
        Kind::Stop,
        &[
            |history| stopped(history, 1_001, Some(0)),
            |history| stopped(history, 10, Some(2)),
            |history| stopped(history, 10, None),
            |history| history.attempts[UNKNOWN].outcome = Outcome::Maybe(refusal("")),
        ],
    );
    none_in(&[
        |history| {
            history.attempts[UNKNOWN].outcome = Outcome::Maybe(refusal(""));
            history.lives[0].end = Some(LifeEnd::Killed);
        },
        |history| {
            history.attempts[UNKNOWN].outcome = Outcome::Maybe(refusal(""));
            history.lives[0].listens_ms = 40;
        },
        |history| {
            let late = Attempt { begun_ms: 5_001, ended_ms: 5_002, ..attempt("late", 30, unknown()) };
            history.attempts.push(Attempt { outcome: Outcome::Maybe(refusal("")), ..late });
        },
    ]);
}
