//! Owns the frame of a request and of a response: length, header, correlation id, body.
//! Must never decode a response before its lengths were compared with the bytes that are there (`scan`): the decoders allocate
//! by the lengths that they read.

mod scan;
pub mod versions;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use kafka_protocol::{
    messages::ApiKey,
    protocol::{Decodable as _, HeaderVersion as _, Request},
};

use super::error::WireError;

/// The bytes of the length that stands before a frame.
pub(super) const LENGTH_BYTES: usize = 4;
/// Where a request has its correlation id: behind the length, the API's key and its version.
const CORRELATION_ID_PLACE: usize = LENGTH_BYTES + 2 + 2;

/// The number by which a response names its request; given by the connection, and of no meaning on another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CorrelationId(pub(super) i32);

/// A request that is being written: its header is, and the body follows.
#[derive(Debug)]
pub struct RequestBuffer {
    bytes: BytesMut,
    api: ApiKey,
    version: i16,
}

impl RequestBuffer {
    /// Begins a request in an empty buffer; `client_id` is at most 32,767 bytes long, the rest is left out.
    pub(super) fn begin(mut bytes: BytesMut, api: ApiKey, version: i16, client_id: &str) -> Self {
        bytes.put_i32(0);
        bytes.put_i16(api as i16);
        bytes.put_i16(version);
        bytes.put_i32(0);
        let length = i16::try_from(client_id.len()).unwrap_or(i16::MAX);
        bytes.put_i16(length);
        bytes.put_slice(&client_id.as_bytes()[..usize::from(length.unsigned_abs())]);
        if api.request_header_version(version) >= 2 {
            // No tagged fields.
            bytes.put_u8(0);
        }
        Self { bytes, api, version }
    }

    /// Returns the version that the body has to be written in.
    #[must_use]
    pub const fn version(&self) -> i16 {
        self.version
    }

    /// Returns the API that it asks.
    #[must_use]
    pub const fn api(&self) -> ApiKey {
        self.api
    }

    /// Returns the bytes so far, behind which the body is to be written; none of them may be changed.
    pub const fn body(&mut self) -> &mut BytesMut {
        &mut self.bytes
    }

    /// Writes a whole body.
    ///
    /// # Errors
    /// [`WireError::Protocol`] if it is another API's, or holds what this version cannot say.
    pub fn encode<R: Request>(&mut self, body: &R) -> Result<(), WireError> {
        if R::KEY != self.api as i16 {
            return Err(WireError::Protocol(format!(
                "a body of API {} in a request of {:?}",
                R::KEY,
                self.api
            )));
        }
        let written = body.encode(&mut self.bytes, self.version);
        written.map_err(|error| {
            WireError::Protocol(format!("{:?} version {} cannot say it: {error}", self.api, self.version))
        })
    }

    /// Ends the request: its length and correlation id are filled in.
    ///
    /// # Errors
    /// [`WireError::Protocol`] if it is longer than the protocol allows (2 GiB).
    pub(super) fn finish(mut self, id: CorrelationId) -> Result<BytesMut, WireError> {
        let length = self.bytes.len() - LENGTH_BYTES;
        let Ok(length) = i32::try_from(length) else {
            return Err(WireError::Protocol(format!("a request of {length} bytes is too long")));
        };
        self.bytes[..LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
        self.bytes[CORRELATION_ID_PLACE..][..4].copy_from_slice(&id.0.to_be_bytes());
        Ok(self.bytes)
    }
}

/// A response as it came, its body not decoded yet.
#[derive(Debug)]
pub struct Response {
    /// Its request.
    pub id: CorrelationId,
    /// The API that was asked.
    pub api: ApiKey,
    /// The version of request and response.
    pub version: i16,
    /// What follows the correlation id.
    pub(super) bytes: Bytes,
}

impl Response {
    /// Decodes the body.
    ///
    /// # Errors
    /// [`WireError::Protocol`] if it is cut, of another API, or its lengths are not true.
    pub fn decode<R: Request>(self) -> Result<R::Response, WireError> {
        let Self { api, version, mut bytes, .. } = self;
        let wrong = |what: &dyn std::fmt::Display| {
            WireError::Protocol(format!(
                "the broker's answer to {api:?} version {version} cannot be read: {what}"
            ))
        };
        if R::KEY != api as i16 {
            return Err(wrong(&"it is another API's"));
        }
        let has_tags = R::Response::header_version(version) >= 1;
        let header_bytes = scan::scan(api, version, has_tags, &bytes).map_err(|broken| wrong(&broken))?;
        bytes.advance(header_bytes);
        R::Response::decode(&mut bytes, version).map_err(|error| wrong(&error))
    }
}

#[cfg(test)]
mod tests;
