//! Owns the cutting of a stream of bytes into responses.
//! Must never make room for a response before its length was compared with the bound.

use bytes::{Buf as _, Bytes, BytesMut};

use crate::kafka::wire::{error::WireError, message::LENGTH_BYTES};

/// The least that is read at once.
const READ_BYTES: usize = 16 << 10;
/// The longest response before the broker has let us in.
pub(super) const RESPONSE_BYTES_MAX_AT_FIRST: usize = 64 << 10;
/// The longest response; metadata is asked by topic, so that it stays far below.
pub(super) const RESPONSE_BYTES_MAX: usize = 16 << 20;
/// A response begins with its correlation id.
const CORRELATION_ID_BYTES: usize = 4;
/// How a TLS record begins that is an alert or a handshake, of TLS 1.0 to 1.3.
const TLS_RECORDS: [[u8; 2]; 2] = [[0x15, 0x03], [0x16, 0x03]];

/// The bytes that have come and are no whole response yet.
#[derive(Debug)]
pub(super) struct FrameReader {
    bytes: BytesMut,
    /// The longest response that is taken.
    pub(super) bytes_max: usize,
}

impl FrameReader {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes: BytesMut::new(), bytes_max }
    }

    /// Returns where to read to; it grows with what comes, not with what is announced.
    pub(super) fn room(&mut self) -> &mut BytesMut {
        self.bytes.reserve(READ_BYTES);
        &mut self.bytes
    }

    /// Cuts off the next response, if it is whole: its correlation id and what follows.
    ///
    /// # Errors
    /// [`WireError::Protocol`] if a length is none of a response.
    pub(super) fn next(&mut self) -> Result<Option<(i32, Bytes)>, WireError> {
        let Some(length) = self.bytes.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let bounds = CORRELATION_ID_BYTES..=self.bytes_max;
        let length = i32::from_be_bytes(*length);
        let whole = usize::try_from(length).ok().filter(|length| bounds.contains(length));
        let Some(whole) = whole else {
            let hint = if TLS_RECORDS.contains(&[self.bytes[0], self.bytes[1]]) {
                " (connecting to a SSL listener?)"
            } else {
                ""
            };
            return Err(WireError::Protocol(format!("Invalid response size {length}{hint}")));
        };
        if self.bytes.len() < LENGTH_BYTES + whole {
            return Ok(None);
        }
        self.bytes.advance(LENGTH_BYTES);
        let mut response = self.bytes.split_to(whole).freeze();
        let id = response.get_i32();
        Ok(Some((id, response)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(bytes: &[u8]) -> FrameReader {
        let mut reader = FrameReader::new(1000);
        reader.room().extend_from_slice(bytes);
        reader
    }

    fn response(id: i32, body: &[u8]) -> Vec<u8> {
        let length = i32::try_from(4 + body.len()).unwrap();
        [&length.to_be_bytes()[..], &id.to_be_bytes(), body].concat()
    }

    #[test]
    fn responses_are_cut_wherever_reads_end() {
        let stream = [response(1, b"one"), response(2, b""), response(3, b"three")].concat();
        for cut in 0..=stream.len() {
            let mut reader = reader(&stream[..cut]);
            let mut seen = Vec::new();
            while let Some((id, body)) = reader.next().unwrap() {
                seen.push((id, body));
            }
            reader.room().extend_from_slice(&stream[cut..]);
            while let Some((id, body)) = reader.next().unwrap() {
                seen.push((id, body));
            }
            let expected =
                [(1, Bytes::from_static(b"one")), (2, Bytes::new()), (3, Bytes::from_static(b"three"))];
            assert_eq!(seen, expected, "cut at {cut}");
        }
    }

    #[test]
    fn a_garbage_length_is_refused_before_anything_is_read() {
        for length in [-1, i32::MIN, i32::MAX, 0, 3, 1001] {
            let refused = reader(&length.to_be_bytes()).next().unwrap_err().to_string();
            assert!(refused.starts_with(&format!("Invalid response size {length}")), "{refused}");
            assert!(!crate::kafka::tls::tells(&refused), "{refused}");
        }
        let mut at_the_bound = reader(&1000_i32.to_be_bytes());
        assert_eq!(at_the_bound.next().unwrap(), None);
        assert!(at_the_bound.bytes.capacity() < 2 * READ_BYTES);
    }

    #[test]
    fn a_tls_alert_hints_at_the_listener() {
        let alert = [0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x46];
        let refused = reader(&alert).next().unwrap_err().to_string();
        assert!(crate::kafka::tls::explained(&refused, None).contains("speaks TLS there"), "{refused}");
    }
}
