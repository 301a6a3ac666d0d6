//! Owns `SendBatch`: reading frames, the window, and the answers in their order.
//! Must never end a stream for what is wrong with a record, and never hold more than its window and its buffer.
//!
//! A stream is one task of three parts: `read` takes frames off the connection into a bounded buffer, `submit` takes them
//! through the window, decodes them and hands them to the pipeline, `respond` awaits their outcomes and answers, all three in the
//! order of the frames. What a frame takes is counted in the memory of all requests (`memory.rs`) until it is answered.
//! When the caller goes away the task ends, and dropping what it holds withdraws what can still be taken out.

mod answers;
mod room;

pub use self::answers::Answers;

use std::{sync::Arc, time::Duration};

use prost::Message as _;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{Instant, sleep_until, timeout, timeout_at},
};
use tonic::Status;

use self::{
    answers::Answer,
    room::{Room, Window, no_room, permits},
};
use super::{
    admission::{Admission, Places},
    deadline::Deadlines,
    decode::{self, RecordLimits},
    encode,
    exemplar::{FirstSampled, first_sampled},
    memory::Owner,
    messages::{Message, Messages, Reading},
    methods::Incoming,
    now_ms,
    proto::{SendBatchRequest, SendBatchResponse},
    scan::{self, Parts, Shape},
    stamp::Stamper,
    status, traced,
};
use crate::{
    config::{Config, Limits},
    failure::{Failure, Reason, Violation},
    lifecycle::{Lifecycle, Phase},
    pipeline::{Outcome, accepting::Content, batch::Batch, send::Sender},
    record::{Record, Topic},
    telemetry::{
        failures::Failures,
        metrics::TopicMetrics,
        spans::{CallSpan, SendSpan, Spans},
    },
};

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
    reading: Reading,
    open: Places,
}

/// What a frame says of itself; its records are skipped.
#[derive(Clone, PartialEq, prost::Message)]
struct Head {
    #[prost(uint64, tag = "1")]
    sequence: u64,
    #[prost(message, optional, tag = "4")]
    timeout: Option<prost_types::Duration>,
}

/// A frame in the buffer.
struct Frame {
    message: Message,
    head: Head,
    parts: Parts,
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
    room: Option<Room>,
}

