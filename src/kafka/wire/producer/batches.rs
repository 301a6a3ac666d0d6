//! The batches of one request, from its sending to its end.
//! Must never be dropped without a word to their partitions: if no answer came, they are in doubt, unless no byte of them was written.

use std::{sync::Arc, time::Instant};

use kafka_protocol::messages::produce_response::{LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse};

use super::{Core, PartitionLog, asks_for_leaders, produce::Part};
use crate::{
    kafka::{code::ErrorCode, wire::partition::Answer},
    record::Record,
};

/// The batches of a request. If it is dropped, no answer to them will come.
pub(super) struct Batches<T: AsRef<Record> + Send + 'static> {
    pub core: Arc<Core<T>>,
    pub parts: Vec<Part>,
    pub logs: Vec<(Arc<PartitionLog<T>>, u64)>,
    /// A byte of it may be on the wire.
    pub is_written: bool,
}

// === impl Batches ===

impl<T: AsRef<Record> + Send + 'static> Batches<T> {
    /// Takes in what the response says of each; a batch that it leaves out has no answer.
    pub(super) fn end(mut self, answers: Vec<Option<PartitionProduceResponse>>, endpoints: &[NodeEndpoint]) {
        let logs = std::mem::take(&mut self.logs);
        for ((log, number), answer) in logs.into_iter().zip(answers) {
            match answer {
                Some(answer) => self.end_one(&log, number, &answer, endpoints),
                None => self.lose(&log, number),
            }
        }
    }

    fn end_one(
        &self,
        log: &Arc<PartitionLog<T>>,
        number: u64,
        said: &PartitionProduceResponse,
        endpoints: &[NodeEndpoint],
    ) {
        let code = ErrorCode::new(said.error_code.into());
        let refused: Vec<_> = said.record_errors.iter().map(|error| error.batch_index).collect();
        let known = |value: i64| Some(value).filter(|value| *value >= 0);
        let answer = Answer {
            code,
            base_offset: known(said.base_offset),
            append_ms: known(said.log_append_time_ms),
            refused: &refused,
        };
        let has_moved = self.learn(log, &said.current_leader, endpoints);
        let (now, mut ended) = (Instant::now(), Vec::new());
        {
            let mut state = log.state.lock();
            state.records.answered(number, &answer, now, &mut ended);
            if code.is_error() && !has_moved {
                let pause = self.core.pause(state.records.failures());
                state.records.pause_until(now + pause);
            }
            log.schedule(&mut state);
        }
        self.core.ended(log, ended);
        if has_moved {
            self.core.follow_leaders(&log.topic);
        } else if asks_for_leaders(code) {
            self.core.ask.notify_one();
        }
    }

    /// Takes in who leads a partition now (KIP-951); returns whether another broker does.
    fn learn(&self, log: &PartitionLog<T>, leader: &LeaderIdAndEpoch, endpoints: &[NodeEndpoint]) -> bool {
        leader.leader_id.0 >= 0
            && self.core.view.write().learn_leader(&log.topic, log.index, leader, endpoints)
    }

    fn lose(&self, log: &Arc<PartitionLog<T>>, number: u64) {
        let mut ended = Vec::new();
        {
            let mut state = log.state.lock();
            if self.is_written {
                state.records.lost(number, &mut ended);
                let pause = self.core.pause(state.records.failures());
                state.records.pause_until(Instant::now() + pause);
            } else {
                state.records.unsent(number, &mut ended);
            }
            log.schedule(&mut state);
        }
        self.core.ended(log, ended);
    }
}

impl<T: AsRef<Record> + Send + 'static> Drop for Batches<T> {
    fn drop(&mut self) {
        for (log, number) in std::mem::take(&mut self.logs) {
            self.lose(&log, number);
        }
    }
}
