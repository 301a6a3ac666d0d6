//! Owns the digests by which message ids and contents are told apart: 128 and 64 bits under keys of this process.
//! Must never be written down or sent: another process has other keys.

use twox_hash::{XxHash3_64, XxHash3_128};

/// The digest of a message id; two of ten million ids have the same once in 10^24 such sets.
pub type Digest = u128;

/// The digest of a content, which is compared for one id alone; two contents have the same once in 2^64 pairs.
pub type ContentDigest = u64;

/// The keys of one process.
#[derive(Debug, Clone, Copy)]
pub struct Keys {
    id: u64,
    content: u64,
}

impl Keys {
    /// Draws keys.
    #[must_use]
    pub fn draw() -> Self {
        Self { id: rand::random(), content: rand::random() }
    }

    /// Returns the keys for the ids of a topic.
    #[must_use]
    pub fn of_topic(self, topic: &str) -> Self {
        Self { id: chained(self.id, Some(topic.as_bytes())), ..self }
    }

    /// Digests a message id; the keys are those of its topic.
    #[must_use]
    pub fn id(self, id: &str) -> Digest {
        XxHash3_128::oneshot_with_seed(self.id, id.as_bytes())
    }

    /// Digests key and payload, null told apart from empty.
    #[must_use]
    pub fn content(self, key: Option<&[u8]>, payload: Option<&[u8]>) -> ContentDigest {
        chained(chained(self.content, key), payload)
    }
}

/// Digests a part under a key, which may be the digest of the part before: so no byte can move from one to the other.
fn chained(key: u64, part: Option<&[u8]>) -> u64 {
    match part {
        Some(bytes) => XxHash3_64::oneshot_with_seed(key, bytes),
        None => XxHash3_64::oneshot_with_seed(!key, &[]),
    }
}

/// Returns the lowest 64 bits.
pub fn low(digest: Digest) -> u64 {
    u64::try_from(digest & Digest::from(u64::MAX)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_has_another_digest_and_what_is_the_same_has_the_same() {
        let keys = Keys::draw();
        let long = "0".repeat(1_000);
        let contents = [
            (None, None),
            (Some(""), None),
            (None, Some("")),
            (Some(""), Some("")),
            (Some("ab"), Some("c")),
            (Some("a"), Some("bc")),
            (Some("abc"), None),
            (Some("abc"), Some(long.as_str())),
        ];
        let content = |(key, payload): (Option<&str>, Option<&str>)| {
            keys.content(key.map(str::as_bytes), payload.map(str::as_bytes))
        };
        for (place, one) in contents.into_iter().enumerate() {
            for (other, another) in contents.into_iter().enumerate() {
                assert_eq!(content(one) == content(another), place == other, "{place} and {other}");
            }
        }
        let id = |keys: Keys, topic, id| keys.of_topic(topic).id(id);
        assert_eq!(id(keys, "orders", "1"), id(keys, "orders", "1"));
        assert_ne!(id(keys, "orders", "1"), id(keys, "orders", "2"));
        assert_ne!(id(keys, "orders", "1"), id(keys, "order", "s1"));
        assert_ne!(
            id(keys, "orders", "1"),
            id(Keys::draw(), "orders", "1"),
            "another process has other keys"
        );
    }
}
