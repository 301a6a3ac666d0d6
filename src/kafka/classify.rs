//! Owns the only list of Kafka's error codes: what each means for a record, as a [`Failure`].
//! Must stay the one place with a wildcard over codes; what is not listed is named in the failure, never swallowed.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "Kafka has some 250 codes and gains more; those that are not listed are named in the failure"
)]

use rdkafka::{error::RDKafkaErrorCode as Code, types::RDKafkaRespErr};

use super::ffi::{self, MessageStatus};
use crate::{
    failure::{Failure, Reason},
    record::Topic,
    retry::Fault,
};

/// Turns the code of a failed delivery, and what is known of its persistence, into a failure.
#[must_use]
pub fn delivery(code: Code, status: MessageStatus, topic: &Topic, partition: i32) -> Failure {
    let reason = match status {
        MessageStatus::NotPersisted => not_written(code),
        MessageStatus::PossiblyPersisted | MessageStatus::Persisted => Reason::DeliveryUnknown,
    };
    let name = name(code);
    Failure::new(reason, sentence(reason, topic, name)).topic(topic).partition(partition).kafka_error(name)
}

/// Turns the error of a topic's metadata into a failure; `None` where the topic is there or will soon be.
#[must_use]
pub fn topic_metadata(code: RDKafkaRespErr, topic_name: &Topic) -> Option<Failure> {
    topic(Code::from(code), topic_name)
}

/// Turns an error about a topic into a failure; `None` where the topic is there or will soon be.
#[must_use]
pub fn topic(code: Code, topic: &Topic) -> Option<Failure> {
    let reason = match code {
        Code::NoError | Code::LeaderNotAvailable => return None,
        Code::InvalidTopic => Reason::TopicNotFound,
        _ => not_written(code),
    };
    let name = name(code);
    Some(Failure::new(reason, sentence(reason, topic, name)).topic(topic).kafka_error(name))
}

/// Returns whether librdkafka refused a record, or a whole batch with it, for its size.
#[must_use]
pub fn is_too_large(code: Code) -> bool {
    matches!(code, Code::MessageSizeTooLarge | Code::MessageBatchTooLarge | Code::InvalidMessageSize)
}

/// Returns whether a record was refused because the broker refused another one of its batch (KIP-467).
#[must_use]
pub fn is_anothers(code: Code) -> bool {
    matches!(code, Code::InvalidDifferentRecord)
}

/// Returns whether the broker refused a record for what it is, or one of its batch: where exactly one is at fault, librdkafka
/// (2.12.1, `rd_kafka_dr_msgq0`) tells its error of them all.
#[must_use]
pub fn is_rejected(code: Code) -> bool {
    matches!(code, Code::InvalidRecord | Code::InvalidTimestamp)
}

/// Returns whether librdkafka did not try to send a record because its producer met a fatal error or was given up.
#[must_use]
pub fn is_of_producer(code: Code) -> bool {
    matches!(code, Code::Fatal | Code::PurgeQueue)
}

/// Returns whether librdkafka gave a record up because its time was over.
#[must_use]
pub fn is_out_of_retries(code: Code) -> bool {
    matches!(code, Code::MessageTimedOut)
}

/// Says what is known of why a record was not delivered that is surely not written.
#[must_use]
pub fn fault(code: Code) -> Fault {
    match code {
        code if is_of_producer(code) => Fault::Unsent,
        code if is_too_large(code) => Fault::TooLarge,
        code if is_anothers(code) => Fault::Anothers,
        code if is_rejected(code) => Fault::Rejected,
        _ => Fault::Lasting,
    }
}

/// Returns whether a coordinator says that the producer's epoch is no longer that of its transactional id.
#[must_use]
pub fn is_fenced(code: Code) -> bool {
    matches!(code, Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch)
}

/// Returns whether a failed delivery only says that its transaction had failed before.
#[must_use]
pub fn is_consequence(code: Code) -> bool {
    matches!(code, Code::PurgeQueue | Code::PurgeInflight | Code::State)
}

/// Returns whether an error is about a topic: it is not there, or forbidden.
#[must_use]
pub fn is_of_topic(code: Code) -> bool {
    matches!(
        code,
        Code::TopicAuthorizationFailed
            | Code::UnknownTopicOrPartition
            | Code::UnknownTopic
            | Code::UnknownPartition
    )
}

/// Returns whether brokers do not know a question.
#[must_use]
pub fn is_unsupported(code: Code) -> bool {
    matches!(code, Code::UnsupportedFeature | Code::UnsupportedVersion)
}

/// Returns whether the principal may not ask, or do, that with a topic.
#[must_use]
pub fn is_denied(code: Code) -> bool {
    matches!(code, Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed)
}

/// Returns whether a topic is not there.
#[must_use]
pub fn is_gone(code: Code) -> bool {
    matches!(code, Code::UnknownTopicOrPartition | Code::UnknownTopic)
}

/// Returns whether asking again for committed offsets may help: a transaction is about to end, or a coordinator to be found.
#[must_use]
pub fn may_be_known_later(code: Code) -> bool {
    matches!(
        code,
        Code::UnstableOffsetCommit
            | Code::NotCoordinator
            | Code::CoordinatorNotAvailable
            | Code::CoordinatorLoadInProgress
            | Code::OperationTimedOut
            | Code::BrokerTransportFailure
            | Code::WaitingForCoordinator
    )
}

