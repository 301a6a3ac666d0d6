//! Owns the metrics of the ports' connections.
//! Must never have a label that a peer chooses.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::{gauge_value, table};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PortLabel {
    port: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct EndLabels {
    port: &'static str,
    reason: &'static str,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// The peer ended it.
    Ended,
    /// It broke.
    Broken,
    /// The peer did not begin in time, or in another protocol.
    NoHandshake,
    /// Nothing was heard of the peer for too long.
    Silent,
    /// It was idle and a newcomer needed its place.
    MadeRoom,
    /// The sidecar stops.
    Stopping,
}

/// Why a connection was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refused {
    /// The port is full.
    Full,
    /// The system did not give it to us.
    AcceptFailed,
}

/// The metrics of the ports' connections.
#[derive(Debug)]
pub struct ConnectionMetrics {
    open: Family<PortLabel, Gauge>,
    closed: Family<EndLabels, Counter>,
    refused: Family<EndLabels, Counter>,
}

impl ConnectionMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let (open, closed, refused) = (Family::default(), Family::default(), Family::default());
        table::CONNECTIONS.register(registry, open.clone());
        table::CONNECTIONS_CLOSED.register(registry, closed.clone());
        table::CONNECTIONS_REFUSED.register(registry, refused.clone());
        Self { open, closed, refused }
    }

    /// Begins all counts of a port at zero, so that the first of a kind is seen as an increase.
    pub fn begin(&self, port: &'static str) {
        self.open(port, 0);
        for reason in Closed::ALL.map(Closed::name) {
            self.closed.get_or_create_owned(&EndLabels { port, reason });
        }
        for reason in Refused::ALL.map(Refused::name) {
            self.refused.get_or_create_owned(&EndLabels { port, reason });
        }
    }

    /// Sets how many connections of a port are open.
    pub fn open(&self, port: &'static str, connections: usize) {
        self.open.get_or_create_owned(&PortLabel { port }).set(gauge_value(connections));
    }

    /// Counts a connection that ended.
    pub fn closed(&self, port: &'static str, closed: Closed) {
        self.closed.get_or_create_owned(&EndLabels { port, reason: closed.name() }).inc();
    }

    /// Counts a connection that was not taken.
    pub fn refused(&self, port: &'static str, refused: Refused) {
        self.refused.get_or_create_owned(&EndLabels { port, reason: refused.name() }).inc();
    }
}

impl Closed {
    const ALL: [Self; 6] =
        [Self::Ended, Self::Broken, Self::NoHandshake, Self::Silent, Self::MadeRoom, Self::Stopping];

    /// Returns its name in metrics and log lines.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ended => "ended",
            Self::Broken => "broken",
            Self::NoHandshake => "no_handshake",
            Self::Silent => "silent",
            Self::MadeRoom => "made_room",
            Self::Stopping => "stopping",
        }
    }
}

impl Refused {
    const ALL: [Self; 2] = [Self::Full, Self::AcceptFailed];

    /// Returns its name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::AcceptFailed => "accept_failed",
        }
    }
}
