//! What an error code of a produce response says of the attempt that it answers: the one table.
//! Must never call an attempt refused that may have appended something: a leader that steps down, or replicas that lag, answer
//! with an error after the append (`DelayedProduce` of Kafka), and so may every code without a line here.

use super::super::code::ErrorCode as Code;

/// What one attempt to write a batch came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// All its records are in the log.
    Written,
    /// They were before this attempt; the broker no longer knows at which offset.
    WrittenBefore,
    /// It may be in the log. The identical batch, sent again, settles it.
    InDoubt,
    /// This attempt appended nothing; a later one may.
    RefusedForNow,
    /// This attempt appended nothing, because the broker expects another sequence of the producer id, or does not know the id.
    OutOfSequence,
    /// This attempt appended nothing: the batch is too large.
    TooLarge,
    /// This attempt appended nothing, because of some of the records (KIP-467 names them).
    RecordsRefused,
    /// This attempt appended nothing, and no other will.
    RefusedForGood,
}

/// Says what a code means for the attempt that it answers.
#[must_use]
pub const fn verdict(code: Code) -> Verdict {
    match code {
        Code::NO_ERROR => Verdict::Written,
        Code::DUPLICATE_SEQUENCE_NUMBER => Verdict::WrittenBefore,
        // Checked before the append. A topic that is gone took its records with it.
        Code::INVALID_MSG
        | Code::UNKNOWN_TOPIC_OR_PART
        | Code::UNKNOWN_TOPIC_ID
        | Code::LEADER_NOT_AVAILABLE
        | Code::NOT_ENOUGH_REPLICAS => Verdict::RefusedForNow,
        Code::OUT_OF_ORDER_SEQUENCE_NUMBER
        | Code::UNKNOWN_PRODUCER_ID
        | Code::INVALID_PRODUCER_ID_MAPPING
        | Code::INVALID_PRODUCER_EPOCH
        | Code::PRODUCER_FENCED
        | Code::INVALID_TXN_STATE => Verdict::OutOfSequence,
        Code::MSG_SIZE_TOO_LARGE | Code::RECORD_LIST_TOO_LARGE => Verdict::TooLarge,
        Code::INVALID_RECORD | Code::INVALID_TIMESTAMP => Verdict::RecordsRefused,
        Code::INVALID_TOPIC
        | Code::TOPIC_AUTHORIZATION_FAILED
        | Code::CLUSTER_AUTHORIZATION_FAILED
        | Code::INVALID_REQUIRED_ACKS
        | Code::POLICY_VIOLATION
        | Code::UNSUPPORTED_VERSION
        | Code::UNSUPPORTED_FOR_MESSAGE_FORMAT
        | Code::UNSUPPORTED_COMPRESSION_TYPE => Verdict::RefusedForGood,
        _ => Verdict::InDoubt,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_codes_are_certain() {
        let certain = (-200..=200).map(Code::new).filter(|code| verdict(*code) != Verdict::InDoubt);
        let mut numbers: Vec<_> = certain.map(Code::number).collect();
        numbers.sort_unstable();
        let listed =
            [0, 2, 3, 5, 10, 17, 18, 19, 21, 29, 31, 32, 35, 43, 44, 45, 46, 47, 48, 49, 59, 76, 87, 90, 100];
        assert_eq!(numbers, listed);
    }

    #[test]
    fn what_a_leader_may_say_after_the_append_leaves_doubt() {
        // NOT_LEADER_OR_FOLLOWER, REQUEST_TIMED_OUT, NOT_ENOUGH_REPLICAS_AFTER_APPEND, KAFKA_STORAGE_ERROR, UNKNOWN_SERVER_ERROR, and
        // one that does not exist.
        for number in [6, 7, 20, 56, -1, 999] {
            assert_eq!(verdict(Code::new(number)), Verdict::InDoubt, "{number}");
        }
    }
}
