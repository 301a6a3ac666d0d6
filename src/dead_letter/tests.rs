use super::*;
use crate::record::TENANT_HEADER;

fn topic(name: &str) -> Topic {
    Topic::parse(name).unwrap()
}

fn header(name: &str, value: &str) -> Header {
    Header { name: name.to_owned(), value: Some(Bytes::copy_from_slice(value.as_bytes())) }
}

fn record(value: &str) -> Record {
    Record {
        topic: topic("orders"),
        key: Some("k".into()),
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
        headers: vec![
            header("tenant-id", "t1"),
            header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ],
        partition: Some(2),
        timestamp_ms: 77,
        message_id: Some("m".into()),
    }
}

fn shown(record: &Record) -> Vec<String> {
    let text = |header: &Header| {
        let value = header.value.as_ref().map(|value| String::from_utf8_lossy(value).into_owned());
        format!("{}={}", header.name, value.unwrap_or_default())
    };
    record.headers.iter().map(text).collect()
}

fn rejected() -> Failure {
    Failure::new(Reason::RecordRejected, "no").kafka_error("INVALID_RECORD").attempts(1)
}

#[test]
fn a_letter_is_its_record_and_how_it_died() {
    let failure = rejected();
    let death = Death { failure: &failure, partition: Some(2), first_ms: 10, last_ms: 20 };
    let record = record("value");
    let letter = letter(&record, topic("orders.dlq"), &death);
    assert_eq!((letter.topic, letter.partition, letter.message_id), (topic("orders.dlq"), None, None));
    assert_eq!((&letter.key, &letter.value, letter.timestamp_ms), (&record.key, &record.value, 20));
    assert_eq!(letter.headers[..2], record.headers);
    let letter = Record { headers: letter.headers, ..record };
    assert_eq!(
        shown(&letter)[2..],
        [
            "dlq-topic=orders",
            "dlq-timestamp=77",
            "dlq-reason=RECORD_REJECTED",
            "dlq-attempts=1",
            "dlq-first-time=10",
            "dlq-last-time=20",
            "dlq-persisted=NO",
            "dlq-partition=2",
            "dlq-asked-partition=2",
            "dlq-kafka-error=INVALID_RECORD",
            "dlq-trace-id=0af7651916cd43dd8448eb211c80319c",
        ]
    );
}

#[test]
fn what_is_cut_is_named_and_digested() {
    let failure = Failure::new(Reason::RecordTooLarge, "no");
    let death = Death { failure: &failure, partition: None, first_ms: 1, last_ms: 2 };
    let small = cut(&record("abc"), topic("d"), &death);
    assert_eq!((small.key, small.value), (Some("k".into()), Some(Bytes::new())));
    let small = Record { headers: small.headers, ..record("") };
    assert!(shown(&small).contains(&"tenant-id=t1".to_owned()));
    assert_eq!(
        shown(&small)[shown(&small).len() - 3..],
        ["dlq-cut=value", "dlq-value-bytes=3", "dlq-value-md5=900150983cd24fb0d6963f7d28e17f72"]
    );
    let mut large = record("abc");
    large.key = Some("k".repeat(KEPT_BYTES_MAX + 1).into());
    large.headers.push(header("filler", &"x".repeat(KEPT_BYTES_MAX)));
    let letter = cut(&large, topic("d"), &death);
    assert_eq!(letter.key, Some(Bytes::new()));
    let headers = shown(&letter);
    assert!(headers.iter().all(|header| header.starts_with(HEADER_PREFIX)), "{headers:?}");
    assert!(headers.contains(&"dlq-cut=headers,key,value".to_owned()), "{headers:?}");
    assert!(headers.contains(&format!("dlq-key-bytes={}", KEPT_BYTES_MAX + 1)), "{headers:?}");
    let tombstone = cut(&Record { value: None, ..record("") }, topic("d"), &death);
    assert_eq!((tombstone.value, tombstone.headers.last().unwrap().name.as_str()), (None, "dlq-cut"));
}

