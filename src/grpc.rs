//! Owns the gRPC service: decode, call the pipeline, encode.
//! Must never know librdkafka, hold a record longer than its decoding takes, or decide about one.

pub mod admission;
pub mod calls;
pub mod client;
pub mod deadline;
pub mod decode;
pub mod encode;
pub mod exemplar;
pub mod health;
pub mod json;
pub mod memory;
pub mod messages;
pub mod methods;
pub mod proto;
pub mod scan;
pub mod server;
pub mod stamp;
pub mod status;
pub mod stream;
pub mod time;
pub mod traced;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use prost::Message as _;
use tokio::time::Instant;
use tonic::Status;

use self::{
    admission::{Admission, Places},
    deadline::Deadlines,
    decode::RecordLimits,
    memory::{Memory, Owner, Permit},
    messages::{Message, Reading},
    methods::Incoming,
    proto::{GetInfoResponse, ProcessAndForwardResponse, SendResponse},
    scan::Shape,
    stamp::Stamper,
    stream::{Answers, Streams},
};
use crate::{
    clock::now_ms,
    config::Config,
    failure::Failure,
    lifecycle::Lifecycle,
    pipeline::{
        forward::{Forwarded, Forwarder},
        send::Sender,
    },
    record::Record,
    telemetry::{
        failures::Failures,
        spans::{CallSpan, SendSpan, Spans},
    },
};

/// What a message may have beside its records: field numbers, lengths, the names of its parts. In bytes.
const MESSAGE_OVERHEAD_BYTES: usize = 65_536;
/// What a message may take once it is decoded without asking for it, in bytes: no more are decoded at once than there are threads.
const BUILT_AT_ONCE_BYTES: usize = 65_536;

/// The service of `proto/producer.proto`.
#[derive(Debug)]
pub struct Service {
    sender: Arc<Sender>,
    forwarder: Arc<Forwarder>,
    failures: Arc<Failures>,
    spans: Spans,
    lifecycle: Lifecycle,
    callers: Places,
    limits: RecordLimits,
    unit_outputs_max: usize,
    unit_inputs_max: usize,
    deadlines: Deadlines,
    info: GetInfoResponse,
    streams: Arc<Streams>,
    reading: Reading,
}

/// A request that has been read.
struct Request {
    bytes: Bytes,
    arrived: Instant,
    deadline: Instant,
    /// What it takes once it is decoded, where that is much.
    built: Option<Permit>,
}

/// A call of Send that may go on.
struct Sending {
    record: Record,
    span: SendSpan,
    arrived: Instant,
    deadline: Instant,
    admission: Admission,
}

impl Service {
    /// Makes the service over the pipeline.
    #[must_use]
    pub fn new(
        config: &Config,
        sender: Arc<Sender>,
        forwarder: Arc<Forwarder>,
        (failures, spans): (Arc<Failures>, Spans),
        lifecycle: Lifecycle,
    ) -> Self {
        let told = (Arc::clone(&failures), spans.clone());
        let reading = reading(config);
        let streams = Streams::new(config, Arc::clone(&sender), told, lifecycle.clone(), reading.clone());
        Self {
            streams: Arc::new(streams),
            sender,
            forwarder,
            unit_outputs_max: config.transactions.outputs_max,
            unit_inputs_max: config.transactions.inputs_max,
            failures,
            spans,
            lifecycle,
            callers: Places::of_calls(config.limits.callers_max),
            limits: RecordLimits {
                record_bytes_max: config.limits.record_bytes_max,
                record_headers_max: config.limits.record_headers_max,
            },
            deadlines: Deadlines::new(&config.send),
            info: info(config),
            reading,
        }
    }

    fn admit(&self, request: &http::Extensions) -> Result<Admission, Failure> {
        self.callers.admit(&self.lifecycle, request)
    }

    /// Reads the only message of a call, at most until its deadline.
    async fn read(&self, incoming: Incoming, shape: Shape) -> Result<Request, Failure> {
        let arrived = incoming.arrived;
        let deadline = self.deadlines.of_call(&incoming.metadata, arrived);
        let owner = Owner::of_call(incoming.connection());
        let message = incoming.messages(self.reading.clone(), owner).only(arrived, deadline).await?;
        let built = self.built((owner, deadline), &message, shape).await?;
        Ok(Request { bytes: message.shared(), arrived, deadline, built })
    }

    /// Counts the parts of a message, and takes what it will take once it is decoded, where that is much.
    async fn built(
        &self,
        (owner, deadline): (Owner, Instant),
        message: &Message,
        shape: Shape,
    ) -> Result<Option<Permit>, Failure> {
        let memory = &self.reading.memory;
        let parts = scan::parts(shape, message.as_ref(), (usize::MAX, memory.built_bytes_max()));
        parts.fit(shape, memory.built_bytes_max())?;
        if parts.bytes <= BUILT_AT_ONCE_BYTES {
            return Ok(None);
        }
        let asked = memory.built(owner, parts.bytes);
        messages::granted(&self.reading, Some(deadline), asked).await.map(Some)
    }

    /// Does all of a call of Send that is over before its record is on its way: many calls may wait for long, and each keeps all
    /// that its future ever held.
    async fn begin(&self, incoming: Incoming, call: &CallSpan) -> Result<Sending, Failure> {
        let admission = self.admit(&incoming.extensions)?;
        let Request { bytes, arrived, deadline, built: _built } = self.read(incoming, Shape::Send).await?;
        let message = proto::SendRequest::decode(bytes).map_err(|error| status::undecodable(&error))?;
        let mut record = decode::send_request(message, &self.limits, now_ms())?;
        let span = self.spans.send(call, &record);
        self.stamper(call, &span).stamp(&mut record);
        Ok(Sending { record, span, arrived, deadline, admission })
    }

