//! Owns the only list of Kafka's error codes: what each means, from which follows what is said of a record and of a unit.
//! Must stay the one place that tells codes apart; what is not listed is a passing error that is named, never none at all.

use std::borrow::Cow;

use super::{code::ErrorCode as Code, ffi::MessageStatus, tls};
use crate::{
    failure::{Failure, Reason},
    record::Topic,
    retry::Fault,
};

/// What a code means for whoever wanted to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// A record, or a batch of them, is larger than Kafka takes.
    RecordTooLarge,
    /// The offsets to commit, or the texts beside them, are larger than Kafka takes.
    OffsetsTooLarge,
    /// Kafka refuses the request for what is in it, and would refuse it again.
    Rejected,
    /// The topic or partition is not there.
    NoTopic,
    /// The principal may not do that.
    Forbidden,
    /// Kafka does not let the principal in at all, or TLS failed.
    Credentials,
    /// The consumer is no longer the member that it says.
    StaleConsumer,
    /// The producer is not, or no longer, what the brokers know: another one has to take its place.
    Producer,
    /// The client's own queue is full.
    QueueFull,
    /// What may pass: lost connections, elections, too few replicas, a coordinator that moves, and every code without a line here.
    Passing,
}

/// Says what a code means: the one table.
const fn meaning(code: Code) -> Meaning {
    match code {
        Code::MSG_SIZE_TOO_LARGE | Code::RECORD_LIST_TOO_LARGE | Code::INVALID_MSG_SIZE => {
            Meaning::RecordTooLarge
        }
        Code::OFFSET_METADATA_TOO_LARGE | Code::INVALID_COMMIT_OFFSET_SIZE => Meaning::OffsetsTooLarge,
        Code::INVALID_MSG
        | Code::INVALID_RECORD
        | Code::INVALID_TIMESTAMP
        | Code::POLICY_VIOLATION
        | Code::UNSUPPORTED_FOR_MESSAGE_FORMAT
        | Code::UNSUPPORTED_COMPRESSION_TYPE
        | Code::UNSUPPORTED_VERSION
        | Code::LOCAL_UNSUPPORTED_FEATURE
        | Code::LOCAL_INVALID_ARG
        | Code::INVALID_REQUIRED_ACKS
        | Code::INVALID_GROUP_ID => Meaning::Rejected,
        Code::UNKNOWN_TOPIC_OR_PART
        | Code::INVALID_TOPIC
        | Code::UNKNOWN_TOPIC_ID
        | Code::LOCAL_UNKNOWN_TOPIC
        | Code::LOCAL_UNKNOWN_PARTITION => Meaning::NoTopic,
        Code::TOPIC_AUTHORIZATION_FAILED
        | Code::GROUP_AUTHORIZATION_FAILED
        | Code::CLUSTER_AUTHORIZATION_FAILED
        | Code::TRANSACTIONAL_ID_AUTHORIZATION_FAILED => Meaning::Forbidden,
        Code::LOCAL_AUTHENTICATION
        | Code::SASL_AUTHENTICATION_FAILED
        | Code::UNSUPPORTED_SASL_MECHANISM
        | Code::ILLEGAL_SASL_STATE
        | Code::SECURITY_DISABLED
        | Code::LOCAL_SSL => Meaning::Credentials,
        Code::UNKNOWN_MEMBER_ID
        | Code::ILLEGAL_GENERATION
        | Code::FENCED_INSTANCE_ID
        | Code::UNRELEASED_INSTANCE_ID
        | Code::STALE_MEMBER_EPOCH
        | Code::FENCED_MEMBER_EPOCH
        | Code::GROUP_ID_NOT_FOUND
        | Code::REBALANCE_IN_PROGRESS => Meaning::StaleConsumer,
        Code::INVALID_PRODUCER_ID_MAPPING
        | Code::UNKNOWN_PRODUCER_ID
        | Code::INVALID_PRODUCER_EPOCH
        | Code::PRODUCER_FENCED
        | Code::LOCAL_FENCED
        | Code::LOCAL_FATAL
        | Code::INVALID_TXN_STATE
        | Code::TRANSACTIONAL_ID_NOT_FOUND
        | Code::OUT_OF_ORDER_SEQUENCE_NUMBER
        | Code::DUPLICATE_SEQUENCE_NUMBER => Meaning::Producer,
        Code::LOCAL_QUEUE_FULL => Meaning::QueueFull,
        _ => Meaning::Passing,
    }
}

impl Meaning {
    /// Gives the reason of a record that is surely not in the log.
    const fn of_record(self) -> Reason {
        match self {
            Self::RecordTooLarge | Self::OffsetsTooLarge => Reason::RecordTooLarge,
            Self::Rejected => Reason::RecordRejected,
            Self::NoTopic => Reason::TopicNotFound,
            Self::Forbidden => Reason::NotAuthorized,
            Self::Credentials => Reason::KafkaAuthenticationFailed,
            Self::QueueFull => Reason::QueueFull,
            // Also a purge at shutdown: the record is not written, and the same record may be sent again.
            Self::StaleConsumer | Self::Producer | Self::Passing => Reason::BrokersUnavailable,
        }
    }

