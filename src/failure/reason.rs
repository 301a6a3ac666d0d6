//! Owns the reasons of failures: the wire name of each, its truth about the record, and the caller's remedy.
//! Must stay pure; every match here is exhaustive, so that a new reason visits every decision.

/// What went wrong; `name` is the wire name of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// Fields of the request are wrong.
    InvalidRecord,
    /// The record is larger than our limit or the topic's.
    RecordTooLarge,
    /// The broker refuses the record for what it is.
    RecordRejected,
    /// The message id was used for other content.
    MessageIdReused,
    /// Kafka does not know the topic.
    TopicNotFound,
    /// Kafka forbids the topic, group or transactional id to the sidecar's principal.
    NotAuthorized,
    /// The sidecar forbids it to this caller (reserved).
    CallerNotAllowed,
    /// Kafka refuses the sidecar's own credentials, or TLS failed.
    KafkaAuthenticationFailed,
    /// A queue or limit of the sidecar is full.
    QueueFull,
    /// The spool is full.
    SpoolFull,
    /// SPOOLED was asked for and there is no spool.
    SpoolNotConfigured,
    /// The caller does not read its responses.
    ResponsesNotRead,
    /// No broker took the record.
    BrokersUnavailable,
    /// The sidecar is stopping.
    Draining,
    /// The deadline passed while the record was still in the sidecar; it was taken out.
    DeadlineNotWritten,
    /// The deadline passed after the record was handed over.
    DeliveryUnknownAtDeadline,
    /// The connection was lost, or too few replicas took the record, before any deadline.
    DeliveryUnknown,
    /// The caller cancelled and the record was taken out.
    CancelledByCaller,
    /// The transaction was aborted.
    TransactionAborted,
    /// The consumer's generation or member is stale.
    ConsumerFenced,
    /// The group has committed another offset than expected.
    OffsetMismatch,
    /// Another process uses the transactional id.
    ProducerFenced,
    /// The commit's outcome is not known.
    CommitUnknown,
    /// A bug of the sidecar.
    Internal,
}

/// Whether the record may be in Kafka.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persisted {
    /// It surely is not.
    No,
    /// It may be.
    Maybe,
}

/// What the caller may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Sending the same again cannot help.
    None,
    /// Sending again is safe.
    Retry,
    /// Sending again is safe, after the delay.
    RetryAfterDelay,
    /// Sending again doubles unless it carries the same message id.
    RetryWithMessageId,
    /// The whole unit may be sent again.
    RetryUnit,
    /// The unit may be sent again once the consumer has rejoined its group.
    RetryAfterRejoining,
    /// The same unit may be sent again, with its expected offsets.
    RetryWithExpectedOffset,
}

/// Whose fault a failure is, as OpenTelemetry tells a server's errors from its callers' by the gRPC code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The call asked for what cannot be, or too much.
    Caller,
    /// The sidecar, or what stands behind it, did not do what it is for.
    Service,
}

// === impl Reason ===

impl Reason {
    /// Every reason, in the order of the contract's table.
    pub const ALL: [Self; 24] = [
        Self::InvalidRecord,
        Self::RecordTooLarge,
        Self::RecordRejected,
        Self::MessageIdReused,
        Self::TopicNotFound,
        Self::NotAuthorized,
        Self::CallerNotAllowed,
        Self::KafkaAuthenticationFailed,
        Self::SpoolNotConfigured,
        Self::QueueFull,
        Self::SpoolFull,
        Self::ResponsesNotRead,
        Self::BrokersUnavailable,
        Self::Draining,
        Self::DeadlineNotWritten,
        Self::DeliveryUnknownAtDeadline,
        Self::DeliveryUnknown,
        Self::TransactionAborted,
        Self::ConsumerFenced,
        Self::OffsetMismatch,
        Self::ProducerFenced,
        Self::CommitUnknown,
        Self::CancelledByCaller,
        Self::Internal,
    ];

