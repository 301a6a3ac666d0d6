//! Owns `SendBatch`: reading frames, the window, and the answers in their order.
//! Must never end a stream for what is wrong with a record, and never hold more than its window and its buffer.
//!
//! A stream is one task of three parts: `read` takes frames off the connection into a bounded buffer, `submit` takes them
//! through the window into the pipeline, `respond` awaits their outcomes and answers, all three in the order of the frames.
//! When the caller goes away the task ends, and dropping what it holds withdraws what can still be taken out.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use parking_lot::Mutex;
use prost::Message as _;
use tokio::{
    sync::{
        OwnedSemaphorePermit, Semaphore,
        mpsc::{self, UnboundedReceiver, UnboundedSender},
    },
    time::{Instant, sleep_until, timeout, timeout_at},
};
use tokio_stream::Stream;
use tonic::{Status, Streaming};

use super::{
    admission::Admission,
    deadline::Deadlines,
    decode::{self, RecordLimits},
    encode,
    exemplar::{FirstSampled, first_sampled},
    now_ms,
    proto::{SendBatchRequest, SendBatchResponse},
    stamp::Stamper,
    status, traced,
};
use crate::{
    config::{Config, Limits},
    connections::caller::inherit,
    failure::{Failure, Reason},
    lifecycle::{Lifecycle, Phase},
    pipeline::{Outcome, accepting::Content, batch::Batch, send::Sender},
    record::{Record, Topic},
    telemetry::{
        failures::Failures,
        metrics::TopicMetrics,
        spans::{CallSpan, SendSpan, Spans},
    },
};

/// Answers that wait for the connection to take them.
const ANSWERS_MAX: usize = 4;
/// What a frame counts in the buffer at least, in bytes: tiny ones cost more than their text.
const FRAME_BYTES_MIN: usize = 256;

/// What all streams share.
#[derive(Debug)]
pub struct Streams {
    sender: Arc<Sender>,
    failures: Arc<Failures>,
    spans: Spans,
    lifecycle: Lifecycle,
    deadlines: Deadlines,
    records: RecordLimits,
    limits: Limits,
}

/// The answers of a stream, then its end.
#[derive(Debug)]
pub struct Answers {
    receiver: mpsc::Receiver<SendBatchResponse>,
    /// Set before the task drops its sender, where the stream does not end with OK.
    end: Arc<Mutex<Option<Status>>>,
}

/// A frame in the buffer.
struct Frame {
    request: SendBatchRequest,
    arrived: Instant,
    _buffer: OwnedSemaphorePermit,
}

/// A frame whose records are on their way.
struct Flight {
    sequence: u64,
    arrived: Instant,
    batch: Batch,
    span: SendSpan,
    sampled: Option<FirstSampled>,
    _window: Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)>,
}

/// Why no more frames are read.
enum End {
    HalfClosed,
    Draining,
    Deadline,
    Refused(Box<Status>),
}

/// Why answering ended.
enum Answered {
    All,
    NotRead,
}

impl Streams {
    /// Takes what streams need from the settings.
    #[must_use]
    pub fn new(
        config: &Config,
        sender: Arc<Sender>,
        (failures, spans): (Arc<Failures>, Spans),
        lifecycle: Lifecycle,
    ) -> Self {
        Self {
            sender,
            failures,
            spans,
            lifecycle,
            deadlines: Deadlines::new(&config.send),
            records: RecordLimits {
                record_bytes_max: config.limits.record_bytes_max,
                record_headers_max: config.limits.record_headers_max,
            },
            limits: config.limits.clone(),
        }
    }

    /// Serves a stream on a task of its own, which ends when all is answered or the answers are dropped.
    pub fn serve(
        self: &Arc<Self>,
        inbound: Streaming<SendBatchRequest>,
        admission: Admission,
        ends: Option<Instant>,
        call: CallSpan,
    ) -> Answers {
        let (answers, receiver) = mpsc::channel(ANSWERS_MAX);
        let end = Arc::new(Mutex::new(None));
        let (streams, told) = (Arc::clone(self), Arc::clone(&end));
        self.sender.tasks().spawn(
            "stream",
            inherit(async move {
                let _admission = admission;
                tokio::select! {
                    ended = streams.run(inbound, &answers, (ends, &call)) => *told.lock() = ended,
                    () = answers.closed() => {}
                }
            }),
        );
        Answers { receiver, end }
    }

