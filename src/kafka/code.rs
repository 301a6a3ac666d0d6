//! Owns the error codes of Kafka and of librdkafka, as the numbers that they are.
//! Must never become librdkafka's enum: brokers send codes that it lacks, and such a value of a Rust enum is undefined behaviour.

use std::{borrow::Cow, fmt};

use super::ffi;

/// An error code: 0 is none, a positive one is Kafka's, and a negative one is librdkafka's own, save -1, which is Kafka's "unknown".
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ErrorCode(i32);

/// Kafka's codes that librdkafka has no name for (`org.apache.kafka.common.protocol.Errors` of 4.1).
const LATER_NAMES: &[(i32, &str)] = &[
    (98, "SNAPSHOT_NOT_FOUND"),
    (99, "POSITION_OUT_OF_RANGE"),
    (101, "DUPLICATE_BROKER_REGISTRATION"),
    (102, "BROKER_ID_NOT_REGISTERED"),
    (103, "INCONSISTENT_TOPIC_ID"),
    (104, "INCONSISTENT_CLUSTER_ID"),
    (105, "TRANSACTIONAL_ID_NOT_FOUND"),
    (106, "FETCH_SESSION_TOPIC_ID_ERROR"),
    (107, "INELIGIBLE_REPLICA"),
    (108, "NEW_LEADER_ELECTED"),
    (109, "OFFSET_MOVED_TO_TIERED_STORAGE"),
    (114, "MISMATCHED_ENDPOINT_TYPE"),
    (115, "UNSUPPORTED_ENDPOINT_TYPE"),
    (116, "UNKNOWN_CONTROLLER_ID"),
    (119, "INVALID_REGISTRATION"),
    (120, "TRANSACTION_ABORTABLE"),
    (121, "INVALID_RECORD_STATE"),
    (122, "SHARE_SESSION_NOT_FOUND"),
    (123, "INVALID_SHARE_SESSION_EPOCH"),
    (124, "FENCED_STATE_EPOCH"),
    (125, "INVALID_VOTER_KEY"),
    (126, "DUPLICATE_VOTER"),
    (127, "VOTER_NOT_FOUND"),
    (128, "INVALID_REGULAR_EXPRESSION"),
    (130, "STREAMS_INVALID_TOPOLOGY"),
    (131, "STREAMS_INVALID_TOPOLOGY_EPOCH"),
    (132, "STREAMS_TOPOLOGY_FENCED"),
    (133, "SHARE_SESSION_LIMIT_REACHED"),
];

macro_rules! codes {
    ($($name:ident = $number:literal),* $(,)?) => {
        #[expect(missing_docs, reason = "the names are those of Kafka's protocol guide and of rdkafka.h")]
        impl ErrorCode {
            $(pub const $name: Self = Self($number);)*
        }
    };
}

