//! Owns what is said of connections that fail over TLS: librdkafka's and OpenSSL's words, and what they mean, pure.
//! Must never say a cause that the words do not show.

use std::borrow::Cow;

/// How OpenSSL writes down an alert that came from the other side (`SSL_R_TLSV1_ALERT_*`).
const ALERT: &str = "SSL alert number ";

/// An alert of TLS (RFC 8446, section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alert {
    number: u8,
    /// Its name in the RFC.
    pub name: &'static str,
    /// Whether it says that the broker does not take what the sidecar shows, or how it speaks.
    pub is_refusal: bool,
}

const ALERTS: &[Alert] = &[
    refusal(40, "handshake_failure"),
    refusal(42, "bad_certificate"),
    refusal(43, "unsupported_certificate"),
    refusal(44, "certificate_revoked"),
    refusal(45, "certificate_expired"),
    refusal(46, "certificate_unknown"),
    refusal(48, "unknown_ca"),
    refusal(49, "access_denied"),
    refusal(51, "decrypt_error"),
    refusal(70, "protocol_version"),
    refusal(71, "insufficient_security"),
    refusal(112, "unrecognized_name"),
    refusal(116, "certificate_required"),
    Alert { number: 10, name: "unexpected_message", is_refusal: false },
    Alert { number: 80, name: "internal_error", is_refusal: false },
    Alert { number: 90, name: "user_canceled", is_refusal: false },
];

/// What librdkafka's or OpenSSL's words mean, and what to do.
const MEANINGS: &[(&str, &str)] = &[
    (
        "certificate has expired",
        "the broker's certificate has expired; renew it, or set this machine's clock",
    ),
    ("certificate is not yet valid", "the broker's certificate is not valid yet; check this machine's clock"),
    (
        "hostname mismatch",
        "the broker's certificate is for other names than the one that the sidecar connects to; use a name that the \
         certificate has in KAFKA_BROKERS and in the brokers' advertised.listeners",
    ),
    (
        "IP address mismatch",
        "the broker's certificate is for other addresses than the one that the sidecar connects to; use a name or \
         address that the certificate has in KAFKA_BROKERS and in the brokers' advertised.listeners",
    ),
    (
        "self-signed certificate",
        "no authority that the sidecar trusts has issued the broker's certificate; check KAFKA_CA_FILE",
    ),
    (
        "unable to get local issuer certificate",
        "no authority that the sidecar trusts has issued the broker's certificate; check KAFKA_CA_FILE",
    ),
    (
        "unable to verify the first certificate",
        "no authority that the sidecar trusts has issued the broker's certificate; check KAFKA_CA_FILE",
    ),
    ("certificate verify failed", "the broker's certificate is refused; check KAFKA_CA_FILE"),
    (
        "connecting to a PLAINTEXT broker listener",
        "the broker does not speak TLS there, it seems; check KAFKA_SECURITY_PROTOCOL and the port",
    ),
    (
        "wrong version number",
        "the broker does not speak TLS there; check KAFKA_SECURITY_PROTOCOL and the port",
    ),
    (
        "packet length too long",
        "the broker does not speak TLS there; check KAFKA_SECURITY_PROTOCOL and the port",
    ),
    (
        "connecting to a SSL listener",
        "the broker speaks TLS there, it seems, and the sidecar does not; check KAFKA_SECURITY_PROTOCOL and the port",
    ),
    (
        // The first bytes of a TLS record that is an alert, read as the length of an answer.
        "Invalid response size 35",
        "the broker speaks TLS there, it seems, and the sidecar does not; check KAFKA_SECURITY_PROTOCOL and the port",
    ),
    (
        "broker might require SASL authentication",
        "the broker asks for a user and password there, it seems; check KAFKA_SECURITY_PROTOCOL and the port",
    ),
];

/// What it means that the other side hangs up on the first request of a client without TLS.
const CLOSED_AT_ONCE: &str = "the broker closed the connection before it answered anything, as one that speaks TLS does to a client that \
     does not; check KAFKA_SECURITY_PROTOCOL and the port";

const fn refusal(number: u8, name: &'static str) -> Alert {
    Alert { number, name, is_refusal: true }
}

/// Finds the alert that the other side sent, if the words tell of one.
#[must_use]
pub fn alert(words: &str) -> Option<Alert> {
    let (_, rest) = words.split_once(ALERT)?;
    let end = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
    let number: u8 = rest[..end].parse().ok()?;
    ALERTS.iter().find(|alert| alert.number == number).copied()
}

