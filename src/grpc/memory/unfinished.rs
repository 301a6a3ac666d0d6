//! Bodies that have their memory and are not whole yet: which of them give way if others find none.
//! Must never ask a body that has just begun: an honest one is whole within milliseconds.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};

/// How long a small body may take before it gives way to others.
pub(super) const GIVES_WAY_AFTER: Duration = Duration::from_millis(100);
/// A larger one has a millisecond more for each so many bytes: 4 MB within a second.
const BYTES_A_MS: usize = 4_096;

/// The bodies of a pool that are not whole.
#[derive(Debug, Default)]
pub(super) struct Unfinished {
    bodies: BTreeMap<u64, Body>,
    next: u64,
}

#[derive(Debug)]
struct Body {
    connection: Option<u64>,
    bytes: usize,
    since: Instant,
    give_way: oneshot::Sender<()>,
}

impl Unfinished {
    /// Notes a body that begins; returns its number, and who hears that it has to give way.
    pub(super) fn begin(&mut self, connection: Option<u64>, bytes: usize) -> (u64, oneshot::Receiver<()>) {
        let (give_way, asked) = oneshot::channel();
        let number = self.next;
        self.next += 1;
        self.bodies.insert(number, Body { connection, bytes, since: Instant::now(), give_way });
        (number, asked)
    }

    /// Forgets a body that is whole, or given up.
    pub(super) fn end(&mut self, number: u64) {
        self.bodies.remove(&number);
    }

    /// Asks as many bodies to give way as hold so many bytes: of the connections that hold most first, the oldest of each first.
    pub(super) fn give_way(&mut self, bytes: usize, held: &HashMap<u64, usize>) {
        let held = |body: &Body| body.connection.and_then(|connection| held.get(&connection)).copied();
        let is_old = |body: &Body| body.since.elapsed() >= time_of(body.bytes);
        let old = self.bodies.iter().filter(|(_, body)| is_old(body));
        let mut old: Vec<_> = old.map(|(number, body)| (held(body), *number, body.bytes)).collect();
        old.sort_unstable_by_key(|(held, number, _)| (std::cmp::Reverse(*held), *number));
        let mut freed = 0;
        for (_, number, of_body) in old {
            if freed >= bytes {
                break;
            }
            // It may have become whole meanwhile.
            let asked = self.bodies.remove(&number).map(|body| body.give_way.send(()));
            if asked.is_some_and(|asked| asked.is_ok()) {
                freed += of_body;
            }
        }
    }
}

fn time_of(bytes: usize) -> Duration {
    GIVES_WAY_AFTER + Duration::from_millis(u64::try_from(bytes / BYTES_A_MS).unwrap_or(u64::MAX))
}
