//! Whatever a caller sends is answered: OK, or one typed error of the contract that says what is wrong. Thousands of requests,
//! made from a fixed seed, go over the wire; most are odd, many are wrong, some are no protobuf and no gRPC at all.

mod cases;
mod expected;
pub mod wire;

use std::{collections::BTreeSet, sync::Mutex};

use producer_sidecar::grpc::proto::SendRequest;
use proptest::{
    collection::vec,
    test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner},
};
use prost::Message as _;
use testkit::{Cluster, read_topic};
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt as _;

use self::{
    cases::{Case, Sent},
    expected::Expected,
    wire::{Framed, call},
};
use crate::client::{connect, run, send, shared_address, text, with_shared};

crate::tests!(whatever_is_sent_gets_an_answer_of_the_contract);

const SEED: &[u8; 32] = b"the same requests on every run!!";
/// How many requests are under way at once.
const AT_ONCE: usize = 64;
const BATCHES: u32 = 32;
const PARTITIONS: i32 = 3;
const DETAILS_BYTES_MAX: usize = 4_096;
const VIOLATIONS_MAX: usize = 20;
const SHOWN_CHARACTERS_MAX: usize = 2_000;

/// Lets Kafka take every timestamp that the sidecar takes, and keep it.
const ANY_TIME: &[(&str, &str)] = &[
    ("message.timestamp.after.max.ms", "9223372036854775807"),
    ("message.timestamp.before.max.ms", "9223372036854775807"),
    ("segment.ms", "9223372036854775807"),
    ("retention.ms", "-1"),
];

fn whatever_is_sent_gets_an_answer_of_the_contract() {
    let topic = Cluster::shared().create_topic("malformed", PARTITIONS, ANY_TIME);
    let configuration =
        Config { cases: BATCHES, failure_persistence: None, max_shrink_iters: 200, ..Config::default() };
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, SEED);
    let mut runner = TestRunner::new_with_rng(configuration, random);
    let tally = Mutex::new(Tally::default());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let channel = runtime.block_on(async { wire::connect(&shared_address()) });
    let outcome = runner.run(&vec(cases::case(topic.clone()), AT_ONCE), |batch| {
        let judged = runtime.block_on(judge_all(&channel, batch))?;
        tally.lock().unwrap().add(judged);
        Ok(())
    });
    match outcome {
        Ok(()) => {}
        // The reason has the request that failed; the whole batch would fill the screen many times.
        Err(TestError::Fail(reason, _)) => panic!("{reason}"),
        Err(TestError::Abort(reason)) => panic!("no requests: {reason}"),
    }
    let tally = tally.into_inner().unwrap();
    assert!(tally.written > 200, "many were right: {tally:?}");
    for reason in ["INVALID_RECORD", "TOPIC_NOT_FOUND", "SPOOL_NOT_CONFIGURED", "RECORD_TOO_LARGE"] {
        assert!(tally.reasons.contains(reason), "{reason} came up: {tally:?}");
    }
    // Each OK is there once, and nothing else is.
    assert_eq!(read_topic(Cluster::shared(), &topic).len(), tally.written);
    run(async { send(&connect(&shared_address()), text(&topic, "after")).await }).unwrap();
    let log = with_shared(|sidecar| sidecar.stderr());
    let panicked: Vec<_> = log.iter().filter(|line| line.contains("panicked")).collect();
    assert!(panicked.is_empty(), "{panicked:?}");
}

/// What came of the requests.
#[derive(Debug, Default)]
struct Tally {
    written: usize,
    reasons: BTreeSet<String>,
}

impl Tally {
    fn add(&mut self, reasons: Vec<Option<String>>) {
        self.written += reasons.iter().filter(|reason| reason.is_none()).count();
        self.reasons.extend(reasons.into_iter().flatten());
    }
}

/// Sends a batch at once and judges each answer; none stands for a record that was written.
async fn judge_all(channel: &Channel, batch: Vec<Case>) -> Result<Vec<Option<String>>, TestCaseError> {
    let calls: Vec<_> = batch
        .into_iter()
        .map(|case| {
            let channel = channel.clone();
            tokio::spawn(async move {
                let answer = call(channel, framed(&case)).await;
                judge(&case, answer).map_err(|wrong| failed(&wrong, &case))
            })
        })
        .collect();
    let mut judged = Vec::new();
    for call in calls {
        judged.push(call.await.map_err(|error| TestCaseError::fail(error.to_string())));
    }
    judged.into_iter().map(|judged| judged?).collect()
}