codes! {
    LOCAL_FAIL = -196,
    LOCAL_TRANSPORT = -195,
    LOCAL_RESOLVE = -193,
    LOCAL_MSG_TIMED_OUT = -192,
    LOCAL_PARTITION_EOF = -191,
    LOCAL_UNKNOWN_PARTITION = -190,
    LOCAL_UNKNOWN_TOPIC = -188,
    LOCAL_ALL_BROKERS_DOWN = -187,
    LOCAL_INVALID_ARG = -186,
    LOCAL_TIMED_OUT = -185,
    LOCAL_QUEUE_FULL = -184,
    LOCAL_SSL = -181,
    LOCAL_WAIT_COORD = -180,
    LOCAL_STATE = -172,
    LOCAL_AUTHENTICATION = -169,
    LOCAL_UNSUPPORTED_FEATURE = -165,
    LOCAL_PURGE_QUEUE = -152,
    LOCAL_PURGE_INFLIGHT = -151,
    LOCAL_FATAL = -150,
    LOCAL_FENCED = -144,
    LOCAL_INVALID_DIFFERENT_RECORD = -138,
    UNKNOWN = -1,
    NO_ERROR = 0,
    INVALID_MSG = 2,
    UNKNOWN_TOPIC_OR_PART = 3,
    INVALID_MSG_SIZE = 4,
    LEADER_NOT_AVAILABLE = 5,
    MSG_SIZE_TOO_LARGE = 10,
    OFFSET_METADATA_TOO_LARGE = 12,
    COORDINATOR_LOAD_IN_PROGRESS = 14,
    COORDINATOR_NOT_AVAILABLE = 15,
    NOT_COORDINATOR = 16,
    INVALID_TOPIC = 17,
    RECORD_LIST_TOO_LARGE = 18,
    NOT_ENOUGH_REPLICAS = 19,
    INVALID_REQUIRED_ACKS = 21,
    ILLEGAL_GENERATION = 22,
    INVALID_GROUP_ID = 24,
    UNKNOWN_MEMBER_ID = 25,
    REBALANCE_IN_PROGRESS = 27,
    INVALID_COMMIT_OFFSET_SIZE = 28,
    TOPIC_AUTHORIZATION_FAILED = 29,
    GROUP_AUTHORIZATION_FAILED = 30,
    CLUSTER_AUTHORIZATION_FAILED = 31,
    INVALID_TIMESTAMP = 32,
    UNSUPPORTED_SASL_MECHANISM = 33,
    ILLEGAL_SASL_STATE = 34,
    UNSUPPORTED_VERSION = 35,
    UNSUPPORTED_FOR_MESSAGE_FORMAT = 43,
    POLICY_VIOLATION = 44,
    OUT_OF_ORDER_SEQUENCE_NUMBER = 45,
    DUPLICATE_SEQUENCE_NUMBER = 46,
    INVALID_PRODUCER_EPOCH = 47,
    INVALID_TXN_STATE = 48,
    INVALID_PRODUCER_ID_MAPPING = 49,
    TRANSACTIONAL_ID_AUTHORIZATION_FAILED = 53,
    SECURITY_DISABLED = 54,
    SASL_AUTHENTICATION_FAILED = 58,
    UNKNOWN_PRODUCER_ID = 59,
    GROUP_ID_NOT_FOUND = 69,
    UNSUPPORTED_COMPRESSION_TYPE = 76,
    FENCED_INSTANCE_ID = 82,
    INVALID_RECORD = 87,
    UNSTABLE_OFFSET_COMMIT = 88,
    PRODUCER_FENCED = 90,
    UNKNOWN_TOPIC_ID = 100,
    TRANSACTIONAL_ID_NOT_FOUND = 105,
    FENCED_MEMBER_EPOCH = 110,
    UNRELEASED_INSTANCE_ID = 111,
    STALE_MEMBER_EPOCH = 113,
}

impl ErrorCode {
    /// Takes a number as librdkafka or a broker gives it; every number is one.
    #[must_use]
    pub const fn new(number: i32) -> Self {
        Self(number)
    }

    /// Returns the number.
    #[must_use]
    pub const fn number(self) -> i32 {
        self.0
    }

    /// Returns whether it says that something failed: every number but 0 does, known or not.
    #[must_use]
    pub const fn is_error(self) -> bool {
        self.0 != Self::NO_ERROR.0
    }

    /// Returns the code, if it is an error.
    ///
    /// # Errors
    /// The code.
    pub const fn ok(self) -> Result<(), Self> {
        if self.is_error() { Err(self) } else { Ok(()) }
    }

    /// Returns Kafka's name, such as `NOT_ENOUGH_REPLICAS`; librdkafka's own begin with an underscore, and one that neither
    /// has a name for says its number.
    #[must_use]
    pub fn name(self) -> Cow<'static, str> {
        let later = || LATER_NAMES.iter().find(|(number, _)| *number == self.0).map(|(_, name)| *name);
        ffi::error_name(self).or_else(later).map_or_else(|| format!("ERROR_{}", self.0).into(), Cow::Borrowed)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.name())
    }
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({})", self.name(), self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_a_code_with_a_name_of_its_own() {
        let mut names: Vec<_> = (-200..=200).map(|number| ErrorCode::new(number).name()).collect();
        names.sort();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!((-200..=200).all(|number| ErrorCode::new(number).is_error() == (number != 0)));
    }

    #[test]
    fn codes_have_kafkas_own_names() {
        let cases = [
            (ErrorCode::NOT_ENOUGH_REPLICAS, "NOT_ENOUGH_REPLICAS"),
            (ErrorCode::LOCAL_PURGE_QUEUE, "_PURGE_QUEUE"),
            (ErrorCode::LOCAL_INVALID_DIFFERENT_RECORD, "_INVALID_DIFFERENT_RECORD"),
            (ErrorCode::TRANSACTIONAL_ID_NOT_FOUND, "TRANSACTIONAL_ID_NOT_FOUND"),
            (ErrorCode::new(120), "TRANSACTION_ABORTABLE"),
            (ErrorCode::new(300), "ERROR_300"),
            (ErrorCode::new(i32::MIN), "ERROR_-2147483648"),
        ];
        for (code, name) in cases {
            assert_eq!(code.name(), name);
        }
    }
}
