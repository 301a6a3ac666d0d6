//! Owns which units a lane takes, and how long it waits for more of them while other transactions run.
//! Must never keep a unit waiting that finds no transaction running, nor any longer than the linger time.

use tokio::time::{Instant, timeout_at};

use super::{Forwarder, lanes::Started};
use crate::pipeline::schedule::Bounds;

impl Forwarder {
    /// Waits for units that may start.
    pub(super) async fn next_units(&self) -> Vec<Started> {
        let bounds = Bounds {
            units_max: self.settings.units_max,
            records_max: self.settings.records_max,
            bytes_max: self.settings.bytes_max,
        };
        let mut closes: Option<Instant> = None;
        loop {
            let is_over = closes.is_some_and(|closes| closes <= Instant::now());
            let (units, left) = {
                let mut schedule = self.schedule.lock();
                let goes = is_over || schedule.is_worth_a_start(&bounds);
                let units = if goes { schedule.start(&bounds) } else { Vec::new() };
                (units, schedule.ready())
            };
            if !units.is_empty() {
                if left > 0 {
                    self.changed.notify_one();
                }
                return units;
            }
            closes = (left > 0).then(|| closes.unwrap_or_else(|| Instant::now() + self.settings.linger));
            match closes {
                Some(closes) => drop(timeout_at(closes, self.changed.notified()).await),
                None => self.changed.notified().await,
            }
        }
    }
}
