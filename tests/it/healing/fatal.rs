//! Fatal errors in mid load, within this process: what the producer had not sent goes through the next one, in its order.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use producer_sidecar::{
    pipeline::{accepting::Content, batch::Batch},
    record::Record,
};
use testkit::{Cluster, make_fatal, read_topic_until};
use tokio::time::Instant;

use super::whole::whole;
use crate::{client::run, transactions::record};

crate::tests!(what_a_fatal_producer_had_goes_through_the_next_one);

const PARTITIONS: i32 = 3;
const CALLERS: i32 = 32;
const FRAMES: usize = 100;
/// Records of a frame, all for its caller's partition.
const FRAME: usize = 10;
const RECORDS: usize = FRAMES * FRAME;
const FATAL_ERRORS: usize = 3;
const WAIT: Duration = Duration::from_secs(60);

fn what_a_fatal_producer_had_goes_through_the_next_one() {
    let cluster = Cluster::shared();
    let topic = cluster.create_topic("fatal", PARTITIONS, &[]);
    run(async {
        let whole = whole("fatal", |flows, number, delivery| flows.reported(number, delivery));
        let sender = Arc::clone(&whole.sender);
        tokio::spawn(async move { sender.follow_connection().await });
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| {
                let (sender, topic) = (Arc::clone(&whole.sender), topic.clone());
                let numbered = move |number: usize| {
                    let (record, _) = record(&topic, &format!("{caller}-{number}"));
                    Ok(Record { partition: Some(caller % PARTITIONS), ..record })
                };
                tokio::spawn(async move {
                    for frame in 0..FRAMES {
                        let records = (frame * FRAME..(frame + 1) * FRAME).map(&numbered).collect();
                        let by = (Content::Records, Instant::now() + WAIT);
                        let batch = Batch::accept(&sender, records, |_| "record".to_owned(), by).await;
                        for outcome in batch.outcomes().await {
                            outcome.unwrap_or_else(|failure| panic!("{caller}, frame {frame}: {failure}"));
                        }
                    }
                })
            })
            .collect();
        let mut fatal = HashSet::new();
        let mut outstanding = tokio::time::interval(Duration::from_millis(1));
        while fatal.len() < FATAL_ERRORS {
            outstanding.tick().await;
            let producer = whole.handle.current();
            if whole.sender.outstanding().0 > 0 && fatal.insert(producer.serial()) {
                make_fatal(&producer.client());
            }
            assert!(callers.iter().any(|caller| !caller.is_finished()), "the load lasts long enough");
        }
        for caller in callers {
            caller.await.unwrap();
        }
    });
    let all = RECORDS * usize::try_from(CALLERS).unwrap();
    let mut read = read_topic_until(cluster, &topic, all, WAIT);
    read.sort_by_key(|read| (read.partition, read.offset));
    let mut found: HashMap<(i32, String), Vec<usize>> = HashMap::new();
    for read in read {
        let value = String::from_utf8(read.value.unwrap()).unwrap();
        let (caller, number) = value.split_once('-').unwrap();
        found.entry((read.partition, caller.to_owned())).or_default().push(number.parse().unwrap());
    }
    assert_eq!(found.len(), usize::try_from(CALLERS).unwrap());
    for (whose, numbers) in found {
        assert!(numbers.iter().copied().eq(0..RECORDS), "each once, in order, of {whose:?}: {numbers:?}");
    }
}
