//! Owns the reading of librdkafka's statistics (STATISTICS.md): the few numbers that we use, out of many.
//! Must never fail a caller: what cannot be read is left out.

use std::collections::HashMap;

use serde::Deserialize;

use crate::telemetry::metrics::BrokerReport;

/// What is kept of one statistics report.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Statistics {
    /// Brokers with a connection that is open and let in.
    pub brokers_connected: usize,
    /// Records in librdkafka's queues and on the way.
    pub queue_records: u64,
    /// Their bytes.
    pub queue_bytes: u64,
    /// What is told of each named broker.
    pub brokers: Vec<BrokerReport>,
}

#[derive(Deserialize)]
struct Report {
    #[serde(default)]
    msg_cnt: u64,
    #[serde(default)]
    msg_size: u64,
    #[serde(default)]
    brokers: HashMap<String, Broker>,
}

#[derive(Deserialize)]
struct Broker {
    #[serde(default)]
    nodeid: i32,
    #[serde(default)]
    state: String,
    #[serde(default)]
    rtt: Window,
    /// Requests sent again.
    #[serde(default)]
    txretries: u64,
}

#[derive(Deserialize, Default)]
struct Window {
    #[serde(default)]
    avg: i64,
}

/// Reads a report; `None` where it is no JSON of the known shape.
#[must_use]
pub fn read(json: &[u8]) -> Option<Statistics> {
    let report: Report = serde_json::from_slice(json).ok()?;
    let connected = |broker: &&Broker| matches!(broker.state.as_str(), "UP" | "UPDATE" | "REAUTH");
    let named = report.brokers.values().filter(|broker| broker.nodeid >= 0);
    Some(Statistics {
        brokers_connected: report.brokers.values().filter(connected).count(),
        queue_records: report.msg_cnt,
        queue_bytes: report.msg_size,
        brokers: named.map(Broker::report).collect(),
    })
}

impl Broker {
    fn report(&self) -> BrokerReport {
        BrokerReport { broker: self.nodeid.to_string(), round_trip_us: self.rtt.avg, retries: self.txretries }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connected_brokers_are_those_that_are_up_or_authenticate_again() {
        let json = br#"{"msg_cnt":7,"msg_size":99,"ts":1,"brokers":{
            "a":{"nodeid":1,"state":"UP","rtt":{"avg":250,"p99":1},"txretries":4},
            "b":{"nodeid":2,"state":"REAUTH"},
            "c":{"nodeid":3,"state":"TRY_CONNECT"},
            "boot":{"nodeid":-1,"state":"DOWN"}}}"#;
        let read = read(json).unwrap();
        assert_eq!((read.brokers_connected, read.queue_records, read.queue_bytes), (2, 7, 99));
        let first = BrokerReport { broker: "1".to_owned(), round_trip_us: 250, retries: 4 };
        assert!(read.brokers.contains(&first));
        assert_eq!(read.brokers.len(), 3);
        assert_eq!(super::read(b"{"), None);
    }
}
