//! Connections against a broker that a test plays: it tells the truth, lies, falls silent or goes away.

mod encrypted;
mod fake;
mod renewal;

use std::time::{Duration, Instant};

use bytes::BufMut as _;
use kafka_protocol::messages::{ApiKey, InitProducerIdRequest, MetadataRequest, MetadataResponse};

use self::fake::{Accepted, Fake, KAFKA_4_1, versions};
use super::{Connection, ConnectionEvent, Unanswered};
use crate::kafka::wire::{
    error::{ConnectionStage, WireError},
    message::{CorrelationId, Response},
};

/// Longer than anything here takes.
const PATIENT: Duration = Duration::from_secs(20);
/// Short enough to be waited for.
const SHORT: Duration = Duration::from_millis(150);

fn ask(connection: &mut Connection) -> CorrelationId {
    let mut request = connection.request(ApiKey::Metadata).unwrap();
    request.encode(&MetadataRequest::default()).unwrap();
    connection.send(request).unwrap()
}

async fn response(connection: &mut Connection) -> Response {
    loop {
        if let ConnectionEvent::Response(response) = connection.next().await.unwrap() {
            return response;
        }
    }
}

async fn failure(connection: &mut Connection) -> WireError {
    loop {
        if let Err(error) = connection.next().await {
            return error;
        }
    }
}

async fn answer(accepted: &mut Accepted) {
    let (header, _) = accepted.request().await;
    accepted.answer(&header, &MetadataResponse::default()).await;
}

