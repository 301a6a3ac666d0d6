//! Owns the taxonomy of failures: what each is, whether the record may be in Kafka, and what the caller may do.
//! Must never know gRPC codes (`grpc/status.rs`) or Kafka's (`kafka/classify.rs`), and never hold a secret, a key or a payload.

mod letter;
mod reason;

pub use self::{
    letter::LetterEnd,
    reason::{Fault, Persisted, Reason, Remedy},
};

use std::{fmt, time::Duration};

use crate::record::Topic;

/// The most violations that one failure carries; the total is kept beside them.
pub const VIOLATIONS_MAX: usize = 20;

/// One wrong field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The path in the request, such as `record.headers[3].name`.
    pub field: String,
    /// What is wrong with it, without its value.
    pub description: String,
}

/// A failure with what is known of it; one pointer wide.
#[derive(Clone, PartialEq, Eq)]
pub struct Failure(Box<Facts>);

#[derive(Clone, PartialEq, Eq)]
struct Facts {
    reason: Reason,
    message: String,
    topic: Option<Topic>,
    partition: Option<i32>,
    field: Option<String>,
    kafka_error: Option<String>,
    attempts: u32,
    committed_offset: Option<i64>,
    retry_after: Option<Duration>,
    violations: Vec<Violation>,
    violations_total: usize,
    letter: Option<(Topic, LetterEnd)>,
    /// Why the record can have no dead letter, if its dead-letter topic cannot even be named.
    letter_error: Option<Reason>,
}

// === impl Failure ===

