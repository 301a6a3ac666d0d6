//! No secret leaves the sidecar: canary passwords are looked for in everything that it prints, serves and answers.

use std::{fs, time::Duration};

use producer_sidecar::grpc::proto::{GetInfoRequest, SendRequest};
use testkit::{Cluster, Sidecar, SidecarBuilder, eventually};
use tonic::{Code, Request};

use crate::{
    client::{BINARY, READY, connect, keyed, over_tls, run, send, text, with_header},
    commands::{Ended, command, to_end, without_brokers},
};

crate::tests!(
    a_working_password_is_found_nowhere,
    a_wrong_password_is_found_nowhere,
    what_callers_send_is_not_logged,
    help_shows_no_value_of_the_environment,
    check_config_shows_no_secret,
    broken_settings_quote_no_secret,
    secret_files_are_not_quoted,
    librdkafkas_own_errors_quote_no_secret,
);

/// How the cluster's own passwords and those made here begin.
const CANARY: &str = "canary-";
const OTHER: &str = "canary-7e1f-of-this-file";

/// A key whose password is none of those tried here; made by `openssl pkcs8 -topk8`, and used nowhere else.
const ENCRYPTED_KEY: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAj+IFsR/J1dhwICCAAw
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEMTGa2yIVbYnKXFtuStq6NcEgZAj
Csjpn6ArxOPJNcRyboRfKzx3qAj0K8m6pD0BTS1w7y9zyS7aKytNdNfUj4nq0Ykh
s9NOgDTmw5JNH62OBW8y0O1X11xd8m0Qzi5VN8xde3GMVrw3na6YMfvOMOFpI7JW
5/hc9xe12Ba1RzHAbJ/MQGben9BKEazQK9VGJhlkJbX+u9GEf/XgBomkZjbeytA=
-----END ENCRYPTED PRIVATE KEY-----
";

/// Fails where a text holds a canary; the message does not repeat the text.
#[track_caller]
fn clean(what: &str, text: &str) {
    if let Some(place) = text.find(CANARY) {
        let before = text[..place].chars().rev().take(80).collect::<Vec<_>>().into_iter().rev();
        panic!("{what} holds a secret, after: {}", before.collect::<String>());
    }
}

#[track_caller]
fn clean_lines(what: &str, lines: &[String]) {
    clean(what, &lines.join("\n"));
}

/// Runs a command that must be refused for its settings, and looks for canaries in what it says.
#[track_caller]
fn refused_cleanly(builder: SidecarBuilder) -> Ended {
    let ended = to_end(builder);
    assert_eq!(ended.code, Some(64), "{ended:?}");
    clean_lines("standard output", &ended.stdout);
    clean_lines("standard error", &ended.stderr);
    assert!(!ended.stderr.is_empty(), "the refusal says why");
    ended
}

/// Looks for canaries in what a running sidecar prints and serves.
fn look_everywhere(sidecar: &Sidecar) {
    for path in ["/metrics", "/readyz", "/livez", "/startupz", "/no-such-path"] {
        clean(path, &sidecar.http_get(path).1);
    }
    clean_lines("standard output", &sidecar.stdout());
    clean_lines("standard error", &sidecar.stderr());
    let command_line = fs::read_to_string(format!("/proc/{}/cmdline", sidecar.pid())).unwrap();
    clean("the command line", &command_line);
}

fn a_working_password_is_found_nowhere() {
    assert!(Cluster::shared().password().starts_with(CANARY), "the cluster's passwords are canaries");
    let topic = Cluster::shared().create_topic("secrets", 1, &[]);
    for format in ["json", "text"] {
        let sidecar = over_tls().env("SIDECAR_LOG", "trace").env("LOG_FORMAT", format).start();
        sidecar.wait_ready(READY);
        run(async {
            let client = connect(&sidecar.grpc_address());
            send(&client, text(&topic, "v")).await.unwrap();
            for record in [text("not-there", "v"), text("a b", "v")] {
                clean("an error", &format!("{:?}", send(&client, record).await.unwrap_err()));
            }
            let request = Request::new(GetInfoRequest {});
            let info = client.clone().get_info(request).await.unwrap();
            clean("GetInfo", &format!("{info:?}"));
        });
        sidecar.signal(testkit::Signal::TERM);
        assert_eq!(sidecar.wait_exit(READY).code(), Some(0));
        let log = sidecar.stderr().join("\n");
        // It was looked for in a log that tells much: the settings one by one, and calls down to their frames.
        assert!(log.contains("kafka.password") && log.contains("(set)"), "no settings in the log");
        assert!(log.contains("TRACE"), "no trace in the log");
        clean("standard error", &log);
        clean_lines("standard output", &sidecar.stdout());
    }
    let sidecar = over_tls().env("SIDECAR_LOG", "trace").start();
    sidecar.wait_ready(READY);
    look_everywhere(&sidecar);
}

