//! Sessions that end (KIP-368): they are renewed in time, and what is sent meanwhile waits.

use kafka_protocol::messages::{
    RequestHeader, SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeResponse,
};
use kafka_protocol::protocol::{Decodable as _, StrBytes};
use secrecy::SecretString;

use super::*;
use crate::config::{Credentials, SaslMechanism};

/// How long a session of these tests lasts.
const LIFETIME_MS: i64 = 400;

fn credentials(password: &str) -> Credentials {
    let password = SecretString::from(password);
    Credentials { mechanism: SaslMechanism::Plain, user: "user".to_owned(), password }
}

async fn shake(accepted: &mut Accepted) {
    let (header, _) = accepted.request().await;
    assert_eq!(header.request_api_key, ApiKey::SaslHandshake as i16);
    accepted.answer(&header, &SaslHandshakeResponse::default()).await;
}

/// Reads the turn that shows the password, which is checked.
async fn turn(accepted: &mut Accepted, password: &str) -> RequestHeader {
    let (header, mut body) = accepted.request().await;
    assert_eq!(header.request_api_key, ApiKey::SaslAuthenticate as i16);
    let turn = SaslAuthenticateRequest::decode(&mut body, header.request_api_version).unwrap();
    assert_eq!(turn.auth_bytes, format!("\0user\0{password}"));
    header
}

fn let_in() -> SaslAuthenticateResponse {
    SaslAuthenticateResponse::default().with_session_lifetime_ms(LIFETIME_MS)
}

fn refusal() -> SaslAuthenticateResponse {
    let words = StrBytes::from_static_str("Authentication failed: wrong\npassword");
    SaslAuthenticateResponse::default().with_error_code(58).with_error_message(Some(words))
}

async fn open(fake: &Fake) -> (Connection, Accepted) {
    let settings = fake.settings(PATIENT, Some(credentials("one")));
    let serve = async |accepted: &mut Accepted| {
        accepted.tell_versions().await;
        shake(accepted).await;
        let header = turn(accepted, "one").await;
        accepted.answer(&header, &let_in()).await;
    };
    let (opened, accepted) = fake.opened(settings, serve).await;
    (opened.unwrap(), accepted)
}

#[tokio::test]
async fn a_session_is_renewed_and_what_is_sent_meanwhile_is_held() {
    let fake = Fake::start().await;
    let begun = Instant::now();
    let (mut connection, mut accepted) = open(&fake).await;
    // A request that is on its way when the renewal begins is answered during it.
    let before = ask(&mut connection);
    assert!(matches!(connection.next().await, Ok(ConnectionEvent::Written(_))));
    // With new secrets; the user is the same.
    connection.use_settings(fake.settings(PATIENT, Some(credentials("two"))));
    let (asked, _) = accepted.request().await;
    let (header, during) = tokio::join!(
        async {
            let (handshake, _) = accepted.request().await;
            assert_eq!(handshake.request_api_key, ApiKey::SaslHandshake as i16);
            accepted.answer(&asked, &MetadataResponse::default()).await;
            accepted.answer(&handshake, &SaslHandshakeResponse::default()).await;
            turn(&mut accepted, "two").await
        },
        async {
            assert_eq!(response(&mut connection).await.id, before);
            assert!(!connection.can_write());
            let during = ask(&mut connection);
            assert_eq!(connection.in_flight(), 2);
            // The broker says nothing yet: the turn is written, the request is not.
            assert!(tokio::time::timeout(SHORT, connection.next()).await.is_err());
            during
        }
    );
    let elapsed = begun.elapsed();
    assert!(elapsed >= Duration::from_millis(340), "{elapsed:?}");
    let (answered, ()) = tokio::join!(response(&mut connection), async {
        accepted.answer(&header, &let_in()).await;
        answer(&mut accepted).await;
    });
    assert_eq!(answered.id, during);
    assert!(connection.can_write());
    // And again.
    tokio::select! {
        error = failure(&mut connection) => panic!("{error}"),
        () = shake(&mut accepted) => {}
    }
}

#[tokio::test]
async fn what_is_held_when_a_renewal_fails_was_not_written() {
    let fake = Fake::start().await;
    let (mut connection, mut accepted) = open(&fake).await;
    let header = tokio::select! {
        error = failure(&mut connection) => panic!("{error}"),
        header = async { shake(&mut accepted).await; turn(&mut accepted, "one").await } => header,
    };
    let held = ask(&mut connection);
    let refusal = refusal();
    let (error, ()) = tokio::join!(failure(&mut connection), accepted.answer(&header, &refusal));
    assert_eq!(error.to_string(), "PLAIN authentication failed: Authentication failed: wrong\\npassword");
    let unanswered = connection.into_unanswered();
    assert_eq!(unanswered, [Unanswered { id: held, api: ApiKey::Metadata, is_written: false }]);
}

#[tokio::test]
async fn a_refused_password_is_the_brokers_words() {
    let fake = Fake::start().await;
    let settings = fake.settings(PATIENT, Some(credentials("canary-one")));
    let serve = async |accepted: &mut Accepted| {
        accepted.tell_versions().await;
        shake(accepted).await;
        let header = turn(accepted, "canary-one").await;
        accepted.answer(&header, &refusal()).await;
    };
    let error = fake.opened(settings, serve).await.0.unwrap_err();
    assert!(matches!(error, WireError::AuthenticationFailed { mechanism: "PLAIN", .. }), "{error}");
    assert!(!error.to_string().contains("canary"), "{error}");
}

#[tokio::test]
async fn a_refused_mechanism_is_named_with_those_that_the_broker_takes() {
    let fake = Fake::start().await;
    let cases = [
        (33, "the broker takes SCRAM-SHA-512, GSSAPI there"),
        (34, "asks for no user there"),
        (7, "REQUEST_TIMED_OUT"),
    ];
    for (code, words) in cases {
        let serve = async |accepted: &mut Accepted| {
            accepted.tell_versions().await;
            let (header, _) = accepted.request().await;
            let names = ["SCRAM-SHA-512", "GSSAPI"].map(StrBytes::from_static_str);
            let refused =
                SaslHandshakeResponse::default().with_error_code(code).with_mechanisms(names.to_vec());
            accepted.answer(&header, &refused).await;
        };
        let error = fake.opened(fake.settings(PATIENT, Some(credentials("one"))), serve).await.0.unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
}
