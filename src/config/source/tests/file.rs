//! Tests of the settings file: every problem at its line and column, every text as it was written.

use secrecy::ExposeSecret as _;

use super::{Folder, PLAIN, load_with, problems_of_file};

/// Files with wrong scalars, and what is told.
const SCALARS: &[(&str, &str)] = &[
    (
        "kafka:\n  linger_ms: abc\n",
        "kafka.linger_ms (config.yaml:2:14): \"abc\" is not a whole number in decimal digits; write a whole number of ms from 1 to 1000",
    ),
    (
        "kafka:\n  linger_ms: 1001\n",
        "kafka.linger_ms (config.yaml:2:14): \"1001\" is above the most, 1000 ms; write a whole number of ms from 1 to 1000",
    ),
    (
        "drain_ms: 99999999999999999999999\n",
        "drain_ms (config.yaml:1:11): \"99999999999999999999999\" is above the most, 3600000 ms; write a whole number of ms from 0 to 3600000",
    ),
    (
        "kafka:\n  batch_bytes: 1e3\n  linger_ms: 007\n",
        "kafka.batch_bytes (config.yaml:2:16): \"1e3\" is not a whole number in decimal digits; write a whole number of bytes from 1024 to 10485760\n\
             kafka.linger_ms (config.yaml:3:14): \"007\" is not a whole number in decimal digits; write a whole number of ms from 1 to 1000",
    ),
    (
        "reflection: yes\n",
        "reflection (config.yaml:1:13): \"yes\" is neither true nor false; write true or false",
    ),
];

/// Files with wrong keys or wrong shapes.
const SHAPES: &[(&str, &str)] = &[
    (
        "# note\nkafka: {linger: 5}\n",
        "kafka.linger (config.yaml:2:9): is not a setting; did you mean kafka.linger_ms?",
    ),
    ("linger_ms: 5\n", "linger_ms (config.yaml:1:1): is not a setting; did you mean kafka.linger_ms?"),
    ("kafak:\n  linger_ms: 5\n", "kafak (config.yaml:1:1): is not a setting; did you mean kafka?"),
    (
        "kafka.linger_ms: 5\n",
        "kafka.linger_ms (config.yaml:1:1): is not a setting; write \"linger_ms\" below its section, indented",
    ),
    (
        "colour: red\n",
        "colour (config.yaml:1:1): is not a setting; remove it; docs/configuration.md lists the settings",
    ),
    (
        "drain_ms: 1\nreflection: true\ndrain_ms: 2\n",
        "file (config.yaml:3:1): the key \"drain_ms\" stands twice, first in line 1; keep one of the two",
    ),
    (
        "kafka: 5\n",
        "kafka (config.yaml:1:8): is a section, not a value; write its settings below it, indented",
    ),
    ("drain_ms: [1]\n", "drain_ms (config.yaml:1:11): is a list; write 0 to 3600000 ms"),
    ("drain_ms: {a: 1}\n", "drain_ms (config.yaml:1:11): is a map; write 0 to 3600000 ms"),
    (
        "listen: ~\n",
        "listen (config.yaml:1:9): has no value; remove the key, or write IP:port, localhost:port or unix:/path",
    ),
    (
        "listen: ''\n",
        "listen (config.yaml:1:9): \"\" is no address and port; write an IP address and a port, such as 127.0.0.1:50051 or [::1]:50051",
    ),
    (
        "instance_id: &a one\ntransactional_id_prefix: *a\n",
        "file (config.yaml:1:14): has an anchor; remove the anchor\n\
             file (config.yaml:2:26): is an alias; write the value out",
    ),
    ("<<: {drain_ms: 1}\n", "file (config.yaml:1:1): is a merge key; write the values out"),
    (
        "drain_ms: !!int 5\n",
        "file (config.yaml:1:11): has a tag; remove the tag; every value is taken as written",
    ),
    ("? [a]\n: 5\n", "file (config.yaml:1:3): a key is not a text; write the name of a setting"),
    (
        "drain_ms: 1\n---\ndrain_ms: 2\n",
        "file (config.yaml:2:1): a second document begins; keep one document",
    ),
    ("- a\n", "file (config.yaml:1:1): is not a map of settings; write `key: value` lines"),
    (
        "a: \"b\n",
        "file (config.yaml:1:4): is not YAML: while scanning a quoted scalar, found unexpected end of stream; correct it",
    ),
];

