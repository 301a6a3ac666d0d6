//! The record batch of Kafka's log (magic 2, KIP-98): records encoded once, then sealed under a producer id and a sequence.
//! Must never change once it is sealed: a batch that is sent again is byte for byte the one that was sent before.
//!
//! The partition's queue (`partition.rs`) says what goes into a batch; the broker's task writes it to the socket.

use bytes::Bytes;

use super::compression::{CompressError, compress};
use crate::{
    config::Compression,
    record::{Header, Record},
};

/// The bytes of a batch before its first record.
pub const BATCH_HEADER_BYTES: usize = 61;
/// Where the fields of the header are (`DefaultRecordBatch` of Kafka).
const LENGTH_AT: usize = 8;
const CRC_AT: usize = 17;
const ATTRIBUTES_AT: usize = 21;
/// The length counts from behind itself.
const LENGTH_BEGINS_AT: usize = 12;
const MAGIC: u8 = 2;
/// The broker sets it.
const NO_LEADER_EPOCH: i32 = -1;
/// The longest that a varint of 32 and one of 64 bits can be, in bytes.
const VARINT_BYTES_MAX: usize = 5;
const VARLONG_BYTES_MAX: usize = 10;

/// Who writes, as brokers know it: the id and epoch that `InitProducerId` gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProducerId {
    /// The id, unique in the cluster.
    pub id: i64,
    /// The epoch.
    pub epoch: i16,
}

/// A batch that takes records.
#[derive(Debug)]
pub struct BatchBuilder {
    bytes: Vec<u8>,
    count: i32,
    first_timestamp_ms: i64,
    max_timestamp_ms: i64,
}

// === impl BatchBuilder ===

impl BatchBuilder {
    /// Begins a batch that will have about so many bytes.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        let mut buffer = Vec::with_capacity(BATCH_HEADER_BYTES + bytes);
        buffer.resize(BATCH_HEADER_BYTES, 0);
        Self { bytes: buffer, count: 0, first_timestamp_ms: 0, max_timestamp_ms: 0 }
    }

    /// Appends a record.
    pub fn push(&mut self, record: &Record) {
        if self.count == 0 {
            (self.first_timestamp_ms, self.max_timestamp_ms) = (record.timestamp_ms, record.timestamp_ms);
        }
        self.max_timestamp_ms = self.max_timestamp_ms.max(record.timestamp_ms);
        let timestamp_delta = record.timestamp_ms - self.first_timestamp_ms;
        let offset_delta = i64::from(self.count);
        let bytes = &mut self.bytes;
        put_varint(bytes, length(body_bytes(record, timestamp_delta, offset_delta)));
        // The attributes of a record are not in use.
        bytes.push(0);
        put_varint(bytes, timestamp_delta);
        put_varint(bytes, offset_delta);
        put_nullable(bytes, record.key.as_deref());
        put_nullable(bytes, record.value.as_deref());
        put_varint(bytes, length(record.headers.len()));
        for header in &record.headers {
            put_nullable(bytes, Some(header.name.as_bytes()));
            put_nullable(bytes, header.value.as_deref());
        }
        self.count += 1;
    }

    /// Returns how many records it has.
    #[must_use]
    pub const fn count(&self) -> i32 {
        self.count
    }

    /// Compresses the records, if a codec is named, and writes the header. A batch that compression makes larger stays as it was.
    ///
    /// # Errors
    /// If the codec fails, which only a lack of memory makes it do.
    pub fn seal(
        self,
        compression: Compression,
        producer: ProducerId,
        base_sequence: i32,
    ) -> Result<Bytes, CompressError> {
        let Self { mut bytes, count, first_timestamp_ms, max_timestamp_ms } = self;
        let mut codec = 0;
        if let Some(compressed) = compress(compression, &bytes[BATCH_HEADER_BYTES..])?
            && compressed.len() < bytes.len() - BATCH_HEADER_BYTES
        {
            bytes.truncate(BATCH_HEADER_BYTES);
            bytes.extend_from_slice(&compressed);
            codec = codec_number(compression);
        }
        let mut header = Cursor { bytes: &mut bytes, at: LENGTH_AT };
        let batch_bytes = i32::try_from(header.bytes.len() - LENGTH_BEGINS_AT).unwrap_or(i32::MAX);
        header.put(batch_bytes.to_be_bytes());
        header.put(NO_LEADER_EPOCH.to_be_bytes());
        header.put([MAGIC]);
        header.at = ATTRIBUTES_AT;
        header.put(codec.to_be_bytes());
        header.put((count - 1).to_be_bytes());
        header.put(first_timestamp_ms.to_be_bytes());
        header.put(max_timestamp_ms.to_be_bytes());
        header.put(producer.id.to_be_bytes());
        header.put(producer.epoch.to_be_bytes());
        header.put(base_sequence.to_be_bytes());
        header.put(count.to_be_bytes());
        let crc = crc32c::crc32c(&header.bytes[ATTRIBUTES_AT..]);
        header.at = CRC_AT;
        header.put(crc.to_be_bytes());
        Ok(bytes.into())
    }
}

