//! Another producer takes the place of the one in use: while secrets and certificates change on disk, and after a fatal error.
//! Every answer stays true, and no process is started again. Users and rules that these tests change are their own.

pub mod fatal;
pub mod secrets;
pub mod stuck;
mod whole;

use std::time::{Duration, Instant};

use producer_sidecar::grpc::proto::ProcessAndForwardRequest;
use testkit::{
    ClientPair, Cluster, ClusterOptions, Sidecar, SidecarBuilder,
    cluster::{Acl, Operation, Resource},
    eventually,
};

use self::secrets::Secrets;
use crate::{
    around::metric,
    client::{BINARY, DEADLINE_MARGIN_MS, READY, Refusal, connect, over_tls, run, send, text},
    faults::{check, check_in, under_load},
};

crate::tests!(
    a_password_changes_twice_under_load_and_no_record_is_lost,
    a_wrong_password_is_said_and_the_one_before_stays_in_use,
    a_password_that_was_wrong_at_the_start_is_mended_on_disk,
    authorities_change_on_disk,
    a_clients_certificate_and_its_key_change_on_disk,
    rights_are_taken_away_and_given_back_under_load,
    a_sidecar_without_any_right_goes_on_once_it_has_them,
);

/// How long the sidecar may take to see a file and to prove what it holds.
const SEEN: Duration = Duration::from_secs(20);
/// After how long brokers have a connection's password proved again (`connections.max.reauth.ms`).
const REAUTHENTICATED: Duration = Duration::from_secs(10);

/// A user of this test alone, and a sidecar that logs in as it with the password of a file.
fn with_own_user(user: &str, password: &str) -> (Secrets, SidecarBuilder) {
    Cluster::shared().set_password(user, password);
    let builder = over_tls()
        .without_env("KAFKA_PASSWORD")
        .env("KAFKA_USER", user)
        .env("SIDECAR_DEADLINE_MARGIN_MS", DEADLINE_MARGIN_MS)
        .env("SIDECAR_KAFKA_FILES_LOOK_MS", "100");
    let secrets = Secrets::new(&builder.folder().join("secrets"), "password", password);
    let builder = builder.env("KAFKA_PASSWORD_FILE", secrets.path().display().to_string());
    (secrets, builder)
}

fn started(builder: SidecarBuilder) -> Sidecar {
    let sidecar = builder.start();
    sidecar.wait_ready(READY);
    sidecar
}

/// Lets a user write to one topic, and use any transactional id.
fn rights(user: &str, topic: &str) -> [Acl; 2] {
    let ids = Resource::TransactionalId("*".to_owned());
    [
        Acl::allow(user, Operation::All, Resource::Topic(topic.to_owned())),
        Acl::allow(user, Operation::All, ids),
    ]
}

fn give(rights: &[Acl]) {
    rights.iter().for_each(|right| Cluster::shared().add_acl(right));
}

fn replaced(sidecar: &Sidecar, cause: &str) -> u64 {
    metric(sidecar, &format!("kafka_producer_replaced_total{{cause=\"{cause}\"}}")).unwrap_or(0)
}

fn wait_replaced(sidecar: &Sidecar, cause: &str, times: u64) {
    eventually(SEEN, "another producer in use", || (replaced(sidecar, cause) == times).then_some(()));
}

/// Commits one output in a transaction.
fn forward(sidecar: &Sidecar, topic: &str) {
    run(async {
        let outputs = vec![text(topic, "forwarded")];
        let unit = ProcessAndForwardRequest { outputs, ..ProcessAndForwardRequest::default() };
        connect(&sidecar.grpc_address()).process_and_forward(unit).await.unwrap();
    });
}

fn a_password_changes_twice_under_load_and_no_record_is_lost() {
    let (cluster, user) = (Cluster::shared(), "rotated");
    let topic = cluster.create_topic("rotated", 6, &[]);
    let forwarded = cluster.create_topic("rotated-units", 1, &[]);
    give(&rights(user, &topic));
    give(&rights(user, &forwarded)[..1]);
    let (secrets, builder) = with_own_user(user, "canary-rotated-0");
    let sidecar = started(builder);
    forward(&sidecar, &forwarded);
    let outcomes = under_load(&sidecar, &topic, |more| {
        for turn in 1..=2 {
            let password = format!("canary-rotated-{turn}");
            cluster.set_password(user, &password);
            secrets.swap(&password);
            wait_replaced(&sidecar, "secrets", turn);
            more(200);
        }
        // By now every connection that was made with an old password would have been closed.
        let by = Instant::now() + REAUTHENTICATED + Duration::from_secs(2);
        while Instant::now() < by {
            more(50);
        }
    });
    forward(&sidecar, &forwarded);
    let told = check(&sidecar, &topic, &outcomes);
    assert_eq!((told.no, told.maybe), (0, 0), "{told:?}");
    assert_eq!(metric(&sidecar, "kafka_secrets_refused"), Some(0));
    assert!(sidecar.stderr().iter().all(|line| !line.contains("canary-")), "no password is in the log");
}

