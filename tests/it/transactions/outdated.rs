//! A coordinator that answers what a group had committed before, as one does that has just taken over: nothing that was
//! compared with such an answer runs a second time. The answers are its own of a moment before, repeated by the proxy.

use producer_sidecar::grpc::proto::{ProcessAndForwardRequest, ProcessAndForwardResponse};
use testkit::{ApiKey, Cluster};
use tonic::Code;

use super::{copier::Copier, values};
use crate::{
    client::{Refusal, connect, run, text},
    forward::{forward, input, unit},
};

crate::tests!(a_unit_runs_once_although_a_coordinator_answers_what_was_committed_before);

/// A copier, and one group of its client's after the other.
struct Scene {
    copier: Copier,
    source: String,
}

impl Scene {
    fn unit(&self, group: &str, (expected, next): (i64, i64), value: &str) -> ProcessAndForwardRequest {
        unit(group, vec![input(&self.source, 0, expected, next)], vec![text(&self.copier.name, value)])
    }

    fn send(&self, unit: ProcessAndForwardRequest) -> Result<ProcessAndForwardResponse, Box<Refusal>> {
        run(async { forward(&connect(&self.copier.sidecar.grpc_address()), unit).await }).map_err(Box::new)
    }

    /// Commits a unit, and has what the coordinator answers for it be repeated once.
    fn commit_and_repeat(&self, unit: &ProcessAndForwardRequest) {
        self.copier.faults.remember_next(ApiKey::OffsetFetch);
        let answer = self.send(unit.clone()).expect("nothing is in its way");
        assert!(!answer.already_committed);
        self.copier.faults.repeat_remembered(ApiKey::OffsetFetch, 1);
    }

    fn outdated(&self) -> u64 {
        self.copier.faults.outdated(ApiKey::OffsetFetch)
    }
}

fn a_unit_runs_once_although_a_coordinator_answers_what_was_committed_before() {
    let source = Cluster::shared().create_topic("outdated-in", 1, &[]);
    let scene = Scene { copier: Copier::start(&source), source };
    let group = format!("{}-resent", scene.copier.name);
    // The first is compared with nothing at all, the others with an offset.
    for (place, value) in (0..).zip(["first", "second", "third"]) {
        let unit = scene.unit(&group, (place, place + 1), value);
        scene.commit_and_repeat(&unit);
        let answer = scene.send(unit).expect("it is committed");
        assert!(answer.already_committed && answer.receipts.is_empty(), "{value}: {answer:?}");
    }
    // Another unit that goes on from where the group was.
    scene.commit_and_repeat(&scene.unit(&group, (3, 4), "fourth"));
    let refusal = scene.send(scene.unit(&group, (3, 9), "in vain")).expect_err("the group is elsewhere");
    refusal.expect(Code::FailedPrecondition, "OFFSET_MISMATCH", "NO");
    assert_eq!(refusal.metadata.get("committedOffset").map(String::as_str), Some("4"));
    assert_eq!(scene.outdated(), 4, "the coordinator did answer so");
    // The lane is as good as before.
    let answer = scene.send(scene.unit(&group, (4, 5), "fifth")).expect("it goes on");
    assert!(!answer.already_committed);
    assert_eq!(values(&scene.copier.name), ["0", "first", "second", "third", "fourth", "fifth"]);
}
