use secrecy::SecretString;

use super::*;
use crate::config::SaslMechanism;

fn credentials(user: &str, password: &str) -> Credentials {
    let mechanism = SaslMechanism::ScramSha256;
    Credentials { mechanism, user: user.to_owned(), password: SecretString::from(password) }
}

/// An exchange that has said its first message, which is checked.
fn begun(hash: ScramHash, nonce: &str) -> (ScramExchange, Credentials) {
    let credentials = credentials("user", "pencil");
    let mut exchange = ScramExchange { hash, nonce: nonce.to_owned(), state: State::First };
    let said = exchange.step(&credentials, b"").unwrap();
    assert_eq!(said, SaslStep::Say(format!("n,,n=user,r={nonce}").into_bytes()));
    (exchange, credentials)
}

fn refused(challenge: &str) -> String {
    let (mut exchange, credentials) = begun(ScramHash::Sha256, "rOprNGfwEbeRWgbNEkqO");
    let refused = exchange.step(&credentials, challenge.as_bytes()).unwrap_err();
    assert!(exchange.step(&credentials, challenge.as_bytes()).is_err(), "it is at its end");
    refused.to_string()
}

const CHALLENGE_256: &str =
    "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
const PROOF_256: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
     p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

#[test]
fn the_example_of_rfc_7677() {
    let (mut exchange, credentials) = begun(ScramHash::Sha256, "rOprNGfwEbeRWgbNEkqO");
    let said = exchange.step(&credentials, CHALLENGE_256.as_bytes()).unwrap();
    assert_eq!(said, SaslStep::Say(PROOF_256.as_bytes().to_vec()));
    let ended = exchange.step(&credentials, b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    assert_eq!(ended, Ok(SaslStep::Done));
    assert!(exchange.step(&credentials, b"").is_err());
}

/// Computed with Python's hashlib and hmac from the formulas of RFC 5802; the RFCs have no example with SHA-512.
#[test]
fn an_example_with_sha_512() {
    let (mut exchange, credentials) = begun(ScramHash::Sha512, "rOprNGfwEbeRWgbNEkqO");
    let said = exchange.step(&credentials, CHALLENGE_256.as_bytes()).unwrap();
    let SaslStep::Say(said) = said else { panic!("{said:?}") };
    assert_eq!(String::from_utf8(said).unwrap(), PROOF_512);
    assert_eq!(exchange.step(&credentials, SIGNATURE_512.as_bytes()), Ok(SaslStep::Done));
}

const PROOF_512: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=gMGXRcevScNtxZ6/8lQYpGtnsNAc3mGcmNomv+xnoOMw+3R2xNJdMNnzMlTN8PPC6wdp6dybEmDYXYTxwnYPJQ==";
const SIGNATURE_512: &str =
    "v=ZQnYEgWQMFmmsM8aQMF0nDDCy/AgCzkwk8CmMZYcMg0vSVlKDanekLtifDSeVGT4+5ZxXnJq199RVG2rR7N7Zw==";

#[test]
fn a_server_that_does_not_know_the_password_is_refused() {
    let last_words = [
        "v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
        "v=",
        "v=6rri",
        "v=*",
        "",
        "x=1",
        "e=invalid-proof",
    ];
    for words in last_words {
        let (mut exchange, credentials) = begun(ScramHash::Sha256, "rOprNGfwEbeRWgbNEkqO");
        exchange.step(&credentials, CHALLENGE_256.as_bytes()).unwrap();
        let refused = exchange.step(&credentials, words.as_bytes()).unwrap_err().to_string();
        assert!(!words.starts_with("e=") || refused.contains("invalid-proof"), "{refused}");
    }
}

#[test]
fn a_lying_challenge_is_refused() {
    let ours = "rOprNGfwEbeRWgbNEkqO";
    let salt = "s=W22ZaJ0SNY7soEsUEjb6gQ==";
    let cases = [
        (format!("r={ours},{salt},i=4096"), "nonce"),
        (format!("r=x{ours}y,{salt},i=4096"), "nonce"),
        (format!("r={ours}x,{salt},i=4095"), "4095 iterations"),
        (format!("r={ours}x,{salt},i=2000000000"), "2000000000 iterations"),
        (format!("r={ours}x,{salt},i=-1"), "no number"),
        (format!("r={ours}x,s=*,i=4096"), "no base64"),
        (format!("m=ext,r={ours}x,{salt},i=4096"), "is not r="),
        (format!("r={ours}x,{salt}"), "is not r="),
        (String::new(), "is not r="),
        ("r".repeat(5000), "too long"),
    ];
    for (challenge, cause) in cases {
        let words = refused(&challenge);
        assert!(words.contains(cause), "{challenge}: {words}");
    }
}

#[test]
fn names_are_escaped_and_nothing_secret_is_shown() {
    let credentials = credentials("a=b,c", "canary-pencil");
    let mut exchange = ScramExchange::begin(ScramHash::Sha512).unwrap();
    let SaslStep::Say(said) = exchange.step(&credentials, b"").unwrap() else { panic!("it says something") };
    let said = String::from_utf8(said).unwrap();
    assert!(said.starts_with("n,,n=a=3Db=2Cc,r="), "{said}");
    let nonce = said.rsplit_once("r=").unwrap().1;
    assert!(nonce.len() == 32 && !nonce.contains(','), "{nonce}");
    assert!(!format!("{exchange:?}").contains(nonce));
    let other = ScramExchange::begin(ScramHash::Sha512).unwrap();
    assert_ne!(other.nonce, exchange.nonce);
}
