//! Cuts a stream into Kafka's frames: four bytes of length, then a header that begins with what is needed here.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

const LENGTH_BYTES: usize = 4;
/// More than any broker here takes (`socket.request.max.bytes`); a longer frame is not Kafka's protocol.
const FRAME_BYTES_MAX: usize = 100 << 20;

/// The beginning of every request's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RequestHead {
    pub(super) api_key: i16,
    pub(super) api_version: i16,
    pub(super) correlation_id: i32,
}

/// Reads one frame with its length; `None` at the end of the stream, also within a frame.
pub(super) async fn read_frame(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; LENGTH_BYTES];
    match stream.read_exact(&mut length).await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let body = u32::from_be_bytes(length) as usize;
    if body > FRAME_BYTES_MAX {
        return Err(io::Error::other(format!("a frame of {body} bytes")));
    }
    let mut frame = vec![0; LENGTH_BYTES + body];
    frame[..LENGTH_BYTES].copy_from_slice(&length);
    match stream.read_exact(&mut frame[LENGTH_BYTES..]).await {
        Ok(_) => Ok(Some(frame)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads the head of a request's frame; `None` if the frame is too short to be a request.
pub(super) fn request_head(frame: &[u8]) -> Option<RequestHead> {
    Some(RequestHead {
        api_key: i16::from_be_bytes(field(frame, 4)?),
        api_version: i16::from_be_bytes(field(frame, 6)?),
        correlation_id: i32::from_be_bytes(field(frame, 8)?),
    })
}

/// Reads which request a response's frame answers.
pub(super) fn correlation_id(frame: &[u8]) -> Option<i32> {
    Some(i32::from_be_bytes(field(frame, 4)?))
}

/// Reads the client's name for itself, which stands behind the head in every version but that of Kafka's own controllers.
pub(super) fn client_id(frame: &[u8]) -> Option<&str> {
    let length = usize::try_from(i16::from_be_bytes(field(frame, 12)?)).ok()?;
    std::str::from_utf8(frame.get(14..14 + length)?).ok()
}

fn field<const N: usize>(frame: &[u8], at: usize) -> Option<[u8; N]> {
    frame.get(at..at + N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len()).expect("short");
        [&length.to_be_bytes()[..], body].concat()
    }

    #[test]
    fn a_request_says_what_it_is() {
        let frame = frame(&[0, 26, 0, 4, 0, 0, 1, 2, 0xff, 0xff]);
        let head = RequestHead { api_key: 26, api_version: 4, correlation_id: 258 };
        assert_eq!(request_head(&frame), Some(head));
    }

    #[test]
    fn a_request_says_whose_it_is() {
        let of = |client: &[u8]| frame(&[&[0, 26, 0, 4, 0, 0, 1, 2][..], client, &[9, 9]].concat());
        assert_eq!(client_id(&of(&[0, 2, b'm', b'e'])), Some("me"));
        assert_eq!(client_id(&of(&[0xff, 0xff])), None);
        assert_eq!(client_id(&of(&[0, 9, b'm', b'e'])), None);
    }

    #[test]
    fn a_response_says_what_it_answers() {
        assert_eq!(correlation_id(&frame(&[0, 0, 1, 2, 9])), Some(258));
    }

    #[test]
    fn short_frames_are_nothing() {
        assert_eq!(request_head(&frame(&[0, 26, 0, 4, 0, 0, 1])), None);
        assert_eq!(correlation_id(&frame(&[0, 0, 1])), None);
    }

    #[tokio::test]
    async fn frames_come_out_whole_and_one_by_one() {
        let stream = [frame(&[1, 2, 3]), frame(&[]), frame(&[4])].concat();
        let mut stream = &stream[..];
        for body in [&[1, 2, 3][..], &[], &[4]] {
            let read = read_frame(&mut stream).await.expect("readable");
            assert_eq!(read, Some(frame(body)));
        }
        assert_eq!(read_frame(&mut stream).await.expect("ended"), None);
    }

    #[tokio::test]
    async fn a_torn_frame_is_the_end_and_a_huge_one_an_error() {
        let mut torn = &frame(&[1, 2, 3])[..5];
        assert_eq!(read_frame(&mut torn).await.expect("ended"), None);
        let mut huge = &[0x7f, 0xff, 0xff, 0xff][..];
        assert!(read_frame(&mut huge).await.is_err());
    }
}
