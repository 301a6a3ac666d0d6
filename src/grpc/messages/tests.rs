use std::{
    io::Write as _,
    task::{Context, Poll},
};

use flate2::{Compression, write::GzEncoder};
use http_body::Frame;
use tokio::{sync::mpsc, time::timeout};

use super::*;

const MIB: usize = 1 << 20;

/// A body whose parts a test sends.
struct Sent(mpsc::UnboundedReceiver<Bytes>);

impl http_body::Body for Sent {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        self.0.poll_recv(context).map(|data| data.map(|data| Ok(Frame::data(data))))
    }
}

fn reading() -> Reading {
    Reading {
        memory: Memory::new(8 * MIB, 4),
        message_bytes_max: MIB,
        body_max: Duration::from_secs(10),
        memory_wait_max: Duration::from_secs(30),
    }
}

fn later() -> Instant {
    Instant::now() + Duration::from_secs(600)
}

/// A call, and where its body's parts go in.
fn call(is_gzip: bool, reading: &Reading) -> (mpsc::UnboundedSender<Bytes>, Messages) {
    let (send, receive) = mpsc::unbounded_channel();
    let messages = Messages::new(Body::new(Sent(receive)), is_gzip, reading.clone(), Owner::default());
    (send, messages)
}

fn framed(flag: u8, length: usize, message: &[u8]) -> Vec<u8> {
    [&[flag][..], &u32::try_from(length).unwrap().to_be_bytes(), message].concat()
}

/// Sends a body in pieces of so many bytes, and reads it as a call's only message.
async fn only(is_gzip: bool, body: &[u8], piece_bytes: usize) -> Result<Message, Failure> {
    let (send, messages) = call(is_gzip, &reading());
    for piece in body.chunks(piece_bytes) {
        send.send(Bytes::copy_from_slice(piece)).unwrap();
    }
    drop(send);
    messages.only(Instant::now(), later()).await
}

fn packed(message: &[u8]) -> Vec<u8> {
    let mut packing = GzEncoder::new(Vec::new(), Compression::default());
    packing.write_all(message).unwrap();
    packing.finish().unwrap()
}

#[tokio::test]
async fn a_message_is_put_together_from_any_pieces() {
    let message: Vec<_> = (0..=255).collect();
    let gzip = packed(&message);
    for piece_bytes in [1, 3, 5, 7, 1_000] {
        let read = only(false, &framed(0, message.len(), &message), piece_bytes).await.unwrap();
        assert_eq!(read.as_ref(), message);
        let read = only(true, &framed(1, gzip.len(), &gzip), piece_bytes).await.unwrap();
        assert_eq!(read.as_ref(), message);
    }
    assert_eq!(only(false, &framed(0, 0, &[]), 1).await.unwrap().length(), 0);
}

#[tokio::test]
async fn what_is_no_message_is_refused_in_the_contracts_words() {
    let gzip = packed(&[7; 100]);
    let claims = |size: u32| [&gzip[..gzip.len() - 4], &size.to_le_bytes()].concat();
    let bomb = packed(&vec![0; 2 * MIB]);
    let cases = [
        (false, vec![], Reason::InvalidRecord),
        (false, vec![0, 0], Reason::InvalidRecord),
        (false, framed(0, 5, b"ab"), Reason::InvalidRecord),
        (false, framed(1, 1, b"a"), Reason::InvalidRecord),
        (true, framed(7, 1, b"a"), Reason::InvalidRecord),
        (true, framed(1, 3, b"abc"), Reason::InvalidRecord),
        (true, framed(1, 100, &[9; 100]), Reason::InvalidRecord),
        (true, framed(1, gzip.len(), &claims(99)), Reason::InvalidRecord),
        (true, framed(1, gzip.len(), &claims(101)), Reason::InvalidRecord),
        (true, framed(1, gzip.len(), &claims(u32::MAX)), Reason::RecordTooLarge),
        (true, framed(1, bomb.len(), &bomb), Reason::RecordTooLarge),
        (false, framed(0, MIB + 1, b""), Reason::RecordTooLarge),
        (false, [framed(0, 1, b"a"), vec![0]].concat(), Reason::InvalidRecord),
    ];
    for (is_gzip, body, reason) in cases {
        let failure = only(is_gzip, &body, 1_000).await.unwrap_err();
        assert_eq!(failure.reason(), reason, "{failure:?} of {} bytes", body.len());
    }
}

#[tokio::test]
async fn a_message_that_does_not_end_is_given_up_and_an_idle_stream_is_not() {
    let reading = Reading { body_max: Duration::from_millis(50), ..reading() };
    let (send, mut messages) = call(false, &reading);
    assert!(timeout(reading.body_max * 3, messages.next()).await.is_err(), "nothing has begun");
    send.send(framed(0, 3, b"ab").into()).unwrap();
    let failure = messages.next().await.unwrap_err();
    assert_eq!(failure.reason(), Reason::DeadlineNotWritten);
    assert_eq!(reading.memory.taken(), (0, 0));

    let (_send, messages) = call(false, &reading);
    let failure = messages.only(Instant::now(), later()).await.unwrap_err();
    assert!(failure.message().contains("not whole after 50 ms"), "{failure:?}");

    let (_send, messages) = call(false, &reading);
    let failure = messages.only(Instant::now(), Instant::now()).await.unwrap_err();
    assert_eq!(failure.reason(), Reason::DeadlineNotWritten);
    assert!(failure.message().contains("deadline"), "{failure:?}");
}

#[tokio::test]
async fn a_message_waits_for_memory_and_that_is_not_its_callers_time() {
    let reading = Reading { body_max: Duration::from_millis(500), ..reading() };
    let all = reading.memory.body(Owner::default(), 3 * MIB).await.unwrap();
    let (send, messages) = call(false, &reading);
    let message = vec![1; MIB / 2];
    send.send(framed(0, message.len(), &message[..10]).into()).unwrap();
    let reading_it = messages.only(Instant::now(), later());
    let mut reading_it = Box::pin(reading_it);
    assert!(timeout(reading.body_max * 2, &mut reading_it).await.is_err(), "it waits");
    drop(all);
    send.send(Bytes::copy_from_slice(&message[10..])).unwrap();
    drop(send);
    let message = reading_it.await.unwrap();
    assert_eq!(reading.memory.taken().0, MIB / 2);
    let part = message.shared().slice(5..6);
    assert_eq!(reading.memory.taken().0, MIB / 2, "a part keeps all of it");
    drop(part);
    assert_eq!(reading.memory.taken(), (0, 0));
}

#[tokio::test]
async fn who_finds_no_memory_in_time_is_told() {
    let reading = Reading { memory_wait_max: Duration::from_millis(50), ..reading() };
    let _all = reading.memory.body(Owner::default(), 3 * MIB).await.unwrap();
    let (send, mut messages) = call(false, &reading);
    send.send(framed(0, MIB / 2, &[]).into()).unwrap();
    let failure = messages.next().await.unwrap_err();
    assert_eq!(failure.reason(), Reason::QueueFull);
}