impl Failure {
    /// Makes a failure from its reason and a sentence for the caller's developer.
    #[must_use]
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self(Box::new(Facts {
            reason,
            message: message.into(),
            topic: None,
            partition: None,
            field: None,
            kafka_error: None,
            attempts: 0,
            committed_offset: None,
            retry_after: None,
            violations: Vec::new(),
            violations_total: 0,
            letter: None,
            letter_error: None,
        }))
    }

    /// Makes an `InvalidRecord` of wrong fields, of which there were `total`; the first [`VIOLATIONS_MAX`] are kept.
    #[must_use]
    pub fn invalid(mut violations: Vec<Violation>, total: usize) -> Self {
        let message = invalid_sentence(&violations, total);
        let field = violations.first().map(|first| first.field.clone());
        violations.truncate(VIOLATIONS_MAX);
        let mut failure = Self::new(Reason::InvalidRecord, message);
        failure.0.field = field;
        failure.0.violations = violations;
        failure.0.violations_total = total;
        failure
    }

    /// Adds the topic.
    #[must_use]
    pub fn topic(mut self, topic: &Topic) -> Self {
        self.0.topic = Some(topic.clone());
        self
    }

    /// Adds the partition.
    #[must_use]
    pub fn partition(mut self, partition: i32) -> Self {
        self.0.partition = Some(partition);
        self
    }

    /// Adds the path of the field at fault.
    #[must_use]
    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.0.field = Some(field.into());
        self
    }

    /// Puts the path of the record before the fields at fault: `partition` becomes `record.partition`.
    #[must_use]
    pub fn within(mut self, path: &str) -> Self {
        let facts = &mut *self.0;
        let violations = facts.violations.iter_mut().map(|violation| &mut violation.field);
        for field in violations.chain(&mut facts.field) {
            *field = format!("{path}.{field}");
        }
        if facts.violations_total > 0 {
            facts.message = invalid_sentence(&facts.violations, facts.violations_total);
        }
        self
    }

    /// Adds Kafka's name of the error, such as `NOT_ENOUGH_REPLICAS`.
    #[must_use]
    pub fn kafka_error(mut self, name: impl Into<String>) -> Self {
        self.0.kafka_error = Some(name.into());
        self
    }

    /// Adds how often the sidecar handed the record over to Kafka's client.
    #[must_use]
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.0.attempts = attempts;
        self
    }

    /// Adds what the group has committed.
    #[must_use]
    pub fn committed_offset(mut self, offset: i64) -> Self {
        self.0.committed_offset = Some(offset);
        self
    }

    /// Adds the delay after which to try again.
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.0.retry_after = Some(delay);
        self
    }

    /// Adds where the record's dead letter was to go, and what became of it.
    #[must_use]
    pub fn dead_letter(mut self, topic: Topic, end: LetterEnd) -> Self {
        self.0.message.push_str(&end.sentence(&topic));
        self.0.letter = Some((topic, end));
        self
    }

    /// Adds why the record can have no dead letter, although records that fail so have one.
    #[must_use]
    pub fn without_dead_letter(mut self, reason: Reason, sentence: &impl fmt::Display) -> Self {
        self.0.message.push_str(&format!("; it has no dead letter: {sentence}"));
        self.0.letter_error = Some(reason);
        self
    }

    /// Returns the reason.
    #[must_use]
    pub fn reason(&self) -> Reason {
        self.0.reason
    }

    /// Returns whether the record may be in Kafka.
    #[must_use]
    pub fn persisted(&self) -> Persisted {
        self.0.reason.persisted()
    }

    /// Returns what the caller may do.
    #[must_use]
    pub fn remedy(&self) -> Remedy {
        self.0.reason.remedy()
    }

    /// Returns whether the record is, or may be, set aside in a dead letter.
    #[must_use]
    pub fn is_set_aside(&self) -> bool {
        match &self.0.letter {
            Some((_, LetterEnd::Written { .. } | LetterEnd::Open)) => true,
            Some((_, LetterEnd::Failed(reason))) => reason.persisted() == Persisted::Maybe,
            None => false,
        }
    }

    /// Returns the sentence for the caller's developer.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Returns Kafka's name of the error, where Kafka said one.
    #[must_use]
    pub fn kafkas_name(&self) -> Option<&str> {
        self.0.kafka_error.as_deref()
    }

    /// Returns how often the record was handed over to Kafka's client.
    #[must_use]
    pub fn tries(&self) -> u32 {
        self.0.attempts
    }

    /// Returns the delay after which to try again, where one was said.
    #[must_use]
    pub fn delay(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Returns the wrong fields, at most [`VIOLATIONS_MAX`], and how many there were in all.
    #[must_use]
    pub fn violations(&self) -> (&[Violation], usize) {
        (&self.0.violations, self.0.violations_total)
    }

    /// Returns the topic, where it is known.
    #[must_use]
    pub fn failed_topic(&self) -> Option<&Topic> {
        self.0.topic.as_ref()
    }

    /// Returns the partition, where it is known.
    #[must_use]
    pub fn failed_partition(&self) -> Option<i32> {
        self.0.partition
    }

    /// Returns what machines read: the metadata of `ErrorInfo` and of `RecordError`, in the contract's names.
    #[must_use]
    pub fn metadata(&self) -> Vec<(&'static str, String)> {
        let facts = &*self.0;
        let mut pairs = vec![("persisted", self.persisted().name().to_owned())];
        pairs.extend(facts.topic.as_ref().map(|topic| ("topic", topic.to_string())));
        pairs.extend(facts.partition.map(|partition| ("partition", partition.to_string())));
        pairs.extend(facts.field.as_ref().map(|field| ("field", field.clone())));
        pairs.extend(facts.kafka_error.as_ref().map(|name| ("kafkaError", name.clone())));
        if facts.attempts > 0 {
            pairs.push(("attempts", facts.attempts.to_string()));
        }
        pairs.extend(facts.committed_offset.map(|offset| ("committedOffset", offset.to_string())));
        if facts.violations_total > 0 {
            pairs.push(("violations", facts.violations_total.to_string()));
        }
        if let Some((topic, end)) = &facts.letter {
            pairs.push(("deadLetterTopic", topic.to_string()));
            pairs.extend(end.metadata());
        }
        pairs.extend(facts.letter_error.map(|reason| ("deadLetterError", reason.name().to_owned())));
        pairs
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.0.reason.name(), self.0.message)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Failure({self}; {:?})", self.metadata())
    }
}

impl std::error::Error for Failure {}

fn invalid_sentence(violations: &[Violation], total: usize) -> String {
    match violations.first() {
        Some(first) if total == 1 => format!("{}: {}", first.field, first.description),
        Some(first) => {
            format!("{}: {} (and {} more violations)", first.field, first.description, total - 1)
        }
        None => "the request is invalid".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_violations_are_cut_and_counted() {
        let violation =
            |number: usize| Violation { field: format!("f{number}"), description: "is wrong".into() };
        let failure = Failure::invalid((0..30).map(violation).collect(), 200);
        assert_eq!(failure.violations().0.len(), VIOLATIONS_MAX);
        assert_eq!(failure.violations().1, 200);
        assert_eq!(failure.message(), "f0: is wrong (and 199 more violations)");
        assert!(failure.metadata().contains(&("violations", "200".to_owned())));
    }
}