    async fn forward_one(&self, incoming: Incoming, call: &CallSpan) -> Result<Forwarded, Failure> {
        let _admission = self.admit(&incoming.extensions)?;
        // What the unit takes is its own until it has ended.
        let Request { bytes, arrived, deadline, built: _built } =
            Box::pin(self.read(incoming, Shape::Unit)).await?;
        let message =
            proto::ProcessAndForwardRequest::decode(bytes).map_err(|error| status::undecodable(&error))?;
        let (outputs_max, inputs_max) = (self.unit_outputs_max, self.unit_inputs_max);
        let mut unit = decode::process_request(message, &self.limits, outputs_max, inputs_max, now_ms())?;
        let span = self.spans.outputs(call, &unit);
        let stamper = self.stamper(call, &span);
        unit.outputs.iter_mut().for_each(|record| stamper.stamp(record));
        let shown = |record: &Record| (record.topic.clone(), exemplar::trace_id(record));
        let topics: Vec<_> = unit.outputs.iter().map(shown).collect();
        let transactions = self.spans.unit(call, &unit);
        let forwarded = self.forwarder.forward(unit, transactions, deadline).await;
        span.ended_with(forwarded.as_ref().err().into_iter());
        for (topic, sampled) in topics {
            self.sender.metrics_of(&topic).duration(arrived.elapsed(), sampled);
        }
        forwarded
    }

    /// Says in which trace the records of a call are: the sending's, the call's, or a new one.
    fn stamper(&self, call: &CallSpan, span: &SendSpan) -> Stamper {
        let context = span.context().or_else(|| call.context()).cloned();
        Stamper::new(context.unwrap_or_else(traced::new_trace), self.spans.propagates())
    }

    /// Counts a failure that is answered, logs it, and makes its status.
    fn refuse(&self, failure: &Failure, call: &CallSpan) -> Status {
        self.failures.one(failure, || call.trace_id());
        status::status(failure)
    }

    /// Sends one record.
    async fn send(&self, incoming: Incoming) -> Result<SendResponse, Status> {
        let call = traced::call_of(&incoming.extensions);
        let Sending { record, span, arrived, deadline, admission } =
            Box::pin(self.begin(incoming, &call)).await.map_err(|failure| self.refuse(&failure, &call))?;
        let (topic, sampled) = (record.topic.clone(), exemplar::trace_id(&record));
        let outcome = self.sender.send(record, "record", deadline).await;
        drop(admission);
        self.sender.metrics_of(&topic).duration(arrived.elapsed(), sampled);
        span.ended(&outcome);
        match outcome {
            Ok(receipt) => Ok(SendResponse { receipt: Some(encode::receipt(receipt)) }),
            Err(failure) => Err(self.refuse(&failure, &call)),
        }
    }

    /// Begins a stream of frames.
    fn send_batch(&self, incoming: Incoming) -> Result<Answers, Status> {
        let call = traced::call_of(&incoming.extensions);
        let ends = self.deadlines.of_stream(&incoming.metadata, incoming.arrived);
        let begun = self
            .admit(&incoming.extensions)
            .and_then(|admission| self.streams.serve(incoming, admission, ends, call.clone()));
        begun.map_err(|failure| self.refuse(&failure, &call))
    }

    /// Runs a unit.
    async fn process_and_forward(&self, incoming: Incoming) -> Result<ProcessAndForwardResponse, Status> {
        let call = traced::call_of(&incoming.extensions);
        match self.forward_one(incoming, &call).await {
            Ok(Forwarded { receipts, already_committed }) => {
                let receipts = receipts.into_iter().map(encode::receipt).collect();
                Ok(ProcessAndForwardResponse { receipts, already_committed })
            }
            Err(failure) => Err(self.refuse(&failure, &call)),
        }
    }

    /// Says what the sidecar is and can do; what is asked says nothing.
    async fn get_info(&self, incoming: Incoming) -> Result<GetInfoResponse, Status> {
        let call = traced::call_of(&incoming.extensions);
        match self.read(incoming, Shape::Send).await {
            Ok(_) => Ok(self.info.clone()),
            Err(failure) => Err(self.refuse(&failure, &call)),
        }
    }
}

fn reading(config: &Config) -> Reading {
    let limits = &config.limits;
    Reading {
        memory: Memory::new(limits.requests_bytes_max, limits.requests_waiting_max),
        message_bytes_max: limits.record_bytes_max.max(limits.frame_bytes_max) + MESSAGE_OVERHEAD_BYTES,
        body_max: limits.body_max,
        memory_wait_max: config.send.timeout,
    }
}

fn info(config: &Config) -> GetInfoResponse {
    let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    let duration = |value: Duration| prost_types::Duration::try_from(value).ok();
    GetInfoResponse {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        record_bytes_max: number(config.limits.record_bytes_max),
        frame_bytes_max: number(config.limits.frame_bytes_max),
        frame_records_max: number(config.limits.frame_records_max),
        window_records: number(config.limits.window_records),
        default_durability: proto::Durability::Replicated.into(),
        spool: false,
        default_timeout: duration(config.send.timeout),
        timeout_max: duration(config.send.timeout_max),
        message_ids_max: number(config.deduplication.ids_max),
        message_id_window: duration(config.deduplication.window).filter(|_| config.deduplication.ids_max > 0),
    }
}
