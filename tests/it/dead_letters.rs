//! Dead letters: a record that fails for good is in its dead-letter topic, whole, with the reason, and its caller is told
//! where; whatever becomes of the dead letter, the caller hears of the failure.

pub mod unwritten;

use std::{collections::HashMap, time::Duration};

use producer_sidecar::{
    grpc::proto::{ErrorReason, ProducerRecord, SendBatchRequest, record_result},
    partition::Partitioner,
};
use testkit::{ApiKey, Cluster, FaultProxy, ReadRecord, Sidecar, SidecarBuilder, read_topic};
use tonic::Code;

use crate::{
    around::{metric, wait_metric},
    client::{
        READY, Refusal, connect, keyed, over_tls, over_tls_limited, run, send, send_within, text,
        through_proxies, with_header,
    },
    streams::exchange,
};

crate::tests!(
    each_cause_has_its_dead_letter,
    what_is_too_large_even_there_is_cut,
    a_callers_own_fault_has_no_dead_letter,
    records_of_a_stream_have_dead_letters,
    a_large_record_of_a_burst_is_found_and_its_neighbours_keep_their_order,
);

pub mod alone {
    //! The same while a broker cannot be reached.
    use super::{a_record_out_of_retries_has_a_dead_letter, what_was_refused_for_others_has_no_dead_letter};

    crate::tests!(a_record_out_of_retries_has_a_dead_letter, what_was_refused_for_others_has_no_dead_letter,);
}

const TRACE_ID: &str = "0af7651916cd43dd8448eb211c80319c";
/// How long a call may take whose record is tried for as long as the sidecar tries.
const PATIENCE: Duration = Duration::from_secs(40);

pub fn started(builder: SidecarBuilder) -> Sidecar {
    let sidecar = builder.start();
    sidecar.wait_ready(READY);
    sidecar
}

/// A sidecar whose dead letters all go to that topic.
pub fn burying_in(letters: &str) -> Sidecar {
    started(over_tls().env("SIDECAR_DEAD_LETTERS_TOPIC", letters))
}

fn refused(sidecar: &Sidecar, record: ProducerRecord) -> Refusal {
    run(async { send_within(&connect(&sidecar.grpc_address()), record, Some(PATIENCE)).await.unwrap_err() })
}

/// A record with all that a dead letter has to keep.
pub fn full(topic: &str, value: &str) -> ProducerRecord {
    let traced =
        with_header(text(topic, value), "traceparent", &format!("00-{TRACE_ID}-b7ad6b7169203331-01"));
    keyed(with_header(traced, "tenant-id", "tenant-1"), "the-key")
}

pub fn header<'a>(letter: &'a ReadRecord, name: &str) -> Option<&'a str> {
    let (_, value) = letter.headers.iter().find(|(found, _)| found == name)?;
    Some(std::str::from_utf8(value.as_deref().unwrap_or_default()).unwrap())
}

/// Finds the dead letter where the refusal says that it is, and checks that it is the record.
pub fn check_letter(refusal: &Refusal, letters: &str, topic: &str) -> ReadRecord {
    assert_eq!(refusal.metadata.get("deadLetterTopic").map(String::as_str), Some(letters), "{refusal:?}");
    let place = |name: &str| refusal.metadata.get(name).unwrap_or_else(|| panic!("{refusal:?}")).clone();
    let (partition, offset) = (place("deadLetterPartition"), place("deadLetterOffset"));
    let read = read_topic(Cluster::shared(), letters).into_iter();
    let mut read = read
        .filter(|letter| letter.partition.to_string() == partition && letter.offset.to_string() == offset);
    let letter = read.next().expect("it is where the answer says");
    let kafka_error = refusal.metadata.get("kafkaError").map(String::as_str);
    for (name, value) in [
        ("dlq-topic", Some(topic)),
        ("dlq-reason", Some(refusal.reason.as_str())),
        ("dlq-persisted", Some(refusal.persisted())),
        ("dlq-kafka-error", kafka_error),
        ("dlq-partition", refusal.metadata.get("partition").map(String::as_str)),
        ("dlq-trace-id", Some(TRACE_ID)),
        ("dlq-attempts", Some(refusal.metadata.get("attempts").map_or("0", String::as_str))),
    ] {
        assert_eq!(header(&letter, name), value, "{name}: {letter:?}");
    }
    let time = |name| header(&letter, name).unwrap().parse::<u128>().unwrap();
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis();
    let (first, last) = (time("dlq-first-time"), time("dlq-last-time"));
    assert!(first <= last && last <= now && now - first < 120_000, "{first} {last} {now}");
    letter
}

