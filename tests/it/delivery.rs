//! What a consumer finds of a record: bytes, nulls, headers, timestamps; and what grpcurl sees of an answer.

use std::collections::HashMap;

use bytes::Bytes;
use producer_sidecar::grpc::proto::{
    Header, ProducerRecord, Tombstone, header::Content, producer_record::Payload, producer_record::RecordKey,
};
use testkit::{Cluster, ReadRecord, grpcurl, read_topic};
use tonic::{Code, Request};

use crate::client::{connect, keyed, run, send, shared_address, text, with_header};

crate::tests!(
    grpcurl_with_reflection_only_sends_json_and_prints_errors,
    a_json_number_is_stored_as_it_was_written_or_refused,
    nulls_and_empties_survive_as_themselves,
    headers_keep_order_repeats_and_bytes,
    nothing_of_the_calls_metadata_gets_into_a_record,
    timestamps_are_the_callers_or_now,
    an_unset_payload_is_refused,
    receipts_name_the_offset_where_the_record_lies,
);

const SEND: &str = "caas.producer.v1.ProducerService/Send";

fn header<'a>(record: &'a ReadRecord, name: &str) -> Option<&'a str> {
    let (_, value) = record.headers.iter().find(|(found, _)| found == name)?;
    std::str::from_utf8(value.as_deref()?).ok()
}

