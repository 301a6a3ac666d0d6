//! `dlq`: dead letters printed, replayed and discarded, each once, whatever is killed in between.

use std::{collections::BTreeMap, thread, time::Duration};

use rdkafka::{
    ClientConfig,
    message::{Header, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer as _},
};
use testkit::{Cluster, Sidecar, SidecarBuilder, eventually, read_committed_now, read_topic, send_misnamed};

use crate::{
    client::{BINARY, READY, connect, keyed, over_tls, run, send, text, with_header},
    commands::{Ended, to_end},
};

crate::tests!(
    letters_are_listed_replayed_and_discarded_by_choice,
    what_cannot_or_should_not_be_sent_is_left,
    what_its_topic_refuses_again_is_left_and_the_others_go,
    headers_of_callers_are_not_believed_and_come_back,
    a_letter_is_replayed_only_into_the_topic_whose_letters_lie_there,
    a_record_that_is_no_letter_harms_no_run,
    wrong_words_are_told,
);

pub mod alone {
    //! The same with a large topic and a kill.
    use super::a_replay_that_is_killed_goes_on_and_doubles_nothing;

    crate::tests!(a_replay_that_is_killed_goes_on_and_doubles_nothing);
}

/// How many letters the killed replay has.
const LETTERS: usize = 10_000;

/// The command with the default settings, by which the dead letters of a topic go to the one beside it.
fn by_default(arguments: &[&str]) -> SidecarBuilder {
    let builder = Sidecar::for_cluster(BINARY, Cluster::shared()).arg("dlq");
    arguments.iter().fold(builder, |builder, argument| builder.arg(*argument))
}

/// The same where all dead letters go to the topic that is named.
fn dlq(arguments: &[&str]) -> SidecarBuilder {
    let builder = by_default(arguments);
    match arguments.get(1) {
        Some(letters) => builder.env("SIDECAR_DEAD_LETTERS_TOPIC", *letters),
        None => builder,
    }
}

fn done(arguments: &[&str]) -> Vec<String> {
    let Ended { code, stdout, stderr } = to_end(dlq(arguments));
    assert_eq!(code, Some(0), "{arguments:?}: {stdout:?} {stderr:?}");
    stdout
}