    /// Runs the three parts; returns the status to end with, none for OK.
    async fn run(
        &self,
        inbound: Streaming<SendBatchRequest>,
        answers: &mpsc::Sender<SendBatchResponse>,
        (ends, call): (Option<Instant>, &CallSpan),
    ) -> Option<Status> {
        // Neither queue needs a bound of its own: frames hold permits of the buffer, flights of the window.
        let (frames, buffered) = mpsc::unbounded_channel();
        let (flights, flying) = mpsc::unbounded_channel();
        let taking_in = async {
            let (end, ()) =
                tokio::join!(self.read(inbound, frames, ends), self.submit(buffered, flights, (ends, call)));
            end
        };
        let answering = self.respond(flying, answers, call);
        tokio::pin!(taking_in, answering);
        let mut ended = None;
        let answered = loop {
            tokio::select! {
                end = &mut taking_in, if ended.is_none() => ended = Some(end),
                answered = &mut answering => break answered,
            }
        };
        match (answered, ended) {
            (Answered::NotRead, _) => Some(self.refuse(&not_read(self.limits.responses_not_read), call)),
            (Answered::All, None | Some(End::HalfClosed)) => None,
            (Answered::All, Some(End::Draining)) => {
                let sentence = "the sidecar is stopping; frames without an answer were not read";
                Some(self.refuse(&Failure::new(Reason::Draining, sentence), call))
            }
            (Answered::All, Some(End::Deadline)) => {
                let sentence = "the call's own deadline ended the stream";
                Some(self.refuse(&Failure::new(Reason::DeliveryUnknownAtDeadline, sentence), call))
            }
            (Answered::All, Some(End::Refused(status))) => Some(*status),
        }
    }

