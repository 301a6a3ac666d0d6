//! A record that is sent again with its `message_id` is written once, whatever became of the first call; and what is not the
//! same is told apart.

use std::{collections::HashMap, time::Duration};

use producer_sidecar::grpc::proto::{
    ProducerRecord, Receipt, SendBatchRequest, record_result::Result as RecordOutcome,
};
use testkit::{Cluster, Sidecar, read_topic};
use tonic::Code;

use crate::client::{
    Client, DEADLINE_MARGIN_MS, READY, Refusal, connect, keyed, over_tls, run, send, send_within,
    shared_address, text,
};
use crate::streams::exchange;

crate::tests!(
    a_record_that_is_sent_again_is_answered_by_the_first,
    many_at_the_same_time_are_one_record,
    a_frame_with_the_same_record_twice_has_two_receipts_of_one,
    a_frame_of_several_topics_and_wrong_records_is_answered_in_its_order,
    another_content_under_the_same_id_is_refused,
    ids_are_forgotten_by_age_and_count_and_off_by_setting,
);

pub mod alone {
    //! The same while the cluster is broken; and what needs the machine for itself.
    use super::{an_id_that_is_remembered_costs_little, what_timed_out_is_sent_again_and_written_once};

    crate::tests!(what_timed_out_is_sent_again_and_written_once, an_id_that_is_remembered_costs_little);
}

fn identified(topic: &str, value: &str, id: &str) -> ProducerRecord {
    ProducerRecord { message_id: id.to_owned(), ..text(topic, value) }
}

fn count(topic: &str) -> usize {
    read_topic(Cluster::shared(), topic).len()
}

fn place(receipt: &Receipt) -> (Option<i32>, Option<i64>) {
    (receipt.partition, receipt.offset)
}

fn a_record_that_is_sent_again_is_answered_by_the_first() {
    let topic = Cluster::shared().create_topic("again", 3, &[]);
    let other = Cluster::shared().create_topic("again-other", 1, &[]);
    run(async {
        let client = connect(&shared_address());
        let first = send(&client, identified(&topic, "v", "id-1")).await.unwrap();
        assert!(!first.duplicate && first.offset.is_some());
        for _ in 0..3 {
            let again = send(&client, identified(&topic, "v", "id-1")).await.unwrap();
            assert!(again.duplicate, "{again:?}");
            assert_eq!(place(&again), place(&first));
        }
        // Neither another topic's record nor one without an id is the same.
        assert!(!send(&client, identified(&other, "v", "id-1")).await.unwrap().duplicate);
        assert!(!send(&client, text(&topic, "v")).await.unwrap().duplicate);
        assert!(!send(&client, identified(&topic, "v", "id-2")).await.unwrap().duplicate);
    });
    assert_eq!((count(&topic), count(&other)), (3, 1));
}

fn many_at_the_same_time_are_one_record() {
    let topic = Cluster::shared().create_topic("again-many", 3, &[]);
    run(async {
        let client = connect(&shared_address());
        let sent: Vec<_> = (0..50)
            .map(|_| {
                let (client, record) = (client.clone(), identified(&topic, "v", "id"));
                tokio::spawn(async move { send(&client, record).await.unwrap() })
            })
            .collect();
        let mut receipts = Vec::new();
        for receipt in sent {
            receipts.push(receipt.await.unwrap());
        }
        assert_eq!(receipts.iter().filter(|receipt| !receipt.duplicate).count(), 1);
        assert!(receipts.iter().all(|receipt| place(receipt) == place(&receipts[0])), "{receipts:?}");
    });
    assert_eq!(count(&topic), 1);
}

fn a_frame_with_the_same_record_twice_has_two_receipts_of_one() {
    let topic = Cluster::shared().create_topic("again-frame", 3, &[]);
    let outcomes = run(async {
        let mut client = connect(&shared_address());
        let same = || identified(&topic, "v", "id");
        let records = vec![same(), text(&topic, "w"), same(), identified(&topic, "x", "id")];
        let frame = SendBatchRequest { sequence: 1, records, ..SendBatchRequest::default() };
        let mut answers = client.send_batch(tokio_stream::iter([frame])).await.unwrap().into_inner();
        let answer = answers.message().await.unwrap().unwrap();
        answer.results.into_iter().map(|result| result.result.unwrap()).collect::<Vec<_>>()
    });
    let duplicate = |index: usize| match &outcomes[index] {
        RecordOutcome::Receipt(receipt) => receipt.duplicate,
        RecordOutcome::Error(error) => panic!("{error:?}"),
    };
    assert!(!duplicate(0) && !duplicate(1) && duplicate(2));
    let RecordOutcome::Error(error) = &outcomes[3] else { panic!("{outcomes:?}") };
    assert!(format!("{error:?}").contains("records[3].message_id"), "{error:?}");
    assert_eq!(count(&topic), 2);
}

