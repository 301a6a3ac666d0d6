//! The codecs of record batches, as Kafka's own clients write them.
//! Must never write a form that some consumer cannot read: Snappy has the frame of `xerial`, LZ4 that of LZ4's frame format.

use std::io::{self, Write as _};

use crate::config::Compression;

/// How the frame of Snappy begins: a magic text, its version, and the oldest that can read it (`SnappyCodec` of snappy-java).
const SNAPPY_HEADER: &[u8] = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
/// How much Snappy takes at once, in bytes (`SnappyOutputStream`'s default).
const SNAPPY_BLOCK_BYTES: usize = 32 * 1024;
/// Zstandard's own default.
const ZSTD_LEVEL: i32 = 3;

/// A codec could not compress.
#[derive(Debug, thiserror::Error)]
#[error("the batch cannot be compressed")]
pub struct CompressError(#[source] io::Error);

/// Compresses the records of a batch; `None` if there is no codec.
///
/// # Errors
/// If the codec fails.
pub fn compress(compression: Compression, records: &[u8]) -> Result<Option<Vec<u8>>, CompressError> {
    let compressed = match compression {
        Compression::None => return Ok(None),
        Compression::Gzip => gzip(records),
        Compression::Snappy => snappy(records),
        Compression::Lz4 => lz4(records),
        Compression::Zstd => zstd::bulk::compress(records, ZSTD_LEVEL),
    };
    compressed.map(Some).map_err(CompressError)
}

fn gzip(records: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(records)?;
    encoder.finish()
}

fn snappy(records: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = snap::raw::Encoder::new();
    let mut compressed = SNAPPY_HEADER.to_vec();
    for block in records.chunks(SNAPPY_BLOCK_BYTES) {
        let block = encoder.compress_vec(block).map_err(io::Error::other)?;
        let length = u32::try_from(block.len()).map_err(io::Error::other)?;
        compressed.extend_from_slice(&length.to_be_bytes());
        compressed.extend_from_slice(&block);
    }
    Ok(compressed)
}

fn lz4(records: &[u8]) -> io::Result<Vec<u8>> {
    // Kafka's own reader takes blocks that stand alone, and no others (KIP-57).
    let frame = lz4_flex::frame::FrameInfo::new().block_mode(lz4_flex::frame::BlockMode::Independent);
    let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(frame, Vec::new());
    encoder.write_all(records)?;
    encoder.finish().map_err(io::Error::other)
}