fn listed(arguments: &[&str]) -> Vec<serde_json::Value> {
    done(arguments).iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Writes dead letters as a sidecar would: values from 0 on, each with its value for a key.
fn bury(letters: &str, topic: &str, count: usize, further: &[(&str, &str)]) {
    let cluster = Cluster::shared();
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", cluster.bootstrap_plaintext())
        .set("enable.idempotence", "true")
        .create()
        .unwrap();
    let headers = [("dlq-topic", topic), ("dlq-reason", "TOPIC_NOT_FOUND"), ("dlq-persisted", "NO")];
    for number in 0..count {
        let value = number.to_string();
        let mut native = OwnedHeaders::new();
        for (key, value) in headers.iter().filter(|(name, _)| !further.iter().any(|(other, _)| other == name))
        {
            native = native.insert(Header { key, value: Some(*value) });
        }
        for (key, value) in further {
            native = native.insert(Header { key, value: Some(*value) });
        }
        let mut record = BaseRecord::to(letters).key(&value).payload(&value).headers(native);
        while let Err((_, back)) = producer.send(record) {
            producer.poll(Duration::from_millis(10));
            record = back;
        }
    }
    producer.flush(Duration::from_secs(60)).unwrap();
}

fn values(topic: &str) -> Vec<String> {
    let read = read_topic(Cluster::shared(), topic).into_iter();
    let mut values: Vec<_> = read.map(|record| String::from_utf8(record.value.unwrap()).unwrap()).collect();
    values.sort();
    values
}

fn letters_are_listed_replayed_and_discarded_by_choice() {
    let cluster = Cluster::shared();
    let letters = cluster.create_topic("dlq", 2, &[]);
    let compacted = cluster.create_topic("compacted", 1, &[("cleanup.policy", "compact")]);
    let late = format!("{letters}-late");
    let sidecar = over_tls().env("SIDECAR_DEAD_LETTERS_TOPIC", &letters).start();
    sidecar.wait_ready(READY);
    run(async {
        let client = connect(&sidecar.grpc_address());
        for number in 0..10 {
            let tenant = if number % 2 == 0 { "even" } else { "odd" };
            let record = keyed(text(&late, &number.to_string()), &number.to_string());
            send(&client, with_header(record, "tenant-id", tenant)).await.unwrap_err();
        }
        for number in 0..3 {
            send(&client, text(&compacted, &number.to_string())).await.unwrap_err();
        }
    });
    let all = listed(&["list", &letters]);
    assert_eq!(all.len(), 13, "{all:?}");
    let of_even = listed(&["list", &letters, "--reason", "TOPIC_NOT_FOUND", "--tenant", "even"]);
    assert_eq!(of_even.len(), 5, "{of_even:?}");
    let shown = ["topic", "reason", "tenant", "persisted"].map(|name| of_even[0][name].as_str().unwrap());
    assert_eq!(shown, [late.as_str(), "TOPIC_NOT_FOUND", "even", "NO"]);
    let none_is_asked_for = "0 replayed; 13 not asked for";
    let all_are = "0 replayed; 3 not asked for; 10 without their topic or partition";
    for (bound, to_come, said) in [("--since", 0, none_is_asked_for), ("--until", 13, all_are)] {
        let listed_by = |time| listed(&["list", &letters, bound, time]).len();
        let (past, future) = ("2020-01-01T00:00:00Z", "2120-01-01T00:00:00Z");
        assert_eq!([listed_by(past), listed_by(future)], [13 - to_come, to_come], "{bound}");
        assert_eq!(done(&["replay", &letters, "--reason", "TOPIC_NOT_FOUND", bound, future]), [said]);
    }
    let gone = ["replay", &letters, "--reason", "TOPIC_NOT_FOUND"];
    assert_eq!(done(&gone), ["0 replayed; 3 not asked for; 10 without their topic or partition"]);

    cluster.create_topic_named(&late, 3, &[]);
    let dry = [&gone[..], &["--dry-run"]].concat();
    assert_eq!(done(&dry), ["10 would be replayed; 3 not asked for"]);
    assert!(values(&late).is_empty());
    let even = [&gone[..], &["--tenant", "even"]].concat();
    assert_eq!(done(&even), ["5 replayed; 8 not asked for"]);
    assert_eq!(values(&late), ["0", "2", "4", "6", "8"]);
    // Each once, whichever choice names it again.
    assert!(done(&gone)[0].starts_with("5 replayed"), "the odd ones");
    assert!(done(&gone)[0].starts_with("0 replayed"), "none is left");
    assert_eq!(values(&late), (0..10).map(|number| number.to_string()).collect::<Vec<_>>());
    for record in read_topic(cluster, &late) {
        let names: BTreeMap<_, _> =
            record.headers.iter().map(|(name, value)| (name.as_str(), value)).collect();
        assert!(
            names.contains_key("tenant-id") && !names.keys().any(|name| name.starts_with("dlq-")),
            "{names:?}"
        );
        assert_eq!(record.key, record.value);
    }

    assert_eq!(listed(&["list", &letters]).len(), 3);
    assert_eq!(done(&["discard", &letters, "--dry-run"])[0].split(';').next(), Some("3 would be discarded"));
    assert_eq!(done(&["discard", &letters])[0].split(';').next(), Some("3 discarded"));
    assert_eq!(listed(&["list", &letters]).len(), 0);
    assert_eq!(listed(&["list", &letters, "--all"]).len(), 13);
    assert!(done(&["replay", &letters])[0].starts_with("0 replayed"));
}

fn what_cannot_or_should_not_be_sent_is_left() {
    let cluster = Cluster::shared();
    let [letters, topic] = ["dlq", "revived"].map(|name| cluster.create_topic(name, 1, &[]));
    bury(&letters, &topic, 2, &[("dlq-cut", "value")]);
    bury(&letters, &topic, 3, &[("dlq-persisted", "MAYBE")]);
    bury(&letters, &topic, 4, &[("dlq-asked-partition", "7")]);
    bury(&letters, "not a topic", 5, &[]);
    let said = "0 replayed; 2 cut, so that they cannot be sent; 3 perhaps in their topics already (--may-double sends them); \
                4 without their topic or partition; 5 no dead letters";
    assert_eq!(done(&["replay", &letters]), [said]);
    assert!(done(&["replay", &letters, "--may-double"])[0].starts_with("3 replayed"));
    assert_eq!(values(&topic).len(), 3);
    assert!(done(&["replay", &letters, "--may-double"])[0].starts_with("0 replayed"));
}

fn what_its_topic_refuses_again_is_left_and_the_others_go() {
    let cluster = Cluster::shared();
    let letters = cluster.create_topic("dlq", 1, &[]);
    let topic = cluster.create_topic("revived", 3, &[]);
    // Large enough for the marker that ends a transaction; Kafka tries to write that for ever.
    let small = cluster.create_topic("small", 1, &[("max.message.bytes", "1000")]);
    let compacted = cluster.create_topic("compacted", 1, &[("cleanup.policy", "compact")]);
    let forbidden = cluster.create_topic("readonly-", 1, &[]);
    bury(&letters, &topic, 25, &[]);
    let filler = "x".repeat(2_000);
    bury(&letters, &small, 1, &[("filler", &filler)]);
    bury(&letters, &compacted, 5, &[]);
    bury(&letters, &forbidden, 3, &[]);
    // Each is small enough, and all together are not.
    bury(&letters, &small, 8, &[("filler", &filler[..200])]);
    bury(&letters, &small, 1, &[("filler", &filler)]);
    bury(&letters, &topic, 25, &[]);
    let replayed = || {
        let Ended { code, stdout, stderr } = to_end(dlq(&["replay", &letters]));
        assert_eq!(code, Some(2), "{stdout:?} {stderr:?}");
        let mut refused: Vec<_> = stdout[1..].iter().map(|line| line.split_once('@').unwrap().1).collect();
        refused.sort_unstable();
        (stdout[0].clone(), refused.join("\n"))
    };
    let expected = [
        format!("25 refused by {small}: RECORD_TOO_LARGE (MSG_SIZE_TOO_LARGE)"),
        format!("31 refused by {forbidden}: NOT_AUTHORIZED (TOPIC_AUTHORIZATION_FAILED)"),
        format!("32 refused by {forbidden}: NOT_AUTHORIZED (TOPIC_AUTHORIZATION_FAILED)"),
        format!("33 refused by {forbidden}: NOT_AUTHORIZED (TOPIC_AUTHORIZATION_FAILED)"),
        format!("42 refused by {small}: RECORD_TOO_LARGE (MSG_SIZE_TOO_LARGE)"),
    ];
    let expected = expected.join("\n");
    assert_eq!(replayed(), ("63 replayed; 5 refused by their topics again".to_owned(), expected.clone()));
    let all = |count: usize| (0..count).map(|number| number.to_string());
    let sorted = |values: &mut dyn Iterator<Item = String>| {
        let mut values: Vec<_> = values.collect();
        values.sort();
        values
    };
    let check = |of_small: usize| {
        assert_eq!(values(&topic), sorted(&mut all(25).chain(all(25))));
        assert_eq!(values(&compacted), sorted(&mut all(5)));
        assert_eq!(values(&small), sorted(&mut all(8).chain(all(1).cycle().take(of_small))));
        assert!(values(&forbidden).is_empty());
    };
    check(0);
    // They are left: another run, which begins at the first of them, tries them and nothing else.
    let said = "0 replayed; 38 dealt with before; 5 refused by their topics again";
    assert_eq!(replayed(), (said.to_owned(), expected));
    check(0);
    // Once their topic takes them they go.
    cluster.alter_topic_config(&small, &[("max.message.bytes", "100000")]);
    assert!(replayed().0.starts_with("2 replayed; 38 dealt with before; 3 refused"));
    check(2);
    assert!(done(&["discard", &letters])[0].starts_with("3 discarded"));
    assert_eq!(done(&["replay", &letters]), ["0 replayed"]);
}

fn headers_of_callers_are_not_believed_and_come_back() {
    let cluster = Cluster::shared();
    let letters = cluster.create_topic("forged", 1, &[]);
    let [other, late] = [cluster.create_topic("other", 1, &[]), format!("{letters}-late")];
    let sidecar = over_tls().env("SIDECAR_DEAD_LETTERS_TOPIC", &letters).start();
    sidecar.wait_ready(READY);
    let own = [
        ("dlq-cut", "value"),
        ("x", "1"),
        ("dlq-topic", other.as_str()),
        ("dlq-cut", "key"),
        ("dlq-caller-dlq-cut", "z"),
        ("dlq-persisted", "MAYBE"),
        ("dlq-asked-partition", "7"),
        ("x", "2"),
        ("dlq-timestamp", "1"),
        ("dlq-caller-", ""),
    ];
    run(async {
        let record =
            own.iter().fold(text(&late, "v"), |record, (name, value)| with_header(record, name, value));
        let refusal = send(&connect(&sidecar.grpc_address()), record).await.unwrap_err();
        assert!(refusal.metadata.contains_key("deadLetterOffset"), "{refusal:?}");
    });
    cluster.create_topic_named(&late, 1, &[]);
    assert_eq!(listed(&["list", &letters])[0]["topic"], late.as_str());
    assert_eq!(done(&["replay", &letters]), ["1 replayed"]);
    assert!(values(&other).is_empty());
    let read = read_topic(cluster, &late);
    let headers: Vec<_> = read[0].headers.iter().take(own.len()).collect();
    let given = own.map(|(name, value)| (name.to_owned(), Some(value.as_bytes().to_vec())));
    assert_eq!(headers, given.iter().collect::<Vec<_>>());
    let added: Vec<_> = read[0].headers[own.len()..].iter().map(|(name, _)| name.as_str()).collect();
    assert!(!added.iter().any(|name| name.starts_with("dlq-")), "{added:?}");
}

fn a_letter_is_replayed_only_into_the_topic_whose_letters_lie_there() {
    let cluster = Cluster::shared();
    let [topic, other] = ["belongs", "other"].map(|name| cluster.create_topic(name, 1, &[]));
    let letters = format!("{topic}.dlq");
    cluster.create_topic_named(&letters, 1, &[]);
    bury(&letters, &topic, 2, &[]);
    bury(&letters, &other, 3, &[]);
    bury(&letters, &letters, 1, &[]);
    bury(&letters, "__consumer_offsets", 4, &[]);
    let run = |arguments: &[&str], elsewhere: &str| {
        let ended = to_end(by_default(arguments).env("SIDECAR_DEAD_LETTERS_TOPICS", elsewhere));
        assert_eq!(ended.code, Some(0), "{arguments:?}: {ended:?}");
        ended.stdout
    };
    let none = format!("{other}=elsewhere");
    let left =
        "of topics whose dead letters go elsewhere (dead_letters.topic and dead_letters.topics say where)";
    // Those that are left are skipped as often as they are come across.
    for count in [2, 0] {
        let told = run(&["replay", &letters], &none);
        assert_eq!(told, [format!("{count} replayed; 4 {left}; 4 no dead letters")]);
    }
    assert_eq!(values(&topic), ["0", "1"]);
    assert!(values(&other).is_empty(), "its letters do not go there");
    let listed = run(&["list", &letters], &none);
    assert_eq!(listed.iter().filter(|line| line.contains(r#""misplaced":true"#)).count(), 4, "{listed:?}");
    // Whoever says so in the settings has them replayed.
    let here = format!("{other}={letters}");
    assert_eq!(run(&["replay", &letters], &here), [format!("3 replayed; 1 {left}; 4 no dead letters")]);
    assert_eq!(values(&other).len(), 3);
    assert_eq!(run(&["discard", &letters], &here)[0].split(';').next(), Some("1 discarded"));
}

fn a_record_that_is_no_letter_harms_no_run() {
    let cluster = Cluster::shared();
    let [letters, topic] = ["dlq", "revived"].map(|name| cluster.create_topic(name, 1, &[]));
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", cluster.bootstrap_plaintext()).create().unwrap();
    for name in [c"dlq-\xff", c"", c"dlq-topic"] {
        send_misnamed(producer.client(), &letters, name);
    }
    producer.flush(Duration::from_secs(60)).unwrap();
    bury(&letters, &topic, 2, &[]);
    bury(&letters, &topic, 1, &[("dlq-timestamp", "9223372036854775807"), ("dlq-last-time", "x")]);
    bury(&letters, &topic, 1, &[("dlq-asked-partition", "-1")]);
    assert_eq!(listed(&["list", &letters]).len(), 4);
    let said = "3 replayed; 1 without their topic or partition; 3 no dead letters";
    assert_eq!(done(&["replay", &letters]), [said]);
    assert_eq!(values(&topic).len(), 3);
}

fn wrong_words_are_told() {
    for (arguments, said) in [
        (&["list", "a b"][..], "is no topic"),
        (&["list", "letters", "--since", "yesterday"], "RFC 3339"),
        (&["replay"], "TOPIC"),
        (&["bury", "letters"], "bury"),
    ] {
        let Ended { code, stderr, .. } = to_end(dlq(arguments));
        assert_eq!(code, Some(64), "{arguments:?}");
        assert!(stderr.iter().any(|line| line.contains(said)), "{arguments:?}: {stderr:?}");
    }
    let Ended { code, stderr, .. } = to_end(dlq(&["list", "no-such-letters"]));
    assert_eq!(code, Some(1));
    assert!(stderr.iter().any(|line| line.starts_with("TOPIC_NOT_FOUND")), "{stderr:?}");
}

fn a_replay_that_is_killed_goes_on_and_doubles_nothing() {
    let cluster = Cluster::shared();
    let letters = cluster.create_topic("dlq", 2, &[]);
    let topic = cluster.create_topic("revived", 6, &[]);
    let small = cluster.create_topic("small", 1, &[("max.message.bytes", "1000")]);
    let filler = "x".repeat(2_000);
    bury(&letters, &small, 2, &[("filler", &filler)]);
    bury(&letters, &topic, LETTERS, &[]);
    bury(&letters, &small, 2, &[("filler", &filler)]);
    for batches in [1, 3] {
        let killed = dlq(&["replay", &letters]).start();
        eventually(Duration::from_secs(60), "some are replayed", || {
            (killed.stderr().iter().filter(|line| line.contains("done so far")).count() >= batches)
                .then_some(())
        });
        assert_eq!(killed.exit_status(), None, "it is killed before its end");
        killed.kill();
    }
    // The last one's transaction is still open, perhaps, which is not waited for here.
    let done = read_committed_now(cluster, &topic).len();
    assert!((1..LETTERS).contains(&done), "{done} are replayed, and not all");
    // One whose transaction may still be open; and two at once, of which one is fenced.
    let ends = thread::scope(|scope| {
        let runs = [(); 2].map(|()| scope.spawn(|| to_end(dlq(&["replay", &letters]))));
        runs.map(|run| run.join().unwrap())
    });
    assert!(ends.iter().any(|end| end.code == Some(2)), "{ends:?}");
    let mut expected: Vec<_> = (0..LETTERS).map(|number| number.to_string()).collect();
    expected.sort();
    let found = values(&topic);
    assert_eq!(found.len(), LETTERS);
    assert!(found == expected, "each once");
    let last = to_end(dlq(&["replay", &letters])).stdout;
    assert!(
        last[0].starts_with("0 replayed") && last[0].ends_with("; 4 refused by their topics again"),
        "{last:?}"
    );
    assert!(values(&small).is_empty());
    cluster.nothing_hangs(&[&topic, &small]);
}
