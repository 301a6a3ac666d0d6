//! The client of the wire protocol before real brokers: it is let in, or says why not within a moment.

pub mod producing;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use kafka_protocol::messages::{ApiKey, InitProducerIdRequest, MetadataRequest, MetadataResponse};
use producer_sidecar::{
    config::{
        Config, Purpose,
        source::{self, Environment, Inputs},
    },
    kafka::{
        code::ErrorCode,
        tls::explained,
        wire::{
            bootstrap::Bootstrap,
            connection::{Connection, ConnectionEvent},
            error::WireError,
            metadata::{ClusterView, ask_cluster, ask_topics},
            settings::{SettingsInUse, WireSettings},
        },
    },
    record::Topic,
};
use testkit::{Cluster, ClusterOptions, MockKafka, TestFolder, certificates::odd_servers, eventually};
use tokio::{sync::watch, time::timeout};

use crate::client::run;

crate::tests!(
    the_cluster_is_found_and_its_topics_are_read,
    librdkafkas_mock_cluster_is_spoken_to,
    a_session_outlives_what_the_brokers_allow,
    a_topic_made_again_is_another_one,
    a_wrong_password_is_refused_at_once,
    plain_is_spoken_and_another_mechanism_is_refused_at_once,
    a_user_where_none_is_asked_for_is_refused_at_once,
    an_unknown_issuer_and_a_wrong_name_are_refused_at_once,
    ports_that_speak_otherwise_are_noticed_at_once,
    a_client_certificate_is_shown,
    changed_certificates_are_taken_as_a_whole,
);

/// Far below every time-out: an error has to be an answer.
const AT_ONCE: Duration = Duration::from_secs(5);
const PATIENT: Duration = Duration::from_secs(30);

/// The settings of a sidecar over SASL_SSL to the shared cluster, but for those given.
fn config(cluster: &Cluster, settings: &[(&str, &str)]) -> Config {
    let (brokers, ca) = (cluster.bootstrap_tls(), cluster.ca_file().display().to_string());
    let variables = [
        ("KAFKA_BROKERS", brokers.as_str()),
        ("KAFKA_USER", cluster.user()),
        ("KAFKA_PASSWORD", cluster.password()),
        ("KAFKA_CA_FILE", &ca),
        ("HOSTNAME", "it"),
    ];
    // A later setting replaces an earlier one, as in a process's environment.
    let variables: BTreeMap<_, _> = variables.into_iter().chain(settings.iter().copied()).collect();
    let environment = Environment::of(variables);
    let inputs = Inputs { config: None, flags: &[], environment: &environment };
    source::load(inputs, Purpose::Serve).unwrap().config
}

fn settings(cluster: &Cluster, settings: &[(&str, &str)]) -> Arc<WireSettings> {
    Arc::new(WireSettings::read(&config(cluster, settings), None).unwrap())
}

async fn open(settings: &Arc<WireSettings>) -> Result<Connection, WireError> {
    Connection::open(&settings.brokers[0], Arc::clone(settings)).await
}

/// Asks for metadata and waits for the answer.
async fn metadata(
    connection: &mut Connection,
    question: &MetadataRequest,
) -> Result<MetadataResponse, WireError> {
    let mut request = connection.request(ApiKey::Metadata)?;
    request.encode(question)?;
    let id = connection.send(request)?;
    loop {
        if let ConnectionEvent::Response(response) = connection.next().await? {
            assert_eq!(response.id, id);
            return response.decode::<MetadataRequest>();
        }
    }
}

/// Opens a connection, and asks on it if it opens: TLS 1.3 and SASL's absence show afterwards. The error has to be an answer.
#[track_caller]
fn refused(settings: &Arc<WireSettings>) -> WireError {
    let begun = Instant::now();
    let refused = run(async {
        let mut connection = open(settings).await?;
        metadata(&mut connection, &ask_cluster()).await.map(drop)
    });
    let refused = refused.unwrap_err();
    assert!(begun.elapsed() < AT_ONCE, "{refused} after {:?}", begun.elapsed());
    refused
}

