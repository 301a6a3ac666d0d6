//! Dead letters: what is buried is revived as it was, whatever its headers are, and what others wrote into the topic harms nobody.
#![no_main]

use arbitrary::Arbitrary;
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use producer_sidecar::{
    dead_letter::{Death, Destination, Filter, HEADER_PREFIX, Handled, Letter, cut, letter},
    failure::{Failure, Reason},
    record::{Header, Record, TENANT_HEADER, TIMESTAMP_MS_MAX, Topic},
};

#[derive(Debug, Arbitrary)]
struct Given {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(Name, Option<Vec<u8>>)>,
    partition: Option<u8>,
    timestamp_ms: u64,
    noted: (i64, String),
    added: Vec<(i64, i64)>,
}

/// Names that letters have are rare among all texts.
#[derive(Debug, Arbitrary)]
enum Name {
    Any(String),
    Letters(Own),
    Caller(Own),
    Nested(u8, String),
}

#[derive(Debug, Arbitrary)]
enum Own {
    Topic,
    Timestamp,
    Reason,
    LastTime,
    Persisted,
    Cut,
    AskedPartition,
    Other(String),
}

fuzz_target!(|given: Given| {
    let topic = Topic::parse("orders").expect("a topic");
    let letters = Topic::parse("orders.dlq").expect("a topic");
    let record = Record {
        topic: topic.clone(),
        key: given.key.map(Bytes::from),
        value: given.value.map(Bytes::from),
        headers: given.headers.into_iter().map(header).collect(),
        partition: given.partition.map(i32::from),
        timestamp_ms: i64::try_from(given.timestamp_ms % 253_402_300_800_000).unwrap_or(1).max(1),
        message_id: None,
    };
    assert!(record.timestamp_ms <= TIMESTAMP_MS_MAX);
    // As another wrote it into the topic.
    if let Some(forged) = Letter::of(&record, TENANT_HEADER) {
        let filter = Filter { tenants: vec!["t".to_owned()], since_ms: Some(1), ..Filter::default() };
        let _ = (filter.takes(&forged), Destination::parse("{topic}.dlq").map(|to| to.of(&forged.topic)));
        let _ = forged.revive(record.clone());
    }
    let failure = Failure::new(Reason::RecordRejected, "no");
    let death = Death { failure: &failure, partition: Some(0), first_ms: 1, last_ms: 2 };
    let buried = letter(&record, letters.clone(), &death);
    let read = Letter::of(&buried, TENANT_HEADER).expect("it is a letter");
    assert_eq!((&read.topic, &read.cut, read.may_be_written, read.last_ms), (&topic, &None, false, 2));
    assert!(read.revive(buried) == record);
    let cut = cut(&record, letters, &death);
    assert!(Letter::of(&cut, TENANT_HEADER).expect("it is a letter").cut.is_some());
    assert!(cut.bytes() < 10_000 + 4 * record.headers.len());

    let mut handled = Handled::read(given.noted.0, &given.noted.1);
    for (from, length) in given.added {
        handled.add(from, from.saturating_add(length));
        assert!(!handled.has(handled.first_open()) || handled.first_open() == i64::MAX);
    }
    if let Some(text) = handled.text() {
        assert!(Handled::read(handled.first_open(), &text) == handled);
    }
});

fn header((name, value): (Name, Option<Vec<u8>>)) -> Header {
    let name = match name {
        Name::Any(name) => name,
        Name::Letters(own) => format!("{HEADER_PREFIX}{}", text(own)),
        Name::Caller(own) => format!("{HEADER_PREFIX}caller-{HEADER_PREFIX}{}", text(own)),
        Name::Nested(levels, name) => format!("{}{name}", "dlq-caller-".repeat(usize::from(levels % 5))),
    };
    Header { name, value: value.map(Bytes::from) }
}

fn text(own: Own) -> String {
    let name = match own {
        Own::Topic => "topic",
        Own::Timestamp => "timestamp",
        Own::Reason => "reason",
        Own::LastTime => "last-time",
        Own::Persisted => "persisted",
        Own::Cut => "cut",
        Own::AskedPartition => "asked-partition",
        Own::Other(name) => return name,
    };
    name.to_owned()
}