fn a_wrong_password_is_found_nowhere() {
    let sidecar = over_tls().env("KAFKA_PASSWORD", OTHER).env("SIDECAR_LOG", "trace").start();
    let said = |line: &str| line.contains("refuses the sidecar's credentials");
    sidecar.wait_for_line(said, READY);
    let refusal =
        run(async { send(&connect(&sidecar.grpc_address()), text("orders", "v")).await }).unwrap_err();
    refusal.expect(Code::FailedPrecondition, "KAFKA_AUTHENTICATION_FAILED", "NO");
    clean("the error", &format!("{refusal:?}"));
    assert!(said(&sidecar.http_get("/readyz").1));
    look_everywhere(&sidecar);
}

fn what_callers_send_is_not_logged() {
    let topic = Cluster::shared().create_topic("unlogged", 1, &[]);
    let sidecar = over_tls().env("SIDECAR_LOG", "trace").start();
    sidecar.wait_ready(READY);
    let record = |topic: &str| with_header(keyed(text(topic, OTHER), OTHER), "tenant-id", OTHER);
    run(async {
        let client = connect(&sidecar.grpc_address());
        // One that arrives, one that is refused, one that nobody knows.
        for topic in [topic.as_str(), "a b", "not-there"] {
            let mut request =
                Request::new(SendRequest { record: Some(record(topic)), ..SendRequest::default() });
            request.metadata_mut().insert("authorization", format!("Bearer {OTHER}").parse().unwrap());
            request.metadata_mut().insert("x-tenant", OTHER.parse().unwrap());
            if let Err(status) = client.clone().send(request).await {
                clean("an error", &format!("{status:?}"));
            }
        }
    });
    assert_eq!(testkit::read_topic(Cluster::shared(), &topic).len(), 1);
    look_everywhere(&sidecar);
}

fn help_shows_no_value_of_the_environment() {
    for arguments in [&["--help"][..], &["serve", "--help"], &["check-config", "--help"], &["dev", "-h"]] {
        let ended = to_end(command(arguments).env("KAFKA_PASSWORD", OTHER).env("KAFKA_USER", "canary-user"));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.stdout.len() > 3, "{ended:?}");
        clean_lines("help", &ended.stdout);
        clean_lines("standard error", &ended.stderr);
    }
}

fn check_config_shows_no_secret() {
    let settings = || {
        without_brokers(&["check-config"])
            .env("KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT")
            .env("KAFKA_USER", "writer")
            .config(&format!("kafka:\n  properties:\n    client.rack: {OTHER}\n"))
    };
    let shown = "kafka.password = (set)  (environment KAFKA_PASSWORD)";
    let by_variable = to_end(settings().env("KAFKA_PASSWORD", OTHER));
    let by_file = to_end(settings().env_file("KAFKA_PASSWORD_FILE", "password", OTHER));
    for ended in [&by_variable, &by_file] {
        assert_eq!(ended.code, Some(0), "{:?}", ended.stderr);
        clean_lines("check-config", &ended.stdout);
        clean_lines("standard error", &ended.stderr);
    }
    assert!(by_variable.stdout.iter().any(|line| line == shown), "{:?}", by_variable.stdout);
    // With problems, each of them beside a secret.
    let ended = refused_cleanly(settings().env("KAFKA_PASSWORD", OTHER).env("SIDECAR_DRAIN_MS", "soon"));
    assert!(ended.stderr[0].starts_with("drain_ms "), "{ended:?}");
}