    /// Returns the wire name: that of `ErrorReason` without its prefix.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::InvalidRecord => "INVALID_RECORD",
            Self::RecordTooLarge => "RECORD_TOO_LARGE",
            Self::RecordRejected => "RECORD_REJECTED",
            Self::MessageIdReused => "MESSAGE_ID_REUSED",
            Self::TopicNotFound => "TOPIC_NOT_FOUND",
            Self::NotAuthorized => "NOT_AUTHORIZED",
            Self::CallerNotAllowed => "CALLER_NOT_ALLOWED",
            Self::KafkaAuthenticationFailed => "KAFKA_AUTHENTICATION_FAILED",
            Self::QueueFull => "QUEUE_FULL",
            Self::SpoolFull => "SPOOL_FULL",
            Self::SpoolNotConfigured => "SPOOL_NOT_CONFIGURED",
            Self::ResponsesNotRead => "RESPONSES_NOT_READ",
            Self::BrokersUnavailable => "BROKERS_UNAVAILABLE",
            Self::Draining => "DRAINING",
            Self::DeadlineNotWritten => "DEADLINE_NOT_WRITTEN",
            Self::DeliveryUnknownAtDeadline | Self::DeliveryUnknown => "DELIVERY_UNKNOWN",
            Self::CancelledByCaller => "CANCELLED_BY_CALLER",
            Self::TransactionAborted => "TRANSACTION_ABORTED",
            Self::ConsumerFenced => "CONSUMER_FENCED",
            Self::OffsetMismatch => "OFFSET_MISMATCH",
            Self::ProducerFenced => "PRODUCER_FENCED",
            Self::CommitUnknown => "COMMIT_UNKNOWN",
            Self::Internal => "INTERNAL",
        }
    }

    /// Returns whether a record that failed so may be in Kafka.
    #[must_use]
    pub const fn persisted(self) -> Persisted {
        match self {
            Self::InvalidRecord
            | Self::RecordTooLarge
            | Self::RecordRejected
            | Self::MessageIdReused
            | Self::TopicNotFound
            | Self::NotAuthorized
            | Self::CallerNotAllowed
            | Self::KafkaAuthenticationFailed
            | Self::QueueFull
            | Self::SpoolFull
            | Self::SpoolNotConfigured
            | Self::BrokersUnavailable
            | Self::Draining
            | Self::DeadlineNotWritten
            | Self::CancelledByCaller
            | Self::TransactionAborted
            | Self::ConsumerFenced
            | Self::OffsetMismatch
            | Self::ProducerFenced => Persisted::No,
            Self::ResponsesNotRead
            | Self::DeliveryUnknownAtDeadline
            | Self::DeliveryUnknown
            | Self::CommitUnknown
            | Self::Internal => Persisted::Maybe,
        }
    }

    /// Returns whose fault it is: the service's under UNKNOWN, DEADLINE_EXCEEDED, INTERNAL and UNAVAILABLE.
    #[must_use]
    pub const fn fault(self) -> Fault {
        match self {
            Self::InvalidRecord
            | Self::RecordTooLarge
            | Self::RecordRejected
            | Self::MessageIdReused
            | Self::TopicNotFound
            | Self::NotAuthorized
            | Self::CallerNotAllowed
            | Self::KafkaAuthenticationFailed
            | Self::SpoolNotConfigured
            | Self::QueueFull
            | Self::SpoolFull
            | Self::ResponsesNotRead
            | Self::TransactionAborted
            | Self::ConsumerFenced
            | Self::OffsetMismatch
            | Self::ProducerFenced
            | Self::CancelledByCaller => Fault::Caller,
            Self::BrokersUnavailable
            | Self::Draining
            | Self::DeadlineNotWritten
            | Self::DeliveryUnknownAtDeadline
            | Self::DeliveryUnknown
            | Self::CommitUnknown
            | Self::Internal => Fault::Service,
        }
    }

    /// Returns what the caller may do about it.
    #[must_use]
    pub const fn remedy(self) -> Remedy {
        match self {
            Self::InvalidRecord
            | Self::RecordTooLarge
            | Self::RecordRejected
            | Self::MessageIdReused
            | Self::TopicNotFound
            | Self::NotAuthorized
            | Self::CallerNotAllowed
            | Self::KafkaAuthenticationFailed
            | Self::SpoolNotConfigured
            | Self::OffsetMismatch
            | Self::ProducerFenced
            | Self::Internal => Remedy::None,
            Self::QueueFull | Self::SpoolFull => Remedy::RetryAfterDelay,
            Self::BrokersUnavailable
            | Self::Draining
            | Self::DeadlineNotWritten
            | Self::CancelledByCaller => Remedy::Retry,
            Self::ResponsesNotRead | Self::DeliveryUnknownAtDeadline | Self::DeliveryUnknown => {
                Remedy::RetryWithMessageId
            }
            Self::TransactionAborted => Remedy::RetryUnit,
            Self::ConsumerFenced => Remedy::RetryAfterRejoining,
            Self::CommitUnknown => Remedy::RetryWithExpectedOffset,
        }
    }
}

impl Persisted {
    /// Returns `NO` or `MAYBE`, as error details say it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::No => "NO",
            Self::Maybe => "MAYBE",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_stands_in_the_list_once() {
        let mut all = Reason::ALL.to_vec();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), Reason::ALL.len());
    }

    #[test]
    fn a_safe_retry_is_offered_only_where_the_record_is_surely_absent() {
        for reason in Reason::ALL {
            if matches!(reason.remedy(), Remedy::Retry | Remedy::RetryAfterDelay) {
                assert_eq!(reason.persisted(), Persisted::No, "{reason:?}");
            }
        }
    }
}
