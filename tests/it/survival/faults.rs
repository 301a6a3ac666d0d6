//! Owns what is broken under a load, and mended. Each ends once all goes well again.

use std::time::Duration;

use testkit::{
    ApiKey, Cluster,
    cluster::{Acl, Operation, Resource},
    eventually,
};

use super::{form, run::Run};

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// How long a new partition may take to hold a record.
const USED: Duration = Duration::from_secs(15);
/// Longer than the cluster believes in a node that is silent, and some more.
const BELIEVED: Duration = Duration::from_secs(8);

fn draw_node(run: &Run) -> i32 {
    run.draw(1..1 + i32::try_from(Cluster::shared().node_count()).unwrap())
}

/// Takes back what the proxies do.
fn pass() {
    for proxy in Cluster::shared().proxies() {
        proxy.pass();
    }
}

/// Brokers are killed one after the other, beginning with any, and started again.
pub fn brokers_crash(run: &Run) {
    let cluster = Cluster::shared();
    let nodes = i32::try_from(cluster.node_count()).unwrap();
    let first = draw_node(run);
    for number in 0..form(1, 4 * nodes) {
        let node = (first + number) % nodes + 1;
        cluster.kill(node);
        run.go_on(BELIEVED);
        cluster.start_node(node);
        cluster.heal();
        run.healed("a crashed broker");
    }
}

pub fn all_brokers_away(run: &Run) {
    let cluster = Cluster::shared();
    cluster.stop_all();
    run.go_on(form(ms(8_000), ms(60_000)));
    cluster.start_all();
    cluster.heal();
    run.healed("absence of all brokers");
}

pub fn brokers_freeze(run: &Run) {
    let cluster = Cluster::shared();
    for frozen in form(&[5_000][..], &[5_000, 35_000, 5_000, 35_000]) {
        let node = draw_node(run);
        cluster.freeze(node);
        run.go_on(ms(*frozen));
        cluster.thaw(node);
        run.healed("a frozen broker");
        cluster.heal();
    }
}

/// Brokers carry requests out and their answers never arrive: the connection is lost instead, or stays and is silent.
pub fn acknowledgements_lost(run: &Run) {
    let cluster = Cluster::shared();
    for (then_reset, lasts) in form(&[(true, 5_000)][..], &[(true, 60_000), (false, 60_000)]) {
        for proxy in cluster.proxies() {
            proxy.swallow_responses(ApiKey::Produce, 0.05, *then_reset);
        }
        run.go_on(ms(*lasts));
        pass();
        run.healed("loss of acknowledgements");
    }
}

/// Nothing comes or goes between the sidecar and one broker, then all of them.
pub fn black_hole(run: &Run) {
    let cluster = Cluster::shared();
    for lasts in form(&[4_000][..], &[4_000, 20_000]) {
        cluster.proxy(draw_node(run)).black_hole();
        run.go_on(ms(*lasts));
        for proxy in cluster.proxies() {
            proxy.black_hole();
        }
        run.go_on(ms(*lasts));
        pass();
        run.healed("a black hole");
    }
}

/// Connections are closed and opened again and again.
pub fn flapping(run: &Run) {
    let cluster = Cluster::shared();
    for _ in 0..form(6, 60) {
        for proxy in cluster.proxies() {
            proxy.cut();
        }
        run.go_on(ms(u64::try_from(run.draw(100..600)).unwrap()));
        pass();
        run.go_on(ms(u64::try_from(run.draw(100..600)).unwrap()));
    }
    run.healed("flapping");
}

/// One of three replicas does not answer where three have to.
pub fn too_few_in_sync(run: &Run) {
    let cluster = Cluster::shared();
    let need = |count| {
        for topic in &run.topics.known {
            cluster.alter_topic_config(topic, &[("min.insync.replicas", count)]);
        }
    };
    need("3");
    for _ in 0..form(1, 4) {
        let node = draw_node(run);
        cluster.freeze(node);
        run.go_on(BELIEVED);
        cluster.thaw(node);
        run.healed("a lack of replicas");
        cluster.heal();
    }
    need("2");
}

pub fn leaders_move(run: &Run) {
    let cluster = Cluster::shared();
    for _ in 0..form(8, 100) {
        cluster.move_leaders(run.draw_topic());
        run.go_on(ms(u64::try_from(run.draw(100..800)).unwrap()));
    }
    run.healed("moves of leaders");
}

pub fn sidecars_killed(run: &Run) {
    for _ in 0..form(3, 20) {
        run.kill_sidecar();
        run.healed("a killed sidecar");
        run.go_on(ms(u64::try_from(run.draw(0..500)).unwrap()));
    }
}

pub fn sidecars_stopped(run: &Run) {
    for _ in 0..form(2, 10) {
        run.stop_sidecar();
        run.healed("a stopped sidecar");
    }
}

pub fn topic_deleted_and_made_again(run: &Run) {
    let cluster = Cluster::shared();
    for _ in 0..form(1, 5) {
        let topic = run.draw_topic();
        let partitions = i32::try_from(cluster.partition_count(topic)).unwrap();
        cluster.delete_topic(topic);
        run.go_on(ms(u64::try_from(run.draw(0..1_500)).unwrap()));
        cluster.create_topic_named(topic, partitions, run.plan.topic_configs);
        run.made_again(topic);
        run.healed("deletion of a topic");
    }
}

/// New partitions take records without a restart.
pub fn partitions_added(run: &Run) {
    let cluster = Cluster::shared();
    for _ in 0..form(1, 3) {
        let topic = run.draw_topic();
        let before = i32::try_from(cluster.partition_count(topic)).unwrap();
        cluster.add_partitions(topic, before + 2);
        eventually(USED, "the new partitions hold records", || {
            let mut new = before..before + 2;
            new.all(|partition| cluster.end_offsets(topic, partition).high_watermark > 0).then_some(())
        });
        run.healed("new partitions");
    }
}

pub fn access_taken_away(run: &Run) {
    let cluster = Cluster::shared();
    for operation in form(&[Operation::Write][..], &[Operation::Write, Operation::All, Operation::Write]) {
        let denial = Acl::deny(cluster.user(), *operation, Resource::Topic(run.draw_topic().to_owned()));
        cluster.add_acl(&denial);
        run.go_on(form(ms(2_000), ms(10_000)));
        cluster.remove_acl(&denial);
        run.healed("loss of access");
    }
}