fn a_wrong_password_is_said_and_the_one_before_stays_in_use() {
    let (cluster, user) = (Cluster::shared(), "mistaken");
    let topic = cluster.create_topic("mistaken", 6, &[]);
    give(&rights(user, &topic));
    let (secrets, builder) = with_own_user(user, "canary-right");
    let sidecar = started(builder);
    let outcomes = under_load(&sidecar, &topic, |more| {
        secrets.swap("canary-wrong");
        eventually(SEEN, "the wrong password said", || {
            let (status, body) = sidecar.http_get("/readyz");
            assert_eq!(status, 200, "what is in use works: {body}");
            body.contains("the secrets on disk are not in use").then_some(())
        });
        assert_eq!(metric(&sidecar, "kafka_secrets_refused"), Some(1));
        sidecar.wait_for_line(|line| line.contains("the secrets on disk are not in use"), SEEN);
        more(200);
        // A file that is not there any more is another fault of the same kind.
        secrets.take_away();
        eventually(SEEN, "the missing file said", || {
            sidecar.http_get("/readyz").1.contains("cannot be read").then_some(())
        });
        more(200);
        cluster.set_password(user, "canary-new");
        secrets.swap("canary-new");
        wait_replaced(&sidecar, "secrets", 1);
        more(200);
    });
    eventually(SEEN, "all is well", || {
        (sidecar.http_get("/readyz").1 == "ready: connected to Kafka\n").then_some(())
    });
    assert_eq!(metric(&sidecar, "kafka_secrets_refused"), Some(0));
    let told = check(&sidecar, &topic, &outcomes);
    assert_eq!((told.no, told.maybe), (0, 0), "{told:?}");
    assert!(sidecar.stderr().iter().all(|line| !line.contains("canary-")), "no password is in the log");
}

fn a_password_that_was_wrong_at_the_start_is_mended_on_disk() {
    let (cluster, user) = (Cluster::shared(), "late");
    let topic = cluster.create_topic("mended", 1, &[]);
    give(&rights(user, &topic));
    let (secrets, builder) = with_own_user(user, "canary-late");
    secrets.swap("canary-not-yet");
    let sidecar = builder.start();
    sidecar.wait_for_line(|line| line.contains("refuses the sidecar's credentials"), READY);
    secrets.swap("canary-late");
    sidecar.wait_ready(SEEN);
    run(async { send(&connect(&sidecar.grpc_address()), text(&topic, "v")).await }).unwrap();
    forward(&sidecar, &topic);
}

fn authorities_change_on_disk() {
    let cluster = Cluster::shared();
    let topic = cluster.create_topic("authorities", 6, &[]);
    let read = |path: &std::path::Path| std::fs::read_to_string(path).unwrap();
    let (right, other) = (read(cluster.ca_file()), read(cluster.other_ca_file()));
    let builder = over_tls()
        .env("SIDECAR_DEADLINE_MARGIN_MS", DEADLINE_MARGIN_MS)
        .env("SIDECAR_KAFKA_FILES_LOOK_MS", "100");
    let secrets = Secrets::new(&builder.folder().join("authorities"), "ca.pem", &right);
    let sidecar = started(builder.env("KAFKA_CA_FILE", secrets.path().display().to_string()));
    let outcomes = under_load(&sidecar, &topic, |more| {
        secrets.swap(&other);
        eventually(SEEN, "authorities that did not sign the brokers' said", || {
            (metric(&sidecar, "kafka_secrets_refused") == Some(1)).then_some(())
        });
        more(200);
        secrets.swap(&format!("{other}{right}"));
        wait_replaced(&sidecar, "secrets", 1);
        more(200);
        secrets.swap("no certificate at all");
        eventually(SEEN, "a file without certificates said", || {
            (metric(&sidecar, "kafka_secrets_refused") == Some(1)).then_some(())
        });
        more(200);
    });
    let told = check(&sidecar, &topic, &outcomes);
    assert_eq!((told.no, told.maybe), (0, 0), "{told:?}");
}