fn a_frame_of_several_topics_and_wrong_records_is_answered_in_its_order() {
    let topics = ["again-one", "again-two"].map(|name| Cluster::shared().create_topic(name, 3, &[]));
    let records: Vec<_> = (0..40)
        .map(|number: usize| match number % 8 {
            // Neither a topic nor anything else.
            3 => ProducerRecord::default(),
            5 => text(&topics[0], &number.to_string()),
            // The one before it again, a frame's first too.
            6 => identified(&topics[number / 8 % 2], "same", "same"),
            _ => identified(&topics[number / 4 % 2], &number.to_string(), &format!("id-{number}")),
        })
        .collect();
    let frame =
        |sequence| SendBatchRequest { sequence, records: records.clone(), ..SendBatchRequest::default() };
    let (answers, end) = run(exchange(&shared_address(), vec![frame(1), frame(2)]));
    end.unwrap();
    let mut same = HashMap::new();
    for (answer, number) in
        answers.iter().flat_map(|answer| (0..).map(move |number: usize| (answer, number)).take(40))
    {
        let is_again = answer.sequence == 2;
        match answer.results[number].result.as_ref().unwrap() {
            RecordOutcome::Error(error) => {
                assert_eq!(number % 8, 3, "{error:?}");
                assert!(format!("{error:?}").contains(&format!("records[{number}].")), "{error:?}");
            }
            RecordOutcome::Receipt(receipt) if number % 8 == 6 => {
                let first = same.entry(receipt.topic.clone()).or_insert_with(|| place(receipt));
                assert_eq!(
                    (*first, receipt.topic.as_str()),
                    (place(receipt), topics[number / 8 % 2].as_str())
                );
            }
            RecordOutcome::Receipt(receipt) => {
                assert_eq!(receipt.duplicate, is_again && number % 8 != 5, "{number}: {receipt:?}");
            }
        }
    }
    // Of each topic: one "same"; those without id come twice.
    let written: Vec<_> = topics.iter().map(|topic| count(topic)).collect();
    assert_eq!(written.iter().sum::<usize>(), 5 * 5 + 2 + 2 * 5, "{written:?}");
}

fn another_content_under_the_same_id_is_refused() {
    let topic = Cluster::shared().create_topic("again-other-content", 1, &[]);
    run(async {
        let client = connect(&shared_address());
        send(&client, keyed(identified(&topic, "v", "id"), "k")).await.unwrap();
        let others = [
            keyed(identified(&topic, "w", "id"), "k"),
            keyed(identified(&topic, "v", "id"), "l"),
            // What is told by its parts joined would be the same.
            keyed(identified(&topic, "", "id"), "kv"),
            identified(&topic, "v", "id"),
        ];
        for other in others {
            let refusal = send(&client, other).await.unwrap_err();
            refusal.expect(Code::AlreadyExists, "MESSAGE_ID_REUSED", "NO");
            assert_eq!(refusal.metadata["field"], "record.message_id");
            assert_eq!(refusal.pushback_ms, Some(-1));
        }
        assert!(send(&client, keyed(identified(&topic, "v", "id"), "k")).await.unwrap().duplicate);
    });
    assert_eq!(count(&topic), 1);
}

fn ids_are_forgotten_by_age_and_count_and_off_by_setting() {
    let topic = Cluster::shared().create_topic("again-settings", 1, &[]);
    let start = |name: &str, value: &str| -> Sidecar {
        let sidecar = over_tls().env(name, value).start();
        sidecar.wait_ready(READY);
        sidecar
    };
    let twice = async |client: &Client, id: &str| {
        assert!(!send(client, identified(&topic, "v", id)).await.unwrap().duplicate);
        send(client, identified(&topic, "v", id)).await.unwrap().duplicate
    };
    let off = start("SIDECAR_DEDUPLICATION_MESSAGE_IDS_MAX", "0");
    run(async { assert!(!twice(&connect(&off.grpc_address()), "off").await) });
    drop(off);
    let few = start("SIDECAR_DEDUPLICATION_MESSAGE_IDS_MAX", "10");
    run(async {
        let client = connect(&few.grpc_address());
        assert!(twice(&client, "few").await);
        for number in 0..10 {
            send(&client, identified(&topic, "v", &format!("few-{number}"))).await.unwrap();
        }
        assert!(twice(&client, "few").await, "ten others came after it, and it was written again");
    });
    drop(few);
    let short = start("SIDECAR_DEDUPLICATION_WINDOW_MS", "1000");
    run(async {
        let client = connect(&short.grpc_address());
        twice(&client, "short").await;
        let mut tick = tokio::time::interval(Duration::from_millis(1_100));
        tick.tick().await;
        tick.tick().await;
        assert!(!send(&client, identified(&topic, "v", "short")).await.unwrap().duplicate);
    });
}

