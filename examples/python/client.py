"""The example client in Python: one call of each kind to a running sidecar, one printed line for each step."""

import json
import queue
import sys
from collections import deque
from typing import Iterator, NamedTuple

import grpc
from google.protobuf import struct_pb2
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from caas.producer.v1 import producer_pb2 as pb
from caas.producer.v1 import producer_pb2_grpc

START_WAIT_S = 10
"""How long a sidecar may take that is still starting."""
SEND_WAIT_S = 5
"""The deadline of one Send; without one the sidecar's own default holds."""
FRAME_RECORDS = 100
"""How many records a frame has; GetInfo tells the most that the sidecar takes."""
FRAME_WAIT_S = 10
"""How long the sidecar may take over a frame; the records that are not in Kafka then have failed."""
UNANSWERED_MAX = 10
"""How many frames may wait for their answers: what is in memory, and in doubt if the stream breaks."""

CHANNEL_OPTIONS = {
    # The default backs off for up to two minutes, which is for strangers; a sidecar is back in seconds.
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 1_000,
    # Whatever its name says, this is how long an attempt to connect may take; a busy machine needs more than a moment.
    "grpc.min_reconnect_backoff_ms": 5_000,
    # A sidecar that hangs ends its calls with UNAVAILABLE; a stream without a deadline would wait for ever.
    "grpc.keepalive_time_ms": 10_000,
    "grpc.keepalive_timeout_ms": 5_000,
    "grpc.http2.ping_timeout_ms": 5_000,
    # Else http_proxy takes localhost to the proxy too.
    "grpc.enable_http_proxy": 0,
    # A policy also repeats calls whose connection broke after Kafka had the record, so it is for records with a message id, which
    # the sidecar writes once. It stops retries that cannot help by a trailer.
    "grpc.service_config": json.dumps({"methodConfig": [{
        "name": [{"service": "caas.producer.v1.ProducerService", "method": "Send"}],
        "retryPolicy": {"maxAttempts": 4, "initialBackoff": "0.1s", "maxBackoff": "2s",
                        "backoffMultiplier": 2, "retryableStatusCodes": ["UNAVAILABLE"]}}]}),
}


class Refusal(NamedTuple):
    """What the details of a failed call say."""

    code: str
    reason: str
    """ErrorReason without its prefix; `-` where the error is not the sidecar's own, as when the connection broke."""
    persisted: str
    """NO: the record surely is not in Kafka. MAYBE: it may be; so it is of every error that does not say."""
    fields: list[str]
    """The wrong fields, the first 20 at most."""


def refusal_of(error: grpc.RpcError) -> Refusal:
    reason, persisted, fields = "-", "MAYBE", []
    status = rpc_status.from_call(error)
    for detail in status.details if status else ():
        info, bad_request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        if detail.Unpack(info) and info.domain == "producer.caas":
            reason, persisted = info.reason, info.metadata.get("persisted", persisted)
        elif detail.Unpack(bad_request):
            fields = [violation.field for violation in bad_request.field_violations]
    return Refusal(error.code().name, reason, persisted, fields)


def connect(target: str) -> grpc.Channel:
    """Opens HOST:PORT or unix:/path; does not wait for the sidecar, the first call does."""
    options = dict(CHANNEL_OPTIONS)
    if target.startswith("unix:"):
        # By default the authority is the socket's path, which is none, and the sidecar's HTTP/2 resets the stream.
        options["grpc.default_authority"] = "localhost"
    return grpc.insecure_channel(target, options=list(options.items()))


def send(stub: producer_pb2_grpc.ProducerServiceStub, record: pb.ProducerRecord) -> str:
    """Sends one record and tells where it went, or why it did not."""
    try:
        receipt = stub.Send(pb.SendRequest(record=record), timeout=SEND_WAIT_S).receipt
    except grpc.RpcError as error:
        refusal = refusal_of(error)
        return " ".join(["refused", refusal.code, refusal.reason, refusal.persisted, *refusal.fields])
    # The offset is unset where the broker did not say it; reading it would then give 0.
    offset = receipt.offset if receipt.HasField("offset") else "unknown"
    return f"sent {receipt.topic} {receipt.partition} {offset}"


