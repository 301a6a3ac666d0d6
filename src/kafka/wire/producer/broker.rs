//! One broker: its connection, opened once something waits for it, and the requests on it.
//! Must never build a request before the connection can take it: until then records can be taken out, and batches grow.
//!
//! ```text
//!  idle --(something waits)--> opening --> serving --(end)--> idle
//!    ^                            |
//!    +--------(pause)-------------+
//! ```

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use bytes::Bytes;
use kafka_protocol::messages::{ApiKey, InitProducerIdRequest, ProduceRequest};
use tokio::{
    sync::mpsc,
    time::{Instant as TokioInstant, sleep, sleep_until},
};

use super::{
    BrokerQueue, Core, PartitionLog, Question, QuestionBody, REQUESTS_MAX,
    batches::Batches,
    produce::{self, Part},
};
use crate::{
    kafka::wire::{
        batch::BatchBuilder,
        bootstrap::Backoff,
        connection::{Connection, ConnectionEvent},
        error::WireError,
        message::{CorrelationId, RequestBuffer, Response},
        metadata::ask_topics,
        partition::Outgoing,
    },
    record::Record,
};

/// The most partitions of one request.
const PARTS_MAX: usize = 1_000;
/// How many ready partitions are few: more of them wait for a moment, so that callers that are about to add records do.
const FEW_READY: usize = 1;

/// The task of a broker.
pub(super) struct BrokerTask<T: AsRef<Record> + Send + 'static> {
    core: Arc<Core<T>>,
    queue: Arc<BrokerQueue<T>>,
    asked: mpsc::Receiver<Question>,
    question: Option<Question>,
    /// In the order in which they were sent.
    flights: VecDeque<(CorrelationId, Flight<T>)>,
    /// Partitions that pause before they try again, by when.
    paused: BTreeMap<(Instant, u64), Arc<PartitionLog<T>>>,
    paused_count: u64,
    /// The broker asked for a pause until then (KIP-219).
    throttled: Option<Instant>,
    requests: u64,
}

/// What awaits a response.
enum Flight<T: AsRef<Record> + Send + 'static> {
    Records(Batches<T>),
    Question(Question),
}

// === impl BrokerTask ===

