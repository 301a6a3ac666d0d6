//! A consumer's membership of its group as librdkafka's own clients hand it over, and what is in it.
//!
//! Owns the only unsafe code of the tests: rust-rdkafka has no call that writes a consumer's group metadata down.
#![expect(unsafe_code, reason = "rust-rdkafka does not wrap rd_kafka_consumer_group_metadata_write")]

use std::{ffi::c_void, ptr, slice};

use rdkafka::bindings::{
    rd_kafka_consumer_group_metadata, rd_kafka_consumer_group_metadata_destroy,
    rd_kafka_consumer_group_metadata_write, rd_kafka_error_destroy, rd_kafka_mem_free,
};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};

const MAGIC: &[u8] = b"CGMDv2:";

/// A consumer's membership of its group at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMembership {
    /// librdkafka's bytes, unchanged.
    pub bytes: Vec<u8>,
    /// The generation, or the member epoch of the newer protocol; below zero while the consumer is in no group.
    pub generation: i32,
    /// The coordinator's id of the member; empty while the consumer is in no group.
    pub member_id: String,
    /// The instance id of a static member.
    pub instance_id: Option<String>,
}

impl GroupMembership {
    /// Asks a consumer for its membership of this moment; `None` where it has no group.
    ///
    /// # Panics
    ///
    /// When librdkafka cannot write it down, or writes it in another format.
    pub fn of<C: ConsumerContext>(consumer: &BaseConsumer<C>) -> Option<Self> {
        let bytes = written(consumer)?;
        Some(Self::read(bytes).expect("librdkafka's format is the one that begins with CGMDv2:"))
    }

    /// Whether the consumer had joined its group.
    pub fn has_joined(&self) -> bool {
        self.generation >= 0 && !self.member_id.is_empty()
    }

    fn read(bytes: Vec<u8>) -> Option<Self> {
        let (generation, rest) = bytes.strip_prefix(MAGIC)?.split_first_chunk()?;
        let generation = i32::from_ne_bytes(*generation);
        let mut texts = rest.split(|byte| *byte == 0);
        let _group = texts.next()?;
        let member_id = String::from_utf8(texts.next()?.to_vec()).ok()?;
        // A byte says whether the instance is null; where it is not, that byte is zero and so ends an empty text.
        let instance_id = match texts.next()? {
            [] => Some(String::from_utf8(texts.next()?.to_vec()).ok()?),
            _ => None,
        };
        Some(Self { bytes, generation, member_id, instance_id })
    }
}

/// The bytes, by `rd_kafka_consumer_group_metadata_write`.
fn written<C: ConsumerContext>(consumer: &BaseConsumer<C>) -> Option<Vec<u8>> {
    // SAFETY: the handle is the living consumer's. What librdkafka gives is freed here, by its own functions, after the
    // bytes were copied; nothing of it leaves this function.
    unsafe {
        let metadata = rd_kafka_consumer_group_metadata(consumer.client().native_ptr());
        if metadata.is_null() {
            return None;
        }
        let (mut buffer, mut size) = (ptr::null_mut::<c_void>(), 0_usize);
        let error = rd_kafka_consumer_group_metadata_write(metadata, &raw mut buffer, &raw mut size);
        rd_kafka_consumer_group_metadata_destroy(metadata);
        if !error.is_null() {
            rd_kafka_error_destroy(error);
            panic!("librdkafka cannot write a group's metadata down");
        }
        let bytes = slice::from_raw_parts(buffer.cast::<u8>(), size).to_vec();
        rd_kafka_mem_free(ptr::null_mut(), buffer);
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(generation: i32, rest: &[u8]) -> Vec<u8> {
        [MAGIC, &generation.to_ne_bytes(), rest].concat()
    }

    #[test]
    fn a_membership_is_read_with_and_without_an_instance() {
        let dynamic = GroupMembership::read(bytes(3, b"group\0member-1\0\x01")).unwrap();
        assert_eq!((dynamic.generation, &*dynamic.member_id, dynamic.instance_id), (3, "member-1", None));
        let fixed = GroupMembership::read(bytes(4, b"group\0member-2\0\0one\0")).unwrap();
        assert_eq!((fixed.generation, fixed.instance_id.as_deref()), (4, Some("one")));
        assert!(!GroupMembership::read(bytes(-1, b"group\0\0\x01")).unwrap().has_joined());
        assert!(GroupMembership::read(b"CGMDv3:".to_vec()).is_none());
    }
}
