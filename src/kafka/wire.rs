//! Our own client of Kafka's protocol: records in batches of many partitions, over one connection to each broker that leads some.
//! Must never answer for a record otherwise than its batch was answered; what decides is pure (`partition`, `verdict`, `metadata`).
//!
//! ```text
//! settings --> bootstrap --> connection (TCP, TLS, ApiVersions, SASL) --> requests and responses in order
//!                  \-> metadata (brokers, topics, leaders)
//! records --> partition (queue, sequences) --> batch --> the leader's connection --> verdict --> partition
//! ```
//! One task owns a connection, drives it with [`connection::Connection::next`], and shares it with no other.

pub mod batch;
pub mod bootstrap;
pub mod compression;
pub mod connection;
pub mod error;
pub mod message;
pub mod metadata;
pub mod partition;
pub mod producer;
pub mod sasl;
pub mod settings;
mod staggered;
pub mod tls;
pub mod verdict;