/// A client's own retry: the first call's deadline passes while its record is on its way, and the second attaches to it.
fn what_timed_out_is_sent_again_and_written_once() {
    let cluster = Cluster::shared();
    let topic = cluster.create_topic("again-frozen", 1, &[]);
    let sidecar = over_tls().env("SIDECAR_DEADLINE_MARGIN_MS", DEADLINE_MARGIN_MS).start();
    sidecar.wait_ready(READY);
    run(async {
        let client = connect(&sidecar.grpc_address());
        send(&client, text(&topic, "before")).await.unwrap();
        let leader = cluster.leader(&topic, 0);
        cluster.freeze(leader);
        let short = Some(Duration::from_secs(2));
        let timed_out: Vec<_> = (0..5)
            .map(|number| {
                let (client, record) =
                    (client.clone(), identified(&topic, &format!("v-{number}"), &format!("id-{number}")));
                tokio::spawn(async move { send_within(&client, record, short).await.unwrap_err() })
            })
            .collect();
        let mut maybes = 0;
        for refusal in timed_out {
            let refusal: Refusal = refusal.await.unwrap();
            assert!(
                ["DELIVERY_UNKNOWN", "DEADLINE_NOT_WRITTEN"].contains(&refusal.reason.as_str()),
                "{refusal:?}"
            );
            maybes += usize::from(refusal.persisted() == "MAYBE");
        }
        assert!(maybes > 0, "one at least was handed over");
        let again: Vec<_> = (0..5)
            .map(|number| {
                let (client, record) =
                    (client.clone(), identified(&topic, &format!("v-{number}"), &format!("id-{number}")));
                tokio::spawn(async move { send_within(&client, record, Some(4 * READY)).await.unwrap() })
            })
            .collect();
        cluster.thaw(leader);
        let mut duplicates = 0;
        for receipt in again {
            duplicates += usize::from(receipt.await.unwrap().duplicate);
        }
        assert_eq!(duplicates, maybes, "each maybe was attached to, or answered by its receipt");
    });
    let mut read: Vec<_> = read_topic(cluster, &topic)
        .into_iter()
        .map(|record| String::from_utf8(record.value.unwrap()).unwrap())
        .collect();
    read.sort_unstable();
    assert_eq!(read, ["before", "v-0", "v-1", "v-2", "v-3", "v-4"]);
}

/// Memory is what the system says of the process, so that the allocator's own part is in it.
fn an_id_that_is_remembered_costs_little() {
    const IDS: usize = 200_000;
    const FRAME: usize = 1_000;
    /// About twice what was measured: see decision 0010.
    const BYTES_MAX: u64 = 200;
    let topic = Cluster::shared().create_topic("again-memory", 6, &[]);
    let sidecar = over_tls().env("SIDECAR_DEDUPLICATION_MESSAGE_IDS_MAX", "1000000").start();
    sidecar.wait_ready(READY);
    let send_all = |identify: &dyn Fn(usize) -> String| {
        let frames = (0..IDS / FRAME).map(|place| {
            let numbers = place * FRAME..(place + 1) * FRAME;
            let records = numbers.map(|number| identified(&topic, "v", &identify(number))).collect();
            let sequence = u64::try_from(place).unwrap() + 1;
            SendBatchRequest { sequence, records, ..SendBatchRequest::default() }
        });
        let (answers, end) = run(exchange(&sidecar.grpc_address(), frames.collect()));
        end.unwrap();
        let results = answers.iter().flat_map(|answer| &answer.results);
        let receipts = results.filter(|result| matches!(result.result, Some(RecordOutcome::Receipt(_))));
        assert_eq!(receipts.count(), IDS);
        sidecar.rss_bytes()
    };
    // As long as a UUID.
    let with_id = |of: usize| move |number: usize| format!("{of}-{number:034}");
    let without = [send_all(&|_| String::new()), send_all(&|_| String::new())];
    let with = [send_all(&with_id(1)), send_all(&with_id(2))];
    let each = |more: u64, less: u64| more.saturating_sub(less) / u64::try_from(IDS).unwrap();
    let costs = [each(with[0], without[1]), each(with[1], with[0])];
    let kib = [without, with].map(|both| both.map(|bytes| bytes >> 10));
    eprintln!("bytes for each of {IDS} ids, then for each of as many more: {costs:?}; KiB {kib:?}");
    assert!(each(with[1], without[1]) / 2 < BYTES_MAX, "{costs:?}");
}
