//! Owns what the build script generated from `proto/producer.proto`: messages, service, client and descriptor set.
//! Must never hold a line of behaviour; what the messages mean is decided in `decode` and `status`.

pub use generated::*;

#[expect(
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::too_many_lines,
    reason = "generated code"
)]
mod generated {
    tonic::include_proto!("caas.producer.v1");
}

/// The encoded `FileDescriptorSet` of the contract and its imports, comments included; served by reflection.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/producer.bin"));
