//! Owns what is done to a copy job while it runs. Everything happens at a point of its progress, drawn by the seed.

use std::time::Duration;

use testkit::{ApiKey, Cluster};

use super::{consumer::Left, form, job::Job, stale};

/// Points of progress, 0 to 1, in order: one within each of `count` equal parts of the way, but the last tenth.
fn points(job: &Job, count: usize) -> Vec<f64> {
    let draw = |part: usize| {
        let within = f64::from(u32::try_from(job.draw(1000)).unwrap()) / 1000.0;
        let part = f64::from(u32::try_from(part).unwrap());
        (part + within) / f64::from(u32::try_from(count).unwrap()) * 0.9
    };
    (0..count).map(draw).collect()
}

/// The sidecars are killed, and their successors started.
pub fn sidecars_killed(job: &Job) {
    for (number, point) in points(job, form().sidecar_kills).into_iter().enumerate() {
        job.until(point);
        job.replace_sidecar(number % job.plan.sidecars);
    }
}

/// Who is killed or frozen: the node that has a role at that moment.
fn node_of(job: &Job, role: usize) -> i32 {
    let (cluster, shared) = (Cluster::shared(), &job.shared);
    match role % 4 {
        0 => cluster.group_coordinator(&shared.group),
        1 => cluster.transaction_coordinator(&format!("caas-gateway.{}-0.0", shared.target)),
        2 => cluster.leader(&shared.target, 0),
        _ => cluster.leader(&shared.input.topic, 0),
    }
}

/// Brokers are killed in turn and started again: both coordinators, and leaders.
pub fn brokers_killed(job: &Job) {
    let cluster = Cluster::shared();
    for (role, point) in points(job, form().broker_kills).into_iter().enumerate() {
        job.until(point);
        let node = node_of(job, role);
        cluster.kill(node);
        // The others do the work.
        job.more();
        cluster.start_node(node);
        cluster.wait_ready();
    }
}

/// A broker is frozen for a while, once for each of the times.
pub fn brokers_frozen(job: &Job) {
    let cluster = Cluster::shared();
    let times = form().freezes_seconds;
    let points = points(job, times.len());
    for (role, (seconds, point)) in times.iter().zip(points).enumerate() {
        job.until(point);
        let node = node_of(job, role);
        cluster.freeze(node);
        job.hold(Duration::from_secs(*seconds));
        cluster.thaw(node);
        cluster.wait_ready();
    }
}

/// Answers of coordinators are lost.
pub fn answers_lost(job: &Job) {
    let cluster = Cluster::shared();
    let keys = [ApiKey::EndTxn, ApiKey::TxnOffsetCommit, ApiKey::AddPartitionsToTxn];
    for (key, point) in keys.into_iter().zip([0.3, 0.6, 1.0]) {
        for proxy in cluster.proxies() {
            proxy.swallow_responses(key, 0.1, true);
        }
        job.until(point);
        cluster.heal();
    }
}

/// Consumers join and leave; those that left go on sending.
pub fn joining_and_leaving(job: &Job) {
    let mut stale = Vec::new();
    for point in points(job, form().moves) {
        job.until(point);
        let consumers = job.consumers();
        let joins = consumers < 2 || (consumers < 4 && job.draw(2) == 0);
        if joins {
            job.join(None);
        } else {
            let left = job.leave();
            stale.push(stale::go_on(&job.shared, left));
        }
    }
    stale.push(stale::go_on(&job.shared, thrown_out(job)));
    job.until(1.0);
    for sender in stale {
        sender.join().unwrap();
    }
}

/// A static member joins and dies: it leaves its group by its session's end, and then others have its partitions.
fn thrown_out(job: &Job) -> Left {
    job.join(Some("static".to_owned()));
    job.await_owner(&job.last_name());
    let left = job.leave_last();
    job.await_owners(left.parts.keys().copied(), &left.name);
    left
}
