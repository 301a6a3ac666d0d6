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
