//! Shows that the table says the same of a code to records and to units, and that no code passes for none.

use super::*;
use crate::failure::{Persisted, Remedy};

fn all() -> impl Iterator<Item = Code> {
    (-200..=200).map(Code::new)
}

#[test]
fn a_record_and_a_unit_hear_the_same_of_whether_sending_again_can_help() {
    for code in all() {
        let (record, unit) = (meaning(code).of_record(), meaning(code).of_unit());
        assert_eq!(record.remedy() == Remedy::None, unit.remedy() == Remedy::None, "{code:?}");
        assert_eq!((record.persisted(), unit.persisted()), (Persisted::No, Persisted::No), "{code:?}");
    }
}

#[test]
fn what_can_never_succeed_is_not_to_be_sent_again() {
    let cases = [
        (Code::OFFSET_METADATA_TOO_LARGE, Reason::RecordTooLarge),
        (Code::INVALID_COMMIT_OFFSET_SIZE, Reason::RecordTooLarge),
        (Code::UNSUPPORTED_FOR_MESSAGE_FORMAT, Reason::RecordRejected),
        (Code::UNSUPPORTED_COMPRESSION_TYPE, Reason::RecordRejected),
        (Code::UNSUPPORTED_VERSION, Reason::RecordRejected),
        (Code::UNKNOWN_TOPIC_ID, Reason::TopicNotFound),
        (Code::INVALID_TOPIC, Reason::TopicNotFound),
        (Code::SASL_AUTHENTICATION_FAILED, Reason::KafkaAuthenticationFailed),
    ];
    for (code, reason) in cases {
        assert_eq!(aborted(code, "").reason(), reason, "{code:?}");
        assert_eq!(delivery(code, MessageStatus::NotPersisted, &orders(), 0).reason(), reason, "{code:?}");
    }
}

#[test]
fn no_code_but_zero_passes_for_none() {
    for code in all().chain([Code::new(300), Code::new(i32::MIN), Code::new(i32::MAX)]) {
        let is_there = matches!(code, Code::NO_ERROR | Code::LEADER_NOT_AVAILABLE);
        assert_eq!(topic(code, &orders()).is_none(), is_there, "{code:?}");
        assert!(aborted(code, "").metadata().contains(&("kafkaError", code.name().into_owned())));
    }
}

#[test]
fn an_error_about_the_producer_is_about_nothing_that_it_carries() {
    for code in all().filter(|code| is_of_producer(*code)) {
        assert!(!is_of_one_unit(code) && !is_of_topic(code) && !is_rejected(code) && !is_too_large(code));
        assert_eq!(aborted(code, "").remedy(), Remedy::RetryUnit, "{code:?}");
    }
    assert!(all().filter(|code| is_fenced(*code)).all(is_of_producer));
}

fn orders() -> Topic {
    Topic::parse("orders").unwrap()
}

#[test]
fn a_code_is_definite_only_where_librdkafka_says_not_persisted() {
    let topic = orders();
    let cases = [
        (Code::MSG_SIZE_TOO_LARGE, Reason::RecordTooLarge),
        (Code::UNKNOWN_TOPIC_OR_PART, Reason::TopicNotFound),
        (Code::TOPIC_AUTHORIZATION_FAILED, Reason::NotAuthorized),
        (Code::INVALID_TIMESTAMP, Reason::RecordRejected),
        (Code::INVALID_RECORD, Reason::RecordRejected),
        (Code::NOT_ENOUGH_REPLICAS, Reason::BrokersUnavailable),
        (Code::LOCAL_MSG_TIMED_OUT, Reason::BrokersUnavailable),
        (Code::LOCAL_PURGE_QUEUE, Reason::BrokersUnavailable),
        (Code::new(120), Reason::BrokersUnavailable),
        (Code::new(300), Reason::BrokersUnavailable),
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
    let failure = delivery(Code::NOT_ENOUGH_REPLICAS, MessageStatus::NotPersisted, &orders(), 0);
    assert!(failure.metadata().contains(&("kafkaError", "NOT_ENOUGH_REPLICAS".to_owned())));
}