fn the_cluster_is_found_and_its_topics_are_read() {
    let cluster = Cluster::shared();
    let topic = Topic::parse(&cluster.create_topic("wire", 3, &[])).unwrap();
    let absent = Topic::parse("wire-that-is-not-there").unwrap();
    let plaintext = cluster.bootstrap_plaintext();
    let proxied = cluster.bootstrap_proxied();
    let ways: [&[(&str, &str)]; 3] = [
        &[],
        &[("KAFKA_SECURITY_PROTOCOL", "PLAINTEXT"), ("KAFKA_BROKERS", &plaintext)],
        &[("KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT"), ("KAFKA_BROKERS", &proxied)],
    ];
    for way in ways {
        let settings = settings(cluster, way);
        run(async {
            let mut bootstrap = Bootstrap::new(&settings);
            let (_, mut connection) = bootstrap.round(&settings, &[]).await.unwrap();
            let mut view = ClusterView::default();
            view.update(metadata(&mut connection, &ask_cluster()).await.unwrap()).unwrap();
            assert_eq!(view.brokers().len(), 3);
            let answer = metadata(&mut connection, &ask_topics([&topic, &absent], false)).await.unwrap();
            let change = view.update(answer).unwrap();
            assert_eq!(change.failed, [(absent.clone(), ErrorCode::UNKNOWN_TOPIC_OR_PART)]);
            assert_eq!(view.topic(&topic).unwrap().partitions.len(), 3);
            // Every leader can be reached by the address that the cluster gives for it, and gives out producer ids.
            for partition in 0..3 {
                let (_, node) = view.leader(&topic, partition).unwrap();
                let mut leader = Connection::open(&node.address, Arc::clone(&settings)).await.unwrap();
                assert_eq!(leader.versions().of(ApiKey::Produce), Some(13));
                assert!(producer_id(&mut leader).await >= 0);
            }
        });
    }
}

/// It is what `dev` starts; it knows no version 3 of ApiVersions, and no SASL.
fn librdkafkas_mock_cluster_is_spoken_to() {
    let mock = MockKafka::start();
    let brokers = mock.bootstrap();
    let way = [("KAFKA_SECURITY_PROTOCOL", "PLAINTEXT"), ("KAFKA_BROKERS", brokers.as_str())];
    let settings = settings(Cluster::shared(), &way);
    let topic = Topic::parse("made-by-asking").unwrap();
    run(async {
        let mut connection = open(&settings).await.unwrap();
        assert_eq!(connection.versions().of(ApiKey::Produce), Some(10));
        let mut view = ClusterView::default();
        let answer = metadata(&mut connection, &ask_topics([&topic], true)).await.unwrap();
        view.update(answer).unwrap();
        let (_, node) = view.leader(&topic, 0).unwrap();
        let mut leader = Connection::open(&node.address, Arc::clone(&settings)).await.unwrap();
        assert!(producer_id(&mut leader).await >= 0);
    });
}

/// Asks for a producer id until the broker has its block of them.
async fn producer_id(connection: &mut Connection) -> i64 {
    loop {
        let mut request = connection.request(ApiKey::InitProducerId).unwrap();
        // None and not the default, which is an empty one.
        let question = InitProducerIdRequest::default().with_transactional_id(None);
        request.encode(&question).unwrap();
        connection.send(request).unwrap();
        loop {
            let ConnectionEvent::Response(response) = connection.next().await.unwrap() else { continue };
            let answer = response.decode::<InitProducerIdRequest>().unwrap();
            match ErrorCode::new(answer.error_code.into()) {
                ErrorCode::NO_ERROR => return answer.producer_id.0,
                ErrorCode::COORDINATOR_LOAD_IN_PROGRESS => break,
                code => panic!("{code}"),
            }
        }
    }
}

/// The brokers of these tests end a session of SASL_SSL after 10 s.
fn a_session_outlives_what_the_brokers_allow() {
    let settings = settings(Cluster::shared(), &[]);
    run(async {
        let mut connection = open(&settings).await.unwrap();
        let begun = Instant::now();
        let mut asked = 0;
        while begun.elapsed() < Duration::from_secs(21) {
            metadata(&mut connection, &ask_cluster()).await.unwrap();
            asked += 1;
            let quiet = timeout(Duration::from_millis(300), connection.next()).await;
            assert!(quiet.is_err(), "{quiet:?}");
        }
        assert!(asked > 10, "{asked}");
    });
}

