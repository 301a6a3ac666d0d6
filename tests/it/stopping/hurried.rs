//! The count of a stop: what ends between two signals, and what callers take back by their deadlines.

use std::{thread, time::Duration};

use testkit::{Sidecar, Signal, try_eventually};
use tonic::Code;

use crate::{
    around::wait_metric,
    client::{READY, Refusal, connect, run, send_within, text},
    commands::{listening_without_brokers, without_brokers},
};

crate::tests!(
    what_ends_between_two_signals_is_counted,
    what_its_caller_takes_back_by_its_deadline_is_not_left_behind,
);

/// How long records wait for a broker, in milliseconds.
const BROKERS_WAIT_MS: u64 = 6_000;

fn draining_for_long() -> Sidecar {
    let builder = without_brokers(&["serve"])
        .env("SIDECAR_BROKERS_WAIT_MS", BROKERS_WAIT_MS.to_string())
        .env("SIDECAR_DRAIN_MS", "200000");
    listening_without_brokers(builder)
}

/// Sends a record on a thread, which no broker takes.
fn refused(sidecar: &Sidecar, deadline: Duration) -> thread::JoinHandle<Refusal> {
    let address = sidecar.grpc_address();
    let record = || text("orders", "v");
    thread::spawn(move || {
        run(async { send_within(&connect(&address), record(), Some(deadline)).await.unwrap_err() })
    })
}

fn what_ends_between_two_signals_is_counted() {
    let sidecar = draining_for_long();
    let long = Duration::from_secs(100);
    let first = refused(&sidecar, long);
    wait_metric(&sidecar, "producer_outstanding_records", 1, READY);
    // The second waits for a broker for so much longer.
    try_eventually(Duration::from_millis(BROKERS_WAIT_MS / 2), || None::<()>);
    let second = refused(&sidecar, long);
    wait_metric(&sidecar, "producer_outstanding_records", 2, READY);
    sidecar.signal(Signal::TERM);
    first.join().unwrap().expect(Code::Unavailable, "BROKERS_UNAVAILABLE", "NO");
    sidecar.signal(Signal::TERM);
    assert_eq!(sidecar.wait_exit(READY).code(), Some(2), "{:?}", sidecar.stderr());
    second.join().unwrap().expect(Code::Unavailable, "DRAINING", "NO");
    let last = sidecar.stderr().pop().unwrap();
    assert!(last.contains("delivered 0 of 2") && last.contains("2 could not be delivered"), "{last}");
}

fn what_its_caller_takes_back_by_its_deadline_is_not_left_behind() {
    let sidecar = draining_for_long();
    let call = refused(&sidecar, Duration::from_millis(BROKERS_WAIT_MS / 2));
    wait_metric(&sidecar, "producer_outstanding_records", 1, READY);
    sidecar.signal(Signal::TERM);
    call.join().unwrap().expect(Code::DeadlineExceeded, "DEADLINE_NOT_WRITTEN", "NO");
    assert_eq!(sidecar.wait_exit(READY).code(), Some(0), "{:?}", sidecar.stderr());
    let last = sidecar.stderr().pop().unwrap();
    assert!(last.contains("delivered 0 of 0") && last.contains("1 others were refused"), "{last}");
}
