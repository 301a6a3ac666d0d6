//! Tests of what single values may look like.

use super::*;

#[test]
fn brokers_are_hosts_with_ports() {
    let good =
        ["a:1", "kafka-1.example.com:9092", "kafka_1:9092", "10.0.0.1:65535", "[::1]:9092", "[fe80::1]:1"];
    for text in good {
        assert_eq!(broker(text).map(|broker| broker.to_string()).as_deref(), Some(text));
    }
    let bad = [
        "",
        ":",
        "a",
        "a:",
        ":1",
        "a:0",
        "a:65536",
        "a:-1",
        "a:+1",
        "a b:1",
        "::1:9092",
        "[::1]",
        "[a]:1",
        "[]:1",
        "http://a:1",
        "a:1/",
    ];
    for text in bad {
        assert_eq!(broker(text), None, "{text}");
    }
}

#[test]
fn numbers_are_plain_decimal_digits() {
    let parse = |text: &str| number(text, 1, 1000, "ms").ok();
    assert_eq!(parse("1"), Some(1));
    assert_eq!(parse("1000"), Some(1000));
    for text in [
        "",
        "0",
        "1001",
        "-1",
        "+1",
        " 1",
        "1 ",
        "01",
        "1_0",
        "0x1",
        "1.0",
        "1e1",
        "１",
        "18446744073709551616",
    ] {
        assert_eq!(parse(text), None, "{text}");
    }
    assert_eq!(number("0", 0, 1, "ms").ok(), Some(0));
}

#[test]
fn listen_addresses_are_numeric_or_local() {
    for (text, shown) in [
        ("127.0.0.1:50051", "127.0.0.1:50051"),
        ("localhost:50051", "127.0.0.1:50051"),
        ("[::1]:0", "[::1]:0"),
        ("unix:/run/a.sock", "unix:/run/a.sock"),
    ] {
        assert_eq!(listen(text).ok().map(|listen| listen.to_string()).as_deref(), Some(shown));
    }
    let long = format!("unix:/{}", "a".repeat(107));
    for text in [
        "",
        "localhost",
        "localhost:",
        "localhost:x",
        "example.com:1",
        "127.0.0.1",
        "unix:",
        "unix:a",
        "unix://\n",
        &long,
    ] {
        assert!(listen(text).is_err(), "{text}");
    }
}

#[test]
fn long_values_are_cut_where_they_are_quoted() {
    assert_eq!(quoted("a\"b"), r#""a\"b""#);
    assert_eq!(quoted(&"ä".repeat(81)), format!("\"{}\"...", "ä".repeat(80)));
}

#[test]
fn a_topic_whose_dead_letters_could_go_nowhere_is_told() {
    let told = |topic: &str, to: &str| {
        let place = Origin::Default;
        let item = |text: &str| Item { text: text.to_owned(), place: place.clone() };
        let mut wrong = Vec::new();
        drop(destinations(vec![(item(topic), item(to))], &mut |_, fault| wrong.push(fault.wrong)));
        wrong.concat()
    };
    let long = "t".repeat(246);
    for (topic, to) in [("orders", "{topic}.dlq"), ("orders", "dead"), ("orders", "off"), (&long, "off")] {
        assert_eq!(told(topic, to), "", "{topic} to {to}");
    }
    assert!(told(&long, "{topic}.dlq").contains("at most 249 characters"));
    assert!(told("orders", "orders").contains("is the topic itself"));
    for to in ["", ".", "..", "a b", "{topic}"] {
        assert!(told("orders", to).contains("is no topic for dead letters"), "{to:?}");
    }
}