    /// Gives the reason of a unit that is surely not committed.
    const fn of_unit(self) -> Reason {
        match self {
            Self::RecordTooLarge | Self::OffsetsTooLarge => Reason::RecordTooLarge,
            Self::Rejected => Reason::RecordRejected,
            Self::NoTopic => Reason::TopicNotFound,
            Self::Forbidden => Reason::NotAuthorized,
            Self::Credentials => Reason::KafkaAuthenticationFailed,
            Self::StaleConsumer => Reason::ConsumerFenced,
            // Also a transaction's own time-out, which looks like fencing; that another has the id is told apart before (`lane`).
            Self::QueueFull | Self::Producer | Self::Passing => Reason::TransactionAborted,
        }
    }
}

/// Turns the code of a failed delivery, and what is known of its persistence, into a failure.
#[must_use]
pub fn delivery(code: Code, status: MessageStatus, topic: &Topic, partition: i32) -> Failure {
    let reason = match status {
        MessageStatus::NotPersisted => meaning(code).of_record(),
        MessageStatus::PossiblyPersisted | MessageStatus::Persisted => Reason::DeliveryUnknown,
    };
    let name = code.name();
    Failure::new(reason, sentence(reason, topic, &name)).topic(topic).partition(partition).kafka_error(name)
}

/// Turns an error about a topic into a failure; `None` if the topic is there or will soon be.
#[must_use]
pub fn topic(code: Code, topic: &Topic) -> Option<Failure> {
    if matches!(code, Code::NO_ERROR | Code::LEADER_NOT_AVAILABLE) {
        return None;
    }
    let (reason, name) = (meaning(code).of_record(), code.name());
    Some(Failure::new(reason, sentence(reason, topic, &name)).topic(topic).kafka_error(name))
}

/// Returns whether librdkafka refused a record, or a whole batch with it, for its size.
#[must_use]
pub fn is_too_large(code: Code) -> bool {
    meaning(code) == Meaning::RecordTooLarge
}

/// Returns whether a record was refused because the broker refused another one of its batch (KIP-467).
#[must_use]
pub fn is_anothers(code: Code) -> bool {
    code == Code::LOCAL_INVALID_DIFFERENT_RECORD
}

/// Returns whether the broker refused a record for what it is, or one of its batch: where exactly one is at fault, librdkafka
/// (2.12.1, `rd_kafka_dr_msgq0`) tells its error of them all.
#[must_use]
pub fn is_rejected(code: Code) -> bool {
    matches!(code, Code::INVALID_RECORD | Code::INVALID_TIMESTAMP)
}

/// Returns whether librdkafka did not try to send a record because its producer met a fatal error or was given up.
#[must_use]
pub fn is_unsent(code: Code) -> bool {
    matches!(code, Code::LOCAL_FATAL | Code::LOCAL_PURGE_QUEUE)
}

/// Returns whether librdkafka gave a record up because its time was over.
#[must_use]
pub fn is_out_of_retries(code: Code) -> bool {
    code == Code::LOCAL_MSG_TIMED_OUT
}

/// Says what is known of why a record was not delivered that is surely not written.
#[must_use]
pub fn fault(code: Code) -> Fault {
    match code {
        code if is_unsent(code) => Fault::Unsent,
        code if is_too_large(code) => Fault::TooLarge,
        code if is_anothers(code) => Fault::Anothers,
        code if is_rejected(code) => Fault::Rejected,
        _ => Fault::Lasting,
    }
}

/// Returns whether a coordinator says that the producer's epoch is no longer that of its transactional id.
#[must_use]
pub fn is_fenced(code: Code) -> bool {
    matches!(code, Code::LOCAL_FENCED | Code::PRODUCER_FENCED | Code::INVALID_PRODUCER_EPOCH)
}

/// Returns whether an error is about the producer, and not about what it carries: only another producer mends it.
#[must_use]
pub fn is_of_producer(code: Code) -> bool {
    meaning(code) == Meaning::Producer
}

/// Returns whether an error that a group's offsets met is the fault of one of several units, and not of their consumer.
#[must_use]
pub fn is_of_one_unit(code: Code) -> bool {
    matches!(meaning(code), Meaning::OffsetsTooLarge | Meaning::Rejected) || is_of_topic(code)
}

/// Returns whether a failed delivery only says that its transaction had failed before.
#[must_use]
pub fn is_consequence(code: Code) -> bool {
    matches!(code, Code::LOCAL_PURGE_QUEUE | Code::LOCAL_PURGE_INFLIGHT | Code::LOCAL_STATE)
}

/// Returns whether an error is about a topic: it is not there, or forbidden.
#[must_use]
pub fn is_of_topic(code: Code) -> bool {
    code == Code::TOPIC_AUTHORIZATION_FAILED || meaning(code) == Meaning::NoTopic
}

