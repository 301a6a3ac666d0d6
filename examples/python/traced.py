"""Carries a trace through the sidecar: one begins here, goes into records in three ways, and goes on in their consumer."""

import os
import sys

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.propagate import extract, inject
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind

from caas.producer.v1 import producer_pb2 as pb
from caas.producer.v1 import producer_pb2_grpc
from client import SEND_WAIT_S, START_WAIT_S, connect

FRAME_RECORDS = 3
READ_WAIT_S = 30
"""How long the records may take to be read back."""

USAGE = """usage: traced TARGET TOPIC
Sends records to TOPIC within traces of its own, reads them back and goes on with the trace of each.
Finds Kafka by KAFKA_BROKERS, KAFKA_USER, KAFKA_PASSWORD and KAFKA_CA_FILE, and the receiver of its own spans by
OTEL_EXPORTER_OTLP_ENDPOINT."""


def metadata() -> list[tuple[str, str]]:
    """Returns the current context as gRPC takes it: what makes the sidecar's spans part of this trace."""
    carrier: dict[str, str] = {}
    inject(carrier)
    return list(carrier.items())


def with_own_context(record: pb.ProducerRecord) -> pb.ProducerRecord:
    """Puts the current context into the record itself, which the sidecar then keeps: the way for records of a stream."""
    for name, value in metadata():
        record.headers.add(name=name, value_text=value)
    return record


def send_all(stub: producer_pb2_grpc.ProducerServiceStub, tracer: trace.Tracer, topic: str) -> int:
    """Sends the records; returns how many."""
    with tracer.start_as_current_span("one"):
        record = pb.ProducerRecord(topic=topic, value_text="one")
        stub.Send(pb.SendRequest(record=record), timeout=SEND_WAIT_S, metadata=metadata())
    frame = pb.SendBatchRequest(sequence=1)
    for number in range(FRAME_RECORDS):
        with tracer.start_as_current_span(f"create {number}", kind=SpanKind.PRODUCER):
            frame.records.append(with_own_context(pb.ProducerRecord(topic=topic, value_text=f"frame-{number}")))
    with tracer.start_as_current_span("stream"):
        for answer in stub.SendBatch(iter([frame]), timeout=SEND_WAIT_S, metadata=metadata()):
            for result in answer.results:
                if result.WhichOneof("result") != "receipt":
                    raise ValueError(f"not sent: {result.error.message}")
    with tracer.start_as_current_span("unit"):
        outputs = [pb.ProducerRecord(topic=topic, value_text="unit")]
        stub.ProcessAndForward(
            pb.ProcessAndForwardRequest(outputs=outputs), timeout=READ_WAIT_S, metadata=metadata()
        )
    return 1 + FRAME_RECORDS + 1


def consume(tracer: trace.Tracer, topic: str, count: int) -> None:
    """Reads so many records and goes on with the trace that is in each."""
    consumer = Consumer({
        "bootstrap.servers": os.environ["KAFKA_BROKERS"],
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": os.environ["KAFKA_USER"],
        "sasl.password": os.environ["KAFKA_PASSWORD"],
        "ssl.ca.location": os.environ["KAFKA_CA_FILE"],
        "group.id": "traced",
        "enable.auto.commit": False,
    })
    consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    try:
        for _ in range(count):
            message = consumer.poll(READ_WAIT_S)
            if message is None:
                raise ValueError("the records are not there")
            if message.error():
                raise KafkaException(message.error())
            carrier = {name: value.decode() for name, value in message.headers() or [] if value is not None}
            with tracer.start_as_current_span(f"process {topic}", context=extract(carrier), kind=SpanKind.CONSUMER):
                print(message.value().decode(), carrier["traceparent"], flush=True)
    finally:
        consumer.close()


def main() -> None:
    if len(sys.argv) != 3:
        print(USAGE, file=sys.stderr)
        sys.exit(64)
    provider = TracerProvider(resource=Resource.create({"service.name": "traced-example"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(insecure=True)))
    tracer = provider.get_tracer("traced")
    with connect(sys.argv[1]) as channel:
        stub = producer_pb2_grpc.ProducerServiceStub(channel)
        stub.GetInfo(pb.GetInfoRequest(), timeout=START_WAIT_S, wait_for_ready=True)
        consume(tracer, sys.argv[2], send_all(stub, tracer, sys.argv[2]))
    provider.shutdown()


if __name__ == "__main__":
    main()