fn a_topic_made_again_is_another_one() {
    let cluster = Cluster::shared();
    let name = cluster.create_topic("wire-again", 2, &[]);
    let topic = Topic::parse(&name).unwrap();
    let settings = settings(cluster, &[]);
    let mut view = ClusterView::default();
    let ask = || {
        run(async {
            let mut connection = open(&settings).await.unwrap();
            metadata(&mut connection, &ask_topics([&topic], false)).await.unwrap()
        })
    };
    view.update(ask()).unwrap();
    let id = view.topic(&topic).unwrap().id;
    cluster.delete_topic(&name);
    let change = view.update(ask()).unwrap();
    assert_eq!(change.failed, [(topic.clone(), ErrorCode::UNKNOWN_TOPIC_OR_PART)]);
    cluster.create_topic_named(&name, 1, &[]);
    let change = eventually(PATIENT, "the topic is known again", || {
        let change = view.update(ask()).unwrap();
        change.failed.is_empty().then_some(change)
    });
    assert_eq!(change.recreated, std::slice::from_ref(&topic));
    let known = view.topic(&topic).unwrap();
    assert!(id.is_some() && known.id.is_some() && known.id != id);
    assert_eq!(known.partitions.len(), 1);
}

fn a_wrong_password_is_refused_at_once() {
    let settings = settings(Cluster::shared(), &[("KAFKA_PASSWORD", "canary-wrong")]);
    let error = refused(&settings);
    let WireError::AuthenticationFailed { mechanism: "SCRAM-SHA-512", words } = &error else {
        panic!("{error}")
    };
    assert!(words.contains("invalid credentials") && !words.contains("canary"), "{words}");
    let begun = Instant::now();
    let error = run(async { Bootstrap::new(&settings).round(&settings, &[]).await.unwrap_err() });
    assert!(error.is_refusal() && error.0.len() == 3 && begun.elapsed() < AT_ONCE, "{error}");
}

fn plain_is_spoken_and_another_mechanism_is_refused_at_once() {
    let module = "org.apache.kafka.common.security.plain.PlainLoginModule";
    let users = format!("{module} required user_plain=\"canary-plain\";");
    let listener = |name: &str| format!("listener.name.sasl_ssl.{name}");
    let properties = vec![
        (listener("sasl.enabled.mechanisms"), "PLAIN".to_owned()),
        (listener("plain.sasl.jaas.config"), users),
    ];
    let options = ClusterOptions { nodes: 1, properties, warm: false, ..ClusterOptions::default() };
    let cluster = Cluster::start(&options);
    let plain = [("KAFKA_SASL_MECHANISM", "PLAIN"), ("KAFKA_USER", "plain")];
    let right = settings(&cluster, &[plain[0], plain[1], ("KAFKA_PASSWORD", "canary-plain")]);
    run(async {
        let mut connection = open(&right).await.unwrap();
        metadata(&mut connection, &ask_cluster()).await.unwrap();
    });
    let error = refused(&settings(&cluster, &[plain[0], plain[1], ("KAFKA_PASSWORD", "canary-wrong")]));
    assert!(matches!(error, WireError::AuthenticationFailed { mechanism: "PLAIN", .. }), "{error}");
    let error = refused(&settings(&cluster, &[("KAFKA_SASL_MECHANISM", "SCRAM-SHA-256")]));
    assert!(error.to_string().contains("the broker takes PLAIN there"), "{error}");
}

fn a_user_where_none_is_asked_for_is_refused_at_once() {
    let plaintext = Cluster::shared().bootstrap_plaintext();
    let way = [("KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT"), ("KAFKA_BROKERS", &plaintext)];
    let error = refused(&settings(Cluster::shared(), &way));
    assert!(matches!(error, WireError::AuthenticationFailed { .. }), "{error}");
    assert!(error.to_string().contains("asks for no user there"), "{error}");
    // And the other way round.
    let proxied = Cluster::shared().bootstrap_proxied();
    let way = [("KAFKA_SECURITY_PROTOCOL", "PLAINTEXT"), ("KAFKA_BROKERS", &proxied)];
    let error = refused(&settings(Cluster::shared(), &way));
    meant(&error, "asks for a user and password");
}

/// Looks for what the error means to people.
#[track_caller]
fn meant(error: &WireError, meaning: &str) {
    let words = error.to_string();
    let explained = explained(&words, None);
    assert!(explained.contains(meaning), "{explained}");
}

