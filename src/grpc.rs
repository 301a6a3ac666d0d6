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
pub mod proto;
pub mod refusal;
pub mod server;
pub mod stamp;
pub mod status;
pub mod stream;
pub mod time;
pub mod traced;

use std::{pin::Pin, sync::Arc, time::Duration};

use tokio::time::Instant;
use tonic::{Request, Response, Status, Streaming};

use self::{
    admission::{Admission, Callers},
    deadline::{Arrival, Deadlines},
    decode::RecordLimits,
    proto::{
        GetInfoRequest, GetInfoResponse, ProcessAndForwardRequest, ProcessAndForwardResponse,
        SendBatchRequest, SendRequest, SendResponse, producer_service_server::ProducerService,
    },
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

/// The service of `proto/producer.proto`.
#[derive(Debug)]
pub struct Service {
    sender: Arc<Sender>,
    forwarder: Arc<Forwarder>,
    failures: Arc<Failures>,
    spans: Spans,
    lifecycle: Lifecycle,
    callers: Callers,
    limits: RecordLimits,
    unit_outputs_max: usize,
    unit_inputs_max: usize,
    deadlines: Deadlines,
    info: GetInfoResponse,
    streams: Arc<Streams>,
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
        let streams = Streams::new(config, Arc::clone(&sender), told, lifecycle.clone());
        Self {
            streams: Arc::new(streams),
            sender,
            forwarder,
            unit_outputs_max: config.transactions.outputs_max,
            unit_inputs_max: config.transactions.inputs_max,
            failures,
            spans,
            lifecycle,
            callers: Callers::new(config.limits.callers_max),
            limits: RecordLimits {
                record_bytes_max: config.limits.record_bytes_max,
                record_headers_max: config.limits.record_headers_max,
            },
            deadlines: Deadlines::new(&config.send),
            info: info(config),
        }
    }

    fn admit(&self, request: &http::Extensions) -> Result<Admission, Failure> {
        self.callers.admit(&self.lifecycle, request)
    }

    /// Does all of a call of Send that needs no waiting. The request goes in here, so that a call that waits does not keep it.
    fn begin(&self, request: Request<SendRequest>) -> (CallSpan, Result<Sending, Failure>) {
        let call = traced::call_of(request.extensions());
        let sending = self.admitted(request, &call);
        (call, sending)
    }

    fn admitted(&self, request: Request<SendRequest>, call: &CallSpan) -> Result<Sending, Failure> {
        let arrived = Arrival::of(request.extensions());
        let admission = self.admit(request.extensions())?;
        let (metadata, _, message) = request.into_parts();
        let mut record = decode::send_request(message, &self.limits, now_ms())?;
        let span = self.spans.send(call, &record);
        self.stamper(call, &span).stamp(&mut record);
        let deadline = self.deadlines.of_call(&metadata, arrived);
        Ok(Sending { record, span, arrived, deadline, admission })
    }

    async fn forward_one(
        &self,
        request: Request<ProcessAndForwardRequest>,
        call: &CallSpan,
    ) -> Result<Forwarded, Failure> {
        let arrived = Arrival::of(request.extensions());
        let _admission = self.admit(request.extensions())?;
        let (metadata, _, message) = request.into_parts();
        let (outputs_max, inputs_max) = (self.unit_outputs_max, self.unit_inputs_max);
        let mut unit = decode::process_request(message, &self.limits, outputs_max, inputs_max, now_ms())?;
        let span = self.spans.outputs(call, &unit);
        let stamper = self.stamper(call, &span);
        unit.outputs.iter_mut().for_each(|record| stamper.stamp(record));
        let deadline = self.deadlines.of_call(&metadata, arrived);
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
}

#[tonic::async_trait]
impl ProducerService for Service {
    type SendBatchStream = Answers;

    /// As `async_trait` would write it, save that what needs no waiting is done outside of the future: many calls may wait for
    /// long, and each keeps all that its future ever held.
    fn send<'service, 'call>(
        &'service self,
        request: Request<SendRequest>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<SendResponse>, Status>> + Send + 'call>>
    where
        'service: 'call,
        Self: 'call,
    {
        let (call, sending) = self.begin(request);
        let Sending { record, span, arrived, deadline, admission } = match sending {
            Ok(sending) => sending,
            Err(failure) => return Box::pin(std::future::ready(Err(self.refuse(&failure, &call)))),
        };
        let (topic, sampled) = (record.topic.clone(), exemplar::trace_id(&record));
        Box::pin(async move {
            let outcome = self.sender.send(record, "record", deadline).await;
            drop(admission);
            self.sender.metrics_of(&topic).duration(arrived.elapsed(), sampled);
            span.ended(&outcome);
            match outcome {
                Ok(receipt) => Ok(Response::new(SendResponse { receipt: Some(encode::receipt(receipt)) })),
                Err(failure) => Err(self.refuse(&failure, &call)),
            }
        })
    }

    async fn send_batch(
        &self,
        request: Request<Streaming<SendBatchRequest>>,
    ) -> Result<Response<Answers>, Status> {
        let arrived = Arrival::of(request.extensions());
        let call = traced::call_of(request.extensions());
        let admission = self.admit(request.extensions()).map_err(|failure| self.refuse(&failure, &call))?;
        let ends = self.deadlines.of_stream(request.metadata(), arrived);
        Ok(Response::new(self.streams.serve(request.into_inner(), admission, ends, call)))
    }

    async fn process_and_forward(
        &self,
        request: Request<ProcessAndForwardRequest>,
    ) -> Result<Response<ProcessAndForwardResponse>, Status> {
        let call = traced::call_of(request.extensions());
        match self.forward_one(request, &call).await {
            Ok(Forwarded { receipts, already_committed }) => {
                let receipts = receipts.into_iter().map(encode::receipt).collect();
                Ok(Response::new(ProcessAndForwardResponse { receipts, already_committed }))
            }
            Err(failure) => Err(self.refuse(&failure, &call)),
        }
    }

    async fn get_info(&self, _request: Request<GetInfoRequest>) -> Result<Response<GetInfoResponse>, Status> {
        Ok(Response::new(self.info.clone()))
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