/// Returns the most bytes that a record takes in a batch, wherever in it.
#[must_use]
pub fn record_bytes_max(record: &Record) -> usize {
    let headers = record.headers.iter().map(header_bytes).sum::<usize>();
    let body = nullable_bytes(record.key.as_deref()) + nullable_bytes(record.value.as_deref()) + headers;
    // Its length, its attributes, its time, its offset, the count of its headers.
    body + VARINT_BYTES_MAX + 1 + VARLONG_BYTES_MAX + VARINT_BYTES_MAX + VARINT_BYTES_MAX
}

fn body_bytes(record: &Record, timestamp_delta: i64, offset_delta: i64) -> usize {
    1 + varint_bytes(timestamp_delta)
        + varint_bytes(offset_delta)
        + nullable_bytes(record.key.as_deref())
        + nullable_bytes(record.value.as_deref())
        + varint_bytes(length(record.headers.len()))
        + record.headers.iter().map(header_bytes).sum::<usize>()
}

fn header_bytes(header: &Header) -> usize {
    nullable_bytes(Some(header.name.as_bytes())) + nullable_bytes(header.value.as_deref())
}

fn nullable_bytes(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(1, |bytes| varint_bytes(length(bytes.len())) + bytes.len())
}

/// Returns the number that the attributes have for it.
const fn codec_number(compression: Compression) -> i16 {
    match compression {
        Compression::None => 0,
        Compression::Gzip => 1,
        Compression::Snappy => 2,
        Compression::Lz4 => 3,
        Compression::Zstd => 4,
    }
}

/// Lengths are far below 2^31: `record_bytes_max` and the request's limit bound them.
fn length(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

const fn zigzag(value: i64) -> u64 {
    (value << 1).cast_unsigned() ^ (value >> 63).cast_unsigned()
}

fn varint_bytes(value: i64) -> usize {
    let bits = u64::BITS - (zigzag(value) | 1).leading_zeros();
    usize::try_from(bits.div_ceil(7)).unwrap_or(VARLONG_BYTES_MAX)
}

fn put_varint(bytes: &mut Vec<u8>, value: i64) {
    let mut rest = zigzag(value);
    while rest >= 0x80 {
        bytes.push(low_bits(rest) | 0x80);
        rest >>= 7;
    }
    bytes.push(low_bits(rest));
}

/// Returns the lowest seven bits.
const fn low_bits(value: u64) -> u8 {
    value.to_le_bytes()[0] & 0x7f
}

fn put_nullable(bytes: &mut Vec<u8>, value: Option<&[u8]>) {
    match value {
        None => put_varint(bytes, -1),
        Some(value) => {
            put_varint(bytes, length(value.len()));
            bytes.extend_from_slice(value);
        }
    }
}

/// Writes into a buffer that has the room already.
struct Cursor<'a> {
    bytes: &'a mut Vec<u8>,
    at: usize,
}

impl Cursor<'_> {
    fn put<const N: usize>(&mut self, value: [u8; N]) {
        self.bytes[self.at..self.at + N].copy_from_slice(&value);
        self.at += N;
    }
}

#[cfg(test)]
mod tests;
