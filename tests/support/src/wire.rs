//! Speaks as much of Kafka's protocol as the harness needs to steer a cluster.
//!
//! librdkafka's Rust wrapper has no ACLs, no SCRAM and no way to ask one particular broker; a JVM per command costs more
//! than a second. Each request here is one short connection to the plaintext listener. Nothing here retries, and nothing
//! of it is used to produce or consume: what tests prove, they prove through librdkafka.
//!
//! Source: kafka.apache.org/protocol; the lowest versions that Kafka 4.1 still answers.

pub(crate) mod access;
pub(crate) mod cursor;
pub(crate) mod scram;
pub(crate) mod state;
pub(crate) mod topics;
pub(crate) mod transactions;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use self::cursor::Cursor;

const CORRELATION_ID: i32 = 1;
const CLIENT_ID: &str = "testkit";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// A request being written, its length left open until it is sent.
pub(crate) struct Request {
    bytes: Vec<u8>,
    is_flexible: bool,
}

impl Request {
    /// Begins a request whose header has no tagged fields.
    pub(crate) fn new(api_key: i16, version: i16) -> Self {
        let mut request = Self { bytes: Vec::new(), is_flexible: false };
        request.i16(api_key).i16(version).i32(CORRELATION_ID);
        request.string(Some(CLIENT_ID));
        request
    }

    /// Begins a request of a version with compact strings and tagged fields (KIP-482).
    pub(crate) fn flexible(api_key: i16, version: i16) -> Self {
        let mut request = Self::new(api_key, version);
        request.is_flexible = true;
        request.no_tags();
        request
    }

    pub(crate) fn i8(&mut self, value: i8) -> &mut Self {
        self.bytes.extend(value.to_be_bytes());
        self
    }

    pub(crate) fn bool(&mut self, value: bool) -> &mut Self {
        self.i8(i8::from(value))
    }

    pub(crate) fn i16(&mut self, value: i16) -> &mut Self {
        self.bytes.extend(value.to_be_bytes());
        self
    }

    pub(crate) fn i32(&mut self, value: i32) -> &mut Self {
        self.bytes.extend(value.to_be_bytes());
        self
    }

    pub(crate) fn i64(&mut self, value: i64) -> &mut Self {
        self.bytes.extend(value.to_be_bytes());
        self
    }

    pub(crate) fn string(&mut self, text: Option<&str>) -> &mut Self {
        let Some(text) = text else {
            return self.i16(-1);
        };
        let length = i16::try_from(text.len()).expect("names are short");
        self.i16(length).bytes.extend(text.as_bytes());
        self
    }

    /// Writes how many items follow; they are written by the caller.
    pub(crate) fn array(&mut self, length: usize) -> &mut Self {
        self.i32(i32::try_from(length).expect("arrays are short"))
    }

    /// Writes the length prefix of a compact array or string: one more than the length, in base 128.
    pub(crate) fn compact_length(&mut self, length: usize) -> &mut Self {
        let mut rest = length + 1;
        while rest >= 0x80 {
            self.bytes.push(rest.to_le_bytes()[0] | 0x80);
            rest >>= 7;
        }
        self.bytes.push(rest.to_le_bytes()[0]);
        self
    }

    pub(crate) fn compact_bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.compact_length(bytes.len()).bytes.extend(bytes);
        self
    }

    pub(crate) fn no_tags(&mut self) -> &mut Self {
        self.bytes.push(0);
        self
    }

    /// Sends the request over a connection of its own and returns the body of the answer.
    pub(crate) fn send(&self, address: SocketAddr) -> io::Result<Cursor> {
        let mut stream = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        stream.set_nodelay(true)?;
        let length = u32::try_from(self.bytes.len()).map_err(io::Error::other)?;
        let frame = [&length.to_be_bytes()[..], &self.bytes].concat();
        stream.write_all(&frame)?;
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        if length > ANSWER_BYTES_MAX {
            return Err(io::Error::other(format!("an answer of {length} bytes")));
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        let mut answer = Cursor::new(body);
        answer.i32()?;
        if self.is_flexible {
            answer.skip_tags()?;
        }
        Ok(answer)
    }
}

/// Turns Kafka's error code into a failure that names the request; zero is none.
pub(crate) fn check(what: &str, code: i16, message: Option<&str>) -> io::Result<()> {
    match code {
        0 => Ok(()),
        code => {
            Err(io::Error::other(format!("{what}: Kafka's error {code} {}", message.unwrap_or_default())))
        }
    }
}
