//! Owns what benchmarks that compare sidecars in turns share: how many rounds of which length, and a sidecar that is ready.

use std::time::Duration;

use testkit::{Sidecar, SidecarBuilder};

const ROUNDS: usize = 40;
/// How long a round takes, in milliseconds: many short ones tell apart better what is measured from what else the machine does.
pub const ROUND_MS: u64 = 500;

/// Returns how many rounds are measured; `ROUNDS` asks for other than forty.
pub fn rounds() -> usize {
    std::env::var("ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(ROUNDS)
}

/// Starts a sidecar and waits until it is ready.
pub fn started(builder: SidecarBuilder) -> Sidecar {
    let sidecar = builder.start();
    sidecar.wait_ready(Duration::from_secs(15));
    sidecar
}