def frames(topic: str, count: int) -> Iterator[pb.SendBatchRequest]:
    for sequence, first in enumerate(range(1, count + 1, FRAME_RECORDS)):
        frame = pb.SendBatchRequest(sequence=sequence)
        frame.timeout.FromSeconds(FRAME_WAIT_S)
        for number in range(first, min(first + FRAME_RECORDS, count + 1)):
            record = frame.records.add(topic=topic, key_text=f"key-{number}", value_text=f"python-{number}")
            if number % 50 == 0:
                # A header without a name is refused: such a failure is data, and does not end the stream.
                record.headers.add(name="")
        yield frame


def send_batch(
    stub: producer_pb2_grpc.ProducerServiceStub, requests: Iterator[pb.SendBatchRequest]
) -> tuple[int, int]:
    """Sends frames over one stream, and returns how many records were taken and how many refused.

    A thread of gRPC's takes requests from the iterator that it is given as fast as the transport allows, far ahead of the
    answers. So it gets a queue, into which a frame is put only when an earlier one was answered. The stream has no deadline,
    which would leave open what became of the rest; each frame has one.
    """
    outgoing: queue.SimpleQueue[pb.SendBatchRequest | None] = queue.SimpleQueue()
    unanswered: deque[pb.SendBatchRequest] = deque()
    taken = refused = 0

    def send_more() -> None:
        while len(unanswered) < UNANSWERED_MAX:
            frame = next(requests, None)
            outgoing.put(frame)  # None ends the iterator, and with it our side of the stream.
            if frame is None:
                return
            unanswered.append(frame)

    try:
        send_more()
        for answer in stub.SendBatch(iter(outgoing.get, None)):
            frame = unanswered.popleft() if unanswered else pb.SendBatchRequest()
            if (answer.sequence, len(answer.results)) != (frame.sequence, len(frame.records)):
                raise ValueError(
                    f"frame {frame.sequence} of {len(frame.records)} records"
                    f" was answered as {answer.sequence} with {len(answer.results)} results"
                )
            for result in answer.results:
                # Anything but a receipt is a failure, also a kind of result that this client does not know.
                if result.WhichOneof("result") == "receipt":
                    taken += 1
                else:
                    refused += 1
            send_more()
    finally:
        outgoing.put(None)  # Else gRPC's thread would wait for the next frame after the stream has ended.
    if unanswered:
        raise ValueError(f"the stream ended with {len(unanswered)} frames unanswered")
    return taken, refused


def expect(line: str, beginning: str) -> None:
    print(line, flush=True)
    if not line.startswith(beginning):
        sys.exit(f"expected: {beginning}")


def run(target: str, topic: str, count: int) -> None:
    with connect(target) as channel:
        stub = producer_pb2_grpc.ProducerServiceStub(channel)
        # Without wait_for_ready a sidecar that is not up yet is UNAVAILABLE at once.
        info = stub.GetInfo(pb.GetInfoRequest(), timeout=START_WAIT_S, wait_for_ready=True)
        print("info", info.version, flush=True)
        record = pb.ProducerRecord(
            topic=topic,
            key_text="key-0",
            json=struct_pb2.Value(struct_value={"client": "python"}),
            headers=[pb.Header(name="client", value_text="python")],
            message_id="python-0",
        )
        expect(send(stub, record), "sent ")
        bad = pb.ProducerRecord(topic="bad topic", value_text="python-0")
        expect(send(stub, bad), "refused INVALID_ARGUMENT INVALID_RECORD NO record.topic")
        # Where Kafka has no such topic this is refused; `producer-sidecar dev` creates it.
        print(send(stub, pb.ProducerRecord(topic=f"{topic}-unknown", value_text="python-0")), flush=True)
        taken, refused = send_batch(stub, frames(topic, count))
        print("batch", taken, refused, flush=True)
        if taken + refused != count:
            sys.exit(f"expected {count} answers")


def main() -> None:
    if len(sys.argv) != 4 or not sys.argv[3].isdecimal():
        print("usage: run TARGET TOPIC COUNT", file=sys.stderr)
        sys.exit(64)
    try:
        run(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    except grpc.RpcError as error:
        refusal = refusal_of(error)
        sys.exit(f"{refusal.code} {refusal.reason} {refusal.persisted}: {error.details()}")
    except ValueError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