impl<T: AsRef<Record> + Send + 'static> BrokerTask<T> {
    pub(super) fn new(
        core: Arc<Core<T>>,
        queue: Arc<BrokerQueue<T>>,
        asked: mpsc::Receiver<Question>,
    ) -> Self {
        Self {
            core,
            queue,
            asked,
            question: None,
            flights: VecDeque::new(),
            paused: BTreeMap::new(),
            paused_count: 0,
            throttled: None,
            requests: 0,
        }
    }

    pub(super) async fn run(mut self, mut open: Option<Connection>) {
        let wire = Arc::clone(&self.core.wire.read());
        let mut backoff = Backoff::new(wire.reconnect_backoff, wire.reconnect_backoff_max);
        loop {
            let connection = match open.take() {
                Some(connection) => Ok(connection),
                None => {
                    self.wait_for_something().await;
                    self.open().await
                }
            };
            let error = match connection {
                Ok(connection) => {
                    backoff.reset();
                    self.serve(connection).await
                }
                Err(error) => {
                    let pause = backoff.pause();
                    self.core.ask.notify_one();
                    self.refuse_questions();
                    sleep(pause).await;
                    error
                }
            };
            tracing::debug!(broker = self.queue.id, %error, "the connection to a broker ended, or was not opened");
        }
    }

    async fn wait_for_something(&mut self) {
        while self.queue.len() == 0 && self.question.is_none() {
            let due = self.due();
            tokio::select! {
                () = self.queue.wake.notified() => {}
                question = self.asked.recv() => self.question = question,
                () = until(due) => self.end_pauses(),
            }
        }
    }

    async fn open(&self) -> Result<Connection, WireError> {
        let node = self.core.view.read().brokers().get(&self.queue.id).cloned();
        let node =
            node.ok_or_else(|| WireError::Protocol("the cluster names no such broker now".to_owned()))?;
        let wire = Arc::clone(&self.core.wire.read());
        Connection::open(&node.address, wire).await
    }

    fn refuse_questions(&mut self) {
        // Whoever asks goes to another broker: the dropped sender says so.
        self.question = None;
        while self.asked.try_recv().is_ok() {}
    }

    /// Serves until the connection ends; returns why it did.
    async fn serve(&mut self, mut connection: Connection) -> WireError {
        static SERIAL: AtomicU64 = AtomicU64::new(1);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let error = loop {
            if let Err(error) = self.fill(&mut connection, serial) {
                break error;
            }
            let (due, has_room) = (self.due(), self.flights.len() < REQUESTS_MAX);
            tokio::select! {
                biased;
                event = connection.next() => match event {
                    Ok(ConnectionEvent::Written(_)) => {}
                    Ok(ConnectionEvent::Response(response)) => {
                        if let Err(error) = self.answered(response) {
                            break error;
                        }
                    }
                    Err(error) => break error,
                },
                () = self.queue.wake.notified(), if has_room => {
                    if self.queue.len() > FEW_READY {
                        tokio::task::yield_now().await;
                    }
                }
                question = self.asked.recv(), if has_room && self.question.is_none() => self.question = question,
                () = until(due) => self.end_pauses(),
            }
        };
        self.lose(connection);
        error
    }

    /// Has what got no answer know whether it may have left.
    fn lose(&mut self, connection: Connection) {
        let unanswered = connection.into_unanswered();
        for (id, mut flight) in std::mem::take(&mut self.flights) {
            let sent = unanswered.iter().find(|unanswered| unanswered.id == id);
            if let (Flight::Records(batches), Some(sent)) = (&mut flight, sent) {
                batches.is_written = sent.is_written;
            }
        }
        // Without a leader that answers, another may lead by now.
        self.core.ask.notify_one();
    }

    /// Returns when something is to be done though nothing has happened.
    fn due(&self) -> Option<Instant> {
        let paused = self.paused.first_key_value().map(|((at, _), _)| *at);
        paused.into_iter().chain(self.throttled).min()
    }

    fn end_pauses(&mut self) {
        let now = Instant::now();
        self.throttled = self.throttled.filter(|until| *until > now);
        while let Some(entry) = self.paused.first_entry().filter(|entry| entry.key().0 <= now) {
            let log = entry.remove();
            let mut state = log.state.lock();
            log.schedule(&mut state);
        }
    }

    /// Sends requests while the connection can take some.
    fn fill(&mut self, connection: &mut Connection, serial: u64) -> Result<(), WireError> {
        while connection.can_write() && self.flights.len() < REQUESTS_MAX {
            if let Some(question) = self.question.take() {
                let request = self.ask(connection, &question)?;
                let id = connection.send(request)?;
                self.flights.push_back((id, Flight::Question(question)));
                continue;
            }
            if self.throttled.is_some() {
                return Ok(());
            }
            let mut batches = self.batches(serial);
            if batches.parts.is_empty() {
                return Ok(());
            }
            let mut request = connection.request(ApiKey::Produce)?;
            let timeout_ms = i32::try_from(self.core.settings.acks_timeout.as_millis()).unwrap_or(i32::MAX);
            let version = request.version();
            request.encode(&produce::request(&batches.parts, version, timeout_ms))?;
            let id = connection.send(request)?;
            batches.is_written = true;
            for part in &mut batches.parts {
                part.batch = Bytes::new();
            }
            self.flights.push_back((id, Flight::Records(batches)));
        }
        Ok(())
    }

    fn ask(&self, connection: &mut Connection, question: &Question) -> Result<RequestBuffer, WireError> {
        match &question.body {
            QuestionBody::Topics(topics) => {
                let creates = self.core.wire.read().allow_auto_topic_creation;
                let mut request = connection.request(ApiKey::Metadata)?;
                request.encode(&ask_topics(topics, creates))?;
                Ok(request)
            }
            QuestionBody::ProducerId => {
                let mut request = connection.request(ApiKey::InitProducerId)?;
                // Neither transactional nor the continuation of another id.
                let body = InitProducerIdRequest::default().with_transactional_id(None);
                request.encode(&body.with_producer_id((-1).into()).with_producer_epoch(-1))?;
                Ok(request)
            }
        }
    }

    /// Takes the next batch of each partition that is ready, as many as fit into a request.
    fn batches(&mut self, serial: u64) -> Batches<T> {
        let (parts, logs) = Default::default();
        let mut batches = Batches { core: Arc::clone(&self.core), parts, logs, is_written: false };
        let (now, mut bytes, mut again) = (Instant::now(), 0, Vec::new());
        self.requests += 1;
        while bytes < self.core.settings.request_bytes_max && batches.parts.len() < PARTS_MAX {
            let Some(log) = self.queue.pop() else { break };
            let mut state = log.state.lock();
            if state.leader.as_ref().is_none_or(|leader| leader.id != self.queue.id) {
                continue;
            }
            // A request has one batch of a partition at most.
            if state.request == Some((serial, self.requests)) {
                again.push(Arc::clone(&log));
                continue;
            }
            state.is_ready = false;
            if state.records.needs_producer_id() {
                let Some(id) = self.core.producer_id(&log) else { continue };
                state.records.use_producer_id(id);
            }
            let settings = &self.core.settings;
            let next = state.records.next(serial, (now, &settings.batch), |items, producer, sequence| {
                let mut builder = BatchBuilder::with_capacity(0);
                items.for_each(|item| builder.push(item.as_ref()));
                // It fails for lack of memory alone; an empty batch is refused by the broker.
                builder.seal(settings.compression, producer, sequence).unwrap_or_default()
            });
            if let Some(Outgoing { number, bytes: batch }) = next {
                bytes += batch.len();
                let topic_id = self.core.view.read().topic(&log.topic).and_then(|view| view.id);
                let part = Part { topic: log.topic.clone(), topic_id, partition: log.index, batch };
                batches.parts.push(part);
                batches.logs.push((Arc::clone(&log), number));
                state.request = Some((serial, self.requests));
                if state.records.has_something_to_send() {
                    state.is_ready = true;
                    again.push(Arc::clone(&log));
                }
            } else if let Some(at) = state.records.paused_until().filter(|at| *at > now) {
                self.paused_count += 1;
                self.paused.insert((at, self.paused_count), Arc::clone(&log));
            }
        }
        self.queue.ready.lock().extend(again);
        batches
    }

    fn answered(&mut self, response: Response) -> Result<(), WireError> {
        let Some((id, flight)) = self.flights.pop_front() else {
            return Err(WireError::Protocol("an answer to no request".to_owned()));
        };
        if id != response.id {
            return Err(WireError::Protocol("an answer to another request".to_owned()));
        }
        match flight {
            Flight::Question(question) => {
                // Whoever asked may have gone.
                drop(question.answer.send(Ok(response)));
                Ok(())
            }
            Flight::Records(batches) => {
                let version = response.version;
                let response = response.decode::<ProduceRequest>()?;
                if let Ok(ms @ 1..) = u64::try_from(response.throttle_time_ms) {
                    self.throttled = Some(Instant::now() + std::time::Duration::from_millis(ms));
                }
                let endpoints = response.node_endpoints.clone();
                let answers = produce::answers(&batches.parts, version, response);
                batches.end(answers, &endpoints);
                Ok(())
            }
        }
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(TokioInstant::from_std(due)).await,
        None => std::future::pending().await,
    }
}