/// Returns whether brokers do not know a question.
#[must_use]
pub fn is_unsupported(code: Code) -> bool {
    matches!(code, Code::LOCAL_UNSUPPORTED_FEATURE | Code::UNSUPPORTED_VERSION)
}

/// Returns whether the principal may not ask, or do, that with a topic.
#[must_use]
pub fn is_denied(code: Code) -> bool {
    matches!(code, Code::TOPIC_AUTHORIZATION_FAILED | Code::CLUSTER_AUTHORIZATION_FAILED)
}

/// Returns whether a topic is not there.
#[must_use]
pub fn is_gone(code: Code) -> bool {
    matches!(code, Code::UNKNOWN_TOPIC_OR_PART | Code::LOCAL_UNKNOWN_TOPIC)
}

/// Returns whether asking again for committed offsets may help: a transaction is about to end, or a coordinator to be found.
#[must_use]
pub fn may_be_known_later(code: Code) -> bool {
    matches!(
        code,
        Code::UNSTABLE_OFFSET_COMMIT
            | Code::NOT_COORDINATOR
            | Code::COORDINATOR_NOT_AVAILABLE
            | Code::COORDINATOR_LOAD_IN_PROGRESS
            | Code::LOCAL_TIMED_OUT
            | Code::LOCAL_TRANSPORT
            | Code::LOCAL_WAIT_COORD
    )
}

/// Says why a group's committed offsets are not known.
#[must_use]
pub fn offsets(code: Code, group: &str) -> Failure {
    let name = code.name();
    let sentence = format!("the committed offsets of group {group} cannot be read: {name}");
    Failure::new(meaning(code).of_record(), sentence).kafka_error(name)
}

/// Says why a transaction was aborted; it is then surely not committed. `what` names what Kafka refused.
#[must_use]
pub fn aborted(code: Code, what: &str) -> Failure {
    let name = code.name();
    let sentence = if meaning(code) == Meaning::OffsetsTooLarge {
        format!("the transaction was aborted, because the offsets with their metadata are too large: {name}")
    } else {
        format!("the transaction was aborted, {what}: {name}")
    };
    Failure::new(meaning(code).of_unit(), sentence).kafka_error(name)
}

/// What a client-wide error says about the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientError {
    /// Our credentials or certificates were refused, or we refuse the broker's certificate.
    Refused,
    /// The producer cannot go on.
    Fatal,
    /// A connection failed or was lost; librdkafka tries again by itself.
    Connection,
    /// None of the known brokers is connected.
    AllBrokersDown,
}

/// What librdkafka calls a connection that was lost, or on which no answer came.
const LOST: &[&str] = &["Local: Broker transport failure", "Local: Timed out"];

/// Says what a client-wide error means; `sentence` is librdkafka's own for it.
///
/// A connection that is lost within SASL's handshake has the code of a refusal, and its cause in the sentence alone
/// (`rd_kafka_broker_handle_SaslHandshake`, rdkafka_broker.c of 2.12.1).
#[must_use]
pub fn client_error(code: Code, sentence: &str) -> ClientError {
    match code {
        Code::LOCAL_AUTHENTICATION if LOST.iter().any(|lost| sentence.contains(lost)) => {
            ClientError::Connection
        }
        // TLS 1.3 has the broker refuse a client's certificate only after the handshake, on a connection that seemed up.
        Code::LOCAL_TRANSPORT if tls::alert(sentence).is_some_and(|alert| alert.is_refusal) => {
            ClientError::Refused
        }
        Code::LOCAL_FATAL | Code::CLUSTER_AUTHORIZATION_FAILED => ClientError::Fatal,
        Code::LOCAL_ALL_BROKERS_DOWN => ClientError::AllBrokersDown,
        code if meaning(code) == Meaning::Credentials => ClientError::Refused,
        _ => ClientError::Connection,
    }
}

/// Returns Kafka's name of the code.
#[must_use]
pub fn name(code: Code) -> Cow<'static, str> {
    code.name()
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the other reasons have one sentence")]
fn sentence(reason: Reason, topic: &Topic, name: &str) -> String {
    match reason {
        Reason::RecordTooLarge => {
            format!("the record is larger than topic {topic} allows (max.message.bytes)")
        }
        Reason::TopicNotFound => format!("Kafka knows no topic {topic}"),
        Reason::NotAuthorized => format!("Kafka does not let the sidecar write to topic {topic}"),
        Reason::RecordRejected => format!("the broker rejects the record for topic {topic}: {name}"),
        Reason::KafkaAuthenticationFailed => "Kafka refuses the sidecar's credentials".to_owned(),
        Reason::QueueFull => "the producer's queue is full".to_owned(),
        Reason::DeliveryUnknown => {
            format!("the record was sent to topic {topic} and may be written: {name}")
        }
        _ => format!("the record was not written to topic {topic}: {name}"),
    }
}

#[cfg(test)]
mod tests;
