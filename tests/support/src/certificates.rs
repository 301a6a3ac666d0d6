//! Makes the keys and certificates of one cluster: its authority, its server, its clients, and another authority.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};

/// PEM texts for one cluster.
#[derive(Debug)]
pub struct Certificates {
    /// The authority that clients must trust.
    pub ca: String,
    /// An authority that has nothing to do with the server's certificate.
    pub other_ca: String,
    /// Two clients whom the brokers trust, and one who has the other authority's word.
    pub clients: [ClientPair; 3],
    /// The server's PKCS#8 key followed by its certificate, as Kafka's PEM key store wants it.
    pub server: String,
}

/// A client's certificate and its PKCS#8 key, PEM texts.
#[derive(Clone, Debug)]
pub struct ClientPair {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

/// Makes an authority, a server certificate for `localhost` and 127.0.0.1 signed by it, clients, and an unrelated authority.
///
/// # Panics
///
/// When the random source or the certificate writer fails.
pub fn generate() -> Certificates {
    let ca = authority("producer-sidecar test authority");
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let mut parameters = CertificateParams::new(names).expect("the names are valid");
    parameters.distinguished_name.push(DnType::CommonName, "localhost");
    let key = KeyPair::generate().expect("a key can be made");
    let certificate = parameters.signed_by(&key, &ca).expect("the authority can sign");
    let other = authority("unrelated test authority");
    Certificates {
        ca: ca.pem(),
        other_ca: other.pem(),
        clients: [client(&ca), client(&ca), client(&other)],
        server: format!("{}{}", key.serialize_pem(), certificate.pem()),
    }
}

/// Servers whose certificates a careful client refuses, in the form of [`Certificates::server`].
#[derive(Debug)]
pub struct OddServers {
    /// The authority of both.
    pub ca: String,
    /// Its certificate has expired.
    pub expired: String,
    /// Its certificate is for another name.
    pub elsewhere: String,
}

/// Makes servers whose certificates a careful client refuses.
///
/// # Panics
///
/// As of [`generate`].
pub fn odd_servers() -> OddServers {
    let ca = authority("odd test authority");
    let server = |name: &str, until_year: i32| {
        let mut parameters = CertificateParams::new([name.to_owned()]).expect("the name is valid");
        parameters.not_after = date_time_ymd(until_year, 1, 1);
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = parameters.signed_by(&key, &ca).expect("the authority can sign");
        format!("{}{}", key.serialize_pem(), certificate.pem())
    };
    OddServers {
        ca: ca.pem(),
        expired: server("localhost", 2020),
        elsewhere: server("elsewhere.invalid", 4096),
    }
}

fn client(authority: &CertifiedIssuer<'static, KeyPair>) -> ClientPair {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name.push(DnType::CommonName, "client");
    let key = KeyPair::generate().expect("a key can be made");
    let certificate = parameters.signed_by(&key, authority).expect("the authority can sign");
    ClientPair { certificate: certificate.pem(), key: key.serialize_pem() }
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().expect("a key can be made");
    CertifiedIssuer::self_signed(parameters, key).expect("an authority can sign itself")
}
