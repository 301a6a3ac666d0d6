//! Tests of secrets: where they are read from, and that nothing prints them.

use secrecy::ExposeSecret as _;

use super::{Folder, load_with, problems_of_environment, problems_of_file};
use crate::config::{Security, librdkafka::producer_properties, source::Environment};

#[test]
fn secrets_are_read_from_files_whole_but_for_one_newline() {
    let folder = Folder::new();
    let user = folder.write("user", "writer\r\n");
    for (content, expected) in
        [("pencil", "pencil"), (" pencil\n", " pencil"), ("pen\ncil\n\n", "pen\ncil\n")]
    {
        let password = folder.write("password", content);
        let variables = [
            ("KAFKA_BROKERS", "a:1"),
            ("KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT"),
            ("KAFKA_USER_FILE", user.to_str().unwrap()),
            ("KAFKA_PASSWORD_FILE", password.to_str().unwrap()),
            ("SIDECAR_INSTANCE_ID", "one"),
        ];
        let loaded = load_with(None, &variables, &[]).unwrap();
        let Security::SaslPlaintext(credentials) = &loaded.config.kafka.security else {
            panic!("{:?}", loaded.config.kafka.security);
        };
        assert_eq!(credentials.user, "writer");
        assert_eq!(credentials.password.expose_secret(), expected);
    }
}

#[test]
fn secret_files_that_cannot_be_used_are_named_and_not_quoted() {
    let folder = Folder::new();
    let long = "canary".repeat(20_000);
    let cases: [(&[u8], &str); 5] = [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"canary\xff", "is not UTF-8"),
        (b"canary\0canary", "holds a zero byte, which librdkafka cannot take"),
        (long.as_bytes(), "has more than 65536 bytes"),
    ];
    for (content, wrong) in cases {
        let password = folder.write("password", content);
        let variables = [
            ("KAFKA_BROKERS", "a:1"),
            ("KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT"),
            ("KAFKA_USER", "writer"),
            ("KAFKA_PASSWORD_FILE", password.to_str().unwrap()),
            ("SIDECAR_INSTANCE_ID", "one"),
        ];
        let told = folder.told(load_with(None, &variables, &[]));
        let start = format!("kafka.password_file (environment KAFKA_PASSWORD_FILE): password {wrong};");
        assert!(told.starts_with(&start), "{told}");
        assert_eq!(told.lines().count(), 1, "{told}");
        assert!(!told.contains("canary"), "{told}");
    }
}

#[test]
fn credentials_and_certificates_must_be_whole() {
    let folder = Folder::new();
    folder.write("empty", "");
    let name = |name: &str| folder.0.join(name).display().to_string();
    let (absent, empty) = (name("absent"), name("empty"));
    let variables = [
        ("KAFKA_USER", "writer"),
        ("KAFKA_USER_FILE", absent.as_str()),
        ("KAFKA_CA_FILE", absent.as_str()),
        ("KAFKA_CERTIFICATE_FILE", empty.as_str()),
        ("SIDECAR_INSTANCE_ID", "one"),
    ];
    assert_eq!(
        folder.told(load_with(None, &variables, &[])),
        "kafka.user_file (environment KAFKA_USER_FILE): is set beside kafka.user (environment KAFKA_USER); keep one of the two\n\
         kafka.ca_file (environment KAFKA_CA_FILE): absent cannot be read: No such file or directory (os error 2); name a file that the sidecar may read\n\
         kafka.certificate_file (environment KAFKA_CERTIFICATE_FILE): empty is empty; name a file that the sidecar may read\n\
         kafka.brokers (nowhere): is not set; set KAFKA_BROKERS or --kafka-brokers to a list such as kafka-1:9092\n\
         kafka.password (nowhere): is not set, and kafka.security_protocol is SASL_SSL (default); set KAFKA_PASSWORD or KAFKA_PASSWORD_FILE or --kafka-password-file, or choose another kafka.security_protocol\n\
         kafka.key_file (nowhere): is not set, and kafka.certificate_file is (environment KAFKA_CERTIFICATE_FILE); set KAFKA_KEY_FILE or --kafka-key-file, or remove kafka.certificate_file"
    );
}

#[test]
fn no_secret_is_printed_by_anything() {
    let folder = Folder::new();
    let path = folder.write("config.yaml", "kafka:\n  properties:\n    client.rack: canary-property\n");
    let variables = [
        ("KAFKA_BROKERS", "a:1"),
        ("KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT"),
        ("KAFKA_USER", "writer"),
        ("KAFKA_PASSWORD", "canary-password"),
        ("SIDECAR_INSTANCE_ID", "one"),
    ];
    let loaded = load_with(Some(&path), &variables, &[]).unwrap();
    let properties = producer_properties(&loaded.config);
    let printed = format!("{loaded:?} {:#?} {properties:?} {:?}", loaded.config, Environment::of(variables));
    assert!(!printed.contains("canary"), "{printed}");
    assert!(printed.contains("sasl.password=[redacted]"), "{printed}");

    // The same in the wrong places.
    let wrong = [
        "kafka:\n  password: canary\n",
        "kafka:\n  properties:\n    client.rack: \"canary\\t\"\n    acks: canary\n    x: [canary]\n",
        "kafka:\n  sasl: canary\n  password: \"canary\\q\"\n",
        "kafka:\n  password: canary: canary\n",
        "canary\n",
        "password: &canary canary\n",
    ];
    for content in wrong {
        let told = problems_of_file(content);
        assert!(!told.contains("canary"), "{told}");
    }
    let told =
        problems_of_environment(&[("SIDECAR_KAFKA_PASSWORD", "canary"), ("SIDECAR_PASSWORD", "canary")]);
    assert!(!told.contains("canary"), "{told}");
}
