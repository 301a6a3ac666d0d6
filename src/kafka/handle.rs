//! Owns which producer is in use: another takes its place while records flow, and the one before is drained.
//! Must never drop a producer that has a record without its report, save after giving it up; why one is replaced is decided in
//! `healing`.

use std::{
    fmt,
    sync::{Arc, Weak},
    thread,
    time::{Duration, Instant},
};

use parking_lot::{Mutex, RwLock};

use super::{context::Observer, producer::Producer};

/// How long a replaced producer may take to deliver what it has, in milliseconds: a request's time-out and a new connection.
const DRAIN_MS_MAX: u64 = 30_000;
/// How long the reports of what was given up may take, in milliseconds.
const GIVE_UP_MS_MAX: u64 = 2_000;
/// How often a replaced producer is looked at, in milliseconds.
const LOOK_MS: u64 = 20;

/// The producer in use.
pub struct Handle {
    current: RwLock<Arc<Producer>>,
    /// Those before it that may have records still.
    retired: Mutex<Vec<Weak<Producer>>>,
    /// Hears of the one in use.
    observer: Observer,
}

impl Handle {
    /// Begins with a producer whose callbacks tell the observer.
    #[must_use]
    pub fn new(producer: Producer, observer: Observer) -> Arc<Self> {
        Arc::new(Self { current: RwLock::new(Arc::new(producer)), retired: Mutex::default(), observer })
    }

    /// Returns the producer in use. Give it back soon: a replaced one ends only when nobody has it.
    #[must_use]
    pub fn current(&self) -> Arc<Producer> {
        Arc::clone(&self.current.read())
    }

    /// Returns who hears of the producer in use.
    #[must_use]
    pub const fn observer(&self) -> &Observer {
        &self.observer
    }

    /// Takes a proven producer into use and returns the one before, which says no more of the cluster.
    pub(super) fn exchange(&self, proven: Producer) -> Arc<Producer> {
        let proven = Arc::new(proven);
        let before = {
            let mut current = self.current.write();
            current.tell(Observer::default());
            std::mem::replace(&mut *current, Arc::clone(&proven))
        };
        {
            let mut retired = self.retired.lock();
            retired.retain(|producer| producer.strong_count() > 0);
            retired.push(Arc::downgrade(&before));
        }
        proven.tell(self.observer.clone());
        self.observer.reachability.begin_anew();
        before
    }

    /// Lets a replaced producer deliver what it has, for a while, and then ends it; on a thread of its own.
    pub(super) fn retire(before: Arc<Producer>) {
        let retired = Arc::clone(&before);
        let drained = thread::Builder::new().name("kafka-retired".to_owned()).spawn(move || drain(retired));
        if let Err(error) = drained {
            tracing::warn!(%error, "there is no thread to drain a producer on; what it has is given up");
            before.give_up();
        }
    }

    /// Gives up every record that any producer still has; reports follow that say of each whether it may be written.
    pub fn give_up(&self) {
        self.current().give_up();
        let retired: Vec<_> = self.retired.lock().iter().filter_map(Weak::upgrade).collect();
        for producer in retired {
            producer.give_up();
        }
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Handle").finish_non_exhaustive()
    }
}

fn drain(producer: Arc<Producer>) {
    if !is_empty_within(&producer, Duration::from_millis(DRAIN_MS_MAX)) {
        tracing::warn!(
            records = producer.unreported(),
            "a replaced producer did not deliver what it had in time"
        );
        producer.give_up();
        is_empty_within(&producer, Duration::from_millis(GIVE_UP_MS_MAX));
    }
    drop(producer);
}

/// Waits until every record has its report and nobody can hand over more.
fn is_empty_within(producer: &Arc<Producer>, wait: Duration) -> bool {
    let by = Instant::now() + wait;
    loop {
        if Arc::strong_count(producer) == 1 && producer.unreported() == 0 {
            return true;
        }
        if Instant::now() >= by {
            return false;
        }
        thread::sleep(Duration::from_millis(LOOK_MS));
    }
}