/// Says which request failed how; records can be of megabytes.
fn failed(wrong: &str, case: &Case) -> TestCaseError {
    let case: String = format!("{case:?}").chars().take(SHOWN_CHARACTERS_MAX).collect();
    TestCaseError::fail(format!("{wrong}: {case}"))
}

fn framed(case: &Case) -> Framed {
    match &case.sent {
        Sent::Request(request) => Framed::message(&request.encode_to_vec()),
        Sent::Message(bytes) => Framed::message(bytes),
        Sent::Frames(framed) => framed.clone(),
    }
}

/// Says what is wrong with an answer; else the reason of the refusal, none where the record was written.
fn judge(case: &Case, answer: Result<String, Status>) -> Result<Option<String>, String> {
    let refused = match answer {
        Ok(topic) if topic == case.topic => None,
        Ok(topic) => return Err(format!("written to {topic:?}")),
        Err(status) => Some((typed(&status)?, status)),
    };
    if let Sent::Request(request) = &case.sent {
        as_expected(&case.topic, request, refused.as_ref())?;
    }
    Ok(refused.map(|(reason, _)| reason))
}

/// Checks that an error is one of the contract's for what a caller may send, and returns its reason.
fn typed(status: &Status) -> Result<String, String> {
    let wrong = |what: &str| Err(format!("{what}: {status:?}"));
    let Ok(details) = tonic_types::Status::decode(status.details()) else { return wrong("no details") };
    let infos = details.details.iter().filter(|detail| detail.type_url.ends_with("/google.rpc.ErrorInfo"));
    if infos.count() != 1 || status.details().len() > DETAILS_BYTES_MAX {
        return wrong("not one ErrorInfo of bounded size");
    }
    let details = status.get_error_details();
    let Some(info) = details.error_info() else { return wrong("no ErrorInfo") };
    let code = match info.reason.as_str() {
        "INVALID_RECORD" | "RECORD_TOO_LARGE" => Code::InvalidArgument,
        "TOPIC_NOT_FOUND" => Code::NotFound,
        "SPOOL_NOT_CONFIGURED" => Code::FailedPrecondition,
        _ => return wrong("not a reason for this"),
    };
    let persisted = info.metadata.get("persisted").map(String::as_str);
    if status.code() != code || info.domain != "producer.caas" || persisted != Some("NO") {
        return wrong("code, domain or persistence");
    }
    if status.metadata().get("grpc-retry-pushback-ms").is_none_or(|value| value != "-1") {
        return wrong("an invitation to retry in vain");
    }
    let violations = details.bad_request().map_or(0, |request| request.field_violations.len());
    // What is no protobuf may have no field to name; its sentence says so.
    let in_words = ["the request is not valid protobuf", "the call", "the request"];
    let said = violations > 0 || in_words.iter().any(|words| status.message().starts_with(words));
    if info.reason == "INVALID_RECORD" && (!said || violations > VIOLATIONS_MAX) {
        return wrong("does not say what is wrong");
    }
    Ok(info.reason.clone())
}

/// Compares an answer with what the contract says of a well-formed request.
fn as_expected(topic: &str, request: &SendRequest, refused: Option<&(String, Status)>) -> Result<(), String> {
    let expected = expected::expected(topic, PARTITIONS, request);
    let same = match (&expected, refused) {
        (Expected::Written, None) => true,
        (Expected::Refused(reason), Some((found, _))) => reason == found,
        (Expected::Invalid { fields, all }, Some((found, status))) => {
            let named = named_fields(status);
            let complete = if *all { named == *fields } else { named.is_subset(fields) && !named.is_empty() };
            found == "INVALID_RECORD" && complete
        }
        (Expected::Written, Some(_)) | (Expected::Refused(_) | Expected::Invalid { .. }, None) => false,
    };
    if same { Ok(()) } else { Err(format!("{expected:?} expected, not {refused:?}")) }
}

/// The fields that violations name, without what is inside of them.
fn named_fields(status: &Status) -> BTreeSet<String> {
    let details = status.get_error_details();
    let violations = details.bad_request().map(|request| &request.field_violations);
    let fields = violations.into_iter().flatten().map(|violation| {
        let mut parts = violation.field.split(['.', '[']);
        match (parts.next(), parts.next()) {
            (Some("record"), Some(field)) => format!("record.{field}"),
            _ => violation.field.clone(),
        }
    });
    fields.collect()
}