fn an_unknown_issuer_and_a_wrong_name_are_refused_at_once() {
    let shared = Cluster::shared();
    let other = shared.other_ca_file().display().to_string();
    let error = refused(&settings(shared, &[("KAFKA_CA_FILE", &other)]));
    assert!(matches!(error, WireError::Tls(_)), "{error}");
    meant(&error, "no authority that the sidecar trusts");

    let (odd, folder) = (odd_servers(), TestFolder::new("wire-odd"));
    let ca = folder.write("ca.pem", &odd.ca).display().to_string();
    let server = folder.write("server.pem", &odd.elsewhere).display().to_string();
    let properties = vec![("listener.name.sasl_ssl.ssl.keystore.location".to_owned(), server)];
    let options = ClusterOptions { nodes: 1, properties, warm: false, ..ClusterOptions::default() };
    let cluster = Cluster::start(&options);
    let error = refused(&settings(&cluster, &[("KAFKA_CA_FILE", &ca)]));
    assert!(matches!(error, WireError::Tls(_)), "{error}");
    meant(&error, "is for other names");
}

fn ports_that_speak_otherwise_are_noticed_at_once() {
    let cluster = Cluster::shared();
    let plaintext = cluster.bootstrap_plaintext();
    let error = refused(&settings(cluster, &[("KAFKA_BROKERS", &plaintext)]));
    meant(&error, "does not speak TLS");
    for protocol in ["PLAINTEXT", "SASL_PLAINTEXT"] {
        let error = refused(&settings(cluster, &[("KAFKA_SECURITY_PROTOCOL", protocol)]));
        meant(&error, "speaks TLS there");
    }
}

/// With TLS 1.3 the refusal comes after the handshake.
fn a_client_certificate_is_shown() {
    let required = ("listener.name.sasl_ssl.ssl.client.auth".to_owned(), "required".to_owned());
    let options =
        ClusterOptions { nodes: 1, properties: vec![required], warm: false, ..ClusterOptions::default() };
    let cluster = Cluster::start(&options);
    let folder = TestFolder::new("wire-client");
    let [trusted, _, untrusted] = cluster.clients();
    let of = |pair: &testkit::ClientPair, name: &str| {
        let certificate = folder.write(&format!("{name}.pem"), &pair.certificate).display().to_string();
        let key = folder.write(&format!("{name}.key"), &pair.key).display().to_string();
        settings(&cluster, &[("KAFKA_CERTIFICATE_FILE", &certificate), ("KAFKA_KEY_FILE", &key)])
    };
    run(async {
        let mut connection = open(&of(trusted, "trusted")).await.unwrap();
        metadata(&mut connection, &ask_cluster()).await.unwrap();
    });
    for refusing in [of(untrusted, "untrusted"), settings(&cluster, &[])] {
        let error = refused(&refusing);
        assert!(matches!(error, WireError::Tls(_)), "{error}");
        meant(&error, "TLS alert ");
    }
}

fn changed_certificates_are_taken_as_a_whole() {
    let cluster = Cluster::shared();
    let folder = TestFolder::new("wire-changed");
    let right = std::fs::read_to_string(cluster.ca_file()).unwrap();
    let other = std::fs::read_to_string(cluster.other_ca_file()).unwrap();
    let file = folder.write("ca.pem", &other).display().to_string();
    let config = || Arc::new(config(cluster, &[("KAFKA_CA_FILE", &file)]));
    let (force, in_force) = watch::channel(config());
    run(async {
        let mut settings = SettingsInUse::begin(in_force, None).await.unwrap();
        let refused = open(settings.now()).await.unwrap_err();
        assert!(matches!(refused, WireError::Tls(_)), "{refused}");
        assert!(timeout(Duration::from_millis(50), settings.changed()).await.is_err());
        // A file that is broken leaves what is in use.
        let changed = config();
        folder.write("ca.pem", "no certificate");
        force.send_replace(changed);
        let broken = timeout(PATIENT, settings.changed()).await.unwrap().unwrap_err();
        assert!(matches!(&broken, WireError::File { .. }) && broken.to_string().contains(&file), "{broken}");
        assert!(open(settings.now()).await.is_err());
        folder.write("ca.pem", &right);
        force.send_replace(config());
        let settings = timeout(PATIENT, settings.changed()).await.unwrap().unwrap();
        open(settings).await.unwrap();
    });
}
