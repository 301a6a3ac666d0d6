//! The same over TLS, against a broker that has made its own certificate.

use std::pin::Pin;

use openssl::{
    asn1::Asn1Time,
    bn::BigNum,
    ec::{EcGroup, EcKey},
    hash::MessageDigest,
    nid::Nid,
    pkey::{PKey, Private},
    ssl::{Ssl, SslAcceptor, SslConnector, SslMethod, SslVerifyMode},
    x509::{X509, X509NameBuilder, extension::SubjectAlternativeName},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_openssl::SslStream;

use super::*;
use crate::kafka::wire::message::RequestBuffer;
use crate::kafka::{
    tls::explained,
    wire::connection::{
        pipe::{Pipe, PipeEvent},
        socket::Socket,
    },
};

/// A key, and a certificate for `localhost` that is its own authority.
fn certificate() -> (PKey<Private>, X509) {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
    let mut name = X509NameBuilder::new().unwrap();
    name.append_entry_by_text("CN", "localhost").unwrap();
    let name = name.build();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder.set_serial_number(&BigNum::from_u32(1).unwrap().to_asn1_integer().unwrap()).unwrap();
    builder.set_subject_name(&name).unwrap();
    builder.set_issuer_name(&name).unwrap();
    builder.set_pubkey(&key).unwrap();
    builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::days_from_now(1).unwrap()).unwrap();
    let mut names = SubjectAlternativeName::new();
    let names = names.dns("localhost").build(&builder.x509v3_context(None, None)).unwrap();
    builder.append_extension(names).unwrap();
    builder.sign(&key, MessageDigest::sha256()).unwrap();
    (key, builder.build())
}

fn connector(trusted: &X509) -> SslConnector {
    let mut builder = SslConnector::builder(SslMethod::tls_client()).unwrap();
    builder.cert_store_mut().add_cert(trusted.clone()).unwrap();
    builder.build()
}

/// The two ends of a connection, the broker's after its handshake.
async fn ends(
    asks_certificate: bool,
    client: impl AsyncFnOnce(TcpStream, &X509) -> Result<Socket, WireError>,
) -> (Result<Socket, WireError>, Result<SslStream<TcpStream>, openssl::ssl::Error>) {
    let (key, certificate) = certificate();
    let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
    builder.set_private_key(&key).unwrap();
    builder.set_certificate(&certificate).unwrap();
    if asks_certificate {
        builder.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
    }
    let acceptor = builder.build();
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (accepted, _) = listener.accept().await.unwrap();
    let mut accepted = SslStream::new(Ssl::new(acceptor.context()).unwrap(), accepted).unwrap();
    let (socket, shaken) = tokio::join!(client(stream, &certificate), async {
        let shaken = Pin::new(&mut accepted).accept().await;
        shaken.map(|()| accepted)
    });
    (socket, shaken)
}

async fn encrypted(stream: TcpStream, trusted: &X509) -> Result<Socket, WireError> {
    Socket::encrypted(stream, &connector(trusted), "localhost").await
}

fn request(bytes: usize) -> RequestBuffer {
    let mut request = RequestBuffer::begin(bytes::BytesMut::new(), ApiKey::Metadata, 12, "sidecar");
    request.body().put_bytes(0, bytes);
    request
}

fn send(pipe: &mut Pipe, bytes: usize) -> CorrelationId {
    let id = pipe.next_id();
    pipe.send(id, request(bytes)).unwrap();
    id
}

async fn next(pipe: &mut Pipe) -> Result<PipeEvent, WireError> {
    std::future::poll_fn(|context| pipe.poll_next(context)).await
}

#[tokio::test]
async fn what_was_not_written_is_known_over_tls_too() {
    let (socket, broker) = ends(false, encrypted).await;
    let (mut pipe, mut broker) = (Pipe::new(socket.unwrap(), PATIENT), broker.unwrap());
    let small = send(&mut pipe, 10);
    assert!(matches!(next(&mut pipe).await, Ok(PipeEvent::Written(id)) if id == small));
    let large = send(&mut pipe, 64 << 20);
    let behind = send(&mut pipe, 10);
    // The socket's buffers are full, and OpenSSL holds a record that the kernel has not taken.
    assert!(tokio::time::timeout(SHORT, next(&mut pipe)).await.is_err());
    let mut some = [0; 100];
    broker.read_exact(&mut some).await.unwrap();
    drop(broker);
    let error = next(&mut pipe).await.unwrap_err();
    assert!(matches!(error, WireError::Closed { .. }), "{error}");
    let unsent = Unanswered { is_written: false, ..written(behind) };
    assert_eq!(pipe.into_unanswered(), [written(small), written(large), unsent]);
}

#[tokio::test]
async fn responses_come_over_tls() {
    let (socket, broker) = ends(false, encrypted).await;
    let (mut pipe, mut broker) = (Pipe::new(socket.unwrap(), PATIENT), broker.unwrap());
    let id = send(&mut pipe, 10);
    broker.write_all(&[0, 0, 0, 6, 0, 0, 0, 0, 7, 7]).await.unwrap();
    loop {
        match next(&mut pipe).await.unwrap() {
            PipeEvent::Written(written) => assert_eq!(written, id),
            PipeEvent::Response(response) => {
                assert_eq!((response.id, &response.bytes[..]), (id, &[7, 7][..]));
                break;
            }
        }
    }
}

/// With TLS 1.3 a broker refuses the client after the handshake; its alert is the cause, also if writing fails first.
#[tokio::test]
async fn an_alert_behind_the_handshake_is_the_cause() {
    let (socket, refused) = ends(true, encrypted).await;
    assert!(refused.is_err());
    let mut pipe = Pipe::new(socket.unwrap(), PATIENT);
    send(&mut pipe, 1 << 20);
    let error = loop {
        if let Err(error) = next(&mut pipe).await {
            break error;
        }
    };
    assert!(matches!(error, WireError::Tls(_)), "{error}");
    let words = error.to_string();
    assert!(explained(&words, None).contains("TLS alert certificate_required"), "{words}");
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let elsewhere = async |stream: TcpStream, trusted: &X509| {
        Socket::encrypted(stream, &connector(trusted), "elsewhere.test").await
    };
    let by_address = async |stream: TcpStream, trusted: &X509| {
        Socket::encrypted(stream, &connector(trusted), "127.0.0.1").await
    };
    let untrusted = async |stream: TcpStream, _: &X509| {
        Socket::encrypted(stream, &connector(&certificate().1), "localhost").await
    };
    let refused = [
        (ends(false, elsewhere).await.0, "for other names"),
        (ends(false, by_address).await.0, "for other addresses"),
        (ends(false, untrusted).await.0, "no authority that the sidecar trusts"),
    ];
    for (refused, meaning) in refused {
        let error = refused.unwrap_err();
        let words = error.to_string();
        assert!(matches!(error, WireError::Tls(_)) && explained(&words, None).contains(meaning), "{words}");
    }
}
