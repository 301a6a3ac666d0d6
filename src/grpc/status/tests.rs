//! Tests of the statuses: every reason, then the worst that fits into one.

use http::HeaderMap;
use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::{
    failure::{LetterEnd, Persisted},
    record::{TOPIC_CHARACTERS_MAX, Topic},
};

/// What clients take by default is 8 KiB for all headers; this leaves room for those of a proxy.
const HEADERS_BYTES_MAX: usize = 7_168;

fn pushback_of(status: &Status) -> i64 {
    let value = status.metadata().get(RETRY_PUSHBACK_TRAILER).unwrap();
    value.to_str().unwrap().parse().unwrap()
}

/// Counts header bytes as HTTP/2 does (RFC 9113, section 6.5.2).
fn header_bytes(status: &Status) -> usize {
    let mut headers = HeaderMap::new();
    status.add_header(&mut headers).unwrap();
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum()
}

fn worst(text: &str) -> Failure {
    let violation = |_| Violation { field: text.to_owned(), description: text.to_owned() };
    let topic = Topic::parse(&"t".repeat(TOPIC_CHARACTERS_MAX)).unwrap();
    Failure::invalid((0..200).map(violation).collect(), 200)
        .topic(&topic)
        .partition(i32::MAX)
        .kafka_error(text)
        .attempts(u32::MAX)
        .retry_after(Duration::MAX)
}

#[test]
fn every_reason_has_one_error_info_that_says_what_it_is() {
    for reason in Reason::ALL {
        let failure = Failure::new(reason, "a sentence").topic(&Topic::parse("orders").unwrap());
        let status = status(&failure);
        let (code, error_reason) = code_and_reason(reason);
        assert_eq!((status.code(), status.message()), (code, "a sentence"));
        let encoded = tonic_types::pb::Status::decode(status.details()).unwrap();
        let infos = encoded.details.iter().filter(|any| any.type_url.ends_with("google.rpc.ErrorInfo"));
        assert_eq!((infos.count(), encoded.code), (1, i32::from(code)));
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!(info.domain, "producer.caas");
        assert_eq!(error_reason.as_str_name(), format!("ERROR_REASON_{}", info.reason));
        assert_eq!(info.metadata["persisted"], failure.persisted().name());
        assert_eq!(info.metadata["topic"], "orders");
    }
}

#[test]
fn a_fault_is_the_services_where_opentelemetry_takes_the_code_for_an_error() {
    for reason in Reason::ALL {
        assert_eq!(fault_of(code_and_reason(reason).0), Some(reason.fault()), "{reason:?}");
    }
}

#[test]
fn every_reason_on_the_wire_is_answered_by_some_failure() {
    for number in 1..=23 {
        let wire = ErrorReason::try_from(number).unwrap();
        assert!(Reason::ALL.into_iter().any(|reason| code_and_reason(reason).1 == wire), "{wire:?}");
    }
    assert!(ErrorReason::try_from(24).is_err());
}

#[test]
fn automatic_retries_are_stopped_where_they_could_double_or_cannot_help() {
    for reason in Reason::ALL {
        let status = status(&Failure::new(reason, ""));
        let delay = status.get_error_details().retry_info().and_then(|info| info.retry_delay);
        let may_retry = match reason.remedy() {
            Remedy::Retry | Remedy::RetryAfterDelay | Remedy::RetryUnit => true,
            Remedy::None
            | Remedy::RetryAfterRejoining
            | Remedy::RetryWithMessageId
            | Remedy::RetryWithExpectedOffset => false,
        };
        assert_eq!(delay.is_some(), may_retry, "{reason:?}");
        assert_eq!(pushback_of(&status) >= 0, may_retry, "{reason:?}");
        if reason.persisted() == Persisted::Maybe {
            assert_eq!(pushback_of(&status), -1, "{reason:?}");
        }
    }
}

#[test]
fn what_is_set_aside_is_not_sent_again_by_itself() {
    let letters = || Topic::parse("letters").unwrap();
    let pushback =
        |end| pushback_of(&status(&Failure::new(Reason::BrokersUnavailable, "").dead_letter(letters(), end)));
    assert_eq!(pushback(LetterEnd::Written { partition: 0, offset: Some(1) }), -1);
    assert_eq!(pushback(LetterEnd::Open), -1);
    assert_eq!(pushback(LetterEnd::Failed(Reason::DeliveryUnknown)), -1, "it may be there");
    assert_eq!(pushback(LetterEnd::Failed(Reason::TopicNotFound)), 100);
    let failure = Failure::new(Reason::BrokersUnavailable, "").dead_letter(letters(), LetterEnd::Open);
    assert_eq!(record_error(&failure).retry_after, None);
}

#[test]
fn a_delay_that_the_failure_names_is_passed_on() {
    let status = status(&Failure::new(Reason::QueueFull, "").retry_after(Duration::from_millis(250)));
    assert_eq!(pushback_of(&status), 250);
    let details = status.get_error_details();
    assert_eq!(details.retry_info().unwrap().retry_delay, Some(Duration::from_millis(250)));
}

#[test]
fn few_violations_are_all_there() {
    let violation = |number: usize| Violation {
        field: format!("outputs[{number}].headers[12].name"),
        description: "must not be empty".to_owned(),
    };
    let status = status(&Failure::invalid((0..25).map(violation).collect(), 25));
    let details = status.get_error_details();
    let fields = &details.bad_request().unwrap().field_violations;
    assert_eq!(fields.len(), 20);
    assert_eq!(fields[19].field, "outputs[19].headers[12].name");
    assert_eq!(details.error_info().unwrap().metadata["violations"], "25");
}

#[test]
fn the_worst_that_can_be_said_still_fits() {
    for text in ["x".repeat(10_000), "ä".repeat(10_000), " ".repeat(10_000), "\u{10ffff}".repeat(10_000)] {
        let status = status(&worst(&text));
        assert!(status.details().len() <= DETAILS_BYTES_MAX, "{}", status.details().len());
        assert!(header_bytes(&status) <= HEADERS_BYTES_MAX, "{}", header_bytes(&status));
        let details = status.get_error_details();
        assert!(!details.bad_request().unwrap().field_violations.is_empty());
        assert_eq!(details.error_info().unwrap().metadata["violations"], "200");
        assert!(status.message().ends_with(ELLIPSIS));
    }
}

#[test]
fn a_text_is_cut_between_characters_and_only_where_it_must() {
    let fits = "ä".repeat(DETAIL_TEXT_BYTES_MAX / 2);
    assert_eq!(cut(&fits), fits);
    let longer = format!("{fits}x");
    let expected = format!("{}...", "ä".repeat((DETAIL_TEXT_BYTES_MAX - ELLIPSIS.len()) / 2));
    assert_eq!(cut(&longer), expected);
}

proptest! {
    #[test]
    fn no_text_is_too_long(text in any::<String>(), times in 1_usize..400) {
        let status = status(&worst(&text.repeat(times)));
        prop_assert!(status.details().len() <= DETAILS_BYTES_MAX);
        prop_assert!(header_bytes(&status) <= HEADERS_BYTES_MAX);
    }
}
