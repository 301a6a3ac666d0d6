//! Starts a real Kafka cluster and a fault proxy for the tests, breaks them, and reads back what consumers see.
//!
//! Owns every process, port and temporary folder that a test needs. Everything here blocks; a failure panics with what
//! was waited for. It never looks inside the sidecar: it knows the binary, its environment, its two ports and its output.
//!
//! A test binary calls [`Cluster::shutdown_shared`] at the end of `main`. If it dies first, the kernel ends the children,
//! and the next run removes what was left on disk.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a harness that cannot do what a test asked for has no better answer than to fail that test, loudly"
)]

mod broker;
pub mod certificates;
pub mod cluster;
mod eventually;
mod fatal;
mod folder;
pub mod grpcurl;
pub mod history;
pub mod jars;
mod membership;
mod misnamed;
mod mock;
mod ports;
mod process;
mod program;
pub mod proxy;
pub mod reader;
pub mod sidecar;
mod tool;
mod wire;

pub use broker::Broker;
pub use certificates::ClientPair;
pub use cluster::{Cluster, ClusterOptions};
pub use eventually::{eventually, try_eventually};
pub use fatal::make_fatal;
pub use folder::TestFolder;
pub use grpcurl::grpcurl;
pub use membership::GroupMembership;
pub use misnamed::send_misnamed;
pub use mock::MockKafka;
pub use ports::free_port;
pub use process::{Process, Signal};
pub use program::Program;
pub use proxy::{ApiKey, ClientFaults, Counts, FaultProxy};
pub use reader::{ReadRecord, read_committed_now, read_topic, read_topic_until};
pub use sidecar::{Sidecar, SidecarBuilder};
pub use tool::{ToolOutput, checkers, find_tool, run_tool, try_find_tool};
