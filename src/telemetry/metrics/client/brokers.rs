//! Owns the metrics that brokers have labels in.
//! Must never let their labels grow without bound: brokers beyond the cap share `_other`.

use std::collections::HashMap;

use parking_lot::Mutex;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::{super::table, BrokerReport};

/// The most brokers with labels of their own.
const BROKERS_MAX: usize = 200;
/// The label of all others.
const OTHER_BROKERS: &str = "_other";

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct BrokerLabel {
    broker: String,
}

/// The metrics of brokers.
#[derive(Debug, Default)]
pub(super) struct Brokers {
    round_trip: Family<BrokerLabel, Gauge>,
    retries: Family<BrokerLabel, Counter>,
    known: Mutex<HashMap<String, Broker>>,
}

#[derive(Debug)]
struct Broker {
    round_trip: Gauge,
    retries: Counter,
    /// What its client had counted when it last told.
    retries_told: u64,
}

impl Brokers {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let brokers = Self::default();
        table::ROUND_TRIP.register(registry, brokers.round_trip.clone());
        table::REQUEST_RETRIES.register(registry, brokers.retries.clone());
        brokers
    }

    /// Takes in a report; brokers beyond the cap count as one, with the longest round trip and the sum of their retries.
    pub(super) fn take_in(&self, reports: &[BrokerReport]) {
        let mut known = self.known.lock();
        let mut others: Option<BrokerReport> = None;
        for report in reports {
            if known.len() < BROKERS_MAX || known.contains_key(&report.broker) {
                self.set(&mut known, report);
                continue;
            }
            let name = OTHER_BROKERS.to_owned();
            let others = others.get_or_insert(BrokerReport { broker: name, round_trip_us: 0, retries: 0 });
            others.round_trip_us = others.round_trip_us.max(report.round_trip_us);
            others.retries += report.retries;
        }
        if let Some(others) = others {
            self.set(&mut known, &others);
        }
    }

    fn set(&self, known: &mut HashMap<String, Broker>, report: &BrokerReport) {
        let broker = known.entry(report.broker.clone()).or_insert_with(|| self.broker(&report.broker));
        broker.round_trip.set(report.round_trip_us);
        broker.retries.inc_by(grown(broker.retries_told, report.retries));
        broker.retries_told = report.retries;
    }

    fn broker(&self, name: &str) -> Broker {
        let label = BrokerLabel { broker: name.to_owned() };
        Broker {
            round_trip: self.round_trip.get_or_create_owned(&label),
            retries: self.retries.get_or_create_owned(&label),
            retries_told: 0,
        }
    }
}

/// Returns by how much a count grew; one that is smaller than before is another client's, which began at zero.
const fn grown(before: u64, now: u64) -> u64 {
    match now.checked_sub(before) {
        Some(grown) => grown,
        None => now,
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    fn report(broker: usize, round_trip_us: i64, retries: u64) -> BrokerReport {
        BrokerReport { broker: broker.to_string(), round_trip_us, retries }
    }

    fn rendered(registry: &Registry) -> String {
        let mut text = String::new();
        encode(&mut text, registry).unwrap();
        text
    }

    #[test]
    fn retries_add_up_over_clients() {
        let mut registry = Registry::default();
        let brokers = Brokers::register(&mut registry);
        for retries in [3, 3, 5, 2] {
            brokers.take_in(&[report(1, 900, retries)]);
        }
        let text = rendered(&registry);
        assert!(text.contains(r#"kafka_request_retries_total{broker="1"} 7"#), "{text}");
        assert!(text.contains(r#"kafka_broker_round_trip_microseconds{broker="1"} 900"#), "{text}");
    }

    #[test]
    fn brokers_beyond_the_cap_share_a_label() {
        let mut registry = Registry::default();
        let brokers = Brokers::register(&mut registry);
        let reports: Vec<_> = (0..BROKERS_MAX + 3).map(|broker| report(broker, 7, 1)).collect();
        for _ in 0..2 {
            brokers.take_in(&reports);
        }
        let text = rendered(&registry);
        assert_eq!(text.matches("kafka_broker_round_trip_microseconds{").count(), BROKERS_MAX + 1);
        assert!(text.contains(r#"kafka_request_retries_total{broker="_other"} 3"#), "{text}");
        assert!(text.contains(r#"kafka_broker_round_trip_microseconds{broker="_other"} 7"#), "{text}");
    }
}
