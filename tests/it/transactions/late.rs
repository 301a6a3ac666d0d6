//! Requests that coordinators carry out late, or whose answers are lost, and a sidecar: no unit is torn, lost or doubled, no
//! committed offset goes back, nobody is fenced, and nothing hangs. The table of `alone` shows what they do else.

use std::thread;

use testkit::{ApiKey, ClientFaults, Cluster, eventually};
use tonic::Code;

use super::{STEP, alone::Alone, at_once, copier::Copier, wait_ended};
use crate::client::{text, with_header};

crate::tests!(
    late_requests_do_no_harm_to_the_next_transaction_of_a_sidecar,
    late_requests_do_no_harm_to_an_idle_sidecar,
);

/// What a coordinator carries out once.
const KEYS: [ApiKey; 4] =
    [ApiKey::AddOffsetsToTxn, ApiKey::TxnOffsetCommit, ApiKey::AddPartitionsToTxn, ApiKey::EndTxn];

/// How a client learns that a request gets no answer.
#[derive(Debug, Clone, Copy)]
pub enum Loss {
    /// Its connection is closed.
    HungUp,
    /// It waits for as long as a request may take.
    TimedOut,
}

/// When a request that was held back is let go to an idle sidecar's coordinator.
#[derive(Debug, Clone, Copy)]
enum LetGo {
    /// At once; the sidecar is idle then for longer than a transaction may take.
    BeforeIdle,
    /// After the sidecar has been idle for longer than a transaction may take.
    AfterIdle,
}

impl Loss {
    pub const BOTH: [Self; 2] = [Self::HungUp, Self::TimedOut];

    /// Waits until the client's request is held, and has the client miss its answer. What it asks again passes.
    pub fn once_held(self, faults: &ClientFaults<'_>, key: ApiKey) {
        faults.wait_held(key, STEP);
        faults.hold_no_more(key);
        match self {
            Self::HungUp => faults.hang_up(),
            Self::TimedOut => {}
        }
    }
}

/// A topic that refuses large records, with a leader on each node.
struct Small(String);

impl Small {
    fn make() -> Self {
        Self(Cluster::shared().create_topic("late-small", 3, &[("max.message.bytes", "10000")]))
    }

    /// A partition that another node leads than the copier's output, and that node.
    fn apart_from(&self, copier: &Copier) -> (i32, i32) {
        let cluster = Cluster::shared();
        let own = cluster.leader(&copier.name, 0);
        let led = (0..3).map(|partition| (partition, cluster.leader(&self.0, partition)));
        led.into_iter().find(|(_, leader)| *leader != own).expect("there are three leaders")
    }
}

/// Has the first request of a type be held back and its answer missed, while a unit is committed.
fn lose(copier: &mut Copier, key: ApiKey, loss: Loss) {
    copier.faults.hold(key);
    copier.copy_during(|faults| loss.once_held(faults, key));
}

fn let_go(copier: &Copier, key: ApiKey) {
    let before = copier.faults.answered_late(key);
    copier.faults.release(key);
    eventually(STEP, "the late request is answered", || {
        (copier.faults.answered_late(key) > before).then_some(())
    });
}

/// Has the late request arrive while the next transaction is open with a record written, and is aborted for another one.
fn let_go_in_aborted(copier: &Copier, key: ApiKey, small: &Small) {
    let cluster = Cluster::shared();
    let (partition, leader) = small.apart_from(copier);
    let before = cluster.end_offsets(&copier.name, 0).high_watermark;
    let of_large = copier.faults.at(cluster.proxy(leader));
    of_large.hold(ApiKey::Produce);
    let mut large = with_header(text(&small.0, "large"), "filler", &"x".repeat(20_000));
    large.partition = Some(partition);
    let unit = copier.unit([large]);
    let refusal = thread::scope(|scope| {
        let second = scope.spawn(|| copier.send(unit));
        of_large.wait_held(ApiKey::Produce, STEP);
        eventually(STEP, "the record is written", || {
            (cluster.end_offsets(&copier.name, 0).high_watermark > before).then_some(())
        });
        let_go(copier, key);
        of_large.release(ApiKey::Produce);
        second.join().unwrap()
    });
    let refusal = refusal.expect("the large record fails it");
    refusal.expect(Code::InvalidArgument, "RECORD_TOO_LARGE", "NO");
}