    async fn read(
        &self,
        mut inbound: Streaming<SendBatchRequest>,
        frames: UnboundedSender<Frame>,
        ends: Option<Instant>,
    ) -> End {
        let buffer = Arc::new(Semaphore::new(self.limits.stream_buffer_bytes));
        let mut phase = self.lifecycle.watch();
        let ended = async {
            match ends {
                Some(ends) => sleep_until(ends).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(ended);
        loop {
            let message = tokio::select! {
                biased;
                _ = phase.wait_for(|phase| *phase == Phase::Draining) => return End::Draining,
                () = &mut ended => return End::Deadline,
                message = inbound.message() => message,
            };
            let request = match message {
                Ok(Some(request)) => request,
                Ok(None) => return End::HalfClosed,
                Err(status) => return End::Refused(Box::new(status::refused_by_transport(status))),
            };
            let arrived = Instant::now();
            let bytes = request.encoded_len().clamp(FRAME_BYTES_MIN, self.limits.stream_buffer_bytes);
            let Ok(permit) = Arc::clone(&buffer).acquire_many_owned(permits(bytes)).await else {
                return End::HalfClosed;
            };
            if frames.send(Frame { request, arrived, _buffer: permit }).is_err() {
                return End::HalfClosed;
            }
        }
    }

    async fn submit(
        &self,
        mut frames: UnboundedReceiver<Frame>,
        flights: UnboundedSender<Flight>,
        (ends, call): (Option<Instant>, &CallSpan),
    ) {
        let records_window = Arc::new(Semaphore::new(self.limits.window_records));
        let bytes_window = Arc::new(Semaphore::new(self.limits.window_bytes));
        while let Some(Frame { request, arrived, _buffer }) = frames.recv().await {
            let sequence = request.sequence;
            let asked = request.timeout.and_then(|timeout| Duration::try_from(timeout).ok());
            let deadline = self.deadlines.of_frame(asked, arrived);
            let deadline = ends.map_or(deadline, |ends| deadline.min(ends));
            let (records, span) = self.decode(request, call);
            let bytes: usize = records.iter().flatten().map(Record::bytes).sum();
            let count = records.len().min(self.limits.window_records);
            let sampled = first_sampled(&records);
            let window = async {
                let records = Arc::clone(&records_window).acquire_many_owned(permits(count)).await.ok()?;
                let bytes = bytes.min(self.limits.window_bytes);
                Some((records, Arc::clone(&bytes_window).acquire_many_owned(permits(bytes)).await.ok()?))
            };
            let window = timeout_at(deadline, window).await.ok().flatten();
            let records: Vec<_> = match window {
                Some(_) => records,
                None => records
                    .into_iter()
                    .map(|record| record.and_then(|record| Err(no_window(&record))))
                    .collect(),
            };
            let batch = Batch::accept(
                &self.sender,
                records,
                |index| format!("records[{index}]"),
                (Content::Records, deadline),
            )
            .await;
            let flight = Flight { sequence, arrived, batch, span, sampled, _window: window };
            if flights.send(flight).is_err() {
                return;
            }
        }
    }

    fn decode(&self, request: SendBatchRequest, call: &CallSpan) -> (Vec<Result<Record, Failure>>, SendSpan) {
        let mut records = decode::frame(request, &self.records, self.limits.frame_records_max, now_ms());
        let span = self.spans.frame(call, records.iter().flatten());
        // Each frame is a piece of work of its own, and its records belong together.
        let trace = span.context().cloned().unwrap_or_else(traced::new_trace);
        let stamper = Stamper::new(trace, self.spans.propagates());
        for record in records.iter_mut().flatten() {
            stamper.stamp(record);
        }
        (records, span)
    }

    async fn respond(
        &self,
        mut flights: UnboundedReceiver<Flight>,
        answers: &mpsc::Sender<SendBatchResponse>,
        call: &CallSpan,
    ) -> Answered {
        while let Some(Flight { sequence, arrived, batch, span, sampled, _window }) = flights.recv().await {
            let outcomes = batch.outcomes().await;
            let trace_id = || span.trace_id().or_else(|| call.trace_id());
            self.observe(&outcomes, arrived.elapsed(), sampled, trace_id);
            span.ended_with(outcomes.iter().filter_map(|outcome| outcome.as_ref().err()));
            let results = outcomes.into_iter().map(encode::result).collect();
            let answer = SendBatchResponse { sequence, results };
            match timeout(self.limits.responses_not_read, answers.send(answer)).await {
                Ok(Ok(())) => {}
                // The caller is gone; the task is about to end.
                Ok(Err(_)) => return Answered::All,
                Err(_) => return Answered::NotRead,
            }
        }
        Answered::All
    }

    fn observe(
        &self,
        outcomes: &[Outcome],
        took: Duration,
        sampled: Option<FirstSampled>,
        trace_id: impl Fn() -> Option<String>,
    ) {
        // The records of a frame are often of one topic.
        let mut last: Option<(&Topic, TopicMetrics)> = None;
        for (index, outcome) in outcomes.iter().enumerate() {
            let topic = match outcome {
                Ok(receipt) => Some(&receipt.topic),
                Err(failure) => {
                    self.failures.one(failure, &trace_id);
                    failure.failed_topic()
                }
            };
            let Some(topic) = topic else { continue };
            if last.as_ref().is_none_or(|(of, _)| *of != topic) {
                last = Some((topic, self.sender.metrics_of(topic)));
            }
            if let Some((_, metrics)) = &last {
                let sampled = sampled.filter(|(of, _)| *of == index);
                metrics.duration(took, sampled.map(|(_, trace_id)| trace_id));
            }
        }
    }

    fn refuse(&self, failure: &Failure, call: &CallSpan) -> Status {
        self.failures.one(failure, || call.trace_id());
        status::status(failure)
    }
}

// === impl Answers ===

impl Stream for Answers {
    type Item = Result<SendBatchResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.receiver.poll_recv(context) {
            Poll::Ready(Some(answer)) => Poll::Ready(Some(Ok(answer))),
            Poll::Ready(None) => Poll::Ready(self.end.lock().take().map(Err)),
            Poll::Pending => Poll::Pending,
        }
    }
}

fn permits(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn no_window(record: &Record) -> Failure {
    let sentence =
        "the frame's time ran out before the stream's window had room; the record was not handed over";
    Failure::new(Reason::DeadlineNotWritten, sentence).topic(&record.topic)
}

fn not_read(bound: Duration) -> Failure {
    let sentence = format!("no answer was read for {} ms; read answers while sending", bound.as_millis());
    Failure::new(Reason::ResponsesNotRead, sentence)
}
