//! Owns our own client of Kafka's protocol: connections to brokers, who they are, and what leads what.
//! Must never know a record's fate: it says what was written to a socket and what came back; the meaning is its caller's.
//!
//! ```text
//! settings --> bootstrap --> connection (TCP, TLS, ApiVersions, SASL) --> requests and responses in order
//!                  \-> metadata (brokers, topics, leaders)
//! ```
//! One task owns a connection, drives it with [`connection::Connection::next`], and shares it with no other.

pub mod bootstrap;
pub mod connection;
pub mod error;
pub mod message;
pub mod metadata;
pub mod sasl;
pub mod settings;
mod staggered;
pub mod tls;