/// The same, and that nothing of it was cut.
fn check_whole(refusal: &Refusal, letters: &str, topic: &str, value: &str) -> ReadRecord {
    let letter = check_letter(refusal, letters, topic);
    let (key, found) = (letter.key.as_deref(), letter.value.as_deref());
    assert_eq!((key, found), (Some(&b"the-key"[..]), Some(value.as_bytes())), "{letter:?}");
    assert_eq!(header(&letter, "tenant-id"), Some("tenant-1"));
    assert_eq!(header(&letter, "dlq-cut"), None);
    letter
}

/// Both as the sidecar tells the causes and as Kafka does, where the principal may not ask what topics take.
fn each_cause_has_its_dead_letter() {
    each_cause("", over_tls(), [None; 4]);
    each_cause("limited-", over_tls_limited(), [Some("1"), Some("1"), None, None]);
}

/// The causes that Kafka tells are those with attempts.
fn each_cause(prefix: &str, builder: SidecarBuilder, attempts: [Option<&str>; 4]) {
    let cluster = Cluster::shared();
    let named = |name: &str| format!("{prefix}{name}");
    let letters = cluster.create_topic(&named("letters"), 3, &[]);
    let sidecar = started(builder.env("SIDECAR_DEAD_LETTERS_TOPIC", &letters));
    let small = cluster.create_topic(&named("small"), 1, &[("max.message.bytes", "10000")]);
    let strict = cluster.create_topic(&named("strict"), 1, &[("message.timestamp.before.max.ms", "60000")]);
    let forbidden = cluster.create_topic("readonly-", 1, &[]);
    let large = "x".repeat(20_000);
    let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 5_000_000 });
    let now = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()).unwrap();
    let cases = [
        ("RECORD_TOO_LARGE", now, full(&small, &large)),
        ("RECORD_REJECTED", 1_000_000, full(&strict, "old")),
        ("NOT_AUTHORIZED", now - 1, full(&forbidden, "forbidden")),
        ("TOPIC_NOT_FOUND", now - 2, full(&named("gone"), "gone")),
    ];
    for ((reason, seconds, record), attempts) in cases.into_iter().zip(attempts) {
        let record = ProducerRecord { timestamp: at(seconds), partition: Some(0), ..record };
        let (topic, value) = (record.topic.clone(), value_of(&record));
        let refusal = refused(&sidecar, record);
        assert_eq!((refusal.reason.as_str(), refusal.persisted()), (reason, "NO"), "{refusal:?}");
        assert_eq!(refusal.metadata.get("attempts").map(String::as_str), attempts, "{refusal:?}");
        assert!(refusal.message.contains(&format!("dead letter is in topic {letters}")), "{refusal:?}");
        let letter = check_whole(&refusal, &letters, &topic, &value);
        assert_eq!(header(&letter, "dlq-asked-partition"), Some("0"), "{letter:?}");
        assert_eq!(header(&letter, "dlq-timestamp"), Some(format!("{seconds}005").as_str()), "{letter:?}");
    }
    assert_eq!(metric(&sidecar, r#"producer_dead_letters_total{outcome="written"}"#), Some(4));
    assert_eq!(read_topic(cluster, &letters).len(), 4);
}

fn value_of(record: &ProducerRecord) -> String {
    use producer_sidecar::grpc::proto::producer_record::Payload;
    match &record.payload {
        Some(Payload::ValueText(value)) => value.clone(),
        _ => panic!("it is a text"),
    }
}

/// Once the leader is not reached, and once it writes the record and its answer does not arrive.
fn a_record_out_of_retries_has_a_dead_letter() {
    let cluster = Cluster::shared();
    cluster.spread_leaders();
    let letters = cluster.create_topic("letters", 3, &[]);
    let sidecar = started(
        through_proxies()
            .env("SIDECAR_DEAD_LETTERS_TOPIC", &letters)
            .env("SIDECAR_KAFKA_MESSAGE_TIMEOUT_MS", "10000")
            .env("SIDECAR_SEND_TIMEOUT_MS", "10000"),
    );
    let faults: [(fn(&FaultProxy), _, _, _); 2] = [
        (FaultProxy::cut, "BROKERS_UNAVAILABLE", "NO", 1),
        (|proxy| proxy.swallow_responses(ApiKey::Produce, 1.0, false), "DELIVERY_UNKNOWN", "MAYBE", 2),
    ];
    for (fault, reason, persisted, written) in faults {
        let topic = cluster.create_topic("unreached", 3, &[]);
        let node = cluster.leader(&topic, 0);
        // The key's dead letter has another leader.
        let elsewhere = (0..3).find(|partition| cluster.leader(&letters, *partition) != node).unwrap();
        let key = (0..).map(|number| number.to_string()).find(|key| {
            let chosen = Partitioner::TenantMd5.choose(None, Some(key.as_bytes()), 3, 0);
            i32::try_from(chosen) == Ok(elsewhere)
        });
        let key = key.unwrap();
        let traced =
            with_header(text(&topic, "v"), "traceparent", &format!("00-{TRACE_ID}-b7ad6b7169203331-01"));
        let record = ProducerRecord { partition: Some(0), ..keyed(traced, &key) };
        // The partitions are known, and a connection is there.
        run(async { send(&connect(&sidecar.grpc_address()), record.clone()).await.unwrap() });
        fault(cluster.proxy(node));
        let refusal = refused(&sidecar, record);
        cluster.heal();
        assert_eq!((refusal.reason.as_str(), refusal.persisted()), (reason, persisted), "{refusal:?}");
        assert_eq!(refusal.metadata["kafkaError"], "_MSG_TIMED_OUT", "{refusal:?}");
        assert_eq!(refusal.metadata["attempts"], "1", "{refusal:?}");
        let letter = check_letter(&refusal, &letters, &topic);
        assert_eq!((letter.key.as_deref(), letter.value.as_deref()), (Some(key.as_bytes()), Some(&b"v"[..])));
        assert_eq!(header(&letter, "dlq-asked-partition"), Some("0"));
        assert_eq!(
            read_topic(cluster, &topic).len(),
            written,
            "the one before the fault, and perhaps this one"
        );
    }
}

fn what_is_too_large_even_there_is_cut() {
    let cluster = Cluster::shared();
    let settings = [("max.message.bytes", "10000")];
    let (small, letters) =
        (cluster.create_topic("small", 1, &settings), cluster.create_topic("letters", 1, &settings));
    let sidecar = burying_in(&letters);
    let large_value = refused(&sidecar, full(&small, &"x".repeat(20_000)));
    large_value.expect(Code::InvalidArgument, "RECORD_TOO_LARGE", "NO");
    let letter = check_letter(&large_value, &letters, &small);
    assert_eq!((letter.key.as_deref(), letter.value.as_deref()), (Some(&b"the-key"[..]), Some(&b""[..])));
    for (name, value) in [("dlq-cut", "value"), ("dlq-value-bytes", "20000"), ("tenant-id", "tenant-1")] {
        assert_eq!(header(&letter, name), Some(value), "{letter:?}");
    }
    let large_header = with_header(full(&small, "v"), "filler", &"x".repeat(20_000));
    let letter = check_letter(&refused(&sidecar, large_header), &letters, &small);
    assert_eq!(header(&letter, "dlq-cut"), Some("headers,value"), "{letter:?}");
    assert_eq!(header(&letter, "filler"), None);
    assert_eq!(metric(&sidecar, r#"producer_dead_letters_total{outcome="cut"}"#), Some(2));
}

fn a_callers_own_fault_has_no_dead_letter() {
    let cluster = Cluster::shared();
    let letters = cluster.create_topic("letters", 1, &[]);
    let topic = cluster.create_topic("own-fault", 1, &[]);
    let sidecar = burying_in(&letters);
    let beyond = ProducerRecord { partition: Some(7), ..text(&topic, "v") };
    for record in [text("", "v"), text(&topic, &"x".repeat(1_000_001)), beyond] {
        let refusal = refused(&sidecar, record);
        assert_eq!(refusal.code, Code::InvalidArgument, "{refusal:?}");
        assert!(!refusal.metadata.contains_key("deadLetterTopic"), "{refusal:?}");
    }
    run(async { send(&connect(&sidecar.grpc_address()), text(&topic, "good")).await.unwrap() });
    assert_eq!(read_topic(cluster, &letters).len(), 0);
}

fn records_of_a_stream_have_dead_letters() {
    let cluster = Cluster::shared();
    let letters = cluster.create_topic("limited-letters", 2, &[]);
    let compacted = cluster.create_topic("limited-compacted", 1, &[("cleanup.policy", "compact")]);
    let sidecar = started(over_tls_limited().env("SIDECAR_DEAD_LETTERS_TOPIC", &letters));
    // Every third has no key, which a compacted topic refuses.
    let records = |frame: u64| {
        let value = move |number: u64| (frame * 30 + number, format!("{}", frame * 30 + number));
        let record = |(number, value): (u64, String)| match number % 3 {
            0 => text(&compacted, &value),
            _ => keyed(text(&compacted, &value), &value),
        };
        (0..30).map(value).map(record).collect()
    };
    let frames = (0..4)
        .map(|frame| SendBatchRequest {
            sequence: frame + 1,
            records: records(frame),
            ..SendBatchRequest::default()
        })
        .collect();
    let (answers, end) = run(exchange(&sidecar.grpc_address(), frames));
    end.unwrap();
    let mut told = HashMap::new();
    for (number, result) in answers.into_iter().flat_map(|answer| answer.results).enumerate() {
        match result.result.unwrap() {
            record_result::Result::Receipt(_) => assert_ne!(number % 3, 0),
            record_result::Result::Error(error) => {
                assert_eq!(number % 3, 0, "{error:?}");
                let place =
                    ["deadLetterPartition", "deadLetterOffset"].map(|name| error.metadata[name].clone());
                told.insert(place, number.to_string());
            }
        }
    }
    assert_eq!(told.len(), 40);
    let read = read_topic(cluster, &letters);
    assert_eq!(read.len(), 40);
    for letter in read {
        let place = [letter.partition.to_string(), letter.offset.to_string()];
        assert_eq!(told[&place].as_bytes(), letter.value.unwrap(), "each where its own answer says");
    }
}

/// The principal may not ask for the topic's limit: Kafka refuses the run, until the one at fault is alone. A machine that stands
/// still may split the frame so that it is alone at once.
fn a_large_record_of_a_burst_is_found_and_its_neighbours_keep_their_order() {
    let letters = Cluster::shared().create_topic("limited-letters", 1, &[]);
    let sidecar = started(over_tls_limited().env("SIDECAR_DEAD_LETTERS_TOPIC", &letters));
    assert!((0..3).any(|_| burst(&sidecar, &letters) > 1), "it was refused with others");
}

/// Sends a burst to a topic of its own; returns how often the large one of it was handed over.
fn burst(sidecar: &Sidecar, letters: &str) -> u32 {
    const LARGE: usize = 200;
    let cluster = Cluster::shared();
    let topic = cluster.create_topic("limited-burst", 1, &[("max.message.bytes", "10000")]);
    let mut attempts = 0;
    let value =
        |number: usize| format!("{number:0>width$}", width = if number == LARGE { 20_000 } else { 200 });
    let records = (0..401).map(|number| text(&topic, &value(number))).collect();
    let frame = SendBatchRequest { sequence: 1, records, ..SendBatchRequest::default() };
    // What is known by then would keep the run small from the beginning: this is the first.
    let (answers, end) = run(exchange(&sidecar.grpc_address(), vec![frame]));
    end.unwrap();
    let mut offsets = Vec::new();
    for (number, result) in answers[0].results.iter().enumerate() {
        match result.result.as_ref().unwrap() {
            record_result::Result::Receipt(receipt) => offsets.push(receipt.offset.unwrap()),
            record_result::Result::Error(error) => {
                assert_eq!((number, error.reason()), (LARGE, ErrorReason::RecordTooLarge), "{error:?}");
                attempts = error.metadata["attempts"].parse().unwrap();
                let read = read_topic(cluster, letters);
                let letter = read.iter().find(|letter| header(letter, "dlq-topic") == Some(&topic)).unwrap();
                assert_eq!(header(letter, "dlq-attempts"), Some(error.metadata["attempts"].as_str()));
            }
        }
    }
    assert_eq!(offsets, (0..400).collect::<Vec<_>>());
    let read: Vec<_> = read_topic(cluster, &topic).into_iter().map(|record| record.value.unwrap()).collect();
    let sent: Vec<_> =
        (0..401).filter(|number| *number != LARGE).map(|number| value(number).into_bytes()).collect();
    assert!(read == sent, "each once, in order");
    attempts
}

/// Kafka refuses a request for its size after the deadline of its records, none of which is too large: the principal may
/// not ask for the topic's limit.
fn what_was_refused_for_others_has_no_dead_letter() {
    let cluster = Cluster::shared();
    let letters = cluster.create_topic("limited-letters", 1, &[]);
    let topic = cluster.create_topic("limited-small", 1, &[("max.message.bytes", "10000")]);
    let limited = through_proxies().env("KAFKA_USER", cluster.limited_user());
    let limited = limited.env("KAFKA_PASSWORD", cluster.limited_password());
    let sidecar = started(limited.env("SIDECAR_DEAD_LETTERS_TOPIC", &letters));
    run(async { send(&connect(&sidecar.grpc_address()), text(&topic, "first")).await.unwrap() });
    for proxy in cluster.proxies() {
        proxy.hold(ApiKey::Produce);
    }
    let records = (0..40).map(|number| text(&topic, &format!("{number}-{}", "x".repeat(500)))).collect();
    let timeout = Some(prost_types::Duration { seconds: 1, nanos: 0 });
    let frame = SendBatchRequest { sequence: 1, records, timeout, ..SendBatchRequest::default() };
    let (answers, end) = run(exchange(&sidecar.grpc_address(), vec![frame]));
    end.unwrap();
    for result in &answers[0].results {
        let Some(record_result::Result::Error(error)) = &result.result else { panic!("{result:?}") };
        assert_eq!(error.reason(), ErrorReason::DeliveryUnknown, "{error:?}");
    }
    cluster.heal();
    wait_metric(&sidecar, "producer_outstanding_records", 0, PATIENCE);
    assert_eq!(read_topic(cluster, &letters).len(), 0);
    assert_eq!(read_topic(cluster, &topic).len(), 1);
}
