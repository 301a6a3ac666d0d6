//! A callback that does not come back: its producer is left behind, and another one takes its place.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::Duration,
};

use parking_lot::Mutex;
use producer_sidecar::failure::{Persisted, Reason};
use testkit::{Cluster, eventually, read_topic};
use tokio::time::Instant;

use super::whole::whole;
use crate::{client::run, transactions::record};

crate::tests!(a_stuck_polling_thread_is_left_behind);

/// How long it may take to see that, and to prove another producer.
const HEALED: Duration = Duration::from_secs(30);

fn a_stuck_polling_thread_is_left_behind() {
    let cluster = Cluster::shared();
    let topic = cluster.create_topic("stuck", 1, &[]);
    let (release, held) = mpsc::channel::<()>();
    let held = Arc::new(Mutex::new(Some(held)));
    let is_stuck = Arc::new(AtomicBool::new(false));
    let (stuck, reports) = (Arc::clone(&is_stuck), Arc::new(AtomicBool::new(false)));
    let is_late = Arc::clone(&reports);
    let whole = whole("stuck", move |flows, number, delivery| {
        let held = held.lock().take();
        if let Some(held) = held {
            stuck.store(true, Ordering::Release);
            assert!(held.recv().is_err(), "only its end is told");
            flows.reported(number, delivery);
            reports.store(true, Ordering::Release);
        } else {
            flows.reported(number, delivery);
        }
    });
    let serial = whole.handle.current().serial();
    let send = |value: &str| {
        let (sender, (record, _)) = (Arc::clone(&whole.sender), record(&topic, value));
        async move { sender.send(record, "record", Instant::now() + HEALED).await }
    };
    run(async {
        let sender = Arc::clone(&whole.sender);
        tokio::spawn(async move { sender.follow_connection().await });
        let first = tokio::spawn(send("first"));
        let mut look = tokio::time::interval(Duration::from_millis(1));
        while !is_stuck.load(Ordering::Acquire) {
            look.tick().await;
        }
        // They wait in their partition's line behind the first.
        let (first, second, third) = tokio::join!(first, send("second"), send("third"));
        let failure = first.unwrap().unwrap_err();
        assert_eq!((failure.reason(), failure.persisted()), (Reason::DeliveryUnknown, Persisted::Maybe));
        assert_eq!([second, third].map(|outcome| outcome.unwrap().offset), [Some(1), Some(2)]);
    });
    assert_ne!(whole.handle.current().serial(), serial);
    // What comes back after all finds nobody who waits for it.
    drop(release);
    eventually(HEALED, "the late report", || is_late.load(Ordering::Acquire).then_some(()));
    let after = run(send("after"));
    assert_eq!(after.unwrap().offset, Some(3));
    let values: Vec<_> = read_topic(cluster, &topic).into_iter().map(|read| read.value.unwrap()).collect();
    assert_eq!(values, ["first", "second", "third", "after"].map(|value| value.as_bytes().to_vec()));
}
