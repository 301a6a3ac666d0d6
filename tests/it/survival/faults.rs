//! Owns what is broken under a load, and mended. Each ends once all goes well again.

use std::{fs, path::Path, time::Duration};

use testkit::{
    ApiKey, ClientPair, Cluster, SidecarBuilder,
    cluster::{Acl, Operation, Resource},
    eventually,
};

use super::{form, run::Run, seed};
use crate::{client::over_tls, healing::secrets::Secrets};

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// How long a new partition may take to hold a record.
const USED: Duration = Duration::from_secs(15);
/// Longer than the cluster believes in a node that is silent, and some more.
const BELIEVED: Duration = Duration::from_secs(8);

/// The file of the password, and the folder that it is mounted in.
const PASSWORD: &str = "password";
/// The same of the authorities.
const AUTHORITIES: &str = "ca.pem";
/// The folder of the client's certificate and its key, which come together as a pod's do.
const CLIENT: &str = "client";
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";

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
        run.noticed("a crashed broker", || {
            cluster.kill(node);
            run.go_on(BELIEVED);
        });
        cluster.start_node(node);
        cluster.heal();
        run.healed("a crashed broker");
    }
}

pub fn all_brokers_away(run: &Run) {
    let cluster = Cluster::shared();
    run.noticed("absence of all brokers", || {
        cluster.stop_all();
        run.go_on(form(ms(8_000), ms(60_000)));
    });
    cluster.start_all();
    cluster.heal();
    run.healed("absence of all brokers");
}

pub fn brokers_freeze(run: &Run) {
    let cluster = Cluster::shared();
    for frozen in form(&[5_000][..], &[5_000, 35_000, 5_000, 35_000]) {
        let node = draw_node(run);
        run.noticed("a frozen broker", || {
            cluster.freeze(node);
            run.go_on(ms(*frozen));
        });
        cluster.thaw(node);
        run.healed("a frozen broker");
        cluster.heal();
    }
}

fn swallowed() -> u64 {
    Cluster::shared().proxies().map(|proxy| proxy.counts(ApiKey::Produce).responses_swallowed).sum()
}

/// Brokers carry requests out and their answers never arrive: the connection is lost instead, or stays and is silent.
pub fn acknowledgements_lost(run: &Run) {
    let cluster = Cluster::shared();
    for (proxy, number) in cluster.proxies().zip(0..) {
        proxy.seed(seed().wrapping_add(number));
    }
    for (then_reset, lasts) in form(&[(true, 5_000)][..], &[(true, 60_000), (false, 60_000)]) {
        let before = swallowed();
        for proxy in cluster.proxies() {
            proxy.swallow_responses(ApiKey::Produce, 0.05, *then_reset);
        }
        run.go_on(ms(*lasts));
        pass();
        assert!(swallowed() > before, "no acknowledgement was lost");
        run.healed("loss of acknowledgements");
    }
}

/// Nothing comes or goes between the sidecar and one broker, then all of them.
pub fn black_hole(run: &Run) {
    let cluster = Cluster::shared();
    for lasts in form(&[4_000][..], &[4_000, 20_000]) {
        run.noticed("a black hole", || {
            cluster.proxy(draw_node(run)).black_hole();
            run.go_on(ms(*lasts));
        });
        run.noticed("black holes", || {
            for proxy in cluster.proxies() {
                proxy.black_hole();
            }
            run.go_on(ms(*lasts));
        });
        pass();
        run.healed("a black hole");
    }
}

/// Connections are closed and opened again and again.
pub fn flapping(run: &Run) {
    let cluster = Cluster::shared();
    run.noticed("flapping", || {
        for _ in 0..form(6, 60) {
            for proxy in cluster.proxies() {
                proxy.cut();
            }
            run.go_on(ms(u64::try_from(run.draw(100..600)).unwrap()));
            pass();
            run.go_on(ms(u64::try_from(run.draw(100..600)).unwrap()));
        }
    });
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
        run.noticed("a lack of replicas", || {
            cluster.freeze(node);
            for topic in &run.topics.known {
                cluster.wait_in_sync(topic, 0, 2);
            }
            run.go_on(BELIEVED);
        });
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
        run.noticed("a killed sidecar", || run.kill_sidecar());
        run.healed("a killed sidecar");
        run.go_on(ms(u64::try_from(run.draw(0..500)).unwrap()));
    }
}

