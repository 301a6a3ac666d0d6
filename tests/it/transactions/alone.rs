//! A late request and librdkafka alone: each cell of the table fails here, so that the tests of the sidecar can tell.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use producer_sidecar::{
    kafka::{
        classify,
        ffi::Transactional,
        transaction::{CallError, GroupOffsets, OffsetToCommit, Transaction},
    },
    offsets::Membership,
};
use testkit::{ApiKey, ClientFaults, Cluster, eventually};

use super::{
    IMPATIENT, STEP, at_once, committed, late::Loss, offsets, properties, record, values, wait_ended,
};

crate::tests!(late_requests_do_harm_to_librdkafka_alone);

/// What a late request does.
#[derive(Debug, Clone, Copy)]
enum Harm {
    /// Let go within the next transaction, which aborts, it makes that one's records visible.
    AbortedIsVisible,
    /// Let go within the next transaction, which commits, it takes the committed offset back.
    OffsetGoesBack,
    /// Let go while nothing is open, it opens a transaction that nobody ends; once Kafka has, the producer is fenced by nobody.
    FencedByNobody,
}

const CELLS: [(ApiKey, Harm); 4] = [
    (ApiKey::EndTxn, Harm::AbortedIsVisible),
    (ApiKey::TxnOffsetCommit, Harm::OffsetGoesBack),
    (ApiKey::AddPartitionsToTxn, Harm::FencedByNobody),
    (ApiKey::AddOffsetsToTxn, Harm::FencedByNobody),
];

/// librdkafka's producer alone: its transactional id, its group and its topic have the same name.
pub struct Alone {
    pub name: String,
    pub producer: Transactional,
    pub doubt: Arc<AtomicBool>,
    faults: ClientFaults<'static>,
}

impl Alone {
    pub fn start(prefix: &str) -> Self {
        Self::start_with(Cluster::shared().create_topic(prefix, 1, &[]), &[])
    }

    /// The same with that name, the one of a topic, and further settings.
    pub fn start_with(name: String, settings: &[(&str, &str)]) -> Self {
        let settings: Vec<_> = IMPATIENT.iter().chain(settings).copied().collect();
        let doubt = Arc::<AtomicBool>::default();
        let producer = Transactional::start(&properties(&name, &settings), &doubt).unwrap();
        producer.init(STEP).unwrap();
        let faults = Cluster::shared().faults_of(&name);
        Self { name, producer, doubt, faults }
    }

    /// Opens a transaction with a record, delivered, and an offset; the number tells it from others.
    pub fn open(&self, number: u32, value: &str) -> Result<Transaction<'_>, CallError> {
        let mut open = Transaction::begin(&self.producer, number)?;
        let of_group = offsets(&self.name, Membership::Manual, &self.name, number.into());
        let (topic, partition, next, metadata) = &of_group.offsets[0];
        let offset = OffsetToCommit { topic, partition: *partition, next: *next, metadata };
        open.offsets(&GroupOffsets { group: &of_group.group, offsets: vec![offset] }, STEP)?;
        let (record, partition) = record(&self.name, value);
        open.send(&record, partition).unwrap();
        if open.delivered(STEP).is_err() {
            return Err(self.producer.fatal_error().expect("only a fatal error fails a delivery here"));
        }
        Ok(open)
    }

    fn commit(&self, number: u32, value: &str) -> Result<(), CallError> {
        self.open(number, value)?.commit().map_err(|failed| failed.0)
    }

    /// Has the first request of a type held back and lost, while a first transaction commits.
    fn lose(&self, key: ApiKey, loss: Loss) {
        self.faults.hold(key);
        thread::scope(|scope| {
            let first = scope.spawn(|| self.commit(1, "first").unwrap());
            loss.once_held(&self.faults, key);
            first.join().unwrap();
        });
        assert!(self.doubt.load(Ordering::Acquire), "the interceptor has seen it");
        assert_eq!(committed(&self.name, &self.name), 1);
    }

    /// Lets the request go and waits until a broker has carried it out.
    fn let_go(&self, key: ApiKey) {
        self.faults.release(key);
        eventually(STEP, "the late request is carried out", || {
            (self.faults.answered_late(key) > 0).then_some(())
        });
    }

    fn shows(&self, key: ApiKey, harm: Harm) {
        match harm {
            Harm::AbortedIsVisible => {
                let second = self.open(2, "aborted").unwrap();
                self.let_go(key);
                // Whatever the abort answers, the record is out.
                drop(second.abort());
                eventually(STEP, "what was aborted shows", || {
                    (values(&self.name) == ["first", "aborted"]).then_some(())
                });
            }
            Harm::OffsetGoesBack => {
                let second = self.open(2, "second").unwrap();
                self.let_go(key);
                second.commit().map_err(|failed| failed.0).unwrap();
                assert_eq!(committed(&self.name, &self.name), 1, "it was 2");
            }
            Harm::FencedByNobody => {
                // While markers are still being written the coordinator would refuse it.
                wait_ended(&self.name, STEP);
                self.let_go(key);
                eventually(STEP, "a transaction that nobody began", || {
                    Cluster::shared().is_open(&self.name).then_some(())
                });
            }
        }
    }
}

fn late_requests_do_harm_to_librdkafka_alone() {
    let cells = CELLS.into_iter().flat_map(|cell| Loss::BOTH.map(|loss| (cell, loss)));
    let named = cells.map(|((key, harm), loss)| (format!("{key:?}, {loss:?}, {harm:?}"), (key, harm, loss)));
    let played = at_once(named, |(key, harm, loss)| {
        let alone = Alone::start("alone");
        alone.lose(key, loss);
        alone.shows(key, harm);
        (alone, harm)
    });
    for (alone, harm) in played {
        if matches!(harm, Harm::FencedByNobody) {
            wait_ended(&alone.name, 3 * STEP);
            let error = alone.commit(2, "second").unwrap_err();
            assert!(classify::is_fenced(error.code), "{error}");
        }
    }
    Cluster::shared().nothing_hangs(&[]);
}