/// Why no more frames are read.
enum End {
    HalfClosed,
    Draining,
    Deadline,
    Refused(Failure),
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
        reading: Reading,
    ) -> Self {
        Self {
            reading,
            open: Places::of_streams(config.limits.streams_max),
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
    ///
    /// # Errors
    /// `QUEUE_FULL` if there are as many streams as may be, of all connections or of this one.
    pub(super) fn serve(
        self: &Arc<Self>,
        incoming: Incoming,
        admission: Admission,
        ends: Option<Instant>,
        call: CallSpan,
    ) -> Result<Answers, Failure> {
        let open = self.open.take(&incoming.extensions)?;
        let owner = self.reading.memory.stream(incoming.connection());
        let inbound = incoming.messages(self.reading.clone(), owner);
        let streams = Arc::clone(self);
        Ok(Answers::of(self.sender.tasks(), async move |answers| {
            let _held = (admission, open);
            streams.run((inbound, owner), &answers, (ends, &call)).await
        }))
    }

    /// Runs the three parts; returns the status to end with, none for OK.
    async fn run(
        &self,
        (inbound, owner): (Messages, Owner),
        answers: &mpsc::Sender<Answer>,
        (ends, call): (Option<Instant>, &CallSpan),
    ) -> Option<Status> {
        // As many as their permits allow: each frame holds some of the buffer, each flight some of the window. What waits is boxed,
        // because a queue has room for 32 at once: an idle stream would pay for them.
        let (frames, buffered) = mpsc::channel(self.limits.stream_buffer_bytes.div_ceil(FRAME_BYTES_MIN));
        let (flights, flying) = mpsc::channel(self.limits.window_records);
        let taking_in = async {
            let reading = self.read(inbound, frames, ends);
            let submitting = self.submit((buffered, owner), flights, (ends, call));
            tokio::pin!(reading, submitting);
            tokio::select! {
                end = &mut reading => submitting.await.map_or(end, End::Refused),
                refused = &mut submitting => refused.map_or(End::HalfClosed, End::Refused),
            }
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
            (Answered::All, Some(End::Refused(failure))) => Some(self.refuse(&failure, call)),
        }
    }

    async fn read(
        &self,
        mut inbound: Messages,
        frames: mpsc::Sender<Box<Frame>>,
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
                message = inbound.next() => message,
            };
            let message = match message {
                Ok(Some(message)) => message,
                Ok(None) => return End::HalfClosed,
                Err(failure) if failure.reason() == Reason::CancelledByCaller => return End::HalfClosed,
                Err(failure) => return End::Refused(failure),
            };
            let (head, parts) = match self.looked_at(&message) {
                Ok(seen) => seen,
                Err(failure) => return End::Refused(failure),
            };
            let arrived = Instant::now();
            let bytes = message.length().clamp(FRAME_BYTES_MIN, self.limits.stream_buffer_bytes);
            let Ok(permit) = Arc::clone(&buffer).acquire_many_owned(permits(bytes)).await else {
                return End::HalfClosed;
            };
            if frames.send(Box::new(Frame { message, head, parts, arrived, _buffer: permit })).await.is_err()
            {
                return End::HalfClosed;
            }
        }
    }

    /// Refuses a frame that has too many records, or would take too much.
    fn looked_at(&self, message: &Message) -> Result<(Head, Parts), Failure> {
        let (records_max, bytes_max) = (self.limits.frame_records_max, self.reading.memory.built_bytes_max());
        let parts = scan::parts(Shape::Frame, message.as_ref(), (records_max, bytes_max));
        if parts.records > records_max {
            let description = format!("must be at most {records_max} in a frame, and are more");
            return Err(Failure::invalid(vec![Violation { field: "records".to_owned(), description }], 1));
        }
        parts.fit(Shape::Frame, bytes_max)?;
        let head = Head::decode(message.as_ref()).map_err(|error| status::undecodable(&error))?;
        Ok((head, parts))
    }

    /// Returns why a frame cannot be decoded, where one could not; those before it are on their way.
    async fn submit(
        &self,
        (mut frames, owner): (mpsc::Receiver<Box<Frame>>, Owner),
        flights: mpsc::Sender<Box<Flight>>,
        (ends, call): (Option<Instant>, &CallSpan),
    ) -> Option<Failure> {
        let window = Window::new(&self.limits);
        while let Some(frame) = frames.recv().await {
            let Frame { message, head, parts, arrived, _buffer } = *frame;
            let asked = head.timeout.and_then(|timeout| Duration::try_from(timeout).ok());
            let deadline = self.deadlines.of_frame(asked, arrived);
            let deadline = ends.map_or(deadline, |ends| deadline.min(ends));
            let memory = (&*self.reading.memory, owner);
            let room = timeout_at(deadline, window.room(&parts, message.length(), memory));
            let mut room = room.await.ok().flatten();
            let (records, span) = match room {
                Some(_) => match self.decode(message, call) {
                    Ok(decoded) => decoded,
                    Err(failure) => return Some(failure),
                },
                None => (vec![Err(no_room()); parts.records], self.spans.frame(call, std::iter::empty())),
            };
            let sampled = first_sampled(&records);
            let path = |index| format!("records[{index}]");
            let batch = Batch::accept(&self.sender, records, path, (Content::Records, deadline)).await;
            if let Some(room) = &mut room {
                room.accepted(parts.records);
            }
            let flight = Flight { sequence: head.sequence, arrived, batch, span, sampled, room };
            if flights.send(Box::new(flight)).await.is_err() {
                return None;
            }
        }
        None
    }

    fn decode(
        &self,
        message: Message,
        call: &CallSpan,
    ) -> Result<(Vec<Result<Record, Failure>>, SendSpan), Failure> {
        let request =
            SendBatchRequest::decode(message.shared()).map_err(|error| status::undecodable(&error))?;
        let mut records = decode::frame(request, &self.records, now_ms());
        let span = self.spans.frame(call, records.iter().flatten());
        // Each frame is a piece of work of its own, and its records belong together.
        let trace = span.context().cloned().unwrap_or_else(traced::new_trace);
        let stamper = Stamper::new(trace, self.spans.propagates());
        for record in records.iter_mut().flatten() {
            stamper.stamp(record);
        }
        Ok((records, span))
    }

    async fn respond(
        &self,
        mut flights: mpsc::Receiver<Box<Flight>>,
        answers: &mpsc::Sender<Answer>,
        call: &CallSpan,
    ) -> Answered {
        while let Some(flight) = flights.recv().await {
            let Flight { sequence, arrived, batch, span, sampled, room } = *flight;
            let outcomes = batch.outcomes().await;
            let trace_id = || span.trace_id().or_else(|| call.trace_id());
            self.observe(&outcomes, arrived.elapsed(), sampled, trace_id);
            span.ended_with(outcomes.iter().filter_map(|outcome| outcome.as_ref().err()));
            let results = outcomes.into_iter().map(encode::result).collect();
            let answer = SendBatchResponse { sequence, results };
            match timeout(self.limits.responses_not_read, answers.send((answer, room))).await {
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

fn not_read(bound: Duration) -> Failure {
    let sentence = format!("no answer was read for {} ms; read answers while sending", bound.as_millis());
    Failure::new(Reason::ResponsesNotRead, sentence)
}