fn let_go_in_committed(copier: &mut Copier, key: ApiKey) {
    let late = copier.faults.answered_late(key);
    copier.faults.hold(ApiKey::EndTxn);
    copier.copy_during(|faults| {
        faults.wait_held(ApiKey::EndTxn, STEP);
        faults.release(key);
        eventually(STEP, "the late request is answered", || (faults.answered_late(key) > late).then_some(()));
        faults.release(ApiKey::EndTxn);
    });
}

/// Waits for as long as Kafka leaves a transaction open that nobody ends.
fn outlast_a_transaction() {
    let reference = Alone::start("late-idle");
    let open = reference.open(1, "open").unwrap();
    assert!(Cluster::shared().is_open(&reference.name));
    wait_ended(&reference.name, 3 * STEP);
    drop(open.abort());
}

/// Loses the answer to a request that was carried out, while a unit is committed.
fn swallow(copier: &mut Copier, key: ApiKey, then_reset: bool) {
    let before = copier.faults.swallowed(key);
    copier.faults.swallow_next(key, then_reset);
    copier.copy();
    assert!(copier.faults.swallowed(key) > before, "{key:?}");
    copier.faults.swallow_no_more(key);
    copier.goes_on();
}

fn late_requests_do_no_harm_to_the_next_transaction_of_a_sidecar() {
    let (source, small) = (Cluster::shared().create_topic("late-in", 1, &[]), Small::make());
    let outputs = at_once(KEYS.map(|key| (format!("{key:?}"), key)), |key| {
        let mut copier = Copier::start(&source);
        for then_reset in [true, false] {
            swallow(&mut copier, key, then_reset);
        }
        for loss in Loss::BOTH {
            lose(&mut copier, key, loss);
            let_go_in_aborted(&copier, key, &small);
            copier.goes_on();
            // A late commit cannot be told from the one that is held for it.
            if !matches!(key, ApiKey::EndTxn) {
                lose(&mut copier, key, loss);
                let_go_in_committed(&mut copier, key);
                copier.goes_on();
            }
        }
        copier.name
    });
    let topics: Vec<_> = outputs.iter().chain([&small.0]).map(String::as_str).collect();
    Cluster::shared().nothing_hangs(&topics);
}

fn late_requests_do_no_harm_to_an_idle_sidecar() {
    let source = Cluster::shared().create_topic("late-in", 1, &[]);
    let cells = KEYS.into_iter().flat_map(|key| Loss::BOTH.map(|loss| (key, loss)));
    let cells = cells.flat_map(|(key, loss)| {
        [LetGo::BeforeIdle, LetGo::AfterIdle]
            .map(|when| (format!("{key:?}, {loss:?}, {when:?}"), (key, loss, when)))
    });
    let idle = at_once(cells, |(key, loss, when)| {
        let mut copier = Copier::start(&source);
        lose(&mut copier, key, loss);
        if matches!(when, LetGo::BeforeIdle) {
            // While markers are still being written the coordinator would refuse it.
            wait_ended(&copier.transactional_id(), STEP);
            let_go(&copier, key);
        }
        (copier, key, when)
    });
    outlast_a_transaction();
    let named = idle.into_iter().map(|cell| (format!("{:?}, {:?}", cell.1, cell.2), cell));
    let copiers = at_once(named, |(mut copier, key, when)| {
        if matches!(when, LetGo::AfterIdle) {
            let_go(&copier, key);
        }
        copier.goes_on();
        copier
    });
    let topics: Vec<_> = copiers.iter().map(|copier| copier.name.as_str()).collect();
    Cluster::shared().nothing_hangs(&topics);
}
