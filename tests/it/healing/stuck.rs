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
use producer_sidecar::{
    config::Wanted,
    kafka::{
        access::Access,
        context::{Context, Observer},
        handle::Handle,
        healing,
        producer::Producer,
    },
    telemetry::metrics::Metrics,
};
use testkit::{Cluster, eventually, read_topic};
use tokio::sync::watch;

use crate::transactions::{config, record};

crate::tests!(a_stuck_polling_thread_is_left_behind);

/// How long it may take to see that, and to prove another producer.
const HEALED: Duration = Duration::from_secs(30);

fn a_stuck_polling_thread_is_left_behind() {
    let cluster = Cluster::shared();
    let topic = cluster.create_topic("stuck", 1, &[]);
    let settings = Arc::new(config("stuck", &[]));
    let access = Access::fixed(&settings);
    let (tell, told) = mpsc::channel();
    let (release, held) = mpsc::channel::<()>();
    let (is_stuck, held) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(held)));
    let stuck = Arc::clone(&is_stuck);
    let context = move |observer: Observer| {
        let (tell, stuck, held) = (tell.clone(), Arc::clone(&stuck), Arc::clone(&held));
        Context::new(observer, move |number, delivery| {
            if number == 1 {
                stuck.store(true, Ordering::Release);
                assert!(held.lock().recv().is_err(), "only its end is told");
            }
            tell.send((number, delivery.is_ok())).ok();
        })
    };
    let observer = Observer::default();
    let first = Producer::start(&access.producer_of(&settings), context(observer.clone())).unwrap();
    let serial = first.serial();
    let handle = Handle::new(first, observer);
    let (wish, wanted) = watch::channel(Wanted { config: Arc::clone(&settings), problem: None });
    let (left, left_behind) = mpsc::channel();
    healing::start(healing::Parts {
        handle: Arc::downgrade(&handle),
        access,
        wanted,
        in_force: watch::channel(settings).0,
        refused: watch::channel(None).0,
        context: Box::new(context),
        left_behind: Box::new(move |serial| left.send(serial).unwrap()),
        metrics: Metrics::new(1),
    })
    .unwrap();
    handle.current().hand_over(&record(&topic, "first").0, None, 0, 1).unwrap();
    eventually(HEALED, "the callback is stuck", || is_stuck.load(Ordering::Acquire).then_some(()));
    assert_eq!(left_behind.recv_timeout(HEALED), Ok(serial));
    let current = handle.current();
    assert_ne!(current.serial(), serial);
    current.hand_over(&record(&topic, "second").0, None, 0, 2).unwrap();
    assert_eq!(told.recv_timeout(HEALED), Ok((2, true)), "the second one's thread is not stuck");
    drop((release, wish));
    let values: Vec<_> = read_topic(cluster, &topic).into_iter().map(|read| read.value.unwrap()).collect();
    assert_eq!(values, [b"first".to_vec(), b"second".to_vec()]);
}