pub fn sidecars_stopped(run: &Run) {
    for _ in 0..form(2, 10) {
        run.noticed("a stopped sidecar", || run.stop_sidecar());
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
        run.noticed("loss of access", || {
            cluster.add_acl(&denial);
            run.go_on(form(ms(2_000), ms(10_000)));
        });
        cluster.remove_acl(&denial);
        run.healed("loss of access");
    }
}

/// A sidecar whose password, authorities and own certificate are in files, as a pod's are.
pub fn with_files() -> SidecarBuilder {
    let cluster = Cluster::shared();
    let builder = over_tls().without_env("KAFKA_PASSWORD").env("SIDECAR_KAFKA_FILES_LOOK_MS", "100");
    let authorities = fs::read_to_string(cluster.ca_file()).unwrap();
    let password = Secrets::new(&builder.folder().join(PASSWORD), PASSWORD, cluster.password());
    let authorities = Secrets::new(&builder.folder().join(AUTHORITIES), AUTHORITIES, &authorities);
    let client = Secrets::new(&builder.folder().join(CLIENT), CERTIFICATE, "");
    let key = client.mount(KEY);
    client.swap_all(&both(&cluster.clients()[0]));
    builder
        .env("KAFKA_CERTIFICATE_FILE", client.path().display().to_string())
        .env("KAFKA_KEY_FILE", key.display().to_string())
        .env("KAFKA_PASSWORD_FILE", password.path().display().to_string())
        .env("KAFKA_CA_FILE", authorities.path().display().to_string())
}

/// Ends with the password that the cluster began with.
pub fn password_rotated_twice(run: &Run) {
    let cluster = Cluster::shared();
    let own = cluster.password();
    let rounds = form(1, 5);
    for round in 0..rounds {
        for (turn, password) in [format!("canary-of-round-{round}"), own.to_owned()].iter().enumerate() {
            run.keep_secret(password);
            cluster.set_password(cluster.user(), password);
            swap(run, PASSWORD, password);
            replaced(run, 2 * round + turn + 1);
            run.healed("a new password");
        }
    }
}

/// Authorities that did not sign the brokers' certificates stay out of use; a bundle with the right ones comes into it.
pub fn authorities_replaced(run: &Run) {
    let cluster = Cluster::shared();
    let read = |path: &Path| fs::read_to_string(path).unwrap();
    let (right, other) = (read(cluster.ca_file()), read(cluster.other_ca_file()));
    let before = form(2, 10);
    for round in 1..=form(1, 5) {
        swap(run, AUTHORITIES, &other);
        refused(run, "wrong authorities");
        run.go_on(ms(500));
        swap(run, AUTHORITIES, &format!("{other}{right}"));
        replaced(run, before + round);
        run.healed("new authorities");
    }
}

/// A certificate with the key of another stays out of use; one with its own comes into it.
pub fn certificate_replaced(run: &Run) {
    let [first, second, _] = Cluster::shared().clients();
    let client = || Secrets::at(&run.sidecar().folder().join(CLIENT), CERTIFICATE);
    let before = form(3, 15);
    for round in 0..form(1, 5) {
        for (turn, [next, other]) in (1..).zip([[second, first], [first, second]]) {
            client().swap_all(&[(CERTIFICATE, &next.certificate), (KEY, &other.key)]);
            refused(run, "a key of another certificate");
            run.go_on(ms(500));
            client().swap_all(&both(next));
            replaced(run, before + 2 * round + turn);
            run.healed("a new certificate");
        }
    }
}

fn both(pair: &ClientPair) -> [(&'static str, &str); 2] {
    [(CERTIFICATE, &pair.certificate), (KEY, &pair.key)]
}

/// Waits until the sidecar says that it keeps what it has.
fn refused(run: &Run, what: &str) {
    wait_for_line(run, what, "kafka_secrets_refused 1");
}

fn swap(run: &Run, file: &'static str, content: &str) {
    Secrets::at(&run.sidecar().folder().join(file), file).swap(content);
}

/// Waits until the producer was replaced so many times for new secrets.
fn replaced(run: &Run, times: usize) {
    let line = format!("kafka_producer_replaced_total{{cause=\"secrets\"}} {times}");
    wait_for_line(run, "another producer in use", &line);
}

fn wait_for_line(run: &Run, what: &str, line: &str) {
    eventually(USED, what, || {
        run.sidecar().http_get("/metrics").1.lines().any(|found| found == line).then_some(())
    });
}
