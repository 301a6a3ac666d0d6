//! Connections that TLS forbids: callers, probes and log lines hear the real cause.

use std::time::Duration;

use testkit::{
    Cluster, ClusterOptions, Sidecar, SidecarBuilder, TestFolder, certificates::odd_servers, eventually,
};
use tonic::Code;

use crate::client::{BINARY, READY, Refusal, connect, over_tls, run, send_within, text};

crate::tests!(
    a_refused_client_certificate_is_a_refusal_with_the_alerts_name,
    the_cause_of_a_refused_broker_certificate_is_named,
    an_unknown_issuer_is_named,
    a_plain_client_at_a_tls_port_is_told,
    a_tls_client_at_a_plain_port_is_told,
);

const HEARD: Duration = Duration::from_secs(10);

/// Starts a sidecar and sends until it says the cause, which the probe and the log say too.
fn refused(builder: SidecarBuilder, topic: &str, (code, reason): (Code, &str), cause: &str) -> Refusal {
    let sidecar = builder.start();
    eventually(READY, "the sidecar listens", || sidecar.try_http_get("/startupz").ok());
    let mut last = None;
    let refusal = eventually(HEARD, &format!("a refusal that says {cause}"), || {
        let sent = run(async {
            let client = connect(&sidecar.grpc_address());
            send_within(&client, text(topic, "v"), Some(Duration::from_secs(3))).await
        });
        let refusal = sent.unwrap_err();
        let says_it = refusal.message.contains(cause) && refusal.reason == reason;
        if !says_it && last.as_ref() != Some(&refusal.message) {
            eprintln!("{refusal:?}");
            last = Some(refusal.message.clone());
        }
        says_it.then_some(refusal)
    });
    refusal.expect(code, reason, "NO");
    let (status, body) = sidecar.http_get("/readyz");
    assert!(status == 503 && body.contains(cause), "{body}");
    sidecar.wait_for_line(|line| line.contains(cause), READY);
    refusal
}

const REFUSED: (Code, &str) = (Code::FailedPrecondition, "KAFKA_AUTHENTICATION_FAILED");
/// The calls' deadline passes before the sidecar gives up waiting for brokers.
const AWAY: (Code, &str) = (Code::DeadlineExceeded, "DEADLINE_NOT_WRITTEN");

/// With TLS 1.3 the refusal comes after the handshake.
fn a_refused_client_certificate_is_a_refusal_with_the_alerts_name() {
    let required = ("listener.name.sasl_ssl.ssl.client.auth".to_owned(), "required".to_owned());
    let options =
        ClusterOptions { nodes: 1, properties: vec![required], warm: false, ..ClusterOptions::default() };
    let cluster = Cluster::start(&options);
    let topic = cluster.create_topic("client-refused", 1, &[]);
    let [_, _, untrusted] = cluster.clients();
    let sidecar = || Sidecar::for_cluster(BINARY, &cluster).arg("serve");
    let with_untrusted = sidecar()
        .env_file("KAFKA_CERTIFICATE_FILE", "client.pem", &untrusted.certificate)
        .env_file("KAFKA_KEY_FILE", "client.key", &untrusted.key);
    refused(with_untrusted, &topic, REFUSED, "refuses the sidecar's certificate");
    refused(sidecar(), &topic, REFUSED, "TLS alert ");
}

fn the_cause_of_a_refused_broker_certificate_is_named() {
    let (odd, folder) = (odd_servers(), TestFolder::new("odd"));
    for (server, cause) in [(&odd.expired, "has expired"), (&odd.elsewhere, "is for other ")] {
        let server = folder.write("server.pem", server).display().to_string();
        let properties = vec![("listener.name.sasl_ssl.ssl.keystore.location".to_owned(), server)];
        let options = ClusterOptions { nodes: 1, properties, warm: false, ..ClusterOptions::default() };
        let cluster = Cluster::start(&options);
        let sidecar =
            Sidecar::for_cluster(BINARY, &cluster).arg("serve").env_file("KAFKA_CA_FILE", "ca.pem", &odd.ca);
        refused(sidecar, "any", REFUSED, cause);
    }
}

fn an_unknown_issuer_is_named() {
    let other = Cluster::shared().other_ca_file().display().to_string();
    refused(over_tls().env("KAFKA_CA_FILE", other), "any", REFUSED, "no authority that the sidecar trusts");
}

fn a_plain_client_at_a_tls_port_is_told() {
    let plain = over_tls().env("KAFKA_SECURITY_PROTOCOL", "PLAINTEXT");
    refused(plain, "any", AWAY, "speaks TLS");
    let plain = over_tls().env("KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT");
    refused(plain, "any", AWAY, "speaks TLS");
}

fn a_tls_client_at_a_plain_port_is_told() {
    let plain = Cluster::shared().bootstrap_plaintext();
    refused(over_tls().env("KAFKA_BROKERS", plain), "any", AWAY, "does not speak TLS");
}
