package com.example.producer;

import static java.util.concurrent.TimeUnit.SECONDS;

import com.caas.producer.v1.ConsumerGroup;
import com.caas.producer.v1.GroupMember;
import com.caas.producer.v1.InputOffset;
import com.caas.producer.v1.ProcessAndForwardRequest;
import com.caas.producer.v1.ProcessAndForwardResponse;
import com.caas.producer.v1.ProducerRecord;
import com.caas.producer.v1.ProducerServiceGrpc;
import com.caas.producer.v1.ProducerServiceGrpc.ProducerServiceBlockingStub;
import com.caas.producer.v1.Tombstone;
import com.google.protobuf.ByteString;
import io.grpc.ManagedChannel;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import java.time.Duration;
import java.util.Collection;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.locks.LockSupport;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.WakeupException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/** Copies a topic's records into another one, each once: what was written and how far was read are committed together. */
final class CopyJob implements ConsumerRebalanceListener {
    /** How many records a unit has at most. */
    private static final int UNIT_RECORDS = 10;

    /** The deadline of one call; shorter than the session, because what outlives it is refused. */
    private static final long UNIT_WAIT_S = 5;

    private static final int SESSION_WAIT_MS = 10_000;

    /** The pause before a unit is sent again. */
    private static final Duration AGAIN_WAIT = Duration.ofMillis(200);

    /** Longer than the transaction time-out, because the offsets of open transactions are waited for. */
    private static final Duration OFFSETS_WAIT = Duration.ofSeconds(70);

    private final ProducerServiceBlockingStub sidecar;
    private final KafkaConsumer<byte[], byte[]> consumer;
    private final String input;
    private final String output;
    private final String group;

    /** What the group has committed for each partition, and where reading goes on: always both. */
    private final Map<TopicPartition, Long> expected = new HashMap<>();

    /** The unit that is not yet known to be committed; with it all partitions are paused. */
    private ProcessAndForwardRequest unit;

