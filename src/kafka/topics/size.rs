//! Owns how many bytes a record takes in Kafka's record format when it goes alone and is not compressed; pure.
//! Must never say more than it takes: Kafka compares those very bytes with `max.message.bytes`.

use crate::record::{Header, Record};

/// What a batch of records takes beyond them, in bytes (`DefaultRecordBatch.RECORD_BATCH_OVERHEAD`).
const BATCH_BYTES: usize = 61;
/// A record's attributes, and its time and its offset as they differ from the batch's: by nothing, where it is the only one.
const FIXED_BYTES: usize = 3;
/// The most that a length takes.
const LENGTH_BYTES_MAX: usize = 5;

/// Returns the bytes of the batch that a record makes alone, where they are more than `most`.
pub(super) fn beyond(record: &Record, most: usize) -> Option<usize> {
    // Few records are near to it, and their parts need not be measured one by one.
    let lengths = 4 + 2 * record.headers.len();
    let bound = record.bytes() + BATCH_BYTES + FIXED_BYTES + LENGTH_BYTES_MAX * lengths;
    (bound > most).then(|| alone(record)).filter(|bytes| *bytes > most)
}

fn alone(record: &Record) -> usize {
    let part = |part: Option<usize>| part.map_or_else(|| varint(-1), |bytes| length(bytes) + bytes);
    let header = |header: &Header| {
        part(Some(header.name.len())) + part(header.value.as_ref().map(|value| value.len()))
    };
    let body = FIXED_BYTES
        + part(record.key.as_ref().map(|key| key.len()))
        + part(record.value.as_ref().map(|value| value.len()))
        + length(record.headers.len())
        + record.headers.iter().map(header).sum::<usize>();
    BATCH_BYTES + length(body) + body
}

fn length(bytes: usize) -> usize {
    varint(i64::try_from(bytes).unwrap_or(i64::MAX))
}

/// Returns the bytes of a number as Kafka writes it: seven bits a byte, small ones of either sign first.
fn varint(number: i64) -> usize {
    let zigzag = (number << 1) ^ (number >> 63);
    let bits = u64::BITS - zigzag.cast_unsigned().leading_zeros();
    usize::try_from(bits.max(1).div_ceil(7)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::record::Topic;

    fn record(key: Option<usize>, value: Option<usize>, headers: &[(usize, Option<usize>)]) -> Record {
        let bytes = |length| Bytes::from(vec![b'x'; length]);
        let header = |(name, value): &(usize, Option<usize>)| Header {
            name: "n".repeat(*name),
            value: value.map(bytes),
        };
        Record {
            topic: Topic::parse("orders").unwrap(),
            key: key.map(bytes),
            value: value.map(bytes),
            headers: headers.iter().map(header).collect(),
            partition: None,
            timestamp_ms: 1,
            message_id: None,
        }
    }

    #[test]
    fn numbers_take_seven_bits_a_byte() {
        let cases = [(0, 1), (-1, 1), (63, 1), (-64, 1), (64, 2), (8_191, 2), (8_192, 3), (i64::MAX, 10)];
        assert_eq!(cases.map(|(number, _)| varint(number)), cases.map(|(_, bytes)| bytes));
    }

    /// The sizes are counted by hand from the format; that Kafka counts alike is shown against a cluster (`rules`).
    #[test]
    fn a_records_parts_and_their_lengths_are_counted() {
        // Null key and value, no header: 3 fixed, three lengths of one byte, one for all of it.
        assert_eq!(alone(&record(None, None, &[])), 61 + 1 + 6);
        assert_eq!(alone(&record(Some(0), Some(0), &[])), 61 + 1 + 6, "empty ones take what null ones take");
        assert_eq!(alone(&record(Some(3), Some(100), &[])), 61 + 2 + 3 + 1 + 3 + 2 + 100 + 1);
        let headers = [(2, Some(64)), (1, None), (1, Some(0))];
        let of_headers = (1 + 2 + 2 + 64) + (1 + 1 + 1) + (1 + 1 + 1);
        assert_eq!(alone(&record(None, None, &headers)), 61 + 2 + 6 + of_headers);
    }

    #[test]
    fn only_what_is_larger_is_beyond() {
        let record = record(Some(3), Some(9_000), &[(2, Some(64)), (1, None)]);
        let bytes = alone(&record);
        let found = [bytes - 1, bytes, bytes + 1, usize::MAX].map(|most| beyond(&record, most));
        assert_eq!(found, [Some(bytes), None, None, None]);
    }
}
