"""Copies a topic's records into another one, each once: what was written and how far was read are committed together."""

import os
import signal
import sys

import grpc
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from caas.producer.v1 import producer_pb2 as pb
from caas.producer.v1 import producer_pb2_grpc
from client import START_WAIT_S, Refusal, connect, refusal_of

UNIT_RECORDS = 10
"""How many records a unit has at most."""
UNIT_WAIT_S = 5
"""The deadline of one call; shorter than the session, because what outlives it is refused."""
SESSION_WAIT_MS = 10_000
AGAIN_WAIT_S = 0.2
"""The pause before a unit is sent again."""
OFFSETS_WAIT_S = 70
"""How long committed offsets may take; longer than the transaction time-out, because those of open transactions are waited for."""

OUTDATED = {"CONSUMER_FENCED", "OFFSET_MISMATCH"}
"""This consumer, or the offsets that it knows, are no longer the group's: the unit is dropped and read anew."""
AGAIN = {
    "TRANSACTION_ABORTED", "COMMIT_UNKNOWN", "BROKERS_UNAVAILABLE", "DRAINING", "QUEUE_FULL", "DEADLINE_NOT_WRITTEN", "INTERNAL",
    "-",  # No details, as when the connection broke.
}  # fmt: skip
"""The same unit is sent again, with the same expected_offset: if it was committed, the sidecar says so."""

USAGE = """usage: copy TARGET INPUT OUTPUT GROUP
Reads the topic INPUT in the consumer group GROUP, and has the sidecar write it to OUTPUT, each record once; until SIGTERM.
Finds Kafka by KAFKA_BROKERS, KAFKA_USER, KAFKA_PASSWORD and KAFKA_CA_FILE."""