#[test]
fn a_connection_may_go_from_thread_to_thread() {
    fn assert_send<T: Send>(_: impl FnOnce(&'static Fake) -> T) {}
    assert_send(|fake| Connection::open(Box::leak(Box::new(fake.broker())), fake.settings(PATIENT, None)));
    assert_send(|fake| async {
        let (mut connection, _) = fake.open(PATIENT).await;
        connection.next().await
    });
}

#[tokio::test]
async fn requests_are_answered_in_order() {
    let fake = Fake::start().await;
    let (mut connection, mut accepted) = fake.open(PATIENT).await;
    assert_eq!(connection.versions().of(ApiKey::Produce), Some(13));
    assert!(connection.can_write());
    let first = ask(&mut connection);
    assert!(!connection.can_write());
    let second = ask(&mut connection);
    assert_eq!(connection.in_flight(), 2);
    for id in [first, second] {
        let event = connection.next().await.unwrap();
        assert!(matches!(event, ConnectionEvent::Written(written) if written == id), "{event:?}");
    }
    assert!(connection.can_write());
    answer(&mut accepted).await;
    answer(&mut accepted).await;
    for id in [first, second] {
        let response = response(&mut connection).await;
        assert_eq!((response.id, response.api), (id, ApiKey::Metadata));
        response.decode::<MetadataRequest>().unwrap();
    }
    assert_eq!(connection.in_flight(), 0);
}

/// A caller that waits for other things too drops `next` whenever one of them comes first.
#[tokio::test]
async fn waiting_can_be_given_up_at_any_time() {
    let fake = Fake::start().await;
    let (mut connection, mut accepted) = fake.open(PATIENT).await;
    let large = 8 << 20;
    let mut request = connection.request(ApiKey::Metadata).unwrap();
    request.body().put_bytes(0, large);
    let id = connection.send(request).unwrap();
    let serving = tokio::spawn(async move {
        let (header, body) = accepted.request().await;
        accepted.answer(&header, &MetadataResponse::default()).await;
        (body.len(), accepted)
    });
    let answered = loop {
        tokio::select! {
            biased;
            event = connection.next() => {
                if let ConnectionEvent::Response(response) = event.unwrap() {
                    break response;
                }
            }
            () = tokio::task::yield_now() => {}
        }
    };
    assert_eq!(answered.id, id);
    assert_eq!(serving.await.unwrap().0, large);
}

#[tokio::test]
async fn an_older_broker_is_asked_in_its_version_and_refused_with_a_sentence() {
    let fake = Fake::start().await;
    let older = async |accepted: &mut Accepted| {
        let (header, _) = accepted.request().await;
        // UNSUPPORTED_VERSION and no list, in version 0.
        accepted.raw(header.correlation_id, &[0, 35, 0, 0, 0, 0]).await;
        let (header, _) = accepted.request().await;
        assert_eq!((header.request_api_key, header.request_api_version), (18, 0));
        accepted.answer(&header, &versions(&KAFKA_4_1.map(|(api, min, _)| (api, min, 8)))).await;
    };
    let (opened, _accepted) = fake.opened(fake.settings(PATIENT, None), older).await;
    let refused = opened.unwrap_err();
    assert!(
        matches!(&refused, WireError::UnsupportedBroker(words) if words.contains("Kafka 2.8")),
        "{refused}"
    );
}

#[tokio::test]
async fn a_broker_that_says_nothing_is_given_up_by_its_stage() {
    let fake = Fake::start().await;
    let begun = Instant::now();
    let opened = Connection::open(&fake.broker(), fake.settings(SHORT, None)).await.unwrap_err();
    let stage = ConnectionStage::Versions { is_tls: false };
    assert!(matches!(opened, WireError::Timeout(at) if at == stage), "{opened}");
    assert!(begun.elapsed() >= SHORT && begun.elapsed() < PATIENT);
}

#[tokio::test]
async fn a_request_without_answer_ends_the_connection() {
    let fake = Fake::start().await;
    let (mut connection, mut accepted) = fake.open(SHORT).await;
    // Time without a request does not count.
    let idle = tokio::time::timeout(SHORT + SHORT / 2, connection.next()).await;
    assert!(idle.is_err(), "{idle:?}");
    let begun = Instant::now();
    let id = ask(&mut connection);
    let error = failure(&mut connection).await;
    assert!(matches!(error, WireError::Timeout(ConnectionStage::First { .. })), "{error}");
    assert!(begun.elapsed() >= SHORT);
    assert_eq!(connection.into_unanswered(), [written(id)]);
    accepted.request().await;
    assert!(accepted.is_ended().await);
}

const fn written(id: CorrelationId) -> Unanswered {
    Unanswered { id, api: ApiKey::Metadata, is_written: true }
}

#[tokio::test]
async fn what_a_lying_broker_answers_ends_the_connection() {
    // By each, the request stays without an answer.
    let lies: [(&[u8], &str); 5] = [
        (&[0xff, 0xff, 0xff, 0xff], "Invalid response size -1"),
        (&[0x7f, 0xff, 0xff, 0xff], "Invalid response size 2147483647"),
        (&[0, 0, 0, 3, 1, 2, 3], "Invalid response size 3"),
        (b"HTTP/1.1 400 Bad Request\r\n", "Invalid response size 1213486160"),
        (&[0, 0, 0, 5, 0, 0, 0, 99, 0], "answers request 99 where 1 is due"),
    ];
    for (lie, words) in lies {
        let fake = Fake::start().await;
        let (mut connection, mut accepted) = fake.open(PATIENT).await;
        let id = ask(&mut connection);
        let (error, ()) = tokio::join!(failure(&mut connection), async {
            accepted.request().await;
            accepted.bytes(lie).await;
        });
        assert!(matches!(&error, WireError::Protocol(said) if said.contains(words)), "{error}");
        assert_eq!(connection.into_unanswered(), [written(id)]);
    }
}

#[tokio::test]
async fn an_answer_that_was_not_asked_ends_the_connection() {
    let fake = Fake::start().await;
    let (mut connection, mut accepted) = fake.open(PATIENT).await;
    accepted.raw(1, b"").await;
    let error = failure(&mut connection).await;
    assert!(matches!(&error, WireError::Protocol(said) if said.contains("not asked")), "{error}");
}

#[tokio::test]
async fn an_end_within_an_answer_leaves_the_request_unanswered() {
    let fake = Fake::start().await;
    let (mut connection, mut accepted) = fake.open(PATIENT).await;
    let (first, second) = (ask(&mut connection), ask(&mut connection));
    let (seen, ()) = tokio::join!(response(&mut connection), async {
        answer(&mut accepted).await;
        accepted.request().await;
        accepted.bytes(&[0, 0, 0, 200, 0, 0]).await;
    });
    assert_eq!(seen.id, first);
    drop(accepted);
    let error = failure(&mut connection).await;
    assert!(matches!(error, WireError::Closed { stage: ConnectionStage::Open, .. }), "{error}");
    assert_eq!(connection.into_unanswered(), [written(second)]);
}

#[tokio::test]
async fn an_idle_end_is_seen_at_once() {
    let fake = Fake::start().await;
    let (mut connection, accepted) = fake.open(PATIENT).await;
    let begun = Instant::now();
    let (error, ()) = tokio::join!(failure(&mut connection), async { drop(accepted) });
    assert!(matches!(error, WireError::Closed { .. }), "{error}");
    assert!(begun.elapsed() < PATIENT / 4);
    assert!(connection.into_unanswered().is_empty());
}

/// The first request fills the socket's buffers; of those behind it no byte leaves.
#[tokio::test]
async fn what_was_not_written_is_known() {
    let fake = Fake::start().await;
    let (mut connection, mut accepted) = fake.open(PATIENT).await;
    let mut request = connection.request(ApiKey::Metadata).unwrap();
    let large = 64 << 20;
    request.body().put_bytes(0, large);
    let first = connection.send(request).unwrap();
    let second = ask(&mut connection);
    let mut request = connection.request(ApiKey::InitProducerId).unwrap();
    request.encode(&InitProducerIdRequest::default()).unwrap();
    let third = connection.send(request).unwrap();
    let (error, ()) = tokio::join!(failure(&mut connection), async {
        assert!(accepted.length().await > large);
        accepted.reset();
    });
    assert!(matches!(error, WireError::Closed { cause: Some(_), .. }), "{error}");
    let unsent = |id, api| Unanswered { id, api, is_written: false };
    let expected = [written(first), unsent(second, ApiKey::Metadata), unsent(third, ApiKey::InitProducerId)];
    assert_eq!(connection.into_unanswered(), expected);
}

/// An answer that came before the connection broke counts, also if it is read after a write that failed.
#[tokio::test]
async fn what_was_answered_before_the_end_is_read() {
    let fake = Fake::start().await;
    let (mut connection, mut accepted) = fake.open(PATIENT).await;
    let first = ask(&mut connection);
    assert!(matches!(connection.next().await, Ok(ConnectionEvent::Written(_))));
    answer(&mut accepted).await;
    drop(accepted);
    let second = ask(&mut connection);
    let mut answered = Vec::new();
    let error = loop {
        match connection.next().await {
            Ok(ConnectionEvent::Response(response)) => answered.push(response.id),
            Ok(ConnectionEvent::Written(_)) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(error, WireError::Closed { .. }), "{error}");
    assert_eq!(answered, [first]);
    assert_eq!(connection.into_unanswered(), [written(second)]);
}

#[tokio::test]
async fn an_answer_of_another_shape_is_refused_where_it_is_read() {
    let fake = Fake::start().await;
    let (mut connection, mut accepted) = fake.open(PATIENT).await;
    ask(&mut connection);
    let (response, ()) = tokio::join!(response(&mut connection), async {
        let (header, _) = accepted.request().await;
        accepted.raw(header.correlation_id, &[0, 0, 0, 0, 0, 0, 9]).await;
    });
    assert!(matches!(response.decode::<MetadataRequest>(), Err(WireError::Protocol(_))));
}
