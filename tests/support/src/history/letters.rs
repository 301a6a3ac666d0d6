//! Dead letters: where the answer says, with the record and the reason, and only for what failed (I14).

use std::collections::HashMap;

use super::{Attempt, History, Kind, Outcome, Place, Violation, shown};

/// What an error says of its record's dead letter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ToldLetter {
    /// Nothing: there is none, or the caller heard no answer.
    #[default]
    None,
    /// It is on its way, or may be.
    Open,
    /// There is none, for this reason.
    Failed(String),
    /// It is there.
    At(Place),
}

/// A dead letter that a reader finds.
#[derive(Clone, Debug)]
pub struct Letter {
    /// Where.
    pub place: Place,
    /// The record's value.
    pub value: String,
    /// The record's key.
    pub key: Option<String>,
    /// Where the record was to go.
    pub topic: String,
    /// Why it did not.
    pub reason: String,
}

pub(super) fn violations(history: &History) -> Vec<Violation> {
    let mut letters: HashMap<&Place, &Letter> = HashMap::new();
    for letter in &history.letters {
        letters.insert(&letter.place, letter);
    }
    let mut attempts: HashMap<&str, Vec<&Attempt>> = HashMap::new();
    for attempt in &history.attempts {
        attempts.entry(&attempt.value).or_default().push(attempt);
    }
    let told = history.attempts.iter().filter_map(|attempt| wrongly_told(attempt, &letters, &history.buried));
    let none = Vec::new();
    let found = history.letters.iter().filter_map(|letter| {
        let attempts = attempts.get(letter.value.as_str()).unwrap_or(&none);
        let is_explained = attempts.iter().any(|attempt| explains(attempt, letter));
        let (value, place, reason) = (shown(&letter.value), &letter.place, &letter.reason);
        let told: Vec<_> = attempts.iter().map(|attempt| &attempt.outcome).collect();
        (!is_explained).then(|| format!("{value}: a dead letter for {reason} at {place:?}, told {told:?}"))
    });
    told.chain(found).map(|what| Violation::new(Kind::DeadLetter, what)).collect()
}

/// Judges what one answer says of a dead letter.
fn wrongly_told(attempt: &Attempt, letters: &HashMap<&Place, &Letter>, buried: &[String]) -> Option<String> {
    let refusal = attempt.outcome.refusal()?;
    let value = shown(&attempt.value);
    let place = match &refusal.letter {
        ToldLetter::At(place) => place,
        ToldLetter::None if buried.contains(&refusal.reason) => {
            return Some(format!("{value}: {} without a word of its dead letter", refusal.reason));
        }
        ToldLetter::None | ToldLetter::Open | ToldLetter::Failed(_) => return None,
    };
    let Some(letter) = letters.get(place) else {
        return Some(format!("{value}: no dead letter at {place:?}"));
    };
    let seen = (&letter.value, &letter.key, &letter.topic, &letter.reason);
    let sent = (&attempt.value, &attempt.key, &attempt.topic, &refusal.reason);
    let (topic, reason) = (&letter.topic, &letter.reason);
    (seen != sent).then(|| format!("{value}: another record, topic {topic} or reason {reason} at {place:?}"))
}

/// Whether a try may have left this dead letter behind.
fn explains(attempt: &Attempt, letter: &Letter) -> bool {
    match &attempt.outcome {
        Outcome::Ok { .. } => false,
        Outcome::No(refusal) | Outcome::Maybe(refusal) => match &refusal.letter {
            ToldLetter::At(place) => *place == letter.place,
            ToldLetter::Open => true,
            // Whoever heard nothing, or was told before the record failed for good, cannot know.
            ToldLetter::None => matches!(attempt.outcome, Outcome::Maybe(_)),
            // What may not be there may be.
            ToldLetter::Failed(reason) => reason == "DELIVERY_UNKNOWN",
        },
    }
}
