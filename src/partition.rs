//! Owns the partition functions: which partition a record goes to, given its tenant, its key and the topic's partition count.
//! Must stay pure: no clock, no random source (the caller hands in the random number), no Kafka.

use md5::{Digest as _, Md5};

/// A named partition function; all processes that write a topic must use the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Partitioner {
    /// MD5 of the tenant, else of the key; the first four bytes, big-endian, modulo the count. The default.
    #[default]
    TenantMd5,
    /// Murmur2 of the key as the Java client's default partitioner computes it (`Utils.murmur2`, sign bit cleared).
    JavaMurmur2,
    /// CRC-32 of the key as librdkafka's default `consistent_random` computes it.
    LibrdkafkaCrc32,
}

impl Partitioner {
    /// Every partition function.
    pub const ALL: [Self; 3] = [Self::TenantMd5, Self::JavaMurmur2, Self::LibrdkafkaCrc32];

    /// Returns the name that settings use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TenantMd5 => "tenant-md5",
            Self::JavaMurmur2 => "java-murmur2",
            Self::LibrdkafkaCrc32 => "librdkafka-crc32",
        }
    }

    /// Returns the partition function of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|partitioner| partitioner.name() == name)
    }

    /// Chooses the partition, 0 to `count - 1`.
    ///
    /// `tenant` is the raw value of the `tenant-id` header and matters to `tenant-md5` only; `random` should be uniform over
    /// `u32` and decides where neither tenant nor key does. A count of zero is read as one.
    #[must_use]
    pub fn choose(self, tenant: Option<&[u8]>, key: Option<&[u8]>, count: u32, random: u32) -> u32 {
        let count = count.max(1);
        let hash = match self {
            Self::TenantMd5 => not_empty(tenant).map(tenant_hash).or_else(|| not_empty(key).map(md5_head)),
            // Java hashes an empty key too; only a null one has no hash.
            Self::JavaMurmur2 => key.map(|key| murmur2(key) & 0x7fff_ffff),
            Self::LibrdkafkaCrc32 => not_empty(key).map(crc32fast::hash),
        };
        match hash {
            Some(hash) => hash % count,
            None => scale(random, count),
        }
    }
}

fn not_empty(bytes: Option<&[u8]>) -> Option<&[u8]> {
    bytes.filter(|bytes| !bytes.is_empty())
}

/// Hashes the tenant's text: what is no UTF-8 is replaced first, as Node's `Buffer.toString()` does.
fn tenant_hash(tenant: &[u8]) -> u32 {
    md5_head(String::from_utf8_lossy(tenant).as_bytes())
}

fn md5_head(bytes: &[u8]) -> u32 {
    let digest = Md5::digest(bytes);
    u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])
}

/// Maps a random number onto the partitions by multiplication, which favours none by more than one in 2^32 / count.
fn scale(random: u32, count: u32) -> u32 {
    let product = u64::from(random) * u64::from(count);
    u32::try_from(product >> 32).unwrap_or(0)
}