/// On brokers that let nobody in without a certificate.
fn a_clients_certificate_and_its_key_change_on_disk() {
    let required = ("listener.name.sasl_ssl.ssl.client.auth".to_owned(), "required".to_owned());
    let options = ClusterOptions { nodes: 1, properties: vec![required], warm: false, ..Default::default() };
    let cluster = Cluster::start(&options);
    let topic = cluster.create_topic("client-certificates", 6, &[]);
    let [first, second, untrusted] = cluster.clients();
    let builder = Sidecar::for_cluster(BINARY, &cluster)
        .arg("serve")
        .env("SIDECAR_DEADLINE_MARGIN_MS", DEADLINE_MARGIN_MS)
        .env("SIDECAR_KAFKA_FILES_LOOK_MS", "100");
    let secrets = Secrets::new(&builder.folder().join("client"), "tls.crt", "");
    let key = secrets.mount("tls.key");
    let swap = |certificate: &ClientPair, key: &ClientPair| {
        secrets.swap_all(&[("tls.crt", &certificate.certificate), ("tls.key", &key.key)]);
    };
    swap(first, first);
    let builder = builder.env("KAFKA_CERTIFICATE_FILE", secrets.path().display().to_string());
    let sidecar = started(builder.env("KAFKA_KEY_FILE", key.display().to_string()));
    let refused = |what: &str| {
        eventually(SEEN, what, || (metric(&sidecar, "kafka_secrets_refused") == Some(1)).then_some(()));
    };
    let outcomes = under_load(&sidecar, &topic, |more| {
        swap(second, second);
        wait_replaced(&sidecar, "secrets", 1);
        more(200);
        swap(untrusted, untrusted);
        refused("a certificate that the brokers do not trust said");
        more(200);
        swap(first, first);
        wait_replaced(&sidecar, "secrets", 2);
        more(200);
        swap(second, first);
        refused("a key of another certificate said");
        more(200);
        swap(second, second);
        wait_replaced(&sidecar, "secrets", 3);
        more(200);
    });
    let told = check_in(&cluster, &sidecar, &topic, &outcomes);
    assert_eq!((told.no, told.maybe), (0, 0), "{told:?}");
}

fn rights_are_taken_away_and_given_back_under_load() {
    let (cluster, user) = (Cluster::shared(), "stripped");
    let topic = cluster.create_topic("stripped", 6, &[]);
    let rights = rights(user, &topic);
    give(&rights);
    let (_secrets, builder) = with_own_user(user, "canary-stripped");
    let sidecar = started(builder.env("SIDECAR_BROKERS_WAIT_MS", "1000"));
    let mut after = Vec::new();
    let mut outcomes = under_load(&sidecar, &topic, |more| {
        cluster.remove_acl(&rights[0]);
        more(200);
        cluster.add_acl(&rights[0]);
        // Refusals are quick, and what was told a moment ago still counts.
        eventually(SEEN, "the rights are there again", || {
            let value = format!("after-{}", after.len());
            let outcome = run(async { send(&connect(&sidecar.grpc_address()), text(&topic, &value)).await });
            let is_taken = outcome.is_ok();
            after.push((value, outcome));
            is_taken.then_some(())
        });
        more(2_000);
    });
    outcomes.extend(after);
    let told = check(&sidecar, &topic, &outcomes);
    let forbidden = |refusal: &Refusal| refusal.reason == "NOT_AUTHORIZED";
    assert!(outcomes.iter().any(|(_, outcome)| outcome.as_ref().is_err_and(forbidden)), "{told:?}");
}

/// Without the right to write anywhere a producer is not even given a number, which is fatal to it.
fn a_sidecar_without_any_right_goes_on_once_it_has_them() {
    let (cluster, user) = (Cluster::shared(), "poor");
    let topic = cluster.create_topic("poor", 1, &[]);
    let (_secrets, builder) = with_own_user(user, "canary-poor");
    let sidecar = builder.start();
    eventually(SEEN, "the fatal error said", || {
        let answer = sidecar.try_http_get("/readyz").ok()?;
        (answer.0 == 503 && answer.1.contains("fatal error")).then_some(())
    });
    assert_eq!(sidecar.http_get("/livez").0, 200);
    give(&rights(user, &topic));
    sidecar.wait_ready(SEEN);
    run(async { send(&connect(&sidecar.grpc_address()), text(&topic, "v")).await }).unwrap();
    forward(&sidecar, &topic);
}
