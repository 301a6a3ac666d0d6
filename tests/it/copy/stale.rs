//! Owns consumers that left their group and do not know: they go on sending units with their old membership.

use std::{sync::Arc, thread::JoinHandle, time::Duration};

use testkit::{GroupMembership, try_eventually};

use super::{
    call::{Counts, count, one},
    consumer::Left,
    job::Shared,
};

/// The pause between its rounds.
const PAUSE: Duration = Duration::from_millis(100);

/// Goes on in the place of a consumer that left, until the job is over. Every unit must be refused.
pub fn go_on(shared: &Arc<Shared>, left: Left) -> JoinHandle<()> {
    let shared = Arc::clone(shared);
    std::thread::spawn(move || {
        let mut counts = Counts::new();
        let mut round = 0;
        loop {
            send(&shared, &left, round, &mut counts);
            round += 1;
            if try_eventually(PAUSE, || shared.is_over().then_some(())).is_some() || shared.is_copied() {
                break;
            }
        }
        shared.add(counts);
    })
}

/// Sends a unit of each partition that it had, with and without what it expects.
fn send(shared: &Arc<Shared>, left: &Left, round: usize, counts: &mut Counts) {
    let Left { name, sidecar, membership, parts } = left;
    for (number, committed) in parts {
        for expected in [None, Some(*committed)] {
            let values = [format!("stale-{name}-{number}")];
            let as_bytes = round.is_multiple_of(2);
            let offsets = (expected, committed + 1);
            let unit = shared.unit(membership, as_bytes, *number, offsets, &values);
            let client = shared.client(*sidecar);
            let answer = shared.runtime.block_on(async { one(&client, &unit).await });
            let name = match &answer {
                Ok(answer) if answer.already_committed => "already_committed".to_owned(),
                Ok(_) => "OK".to_owned(),
                Err(refusal) => refusal.reason.clone(),
            };
            count(
                counts,
                &format!("stale {}: {name}", if expected.is_some() { "expecting" } else { "blind" }),
            );
            // What it expects is compared first: the group may be beyond it.
            let may_be = match expected {
                None => &["CONSUMER_FENCED"][..],
                Some(_) => &["CONSUMER_FENCED", "OFFSET_MISMATCH", "already_committed"],
            };
            if !may_be.contains(&&*name) {
                let GroupMembership { generation, member_id, .. } = membership;
                shared.fail(format!(
                    "stale {member_id} of generation {generation}, partition {number} at {offsets:?}: {answer:?}"
                ));
            }
        }
    }
}