/// Computes Murmur2 with the Java client's seed (Kafka's `org.apache.kafka.common.utils.Utils.murmur2`).
fn murmur2(bytes: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const MULTIPLIER: u32 = 0x5bd1_e995;
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let mut hash = SEED ^ length;
    let mut words = bytes.chunks_exact(4);
    for word in &mut words {
        let mut mixed = u32::from_le_bytes([word[0], word[1], word[2], word[3]]).wrapping_mul(MULTIPLIER);
        mixed ^= mixed >> 24;
        mixed = mixed.wrapping_mul(MULTIPLIER);
        hash = hash.wrapping_mul(MULTIPLIER) ^ mixed;
    }
    let tail = words.remainder();
    if !tail.is_empty() {
        let word = tail.iter().rev().fold(0_u32, |word, byte| (word << 8) | u32::from(*byte));
        hash = (hash ^ word).wrapping_mul(MULTIPLIER);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(MULTIPLIER);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by_key(partitioner: Partitioner, key: &[u8], count: u32) -> u32 {
        partitioner.choose(None, Some(key), count, 0)
    }

    /// The numbers are Node's: `crypto.createHash('md5').update(text).digest().readUInt32BE(0)`.
    #[test]
    fn tenant_md5_is_bit_for_bit_what_the_source_document_computes_on_node() {
        let long = "a".repeat(300);
        let cases: [(&[u8], u32); 7] = [
            (b"tenant-1", 3_758_109_742),
            (b"acme", 1_404_888_305),
            (b"k", 2_363_797_867),
            (long.as_bytes(), 1_314_158_033),
            ("ünïcode-☃".as_bytes(), 3_917_088_835),
            (b"0", 3_486_326_916),
            (&[0, 255, 1, 254], 3_859_531_835),
        ];
        for (text, hash) in cases {
            for count in [1, 6, 7, 1000] {
                assert_eq!(
                    by_key(Partitioner::TenantMd5, text, count),
                    hash % count,
                    "{text:?} over {count}"
                );
            }
        }
        // A tenant is text: what is no UTF-8 is replaced before it is hashed, as `Buffer.toString()` does. A key is bytes.
        let broken = [0x61, 0xff, 0xe2, 0x82, 0x62, 0xf0, 0x9f, 0x98];
        let by_tenant = Partitioner::TenantMd5.choose(Some(&broken), Some(b"k"), u32::MAX, 0);
        assert_eq!(by_tenant, 1_332_190_667);
    }

    #[test]
    fn the_tenant_wins_over_the_key_and_what_is_empty_counts_as_absent() {
        let choose = |tenant, key| Partitioner::TenantMd5.choose(tenant, key, 1000, u32::MAX);
        let (acme, k) = (1_404_888_305 % 1000, 2_363_797_867 % 1000);
        assert_eq!(choose(Some(&b"acme"[..]), Some(&b"k"[..])), acme);
        assert_eq!(choose(Some(b""), Some(b"k")), k);
        assert_eq!(choose(None, Some(b"k")), k);
        for nothing in [(None, None), (Some(&b""[..]), Some(&b""[..]))] {
            assert_eq!(choose(nothing.0, nothing.1), 999);
        }
    }

    /// The numbers are the Java client's: `Utils.toPositive(Utils.murmur2(bytes))` of kafka-clients 4.1.0.
    #[test]
    fn java_murmur2_is_what_the_java_client_computes() {
        let cases: [(&[u8], u32); 10] = [
            (b"", 275_646_681),
            (b"a", 584_102_524),
            (b"ab", 316_155_434),
            (b"abc", 479_470_107),
            (b"key", 1_067_546_281),
            (b"foobar", 1_357_151_166),
            (b"tenant-1", 374_640_331),
            (b"a-little-bit-long-string", 1_161_502_112),
            ("ünïcode-☃".as_bytes(), 264_762_576),
            (&[0, 255, 1, 254, 128], 1_074_583_911),
        ];
        for (key, hash) in cases {
            for count in [1, 6, 1000] {
                assert_eq!(
                    by_key(Partitioner::JavaMurmur2, key, count),
                    hash % count,
                    "{key:?} over {count}"
                );
            }
        }
        // Java knows no tenant, and a null key alone has no hash.
        assert_eq!(Partitioner::JavaMurmur2.choose(Some(b"acme"), None, 10, u32::MAX), 9);
    }

    /// The numbers are librdkafka 2.12.1's: `rd_kafka_msg_partitioner_consistent_random` over 6, 7 and 1000 partitions.
    #[test]
    fn librdkafka_crc32_is_what_librdkafka_computes() {
        let cases: [(&[u8], [u32; 3]); 8] = [
            (b"a", [3, 4, 907]),
            (b"abc", [0, 5, 578]),
            (b"key", [1, 5, 937]),
            (b"foobar", [5, 6, 69]),
            (b"tenant-1", [1, 5, 879]),
            ("ünïcode-☃".as_bytes(), [4, 3, 460]),
            (b"123456789", [2, 5, 262]),
            (&[0, 255, 1, 254, 128], [0, 5, 216]),
        ];
        for (key, partitions) in cases {
            let ours = [6, 7, 1000].map(|count| by_key(Partitioner::LibrdkafkaCrc32, key, count));
            assert_eq!(ours, partitions, "{key:?}");
        }
        // An empty key is spread as a null one is.
        assert_eq!(Partitioner::LibrdkafkaCrc32.choose(None, Some(b""), 10, u32::MAX), 9);
    }

    #[test]
    fn every_random_number_lands_in_range_and_evenly() {
        let mut counts = [0_u32; 7];
        for step in 0..70_000_u32 {
            let chosen = Partitioner::TenantMd5.choose(None, None, 7, step.wrapping_mul(2_654_435_761));
            counts[usize::try_from(chosen).unwrap()] += 1;
        }
        assert!(counts.iter().all(|count| count.abs_diff(10_000) < 100), "{counts:?}");
        assert_eq!(Partitioner::TenantMd5.choose(None, None, 0, 5), 0);
    }
}
