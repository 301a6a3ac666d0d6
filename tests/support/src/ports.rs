//! Chooses ports for children that must be told theirs before they start.
//!
//! Ports come from below the kernel's ephemeral range: an outgoing connection can then never take the port of a node
//! that a test has killed and will start again. A port can still be taken by another program before its user binds it;
//! whoever starts a child has to be ready for that.

use std::collections::HashSet;
use std::net::{Ipv4Addr, TcpListener};

use parking_lot::Mutex;
use rand::RngExt;

const LOWEST: u16 = 12_000;
const HIGHEST: u16 = 31_999;

/// Chooses a port of 127.0.0.1 that nothing listens on, and that this process was not given before.
///
/// # Panics
///
/// When a thousand tries find none.
pub fn free_port() -> u16 {
    static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);
    let mut guard = GIVEN.lock();
    let given = guard.get_or_insert_with(HashSet::new);
    for _ in 0..1000 {
        let port = rand::rng().random_range(LOWEST..=HIGHEST);
        if !given.contains(&port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            given.insert(port);
            return port;
        }
    }
    panic!("no free port between {LOWEST} and {HIGHEST}");
}