    private CopyJob(ProducerServiceBlockingStub sidecar, String input, String output, String group) {
        this.sidecar = sidecar;
        this.input = input;
        this.output = output;
        this.group = group;
        this.consumer = new KafkaConsumer<>(settings(group), new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    /** Runs until SIGTERM or SIGINT, or an answer that it can do nothing about; returns the exit code. */
    static int run(String target, String input, String output, String group) {
        ManagedChannel channel = Main.connect(target);
        try {
            ProducerServiceBlockingStub sidecar = ProducerServiceGrpc.newBlockingStub(channel);
            Main.info(sidecar);
            new CopyJob(sidecar, input, output, group).run();
            return 0;
        } catch (StatusRuntimeException | KafkaException failure) {
            System.err.println(failure);
            return 1;
        } finally {
            channel.shutdownNow();
        }
    }

    private static Map<String, Object> settings(String group) {
        String login = "org.apache.kafka.common.security.scram.ScramLoginModule required username=\"%s\" password=\"%s\";"
                .formatted(System.getenv("KAFKA_USER"), System.getenv("KAFKA_PASSWORD"));
        return Map.ofEntries(
                Map.entry("bootstrap.servers", System.getenv("KAFKA_BROKERS")),
                Map.entry("security.protocol", "SASL_SSL"),
                Map.entry("sasl.mechanism", "SCRAM-SHA-512"),
                Map.entry("sasl.jaas.config", login),
                Map.entry("ssl.truststore.type", "PEM"),
                Map.entry("ssl.truststore.location", System.getenv("KAFKA_CA_FILE")),
                Map.entry("group.id", group),
                Map.entry("session.timeout.ms", SESSION_WAIT_MS),
                Map.entry("max.poll.records", UNIT_RECORDS),
                Map.entry("enable.auto.commit", false),
                // The default is read_uncommitted.
                Map.entry("isolation.level", "read_committed"),
                Map.entry("auto.offset.reset", "earliest"));
    }

    private void run() {
        CountDownLatch ended = new CountDownLatch(1);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            consumer.wakeup();
            await(ended);
        }));
        // Closing leaves the group, so that the others need not wait for the end of the session.
        try (consumer) {
            consumer.subscribe(List.of(input), this);
            while (true) {
                // Also while a unit is sent again: a consumer that does not poll is thrown out. Paused, it brings nothing.
                var records = consumer.poll(unit == null ? Duration.ofSeconds(1) : AGAIN_WAIT);
                if (!records.isEmpty()) {
                    unit = unitOf(records);
                    consumer.pause(consumer.assignment());
                }
                if (unit != null) {
                    process();
                }
            }
        } catch (WakeupException stopped) {
            // Asked to stop.
        } finally {
            ended.countDown();
        }
    }

    /** Sends the unit; keeps it where it is to be sent again. */
    private void process() {
        // Asked for anew with each call: these partitions are ours, else the listener had dropped the unit.
        var metadata = consumer.groupMetadata();
        var member = GroupMember.newBuilder().setMemberId(metadata.memberId()).setGenerationId(metadata.generationId());
        unit = unit.toBuilder().setGroup(ConsumerGroup.newBuilder().setGroupId(group).setMember(member)).build();
        ProcessAndForwardResponse answer;
        try {
            answer = sidecar.withDeadlineAfter(UNIT_WAIT_S, SECONDS).processAndForward(unit);
        } catch (StatusRuntimeException failure) {
            var refusal = Refusal.of(failure);
            if (refusal.isPresent() && refusal.get().isOutdated()) {
                System.out.println("dropped " + refusal.get());
                LockSupport.parkNanos(AGAIN_WAIT.toNanos());
                rewind(consumer.assignment());
            } else if (mayBeSentAgain(failure)) {
                System.out.println("again " + refusal.map(Refusal::toString).orElse(failure.getStatus().getCode().name()));
            } else {
                throw failure;
            }
            return;
        }
        System.out.println((answer.getAlreadyCommitted() ? "already " : "copied ") + unit.getOutputsCount());
        for (InputOffset read : unit.getInputsList()) {
            expected.put(new TopicPartition(read.getTopic(), read.getPartition()), read.getNextOffset());
        }
        unit = null;
        consumer.resume(consumer.assignment());
    }

    /** Without details, as when the connection broke, it may be committed: expected_offset makes the same unit safe. */
    private static boolean mayBeSentAgain(StatusRuntimeException failure) {
        return Refusal.of(failure)
                .map(Refusal::allowsAgain)
                .orElse(failure.getStatus().getCode() != Status.Code.UNIMPLEMENTED);
    }

    private ProcessAndForwardRequest unitOf(ConsumerRecords<byte[], byte[]> records) {
        var request = ProcessAndForwardRequest.newBuilder();
        for (TopicPartition partition : records.partitions()) {
            var read = records.records(partition);
            read.forEach(record -> request.addOutputs(outputOf(record)));
            request.addInputs(InputOffset.newBuilder()
                    .setTopic(partition.topic())
                    .setPartition(partition.partition())
                    .setExpectedOffset(expected.get(partition))
                    .setNextOffset(read.get(read.size() - 1).offset() + 1));
        }
        return request.build();
    }

    /** Is where an application does its work; this one copies key and value. */
    private ProducerRecord outputOf(ConsumerRecord<byte[], byte[]> record) {
        var copy = ProducerRecord.newBuilder().setTopic(output);
        if (record.key() != null) {
            copy.setKey(ByteString.copyFrom(record.key()));
        }
        if (record.value() != null) {
            return copy.setValue(ByteString.copyFrom(record.value())).build();
        }
        return copy.setTombstone(Tombstone.getDefaultInstance()).build();
    }

    /** Goes to what the group has committed, and reads on there; a unit that is not known to be committed is dropped. */
    private void rewind(Set<TopicPartition> partitions) {
        unit = null;
        consumer.committed(partitions, OFFSETS_WAIT).forEach((partition, committed) -> {
            if (committed == null) {
                // Nothing is compared then, and 0 will do.
                expected.put(partition, 0L);
                consumer.seekToBeginning(List.of(partition));
            } else {
                expected.put(partition, committed.offset());
                consumer.seek(partition, committed.offset());
            }
        });
        consumer.resume(partitions);
    }

    @Override
    public void onPartitionsAssigned(Collection<TopicPartition> added) {
        rewind(consumer.assignment());
    }

    @Override
    public void onPartitionsRevoked(Collection<TopicPartition> revoked) {
        var kept = new HashSet<>(consumer.assignment());
        kept.removeAll(revoked);
        rewind(kept);
    }

    private static void await(CountDownLatch ended) {
        try {
            ended.await(OFFSETS_WAIT.toSeconds(), SECONDS);
        } catch (InterruptedException interrupted) {
            Thread.currentThread().interrupt();
        }
    }
}