#[test]
fn where_letters_go() {
    let beside = Destination::parse("{topic}.dlq").unwrap();
    assert_eq!(beside.of(&topic("orders")), Ok(Some(topic("orders.dlq"))));
    assert_eq!(beside.of(&topic(&"t".repeat(245))), Ok(Some(topic(&format!("{}.dlq", "t".repeat(245))))));
    let too_long = beside.of(&topic(&"t".repeat(246))).unwrap_err();
    assert_eq!(too_long.to_string(), "the name of its dead-letter topic must have at most 249 characters");
    assert_eq!(Destination::parse("off").unwrap().of(&topic("orders")), Ok(None));
    let all = Destination::parse("dead").unwrap();
    assert_eq!(all.of(&topic("orders")), Ok(Some(topic("dead"))));
    assert_eq!(all.of(&topic("dead")), Ok(None), "its own");
    for written in ["{topic}.dlq", "dead.{topic}", "off", "dead"] {
        assert_eq!(Destination::parse(written).unwrap().to_string(), written);
    }
    for wrong in ["", "{topic}", "a b", "{topic}/{topic}", "{topic}.{topic}", ".", "..", "ä"] {
        assert!(Destination::parse(wrong).is_err(), "{wrong}");
    }
    let destinations =
        Destinations { default: beside, topics: HashMap::from([(topic("clicks"), Destination::Off)]) };
    assert_eq!(destinations.of(&topic("clicks")), Ok(None));
    assert_eq!(destinations.of(&topic("orders")), Ok(Some(topic("orders.dlq"))));
}

#[test]
fn letters_belong_to_the_topics_that_have_theirs_there() {
    let shared = Destination::Topic(topic("dead"));
    let topics = [("a", shared.clone()), ("b", shared), ("c", Destination::Off)];
    let destinations = Destinations {
        default: Destination::parse("{topic}.dlq").unwrap(),
        topics: topics.into_iter().map(|(name, to)| (topic(name), to)).collect(),
    };
    let cases = [
        ("orders.dlq", "orders", true),
        ("orders.dlq.dlq", "orders.dlq", true),
        ("orders.dlq", "payments", false),
        ("orders.dlq", "orders.dlq", false),
        ("dead", "a", true),
        ("dead", "b", true),
        ("dead", "c", false),
        ("dead", "orders", false),
        ("a.dlq", "a", false),
        ("c.dlq", "c", false),
    ];
    for (letters, of, goes) in cases {
        assert_eq!(destinations.go_to(&topic(letters), &topic(of)), goes, "{of} in {letters}");
    }
    assert!(!destinations.go_to(&topic("dead"), &topic(&"t".repeat(249))), "there is no such name");
}

#[test]
fn headers_of_callers_that_look_like_a_letters_are_set_aside() {
    let failure = rejected();
    let death = Death { failure: &failure, partition: None, first_ms: 1, last_ms: 2 };
    let null = Header { name: "dlq-topic".to_owned(), value: None };
    let own = [header("dlq-cut", "value"), header("x", "y"), null, header("dlq-caller-dlq-cut", "z")];
    let mut record = record("v");
    record.headers.extend(own.into_iter().cycle().take(8));
    let buried = letter(&record, topic("orders.dlq"), &death);
    let read = Letter::of(&buried, TENANT_HEADER).unwrap();
    assert_eq!((read.topic.as_str(), &read.cut), ("orders", &None));
    let revived = read.revive(buried);
    assert_eq!(revived, Record { message_id: None, timestamp_ms: 77, ..record });
}

#[test]
fn what_may_be_sent_again_at_once_is_not_dead() {
    let is_for = |reason, out| is_for(&Failure::new(reason, "x"), out);
    for reason in Reason::ALL {
        let always =
            [Reason::RecordTooLarge, Reason::RecordRejected, Reason::TopicNotFound, Reason::NotAuthorized];
        let when_out = [Reason::BrokersUnavailable, Reason::DeliveryUnknown];
        assert_eq!(is_for(reason, false), always.contains(&reason), "{reason:?}");
        assert_eq!(
            is_for(reason, true),
            always.contains(&reason) || when_out.contains(&reason),
            "{reason:?}"
        );
    }
}
