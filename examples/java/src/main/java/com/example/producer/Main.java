package com.example.producer;

import static java.util.concurrent.TimeUnit.SECONDS;

import com.caas.producer.v1.GetInfoRequest;
import com.caas.producer.v1.Header;
import com.caas.producer.v1.ProducerRecord;
import com.caas.producer.v1.ProducerServiceGrpc;
import com.caas.producer.v1.ProducerServiceGrpc.ProducerServiceBlockingStub;
import com.caas.producer.v1.Receipt;
import com.caas.producer.v1.SendRequest;
import com.google.protobuf.Struct;
import com.google.protobuf.Value;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.StatusRuntimeException;
import java.util.List;
import java.util.Map;

/** The example client in Java: one call of each kind to a running sidecar, one printed line for each step. */
public final class Main {
    private static final String USAGE =
            """
            usage: run TARGET TOPIC COUNT
                   run copy TARGET INPUT OUTPUT GROUP
            copy reads the topic INPUT in the consumer group GROUP, and has the sidecar write it to OUTPUT, each record once; until
            SIGTERM. It finds Kafka by KAFKA_BROKERS, KAFKA_USER, KAFKA_PASSWORD and KAFKA_CA_FILE.
            """;

    /** Bounds the wait for a sidecar that is still starting. */
    private static final long START_WAIT_S = 10;

    /** The deadline of one Send; without one the sidecar's own default holds. */
    private static final long SEND_WAIT_S = 5;

    private final ManagedChannel channel;
    private final ProducerServiceBlockingStub client;
    private final String topic;

    private Main(String target, String topic) {
        this.channel = connect(target);
        this.client = ProducerServiceGrpc.newBlockingStub(channel);
        this.topic = topic;
    }

    public static void main(String[] arguments) throws InterruptedException {
        if (arguments.length == 5 && arguments[0].equals("copy")) {
            System.exit(CopyJob.run(arguments[1], arguments[2], arguments[3], arguments[4]));
        }
        if (arguments.length != 3 || !arguments[2].matches("\\d{1,9}")) {
            System.err.print(USAGE);
            System.exit(64);
        }
        Main main = new Main(arguments[0], arguments[1]);
        try {
            main.run(Integer.parseInt(arguments[2]));
        } catch (RuntimeException failure) {
            System.err.println(failure);
            System.exit(1);
        } finally {
            main.channel.shutdownNow().awaitTermination(1, SECONDS);
        }
    }

    private void run(int count) throws InterruptedException {
        info(client);
        sendOne();
        sendRefused("bad topic");
        sendUnknown(topic + "-unknown");
        Batch batch = Batch.send(ProducerServiceGrpc.newStub(channel), topic, count);
        System.out.println("batch " + batch.done() + " " + batch.refused());
    }

    private static final Map<String, ?> RETRY_POLICY = Map.of("methodConfig", List.of(Map.of(
            "name", List.of(Map.of("service", "caas.producer.v1.ProducerService", "method", "Send")),
            "retryPolicy", Map.of("maxAttempts", 4.0, "initialBackoff", "0.1s", "maxBackoff", "2s",
                    "backoffMultiplier", 2.0, "retryableStatusCodes", List.of("UNAVAILABLE")))));

    /**
     * Makes a channel to HOST:PORT or unix:/path; it does not wait for the sidecar, the first call does.
     *
     * <p>The retry policy also repeats calls whose connection broke after Kafka had the record, so it is for records with a
     * message id, which the sidecar writes once. It stops retries that cannot help by a trailer.
     */
    static ManagedChannel connect(String target) {
        var channel = Grpc.newChannelBuilder(target, InsecureChannelCredentials.create())
                .defaultServiceConfig(RETRY_POLICY);
        if (target.startsWith("unix:")) {
            // The default is the socket's path, which is no valid authority: the sidecar's HTTP/2 refuses it.
            channel.overrideAuthority("localhost");
        }
        return channel.build();
    }

    static void info(ProducerServiceBlockingStub client) {
        // Without waiting for ready, a sidecar that is not up yet is UNAVAILABLE at once.
        var answer = client.withWaitForReady()
                .withDeadlineAfter(START_WAIT_S, SECONDS)
                .getInfo(GetInfoRequest.getDefaultInstance());
        System.out.println("info " + answer.getVersion());
    }

    private void sendOne() {
        Value name = Value.newBuilder().setStringValue("java").build();
        Value json = Value.newBuilder().setStructValue(Struct.newBuilder().putFields("client", name)).build();
        printSent(send(ProducerRecord.newBuilder()
                .setTopic(topic)
                .setKeyText("key-0")
                .setJson(json)
                .addHeaders(Header.newBuilder().setName("client").setValueText("java"))
                .setMessageId("java-0")
                .build()));
    }

    /** Sends what the sidecar must refuse, and prints why and which field. */
    private void sendRefused(String badTopic) {
        try {
            send(text(badTopic, "key-0", "java-0").build());
        } catch (StatusRuntimeException failure) {
            Refusal refusal = Refusal.of(failure, "INVALID_RECORD");
            System.out.println("refused " + refusal + " " + refusal.fields().get(0));
            return;
        }
        throw new IllegalStateException("a bad topic was taken");
    }

    /** Sends to a topic that Kafka does not know; {@code producer-sidecar dev} creates topics, and takes the record. */
    private void sendUnknown(String unknownTopic) {
        try {
            printSent(send(text(unknownTopic, "key-0", "java-0").build()));
        } catch (StatusRuntimeException failure) {
            System.out.println("refused " + Refusal.of(failure, "TOPIC_NOT_FOUND"));
        }
    }

    private Receipt send(ProducerRecord record) {
        // The time runs from withDeadlineAfter, not from the call: a stub that is kept with a deadline is of use once.
        return client.withDeadlineAfter(SEND_WAIT_S, SECONDS)
                .send(SendRequest.newBuilder().setRecord(record).build())
                .getReceipt();
    }

    private static void printSent(Receipt receipt) {
        System.out.println("sent " + receipt.getTopic() + " " + receipt.getPartition() + " " + receipt.getOffset());
    }

    static ProducerRecord.Builder text(String topic, String key, String value) {
        return ProducerRecord.newBuilder().setTopic(topic).setKeyText(key).setValueText(value);
    }
}
