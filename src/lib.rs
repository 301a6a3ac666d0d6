//! The Kafka producer sidecar: runs beside an application, takes records over gRPC and produces them to Kafka.
//!
//! Reading order: [`record`] and [`failure`] are the words; [`partition`] decides where, [`offsets`] whether a unit still has to
//! run, [`retry`] whether a record goes again; [`config`] says with which numbers; [`kafka`] owns librdkafka; [`pipeline`] owns the way of a record; [`connections`] those of the ports; [`grpc`] and
//! [`admin`] are the doors; [`app`] puts it all together.

pub mod admin;
pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod connections;
pub mod dead_letter;
pub mod failure;
pub mod grpc;
pub mod kafka;
pub mod lifecycle;
pub mod offsets;
pub mod partition;
pub mod pipeline;
pub mod record;
pub mod retry;
pub mod tasks;
pub mod telemetry;