/// Returns whether the words show a cause.
#[must_use]
pub fn tells(words: &str) -> bool {
    alert(words).is_some() || meaning(words).is_some()
}

fn meaning(words: &str) -> Option<&'static str> {
    // The hint that librdkafka has for it never comes: `rd_kafka_transport_error_disconnected` looks at the format.
    let is_first_answer = words.contains("Disconnected") && words.contains("in state APIVERSION_QUERY");
    if is_first_answer && !words.contains("ssl://") {
        return Some(CLOSED_AT_ONCE);
    }
    let is_in_handshake = words.contains("Disconnected") && words.contains("in state SSL_HANDSHAKE");
    let words = if is_in_handshake { "connecting to a PLAINTEXT broker listener" } else { words };
    MEANINGS.iter().find(|(part, _)| words.contains(part)).map(|(_, meaning)| *meaning)
}

/// Puts what the words mean before them; `certificate` is what was said last of a certificate that was refused.
#[must_use]
pub fn explained<'a>(words: &'a str, certificate: Option<&str>) -> Cow<'a, str> {
    if let Some(alert) = alert(words) {
        let name = alert.name;
        let meant = match name {
            "protocol_version" | "insufficient_security" | "handshake_failure" => {
                "the broker and the sidecar have no version or cipher of TLS in common, or the broker asks for a \
                 certificate; check the brokers' settings and KAFKA_CERTIFICATE_FILE"
            }
            "certificate_required" => {
                "the broker asks for a certificate and the sidecar has none; set KAFKA_CERTIFICATE_FILE and \
                 KAFKA_KEY_FILE"
            }
            _ if alert.is_refusal => {
                "the broker refuses the sidecar's certificate; check KAFKA_CERTIFICATE_FILE and the brokers' truststore"
            }
            _ => "the broker ended the connection",
        };
        return format!("{meant} (TLS alert {name}): {words}").into();
    }
    // Librdkafka's error does not say why; the line on the certificate before it does.
    let certificate = certificate.filter(|_| words.contains("certificate verify failed"));
    match (certificate, certificate.and_then(meaning).or_else(|| meaning(words))) {
        (Some(certificate), Some(meant)) => format!("{meant}: {certificate}").into(),
        (None, Some(meant)) => format!("{meant}: {words}").into(),
        (_, None) => words.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_is_named() {
        let words = "ssl://h:1/1: Receive failed: error:0A000412:SSL routines::ssl/tls alert bad certificate: SSL alert number 42 (after 3ms in state UP)";
        let found = alert(words).unwrap();
        assert_eq!((found.name, found.is_refusal), ("bad_certificate", true));
        assert!(explained(words, None).contains("TLS alert bad_certificate"));
        assert!(!alert("SSL alert number 80").unwrap().is_refusal);
        assert_eq!(alert("SSL alert number 999"), None);
        assert_eq!(alert("Disconnected"), None);
    }

    #[test]
    fn the_cause_stands_before_librdkafkas_words() {
        let failed = "SSL handshake failed: error:0A000086:SSL routines::certificate verify failed: broker certificate could not be verified";
        let cases = [
            (failed, Some("callback failed: certificate has expired"), "has expired"),
            (failed, Some("callback failed: hostname mismatch"), "for other names"),
            (failed, Some("callback failed: self-signed certificate in certificate chain"), "no authority"),
            (failed, Some("callback failed: something new"), "is refused"),
            (failed, None, "is refused"),
            ("Disconnected: connecting to a PLAINTEXT broker listener?", None, "does not speak TLS"),
            ("(connecting to a SSL listener?)", None, "speaks TLS there"),
            (
                "Disconnected: SSL connection closed by peer (after 1ms in state SSL_HANDSHAKE)",
                None,
                "does not speak TLS",
            ),
            (
                "h:1/bootstrap: Disconnected: connection closed by peer: receive 0 after POLLIN (after 0ms in state APIVERSION_QUERY)",
                None,
                "as one that speaks TLS does",
            ),
        ];
        for (words, certificate, cause) in cases {
            assert!(explained(words, certificate).contains(cause), "{words} {certificate:?}");
        }
        let over_tls =
            "ssl://h:1/1: Disconnected: connection closed by peer (after 0ms in state APIVERSION_QUERY)";
        assert!(!tells(over_tls));
        assert!(cases.iter().all(|(words, ..)| tells(words)) && !tells("all is lost"));
        assert_eq!(explained("all is lost", Some("certificate has expired")), "all is lost");
    }
}
