//! Owns how a connection is encrypted: whom the sidecar trusts, what it shows of itself, and OpenSSL's words on failures.
//! Must never let a broker pass whose certificate or name is wrong, and never ask a terminal for a key's password.

use std::{
    fs,
    path::{Path, PathBuf},
};

use openssl::{
    error::ErrorStack,
    pkey::{PKey, Private},
    ssl::{self, ErrorCode, SslConnector, SslConnectorBuilder, SslMethod, SslRef, SslVersion},
    x509::{X509VerifyResult, store::X509StoreBuilder},
};
use secrecy::{ExposeSecret as _, SecretString};

use super::error::WireError;
use crate::config::{ClientCertificate, Tls};

/// Where distributions keep the authorities that they trust; as librdkafka looks for them (rdkafka_ssl.c,
/// `rd_kafka_ssl_probe_and_set_default_ca_location`), since an OpenSSL built here has no place of its own.
const SYSTEM_AUTHORITIES: &[&str] = &[
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/certs/ca-bundle.crt",
    "/etc/pki/tls/certs/ca-bundle.trust.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/ssl/cert.pem",
    "/etc/ssl/cacert.pem",
    "/etc/certs/ca-certificates.crt",
    "/etc/ssl/certs/ca-certificates.crt",
];

/// What OpenSSL says when the stream ends without TLS's own farewell.
const UNEXPECTED_END: &str = "unexpected eof while reading";

/// Makes what all connections of these settings begin TLS with. Reads files: not for the async runtime.
///
/// # Errors
/// [`WireError::File`] with the file's name and OpenSSL's words; [`WireError::Tls`] if OpenSSL itself fails.
pub fn connector(tls: &Tls) -> Result<SslConnector, WireError> {
    let mut builder = trusting_none().map_err(|error| WireError::Tls(error.to_string()))?;
    match &tls.ca_file {
        Some(file) => trust(&mut builder, file)?,
        None => trust_systems(&mut builder)?,
    }
    if let Some(client) = &tls.client {
        show(&mut builder, client)?;
    }
    Ok(builder.build())
}

/// A builder asks for a valid certificate for the right name; the authorities of OpenSSL's own place are left out.
fn trusting_none() -> Result<SslConnectorBuilder, ErrorStack> {
    let mut builder = SslConnector::builder(SslMethod::tls_client())?;
    builder.set_cert_store(X509StoreBuilder::new()?.build());
    builder.set_min_proto_version(Some(SslVersion::TLS1_2))?;
    Ok(builder)
}

fn trust(builder: &mut SslConnectorBuilder, file: &Path) -> Result<(), WireError> {
    // Read first: OpenSSL says "no such file" in words of its own.
    fs::read(file).map_err(|error| of_file(file, error))?;
    builder.set_ca_file(file).map_err(|error| of_file(file, error))
}

fn trust_systems(builder: &mut SslConnectorBuilder) -> Result<(), WireError> {
    let file = SYSTEM_AUTHORITIES.iter().map(Path::new).find(|file| file.exists());
    match file {
        Some(file) => trust(builder, file),
        None => builder.set_default_verify_paths().map_err(|error| WireError::Tls(error.to_string())),
    }
}

fn show(builder: &mut SslConnectorBuilder, client: &ClientCertificate) -> Result<(), WireError> {
    let ClientCertificate { certificate_file, key_file, key_password } = client;
    fs::read(certificate_file).map_err(|error| of_file(certificate_file, error))?;
    let used = builder.set_certificate_chain_file(certificate_file);
    used.map_err(|error| of_file(certificate_file, error))?;
    let pem = fs::read(key_file).map_err(|error| of_file(key_file, error))?;
    let key = private_key(&pem, key_password.as_ref()).map_err(|error| of_file(key_file, error))?;
    builder.set_private_key(&key).map_err(|error| of_file(key_file, error))?;
    builder.check_private_key().map_err(|error| of_file(key_file, error))
}

fn private_key(pem: &[u8], password: Option<&SecretString>) -> Result<PKey<Private>, ErrorStack> {
    let password = password.map_or("", |password| password.expose_secret()).as_bytes();
    // By the callback, because without one OpenSSL asks at the terminal.
    PKey::private_key_from_pem_callback(pem, |room| {
        let fitting = room.get_mut(..password.len());
        fitting.map(|room| room.copy_from_slice(password)).ok_or_else(ErrorStack::get)?;
        Ok(password.len())
    })
}

fn of_file(file: &Path, error: impl std::fmt::Display) -> WireError {
    WireError::File { file: PathBuf::from(file), words: error.to_string() }
}

/// Puts OpenSSL's words on a handshake that failed together: its error, and why the broker's certificate was refused.
pub(super) fn words_of_handshake(error: &ssl::Error, connection: &SslRef) -> String {
    match connection.verify_result() {
        X509VerifyResult::OK => error.to_string(),
        refused => format!("{error}: {}", refused.error_string()),
    }
}

/// Returns whether OpenSSL says no more than that the stream has ended.
pub(super) fn is_end(error: &ssl::Error) -> bool {
    let says_end = |stack: &ErrorStack| {
        let mut reasons = stack.errors().iter().filter_map(openssl::error::Error::reason);
        reasons.any(|reason| reason == UNEXPECTED_END)
    };
    match error.code() {
        ErrorCode::ZERO_RETURN | ErrorCode::SYSCALL => true,
        _ => error.ssl_error().is_some_and(says_end),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tls(ca_file: Option<&Path>, client: Option<ClientCertificate>) -> Tls {
        Tls { ca_file: ca_file.map(Path::to_owned), client }
    }

    #[test]
    fn the_systems_authorities_are_found() {
        assert!(connector(&tls(None, None)).is_ok());
    }

    #[test]
    fn an_error_names_the_file() {
        let missing = Path::new("/no/such/ca.pem");
        let words = connector(&tls(Some(missing), None)).unwrap_err().to_string();
        assert!(words.starts_with("/no/such/ca.pem: No such file"), "{words}");
        // A file without a certificate.
        let empty = Path::new("/dev/null");
        let words = connector(&tls(Some(empty), None)).unwrap_err().to_string();
        assert!(words.starts_with("/dev/null: "), "{words}");
    }

    #[test]
    fn a_wrong_password_of_a_key_is_not_repeated_and_asks_no_terminal() {
        for password in [None, Some(SecretString::from("canary-wrong")), Some("canary".repeat(2000).into())] {
            let error = private_key(ENCRYPTED_KEY.as_bytes(), password.as_ref()).unwrap_err();
            let words = of_file(Path::new("client.key"), error).to_string();
            assert!(words.starts_with("client.key: ") && !words.contains("canary"), "{words}");
        }
        let right = SecretString::from("pencil");
        assert!(private_key(ENCRYPTED_KEY.as_bytes(), Some(&right)).is_ok());
    }

    /// A key of these tests alone.
    const ENCRYPTED_KEY: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAiqw7azbs348AICCAAw
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEELgW0bOK3NSqJgT0ag4UI1MEgZAh
iG6yAswqAsiUaDvmyiu2E+ss4nsuDfWqi7TXXapETo1kVjBBFEbtgR38A0QduFmz
iLH0bDf5NpCtHTIO3PBlCI67Wogw2bjenNkVsX3X8qn57Gfn7YBj3C2HWc3tu5lf
dSLQbHGWyMrsKmrOjMNIQw5dNADar8jlZsl3iPP8ckD1MYr3EDValhxYAL7bPO4=
-----END ENCRYPTED PRIVATE KEY-----
";
}