/// Says why a group's committed offsets are not known.
#[must_use]
pub fn offsets(code: Code, group: &str) -> Failure {
    let reason = match code {
        Code::GroupAuthorizationFailed | Code::TopicAuthorizationFailed => Reason::NotAuthorized,
        _ => Reason::BrokersUnavailable,
    };
    let name = name(code);
    Failure::new(reason, format!("the committed offsets of group {group} cannot be read: {name}"))
        .kafka_error(name)
}

/// Says why a transaction was aborted; it is then surely not committed. `what` names what Kafka refused.
#[must_use]
pub fn aborted(code: Code, what: &str) -> Failure {
    let reason = match code {
        Code::UnknownMemberId
        | Code::IllegalGeneration
        | Code::FencedInstanceId
        | Code::StaleMemberEpoch
        | Code::FencedMemberEpoch
        | Code::RebalanceInProgress => Reason::ConsumerFenced,
        Code::GroupAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed
        | Code::TopicAuthorizationFailed
        | Code::ClusterAuthorizationFailed => Reason::NotAuthorized,
        Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => Reason::TopicNotFound,
        Code::InvalidTimestamp | Code::InvalidRecord | Code::InvalidMessage | Code::PolicyViolation => {
            Reason::RecordRejected
        }
        code if is_too_large(code) => Reason::RecordTooLarge,
        // Also a transaction's own time-out, which looks like fencing; that another has the id is told apart before (`lane`).
        _ => Reason::TransactionAborted,
    };
    let name = name(code);
    Failure::new(reason, format!("the transaction was aborted, {what}: {name}")).kafka_error(name)
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
        Code::Authentication if LOST.iter().any(|lost| sentence.contains(lost)) => ClientError::Connection,
        Code::Authentication
        | Code::SaslAuthenticationFailed
        | Code::UnsupportedSASLMechanism
        | Code::IllegalSASLState
        | Code::SSL => ClientError::Refused,
        Code::Fatal | Code::ClusterAuthorizationFailed => ClientError::Fatal,
        Code::AllBrokersDown => ClientError::AllBrokersDown,
        _ => ClientError::Connection,
    }
}

/// Returns Kafka's name of the code.
#[must_use]
pub fn name(code: Code) -> &'static str {
    ffi::error_name(code)
}

/// Gives the reason of a record that is surely not in the log.
fn not_written(code: Code) -> Reason {
    match code {
        code if is_too_large(code) => Reason::RecordTooLarge,
        Code::UnknownTopicOrPartition
        | Code::UnknownTopic
        | Code::UnknownPartition
        | Code::UnknownTopicId => Reason::TopicNotFound,
        Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed => Reason::NotAuthorized,
        Code::InvalidTimestamp
        | Code::InvalidRecord
        | Code::InvalidMessage
        | Code::PolicyViolation
        | Code::UnsupportedForMessageFormat
        | Code::UnsupportedCompressionType => Reason::RecordRejected,
        Code::Authentication | Code::SaslAuthenticationFailed | Code::SSL => {
            Reason::KafkaAuthenticationFailed
        }
        Code::QueueFull => Reason::QueueFull,
        // Connection errors, time-outs, too few replicas, elections, a purge at shutdown, a fatal producer: the record is
        // not written and the same record may be sent again.
        _ => Reason::BrokersUnavailable,
    }
}

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
mod tests {
    use super::*;
    use crate::failure::Persisted;

    #[test]
    fn a_code_is_definite_only_where_librdkafka_says_not_persisted() {
        let topic = Topic::parse("orders").unwrap();
        let cases = [
            (Code::MessageSizeTooLarge, Reason::RecordTooLarge),
            (Code::UnknownTopicOrPartition, Reason::TopicNotFound),
            (Code::TopicAuthorizationFailed, Reason::NotAuthorized),
            (Code::InvalidTimestamp, Reason::RecordRejected),
            (Code::InvalidRecord, Reason::RecordRejected),
            (Code::NotEnoughReplicas, Reason::BrokersUnavailable),
            (Code::MessageTimedOut, Reason::BrokersUnavailable),
            (Code::PurgeQueue, Reason::BrokersUnavailable),
        ];
        for (code, reason) in cases {
            let definite = delivery(code, MessageStatus::NotPersisted, &topic, 3);
            assert_eq!((definite.reason(), definite.persisted()), (reason, Persisted::No), "{code}");
            let doubtful = delivery(code, MessageStatus::PossiblyPersisted, &topic, 3);
            assert_eq!(doubtful.reason(), Reason::DeliveryUnknown);
            assert_eq!(doubtful.persisted(), Persisted::Maybe);
        }
    }

    #[test]
    fn failures_carry_kafkas_own_name() {
        let topic = Topic::parse("orders").unwrap();
        let failure = delivery(Code::NotEnoughReplicas, MessageStatus::NotPersisted, &topic, 0);
        assert!(failure.metadata().contains(&("kafkaError", "NOT_ENOUGH_REPLICAS".to_owned())));
    }
}
