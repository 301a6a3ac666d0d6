//! Owns what scrapes of the metrics cost together: one is rendered at a time, and those who wait for it share the next one.
//! Must never answer with numbers from before the question.

use std::{fmt, time::Duration};

use bytes::Bytes;
use tokio::{
    sync::Mutex,
    time::{Instant, sleep_until},
};

use crate::telemetry::metrics::exposition::Exposition;

/// After rendering it is not rendered again for so many times as long as it took: scrapes get at most a quarter of a processor.
const REST_FACTOR: u32 = 3;

/// The rendering of metrics, in each of their formats.
#[derive(Debug, Default)]
pub(super) struct Scrapes {
    last: Mutex<Option<Rendered>>,
}

#[derive(Debug)]
struct Rendered {
    format: Exposition,
    begun: Instant,
    rests_until: Instant,
    text: Bytes,
}

impl Scrapes {
    /// Returns the metrics as they are now, or were rendered since this was called.
    pub(super) async fn text(
        &self,
        format: Exposition,
        render: impl FnOnce() -> Result<String, fmt::Error>,
    ) -> Result<Bytes, fmt::Error> {
        let asked = Instant::now();
        let mut last = self.last.lock().await;
        if let Some(last) = &*last {
            if last.begun >= asked && last.format == format {
                return Ok(last.text.clone());
            }
            sleep_until(last.rests_until).await;
        }
        let begun = Instant::now();
        let text = Bytes::from(render()?);
        let took: Duration = begun.elapsed();
        let rests_until = begun + took * (REST_FACTOR + 1);
        *last = Some(Rendered { format, begun, rests_until, text: text.clone() });
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    #[tokio::test]
    async fn who_waits_shares_one_text_and_who_asks_later_gets_another() {
        let (scrapes, rendered) = (Arc::new(Scrapes::default()), Arc::new(AtomicUsize::new(0)));
        let render = |rendered: &AtomicUsize| Ok(rendered.fetch_add(1, Ordering::Relaxed).to_string());
        let held = scrapes.last.lock().await;
        let waiting: Vec<_> = (0..50)
            .map(|_| {
                let (scrapes, rendered) = (Arc::clone(&scrapes), Arc::clone(&rendered));
                tokio::spawn(async move {
                    scrapes.text(Exposition::OpenMetrics, || render(&rendered)).await.unwrap()
                })
            })
            .collect();
        tokio::task::yield_now().await;
        drop(held);
        for text in waiting {
            assert_eq!(text.await.unwrap(), "0");
        }
        assert_eq!(scrapes.text(Exposition::OpenMetrics, || render(&rendered)).await.unwrap(), "1");
    }
}