class CopyJob:
    def __init__(self, stub: producer_pb2_grpc.ProducerServiceStub, source: str, target: str, group: str) -> None:
        self.stub, self.source, self.target, self.group = stub, source, target, group
        self.stopping = False
        self.records: list[Message] = []
        """What was read and not yet sent, or not yet known to be committed."""
        self.unit: pb.ProcessAndForwardRequest | None = None
        """The unit made of these records; with it all partitions are paused."""
        self.outdated = False
        """Whether a unit was dropped and is to be read anew; all partitions are paused until they are there."""
        self.expected: dict[int, int] = {}
        """What the group has committed for each partition, and where reading goes on: always both."""
        self.consumer = Consumer({
            "bootstrap.servers": os.environ["KAFKA_BROKERS"],
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": os.environ["KAFKA_USER"],
            "sasl.password": os.environ["KAFKA_PASSWORD"],
            "ssl.ca.location": os.environ["KAFKA_CA_FILE"],
            "group.id": group,
            "session.timeout.ms": SESSION_WAIT_MS,
            "enable.auto.commit": False,
            # The default; said, because it also makes a new owner wait for the transactions of the one before it.
            "isolation.level": "read_committed",
        })  # fmt: skip

    def run(self) -> None:
        # An eager assignor, as the default ones are: on_assign always gets all partitions.
        self.consumer.subscribe([self.source], on_assign=self.start, on_revoke=self.revoked)
        try:
            while not self.stopping:
                self.read()
                if self.outdated:
                    self.rewind()
                elif self.records:
                    self.process()
        finally:
            self.consumer.close()  # Leaves the group, so that the others need not wait for the end of the session.

    def read(self) -> None:
        """Polls, which also runs the callbacks; brings nothing while the partitions are paused."""
        wait = AGAIN_WAIT_S if self.unit or self.outdated else 1.0
        while len(self.records) < UNIT_RECORDS and (message := self.consumer.poll(wait)):
            if message.error() is None:
                self.records.append(message)
            elif message.error().fatal() or message.error().code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                raise KafkaException(message.error())
            wait = 0.0

    def process(self) -> None:
        """Sends what was read; keeps the unit where it is to be sent again."""
        if self.unit is None:
            self.unit = self.unit_of(self.records)
            self.consumer.pause(self.consumer.assignment())
        # Asked for anew with each call: these partitions are ours, else `revoked` had dropped the unit.
        self.unit.group.librdkafka_metadata = self.consumer.consumer_group_metadata()
        try:
            answer = self.stub.ProcessAndForward(self.unit, timeout=UNIT_WAIT_S)
        except grpc.RpcError as error:
            refusal = refusal_of(error)
            if is_outdated(refusal):
                print("dropped", refusal.code, refusal.reason, flush=True)
                self.drop()
                self.outdated = True
            elif refusal.reason in AGAIN and refusal.code != "UNIMPLEMENTED":
                print("again", refusal.code, refusal.reason, flush=True)
            else:
                raise
            return
        print("already" if answer.already_committed else "copied", len(self.records), flush=True)
        self.expected.update((read.partition, read.next_offset) for read in self.unit.inputs)
        self.drop()
        self.consumer.resume(self.consumer.assignment())

    def unit_of(self, records: list[Message]) -> pb.ProcessAndForwardRequest:
        unit = pb.ProcessAndForwardRequest(group=pb.ConsumerGroup(group_id=self.group))
        unit.outputs.extend(output_of(record, self.target) for record in records)
        for partition, next_offset in {record.partition(): record.offset() + 1 for record in records}.items():
            unit.inputs.add(
                topic=self.source,
                partition=partition,
                expected_offset=self.expected[partition],
                next_offset=next_offset,
            )
        return unit

    def start(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Begins new partitions at what the group has committed."""
        self.drop()
        begin = self.committed(partitions)
        consumer.assign(begin)
        consumer.resume(begin)

    def rewind(self) -> None:
        """Goes back to what the group has committed: to read on from where the dropped unit ended would lose its records."""
        begin = self.committed(self.consumer.assignment())
        try:
            for partition in begin:
                self.consumer.seek(partition)
        except KafkaException:
            return  # They are being revoked; if not, it is tried again after the next poll.
        self.outdated = False
        self.consumer.resume(begin)

    def committed(self, partitions: list[TopicPartition]) -> list[TopicPartition]:
        committed = self.consumer.committed(partitions, timeout=OFFSETS_WAIT_S) if partitions else []
        for partition in committed:
            if partition.error:
                raise KafkaException(partition.error)
            # Negative where nothing is committed: nothing is compared then, and 0 will do.
            self.expected[partition.partition] = max(partition.offset, 0)
            if partition.offset < 0:
                partition.offset = OFFSET_BEGINNING
        return committed

    def revoked(self, _consumer: Consumer, _partitions: list[TopicPartition]) -> None:
        self.drop()

    def drop(self) -> None:
        self.records, self.unit, self.outdated = [], None, False


def output_of(record: Message, topic: str) -> pb.ProducerRecord:
    """Is where an application does its work; this one copies key and value."""
    output = pb.ProducerRecord(topic=topic, key=record.key())
    if record.value() is None:
        output.tombstone.SetInParent()
    else:
        output.value = record.value()
    return output


def is_outdated(refusal: Refusal) -> bool:
    # What is wrong with librdkafka's metadata is that the consumer was in no group at that moment.
    return refusal.reason in OUTDATED or refusal.fields[:1] == ["group.librdkafka_metadata"]


def main() -> None:
    if len(sys.argv) != 5:
        print(USAGE, file=sys.stderr)
        sys.exit(64)
    target, *names = sys.argv[1:]
    try:
        with connect(target) as channel:
            stub = producer_pb2_grpc.ProducerServiceStub(channel)
            stub.GetInfo(pb.GetInfoRequest(), timeout=START_WAIT_S, wait_for_ready=True)
            job = CopyJob(stub, *names)
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: setattr(job, "stopping", True))
            job.run()
    except grpc.RpcError as error:
        refusal = refusal_of(error)
        sys.exit(f"{refusal.code} {refusal.reason} {refusal.persisted}: {error.details()}")
    except (KafkaException, KeyError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
