//! The ends of records that no response brings: their time is over, their topic refuses them, the sidecar stops.
//! Must never call a record unwritten whose batch is in doubt or on the wire.

use std::time::Instant;

use super::{Cause, End, Ended, Partition, sealed::Sealed};

impl<T> Partition<T> {
    /// Ends what was not written in its time, and is not on the wire.
    pub fn expire(&mut self, now: Instant, ended: &mut Vec<Ended<T>>) {
        while let Some(queued) = self.queue.pop_front_if(|queued| queued.by <= now) {
            let cause = Cause::TimedOut(queued.last_error);
            ended.push(queued.end(End::NotWritten(cause)));
        }
        let before = self.sealed.len();
        while let Some(batch) = self.sealed.pop_front_if(|batch| batch.is_over(now)) {
            let cause = Cause::TimedOut(batch.last_error);
            let end = if batch.is_in_doubt { End::InDoubt(cause) } else { End::NotWritten(cause) };
            ended.extend(batch.records.into_iter().map(|queued| queued.end(end)));
        }
        if self.sealed.len() < before {
            // The broker may have it or not: those behind may go under their own sequences, what is new may not.
            if self.sealed.is_empty() {
                self.producer = None;
            }
            self.settle(ended);
        }
    }

    /// Returns when something will have to be given up, if anything is there.
    #[must_use]
    pub fn expires_at(&self) -> Option<Instant> {
        let queued = self.queue.front().map(|queued| queued.by);
        let sealed = self.sealed.front().and_then(Sealed::last_by);
        queued.into_iter().chain(sealed).min()
    }

    /// Ends all records that wait, which are surely not in the log.
    pub fn refuse_waiting(&mut self, cause: Cause, ended: &mut Vec<Ended<T>>) {
        let waiting = std::mem::take(&mut self.queue);
        ended.extend(waiting.into_iter().map(|queued| queued.end(End::NotWritten(cause))));
    }

    /// Ends all records.
    pub fn give_up(&mut self, ended: &mut Vec<Ended<T>>) {
        for batch in std::mem::take(&mut self.sealed) {
            let is_not_written = !batch.is_on_wire && !batch.is_in_doubt;
            let end = if is_not_written { End::NotWritten } else { End::InDoubt };
            ended.extend(batch.records.into_iter().map(|queued| queued.end(end(Cause::GivenUp))));
        }
        self.producer = None;
        self.refuse_waiting(Cause::GivenUp, ended);
    }
}