fn grpcurl_with_reflection_only_sends_json_and_prints_errors() {
    let topic = Cluster::shared().create_topic("orders", 3, &[]);
    let body = format!(r#"{{"record":{{"topic":"{topic}","key_text":"k","json":{{"a":1}}}}}}"#);
    let address = shared_address();
    let answer = grpcurl(&["-plaintext", "-H", "authorization: Bearer hidden", "-d", &body, &address, SEND]);
    assert_eq!(answer.exit, Some(0), "{}", answer.stderr);
    let read = read_topic(Cluster::shared(), &topic);
    let [record] = &read[..] else { panic!("one record, not {read:?}") };
    assert_eq!(record.value.as_deref(), Some(&br#"{"a":1}"#[..]));
    assert_eq!(record.key.as_deref(), Some(&b"k"[..]));
    let names: Vec<_> = record.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["content-type", "traceparent", "trace-id", "timestamp"]);
    assert_eq!(header(record, "content-type"), Some("application/json"));
    let (traceparent, trace_id) =
        (header(record, "traceparent").unwrap(), header(record, "trace-id").unwrap());
    assert_eq!(&traceparent[3..35], trace_id);
    assert_eq!(header(record, "timestamp"), record.timestamp_ms.map(|ms| ms.to_string()).as_deref());

    let refused = grpcurl(&["-plaintext", "-d", r#"{"record":{"topic":"a b"}}"#, &address, SEND]);
    assert_ne!(refused.exit, Some(0));
    let printed = format!("{}{}", refused.stdout, refused.stderr);
    for part in [
        "google.rpc.ErrorInfo",
        r#""reason": "INVALID_RECORD""#,
        r#""domain": "producer.caas""#,
        r#""field": "record.payload""#,
    ] {
        assert!(printed.contains(part), "{part} in {printed}");
    }
}

/// What is written in a call is a double by the time it arrives, and may have been another integer before.
fn a_json_number_is_stored_as_it_was_written_or_refused() {
    let topic = Cluster::shared().create_topic("numbers", 1, &[]);
    let address = shared_address();
    let send = |number: &str| {
        let body = format!(r#"{{"record":{{"topic":"{topic}","json":{{"id":{number}}}}}}}"#);
        grpcurl(&["-plaintext", "-d", &body, &address, SEND])
    };
    let exact = ["9007199254740991", "-9007199254740991", "0.1", "-1.5e-7"];
    for number in exact {
        let answer = send(number);
        assert_eq!(answer.exit, Some(0), "{number}: {}", answer.stderr);
    }
    for number in ["9007199254740992", "9007199254740993", "-9007199254740993", "1e300", "123456789012345678"]
    {
        let answer = send(number);
        assert_ne!(answer.exit, Some(0), "{number}: {}", answer.stdout);
        for part in [r#""reason": "INVALID_RECORD""#, r#""field": "record.json.id""#, "2^53 - 1"] {
            assert!(answer.stderr.contains(part), "{part} in {}", answer.stderr);
        }
    }
    let read = read_topic(Cluster::shared(), &topic).into_iter();
    let read: Vec<_> = read.map(|record| String::from_utf8(record.value.unwrap()).unwrap()).collect();
    assert_eq!(read, exact.map(|number| format!(r#"{{"id":{number}}}"#)));
}

fn nulls_and_empties_survive_as_themselves() {
    let topic = Cluster::shared().create_topic("nulls", 1, &[]);
    let record = |key: Option<&'static str>, payload| ProducerRecord {
        topic: topic.clone(),
        record_key: key.map(|key| RecordKey::Key(Bytes::from_static(key.as_bytes()))),
        payload: Some(payload),
        ..ProducerRecord::default()
    };
    run(async {
        let client = connect(&shared_address());
        for record in [
            record(None, Payload::Value(Bytes::new())),
            record(Some(""), Payload::Tombstone(Tombstone {})),
            record(Some("k"), Payload::ValueText(String::new())),
        ] {
            send(&client, record).await.unwrap();
        }
    });
    let read = read_topic(Cluster::shared(), &topic);
    let read: Vec<_> = read.iter().map(|record| (record.key.as_deref(), record.value.as_deref())).collect();
    let empty: Option<&[u8]> = Some(b"");
    assert_eq!(read, [(None, empty), (empty, None), (Some(&b"k"[..]), empty)]);
}

fn headers_keep_order_repeats_and_bytes() {
    let topic = Cluster::shared().create_topic("headers", 1, &[]);
    let header = |name: &str, content| Header { name: name.to_owned(), content };
    let mut record = text(&topic, "v");
    record.headers = vec![
        header("b", Some(Content::Value(Bytes::from_static(&[0, 255, 128])))),
        header("a", None),
        header("b", Some(Content::ValueText(String::new()))),
        header("ünï", Some(Content::ValueText("☃".to_owned()))),
        header("content-type", Some(Content::ValueText("text/plain".to_owned()))),
        header(
            "traceparent",
            Some(Content::ValueText("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into())),
        ),
        header("timestamp", Some(Content::ValueText("mine".to_owned()))),
    ];
    record.message_id = "id-1".to_owned();
    run(async { send(&connect(&shared_address()), record).await.unwrap() });
    let read = read_topic(Cluster::shared(), &topic);
    let expected: Vec<(String, Option<Vec<u8>>)> = vec![
        ("b".into(), Some(vec![0, 255, 128])),
        ("a".into(), None),
        ("b".into(), Some(vec![])),
        ("ünï".into(), Some("☃".into())),
        ("content-type".into(), Some("text/plain".into())),
        ("traceparent".into(), Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into())),
        ("timestamp".into(), Some("mine".into())),
        ("trace-id".into(), Some("0af7651916cd43dd8448eb211c80319c".into())),
        ("message-id".into(), Some("id-1".into())),
    ];
    let names = |headers: &[(String, Option<Vec<u8>>)]| {
        let mut sorted = headers.to_vec();
        sorted.sort_by_key(|(name, _)| name.clone());
        sorted
    };
    // The caller's own come first and in order; those added follow in any order.
    assert_eq!(read[0].headers[..7], expected[..7]);
    assert_eq!(names(&read[0].headers), names(&expected));
}

fn nothing_of_the_calls_metadata_gets_into_a_record() {
    let topic = Cluster::shared().create_topic("metadata", 1, &[]);
    run(async {
        let mut request = Request::new(producer_sidecar::grpc::proto::SendRequest {
            record: Some(text(&topic, "v")),
            ..Default::default()
        });
        let metadata = request.metadata_mut();
        metadata.insert("authorization", "Bearer hidden".parse().unwrap());
        metadata.insert("x-other", "hidden".parse().unwrap());
        metadata.insert(
            "traceparent",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().unwrap(),
        );
        connect(&shared_address()).send(request).await.unwrap();
    });
    let read = read_topic(Cluster::shared(), &topic);
    let headers: HashMap<_, _> = read[0].headers.iter().cloned().collect();
    assert_eq!(header(&read[0], "trace-id"), Some("4bf92f3577b34da6a3ce929d0e0e4736"));
    let mut names: Vec<_> = headers.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["timestamp", "trace-id", "traceparent"]);
    assert!(!format!("{:?}", read[0]).contains("hidden"));
}

fn timestamps_are_the_callers_or_now() {
    let topic = Cluster::shared().create_topic("timestamps", 1, &[]);
    let now = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    let before = i64::try_from(now()).unwrap();
    let own = ProducerRecord {
        timestamp: Some(prost_types::Timestamp { seconds: before / 1000 - 3600, nanos: 7_000_000 }),
        ..text(&topic, "own")
    };
    let (own, defaulted) = run(async {
        let client = connect(&shared_address());
        (send(&client, own).await.unwrap(), send(&client, text(&topic, "now")).await.unwrap())
    });
    let read = read_topic(Cluster::shared(), &topic);
    assert_eq!(read[0].timestamp_ms, Some((before / 1000 - 3600) * 1000 + 7));
    assert!(read[1].timestamp_ms.unwrap() >= before);
    for (receipt, record) in [own, defaulted].iter().zip(&read) {
        let timestamp = receipt.timestamp.unwrap();
        let receipt_ms = timestamp.seconds * 1000 + i64::from(timestamp.nanos / 1_000_000);
        assert_eq!(Some(receipt_ms), record.timestamp_ms);
    }
}

fn an_unset_payload_is_refused() {
    let topic = Cluster::shared().create_topic("payload", 1, &[]);
    let record = keyed(ProducerRecord { topic: topic.clone(), ..ProducerRecord::default() }, "k");
    let refusal = run(async { send(&connect(&shared_address()), record).await }).unwrap_err();
    refusal.expect(Code::InvalidArgument, "INVALID_RECORD", "NO");
    assert_eq!(refusal.violations, ["record.payload"]);
    assert_eq!(read_topic(Cluster::shared(), &topic).len(), 0);
}

fn receipts_name_the_offset_where_the_record_lies() {
    let topic = Cluster::shared().create_topic("receipts", 4, &[]);
    let receipts = run(async {
        let client = connect(&shared_address());
        let sends = (0..200).map(|number| {
            let record = with_header(text(&topic, &format!("value {number}")), "n", &number.to_string());
            let client = client.clone();
            tokio::spawn(async move { send(&client, record).await.unwrap() })
        });
        let mut receipts = Vec::new();
        for send in sends.collect::<Vec<_>>() {
            receipts.push(send.await.unwrap());
        }
        receipts
    });
    let read = read_topic(Cluster::shared(), &topic);
    assert_eq!(read.len(), 200);
    for (number, receipt) in receipts.iter().enumerate() {
        let place = (receipt.partition.unwrap(), receipt.offset.unwrap());
        let found = read.iter().find(|record| (record.partition, record.offset) == place).unwrap();
        assert_eq!(found.value.as_deref(), Some(format!("value {number}").as_bytes()));
    }
}
