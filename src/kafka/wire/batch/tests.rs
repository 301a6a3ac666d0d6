use kafka_protocol::records::{Compression as Codec, RecordBatchDecoder};
use proptest::prelude::*;

use super::*;
use crate::record::Topic;

const PRODUCER: ProducerId = ProducerId { id: 4_711, epoch: 3 };

fn bytes() -> impl Strategy<Value = Option<Bytes>> {
    proptest::option::of(proptest::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from))
}

fn records() -> impl Strategy<Value = Vec<Record>> {
    let name = "[a-z\u{e4}-]{1,20}";
    // The decoder that checks them keeps headers by their names.
    let headers = proptest::collection::btree_map(name, bytes(), 0..5);
    let record = (bytes(), bytes(), headers, 1..=253_402_300_799_999_i64);
    let record = record.prop_map(|(key, value, headers, timestamp_ms)| Record {
        topic: Topic::parse("orders").unwrap(),
        key,
        value,
        headers: headers.into_iter().map(|(name, value)| Header { name, value }).collect(),
        partition: None,
        timestamp_ms,
        message_id: None,
    });
    proptest::collection::vec(record, 1..40)
}

fn sealed(records: &[Record], compression: Compression, base_sequence: i32) -> Bytes {
    let mut builder = BatchBuilder::with_capacity(0);
    for record in records {
        builder.push(record);
    }
    builder.seal(compression, PRODUCER, base_sequence).unwrap()
}

/// Undoes what `compress` does; the crate's own codecs are not built in.
fn decompressed(packed: &mut Bytes, codec: Codec) -> anyhow::Result<Bytes> {
    use std::io::Read as _;
    let mut plain = Vec::new();
    match codec {
        Codec::None => plain.extend_from_slice(packed),
        Codec::Gzip => drop(flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut plain)?),
        Codec::Zstd => plain = zstd::stream::decode_all(&packed[..])?,
        Codec::Lz4 => drop(lz4_flex::frame::FrameDecoder::new(&packed[..]).read_to_end(&mut plain)?),
        Codec::Snappy => {
            let mut blocks = packed.strip_prefix(b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01").unwrap();
            while let Some((length, rest)) = blocks.split_first_chunk() {
                let (block, rest) = rest.split_at(u32::from_be_bytes(*length).try_into()?);
                plain.extend(snap::raw::Decoder::new().decompress_vec(block)?);
                blocks = rest;
            }
        }
    }
    Ok(plain.into())
}

fn read_back(batch: &Bytes) -> Vec<kafka_protocol::records::Record> {
    let decoded = RecordBatchDecoder::decode_with_custom_compression(&mut batch.clone(), Some(decompressed));
    decoded.unwrap().records
}

proptest! {
    #[test]
    fn another_decoder_reads_what_was_written(records in records(), base_sequence in 0..=i32::MAX - 100) {
        for compression in
            [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd]
        {
            let read = read_back(&sealed(&records, compression, base_sequence));
            prop_assert_eq!(read.len(), records.len());
            for (index, (read, record)) in (0..).zip(read.iter().zip(&records)) {
                prop_assert_eq!((&read.key, &read.value), (&record.key, &record.value));
                prop_assert_eq!((read.timestamp, read.offset), (record.timestamp_ms, i64::from(index)));
                prop_assert_eq!((read.producer_id, read.producer_epoch), (PRODUCER.id, PRODUCER.epoch));
                prop_assert_eq!(read.sequence, base_sequence + index);
                prop_assert!(!read.transactional && !read.control);
                let headers = read.headers.iter().map(|(name, value)| (name.as_str(), value));
                let written = record.headers.iter().map(|header| (header.name.as_str(), &header.value));
                prop_assert!(headers.eq(written));
            }
        }
    }

    #[test]
    fn a_record_takes_no_more_than_was_said(records in records()) {
        let said = records.iter().map(record_bytes_max).sum::<usize>() + BATCH_HEADER_BYTES;
        let batch = sealed(&records, Compression::None, 0);
        prop_assert!(batch.len() <= said && said <= batch.len() + 26 * records.len());
    }

    #[test]
    fn a_number_takes_as_many_bytes_as_are_counted(value: i64) {
        let mut bytes = Vec::new();
        put_varint(&mut bytes, value);
        prop_assert_eq!(bytes.len(), varint_bytes(value));
    }
}

#[test]
fn names_of_headers_may_repeat_and_keep_their_order() {
    let header = |value: &'static str| Header { name: "h".to_owned(), value: Some(value.into()) };
    let record = Record {
        topic: Topic::parse("orders").unwrap(),
        key: None,
        value: None,
        headers: vec![header("one"), header("two")],
        partition: None,
        timestamp_ms: 1,
        message_id: None,
    };
    let batch = sealed(&[record], Compression::None, 0);
    let headers = b"\x04\x02h\x06one\x02h\x06two";
    assert!(batch.ends_with(headers), "{batch:?}");
}

#[test]
fn compression_that_makes_a_batch_larger_is_left_out() {
    let record = Record {
        topic: Topic::parse("orders").unwrap(),
        key: None,
        value: Some(Bytes::from_static(b"v")),
        headers: Vec::new(),
        partition: None,
        timestamp_ms: 1,
        message_id: None,
    };
    let plain = sealed(std::slice::from_ref(&record), Compression::None, 0);
    assert_eq!(sealed(&[record], Compression::Gzip, 0), plain);
}