fn broken_settings_quote_no_secret() {
    for name in ["serve", "check-config"] {
        let base = || without_brokers(&[name]).env("KAFKA_SECURITY_PROTOCOL", "SASL_SSL");
        let cases = [
            // A secret where none may stand: in the file, in a flag, in a variable that is misspelt.
            base().config(&format!("kafka:\n  password: {OTHER}\n")),
            base().config(&format!("kafka:\n  pasword: {OTHER}\n")),
            base().config(&format!("kafka:\n  password: [{OTHER}, {OTHER}]\n")),
            base().config(&format!("kafka:\n  password: \"{OTHER}\n")),
            base().config(&format!("kafka:\n  properties:\n    sasl.password: {OTHER}\n")),
            base().config(&format!("kafka:\n  properties:\n    ssl.key.password: {OTHER}\n")),
            base().config(&format!("kafka:\n  properties:\n    socket.max.fails: {OTHER}\n")),
            base().config(&format!("kafka:\n  properties:\n    no.such.property: {OTHER}\n")),
            base().config(&format!("kafka:\n  properties:\n    client.rack: \"{OTHER}\\u0001\"\n")),
            base().arg("--kafka-password").arg(OTHER),
            base().arg(format!("--kafka-password={OTHER}")),
            base().env("SIDECAR_PASSWORD", OTHER),
            base().env("SIDECAR_KAFKA_PASSWORD", OTHER),
            // A user that has no password, and a password that has no user.
            base().env("KAFKA_PASSWORD", OTHER),
            base().env("KAFKA_PASSWORD", OTHER).env("KAFKA_USER", "u").env("KAFKA_CA_FILE", "/nowhere"),
        ];
        for case in cases {
            refused_cleanly(case);
        }
    }
}

fn secret_files_are_not_quoted() {
    let base = || without_brokers(&["serve"]).env("KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT");
    let with_user = || base().env("KAFKA_USER", "writer");
    let cases = [
        with_user().env_file("KAFKA_PASSWORD_FILE", "password", &format!("{OTHER}\0")),
        with_user().env_file("KAFKA_PASSWORD_FILE", "password", &OTHER.repeat(10_000)),
        with_user().env_file("KAFKA_PASSWORD_FILE", "password", OTHER).env("KAFKA_PASSWORD", OTHER),
        // The password's file named as the user's.
        base().env_file("KAFKA_USER_FILE", "user", &format!("{OTHER}\nmore\n")).env("KAFKA_PASSWORD", OTHER),
        with_user().env_file("KAFKA_PASSWORD_FILE", "password", OTHER).env("SIDECAR_DRAIN_MS", "soon"),
    ];
    for case in cases {
        refused_cleanly(case);
    }
    // One that is not UTF-8: the canary is a part of it.
    let builder = with_user().env_file("KAFKA_PASSWORD_FILE", "password", "");
    let file = builder.folder().join("password");
    fs::write(&file, [OTHER.as_bytes(), b"\xff"].concat()).unwrap();
    let ended = refused_cleanly(builder);
    assert!(ended.stderr.iter().any(|line| line.contains(&file.display().to_string())), "{ended:?}");
}

fn librdkafkas_own_errors_quote_no_secret() {
    // A certificate whose key has another password: OpenSSL fails inside of librdkafka.
    let certificate = fs::read_to_string(Cluster::shared().ca_file()).unwrap();
    let builder = without_brokers(&["serve"])
        .env("KAFKA_SECURITY_PROTOCOL", "SSL")
        .env("SIDECAR_LOG", "trace")
        .env_file("KAFKA_CERTIFICATE_FILE", "certificate.pem", &certificate)
        .env_file("KAFKA_KEY_FILE", "key.pem", ENCRYPTED_KEY)
        .env_file("KAFKA_KEY_PASSWORD_FILE", "key-password", OTHER);
    let ended = refused_cleanly(builder);
    let last = ended.stderr.last().unwrap();
    assert!(last.contains("ssl.key.location"), "librdkafka got as far as the key: {last}");

    // A property's value beside one that works, at the fullest log.
    let sidecar = without_brokers(&["serve"])
        .env("SIDECAR_LOG", "trace")
        .config(&format!("kafka:\n  properties:\n    client.rack: {OTHER}\n"))
        .start();
    eventually(READY, "the sidecar listens", || sidecar.try_http_get("/startupz").ok());
    let waited = Duration::from_secs(10);
    sidecar.wait_for_line(|line| line.contains("Connection refused"), waited);
    look_everywhere(&sidecar);
    assert!(
        sidecar.stderr().iter().any(|line| line.contains("kafka.properties")),
        "the settings are in the log"
    );
    let named =
        Sidecar::builder(BINARY).arg("check-config").config("kafka:\n  properties:\n    acks: canary-1\n");
    let ended = refused_cleanly(named);
    assert!(ended.stderr.iter().any(|line| line.contains("acks")), "{ended:?}");
}
