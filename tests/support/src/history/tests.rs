//! A run in which all goes well breaks nothing; and for each promise, a run that breaks it is told as that, and as nothing else.

mod process;

use super::*;

/// Changes a run in which all goes well.
type Plant = fn(&mut History);

const LETTERS: &str = "letters";
/// Of the attempts in [`well`]: without an id, acknowledged.
const PLAIN: usize = 0;
/// Without an id: unknown, and never sent again.
const UNKNOWN: usize = 2;
/// With an id: unknown at first, then a duplicate.
const AGAIN: usize = 3;
/// Never written.
const REFUSED: usize = 5;
/// Failed, with a dead letter.
const DEAD: usize = 6;

fn place(topic: &str, offset: i64) -> Place {
    Place { topic: topic.to_owned(), partition: 1, offset }
}

fn ok(offset: i64) -> Outcome {
    Outcome::Ok { partition: 1, offset: Some(offset), duplicate: false }
}

fn refusal(reason: &str) -> Refusal {
    Refusal { reason: reason.to_owned(), letter: ToldLetter::None }
}

fn unknown() -> Outcome {
    Outcome::Maybe(refusal("DELIVERY_UNKNOWN"))
}

/// A try, brought at ten times its position, of the record that its value names.
fn attempt(value: &str, position: u64, outcome: Outcome) -> Attempt {
    Attempt {
        value: value.to_owned(),
        topic: "orders".to_owned(),
        key: Some("key".to_owned()),
        message_id: None,
        source: 7,
        position,
        life: 0,
        begun_ms: position * 10,
        ended_ms: position * 10 + 5,
        outcome,
        is_doomed: false,
    }
}

fn found(value: &str, offset: i64) -> Found {
    Found { place: place("orders", offset), value: value.to_owned(), key: Some("key".to_owned()) }
}

/// A run with every kind of outcome, in which every promise is kept.
fn well() -> History {
    let identified = |attempt: Attempt| Attempt { message_id: Some("id".to_owned()), ..attempt };
    let duplicate = Outcome::Ok { partition: 1, offset: Some(3), duplicate: true };
    let told = Refusal { letter: ToldLetter::At(place(LETTERS, 0)), ..refusal("TOPIC_NOT_FOUND") };
    let dead = Attempt { topic: "gone".to_owned(), is_doomed: true, ..attempt("dead", 7, Outcome::No(told)) };
    let letter = Letter {
        place: place(LETTERS, 0),
        value: "dead".to_owned(),
        key: dead.key.clone(),
        topic: dead.topic.clone(),
        reason: "TOPIC_NOT_FOUND".to_owned(),
    };
    let sample = Sample { at_ms: 200, rss_bytes: 10, threads: 3, fds: 4, is_ready: true };
    let committed = |next| Committed { topic: "in".to_owned(), partition: 1, next };
    let stopped = LifeEnd::Stopped { at_ms: 5_000, took_ms: 100, grace_ms: 1_000, code: Some(0) };
    History {
        attempts: vec![
            attempt("plain", 1, ok(0)),
            attempt("next", 2, ok(1)),
            attempt("unknown", 3, unknown()),
            identified(attempt("again", 4, unknown())),
            identified(attempt("again", 5, duplicate)),
            attempt("refused", 6, Outcome::No(refusal("QUEUE_FULL"))),
            dead,
            attempt("last", 20, ok(9)),
        ],
        found: vec![
            found("plain", 0),
            found("next", 1),
            found("unknown", 2),
            found("again", 3),
            found("last", 9),
        ],
        letters: vec![letter],
        buried: vec!["TOPIC_NOT_FOUND".to_owned()],
        deletions: Vec::new(),
        message_id_window_ms: 600_000,
        lives: vec![Life { listens_ms: 0, end: Some(stopped) }, Life { listens_ms: 5_200, end: None }],
        healings: vec![Healing {
            fault: "a fault".to_owned(),
            at_ms: 45,
            within_ms: 200,
            until_ms: 1_000,
            unserved: 0,
        }],
        samples: vec![sample],
        bounds: Bounds { rss_bytes: 10, threads: 3, fds: 4 },
        outputs: vec![Output { name: "stderr".to_owned(), text: "all is well".to_owned() }],
        secrets: vec!["canary-1".to_owned()],
        committed: vec![committed(1), committed(1), committed(2)],
        inputs: vec![
            Input { place: place("in", 1), outputs: 1 },
            Input { place: place("in", 2), outputs: 0 },
        ],
    }
}

fn planted(plant: impl FnOnce(&mut History)) -> Vec<Violation> {
    let mut history = well();
    plant(&mut history);
    history.violations()
}

/// Checks that every planted run is told as this kind, and as nothing else.
#[track_caller]
fn each_is(kind: Kind, plants: &[Plant]) {
    for (number, plant) in plants.iter().enumerate() {
        let violations = planted(plant);
        assert!(!violations.is_empty(), "{kind:?} {number} is not found");
        assert!(
            violations.iter().all(|violation| violation.kind == kind),
            "{kind:?} {number}: {violations:?}"
        );
    }
}

#[track_caller]
fn none_in(plants: &[Plant]) {
    for (number, plant) in plants.iter().enumerate() {
        assert_eq!(planted(plant), [], "{number}");
    }
}

/// The same process again: what was sent before was sent to another one.
fn restarted(history: &mut History) {
    for attempt in &mut history.attempts[..=AGAIN] {
        attempt.life = 1;
    }
}

#[test]
fn a_run_in_which_all_goes_well_breaks_nothing() {
    none_in(&[|_| ()]);
    assert_eq!(well().recoveries_ms(), [15], "the refused one came 15 ms after the cure");
}