/// Files with wrong lists and maps, or with what is refused whatever it holds.
const CONTENTS: &[(&str, &str)] = &[
    (
        "kafka:\n  password: x\n",
        "kafka.password (config.yaml:2:3): a secret must not stand in the settings file; use kafka.password_file",
    ),
    (
        "kafka:\n  brokers:\n    - a:1\n    - b\n    - [c]\n",
        "kafka.brokers (config.yaml:5:7): is a list; write a single value",
    ),
    (
        "kafka:\n  brokers:\n    - a:1\n    - b\n    - c:0\n",
        "kafka.brokers (config.yaml:4:7): \"b\" is no host and port; write host:port, such as kafka-1:9092 or [::1]:9092\n\
             kafka.brokers (config.yaml:5:7): \"c:0\" is no host and port; write host:port, such as kafka-1:9092 or [::1]:9092",
    ),
    (
        "partitioner:\n  topics:\n    ok: java-murmur2\n    a b: tenant-md5\n    c: md5\n",
        "partitioner.topics (config.yaml:4:5): \"a b\" is no topic: it may hold only letters and digits of ASCII, '.', '_' and '-'; write a topic's name\n\
             partitioner.topics (config.yaml:5:8): \"md5\" is no partitioner; write one of tenant-md5, java-murmur2, librdkafka-crc32",
    ),
    (
        "kafka:\n  properties:\n    socket.max.fails: 5\n    acks: 1\n    linger.ms: 3\n    ssl.ca.pem: x\n",
        "kafka.properties (config.yaml:4:5): \"acks\" is reserved: what the sidecar promises rests on it; remove it\n\
             kafka.properties (config.yaml:5:5): \"linger.ms\" is reserved: settings of their own decide it; remove it\n\
             kafka.properties (config.yaml:6:5): \"ssl.ca.pem\" is reserved: settings of their own decide it; remove it",
    ),
    (
        "spool:\n  dir: /var/spool\n",
        "spool.dir (config.yaml:2:8): is set, and the spool is not built yet; remove it",
    ),
    (
        "kafka:\n  client_id: \"a\\tb\"\n",
        "kafka.client_id (config.yaml:2:14): \"a\\tb\" holds a control character; write it on one line, without control characters",
    ),
];

#[test]
fn problems_of_the_file_stand_at_their_line_and_column() {
    for (content, expected) in [SCALARS, SHAPES, CONTENTS].concat() {
        assert_eq!(problems_of_file(content), expected, "{content}");
    }
}

#[test]
fn files_that_are_no_settings_are_told_apart() {
    let folder = Folder::new();
    let missing = folder.0.join("config.yaml");
    let told = folder.told(load_with(Some(&missing), &PLAIN, &[]));
    assert!(told.starts_with("file (config.yaml): cannot be read: No such file"), "{told}");

    assert_eq!(
        problems_of_file(b"drain_ms: 1\nlis\xff\n"),
        "file (config.yaml:2:4): is not UTF-8; write it as UTF-8"
    );
    assert_eq!(
        problems_of_file("#".repeat(1_048_577)),
        "file (config.yaml): has more than 1048576 bytes; name the settings file"
    );
    let deep = problems_of_file("[".repeat(17) + &"]".repeat(17));
    assert_eq!(deep, "file (config.yaml:1:17): is nested too deeply; settings need three levels");
    let deeper = problems_of_file("[".repeat(500_000));
    assert!(deeper.starts_with("file (config.yaml:1:"), "{deeper}");
    let long = problems_of_file("- a\n".repeat(10_001));
    assert_eq!(long, "file (config.yaml:9998:3): more than 10000 values stand here; name the settings file");
}

#[test]
fn empty_files_and_sections_say_nothing() {
    let folder = Folder::new();
    for content in ["", "\n", "# nothing\n", "\u{feff}", "---\n", "kafka:\nlog: {}\n", "{}", "~"] {
        let path = folder.write("config.yaml", content);
        let loaded = load_with(Some(&path), &PLAIN, &[]);
        assert!(loaded.is_ok(), "{content:?}: {loaded:?}");
    }
}

#[test]
fn texts_stay_as_they_were_written() {
    let folder = Folder::new();
    let path = folder.write(
        "config.yaml",
        "instance_id: 007\ntransactional_id_prefix: 1e3\nkafka:\n  client_id: yes\n  properties:\n    client.rack: 0x1F\n    socket.nagle.disable: True\n",
    );
    let variables = [PLAIN[0], PLAIN[1]];
    let config = load_with(Some(&path), &variables, &[]).unwrap().config;
    assert_eq!(config.instance_id, "007");
    assert_eq!(config.transactional_id_prefix, "1e3");
    assert_eq!(config.kafka.client_id, "yes");
    let properties = config.kafka.properties.iter();
    let properties: Vec<_> = properties.map(|(name, value)| (name.as_str(), value.expose_secret())).collect();
    assert_eq!(properties, [("client.rack", "0x1F"), ("socket.nagle.disable", "True")]);
}
