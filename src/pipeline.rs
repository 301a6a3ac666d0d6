//! Owns the verbs of the sidecar and the types they share: a record goes in, its truth comes out.
//! Must never know gRPC; must never block; a caller that goes away leaves nothing half-done.

pub mod accepting;
pub mod batch;
pub mod budget;
pub mod dead_letters;
pub mod drain;
pub mod duplicates;
pub mod forward;
pub mod held;
pub mod judged;
pub mod line;
pub mod readiness;
pub mod replay;
pub mod room;
pub mod schedule;
pub mod send;
pub mod ticket;
pub mod way;

use crate::{failure::Failure, record::Receipt};

/// What became of a record.
pub type Outcome = Result<Receipt, Failure>;