#[test]
fn lost_acknowledgements_are_found() {
    each_is(
        Kind::LostAck,
        &[
            |history| drop(history.found.remove(0)),
            |history| history.found[0].place.partition = 2,
            |history| history.found[4].place.offset = 10,
            // The answer that it is there already: it is not.
            |history| drop(history.found.remove(3)),
        ],
    );
}

#[test]
fn what_was_acknowledged_before_its_topic_was_deleted_may_be_gone() {
    fn deleted(history: &mut History) {
        history.deletions.push(Deletion { topic: "orders".to_owned(), made_again_ms: 100 });
    }
    none_in(&[deleted, |history| {
        deleted(history);
        history.found.drain(..4);
    }]);
    each_is(
        Kind::LostAck,
        &[|history| {
            deleted(history);
            history.found.pop();
        }],
    );
}

#[test]
fn phantoms_are_found() {
    each_is(
        Kind::Phantom,
        &[
            |history| history.found.push(found("nobody's", 8)),
            |history| history.found.push(found("refused", 8)),
            |history| history.found[0].key = None,
            |history| {
                let elsewhere = Place { topic: "clicks".to_owned(), ..place("", 0) };
                history.found.push(Found { place: elsewhere, ..found("plain", 0) });
            },
        ],
    );
}

#[test]
fn unknown_records_that_are_there_twice_are_found() {
    fn twice(history: &mut History) {
        history.found.push(found("unknown", 11));
    }
    each_is(Kind::DishonestUnknown, &[twice]);
    // Its caller sent it again, without an id.
    none_in(&[
        |history| drop(history.found.remove(2)),
        |history| {
            twice(history);
            history.attempts.push(attempt("unknown", 21, unknown()));
        },
    ]);
}

#[test]
fn duplicates_are_found() {
    each_is(
        Kind::Duplicate,
        &[
            |history| history.found.push(found("plain", 8)),
            |history| history.found.push(found("again", 8)),
            // Not remembered, and so written again, in the same life.
            |history| {
                history.attempts[AGAIN + 1].outcome = ok(5);
                history.found.push(found("again", 5));
            },
        ],
    );
}

#[test]
fn an_id_is_remembered_by_one_life_and_for_its_window() {
    none_in(&[
        |history| {
            restarted(history);
            history.attempts[AGAIN + 1].outcome = ok(5);
            history.found.push(found("again", 5));
        },
        |history| {
            history.message_id_window_ms = 1;
            history.attempts[AGAIN + 1].outcome = ok(5);
            history.found.push(found("again", 5));
        },
    ]);
}

#[test]
fn disorder_is_found() {
    fn swapped(history: &mut History) {
        (history.found[0].place.offset, history.found[1].place.offset) = (1, 0);
        (history.attempts[0].outcome, history.attempts[1].outcome) = (ok(1), ok(0));
    }
    fn late(history: &mut History) {
        // What nobody heard of lies behind what was brought later.
        history.found[2].place.offset = 11;
    }
    each_is(Kind::Disorder, &[swapped, late]);
    none_in(&[
        // Of two callers, or of two lives.
        |history| {
            swapped(history);
            history.attempts[PLAIN].source = 8;
        },
        |history| {
            swapped(history);
            history.attempts[PLAIN].life = 1;
        },
        // Its caller sent it again behind the others.
        |history| {
            late(history);
            history.attempts.push(attempt("unknown", 21, unknown()));
        },
    ]);
}

#[test]
fn dead_letters_that_are_not_as_told_are_found() {
    fn failed(reason: &str) -> Outcome {
        let letter = ToldLetter::Failed(reason.to_owned());
        Outcome::No(Refusal { letter, ..refusal("TOPIC_NOT_FOUND") })
    }
    each_is(
        Kind::DeadLetter,
        &[
            |history| history.letters.clear(),
            |history| history.letters[0].key = None,
            |history| history.letters[0].topic = "orders".to_owned(),
            |history| history.letters[0].reason = "RECORD_REJECTED".to_owned(),
            |history| history.letters[0].value = "nobody's".to_owned(),
            |history| {
                history.letters.clear();
                history.attempts[DEAD].outcome = Outcome::No(refusal("TOPIC_NOT_FOUND"));
            },
            // A letter of what was acknowledged, or of what was told to have none.
            |history| {
                history.letters.push(Letter {
                    place: place(LETTERS, 1),
                    value: "plain".to_owned(),
                    ..history.letters[0].clone()
                });
            },
            |history| history.attempts[DEAD].outcome = failed("NOT_AUTHORIZED"),
            |history| history.attempts[DEAD].outcome = Outcome::No(refusal("DEADLINE_NOT_WRITTEN")),
        ],
    );
    none_in(&[
        |history| history.attempts[DEAD].outcome = failed("DELIVERY_UNKNOWN"),
        |history| history.attempts[DEAD].outcome = unknown(),
        // Nobody heard of it: the sidecar was killed.
        |history| {
            history.attempts[DEAD].outcome = Outcome::Maybe(refusal(""));
            history.lives[0].end = Some(LifeEnd::Killed);
        },
        |history| {
            let open = Refusal { letter: ToldLetter::Open, ..refusal("TOPIC_NOT_FOUND") };
            history.attempts[DEAD].outcome = Outcome::No(open);
        },
    ]);
}

#[test]
fn values_are_shown_in_short() {
    let long = "ä".repeat(50);
    assert_eq!(shown(&long), "ä".repeat(SHOWN));
    assert_eq!(shown("short"), "short");
    let refused = &well().attempts[REFUSED];
    assert!(!refused.outcome.may_have_written() && refused.outcome.refusal().is_some());
}
