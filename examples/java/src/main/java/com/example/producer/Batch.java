package com.example.producer;

import static java.util.concurrent.TimeUnit.SECONDS;

import com.caas.producer.v1.Header;
import com.caas.producer.v1.ProducerRecord;
import com.caas.producer.v1.ProducerServiceGrpc.ProducerServiceStub;
import com.caas.producer.v1.RecordResult;
import com.caas.producer.v1.SendBatchRequest;
import com.caas.producer.v1.SendBatchResponse;
import com.google.protobuf.Duration;
import io.grpc.Status;
import io.grpc.stub.StreamObserver;
import java.util.concurrent.ArrayBlockingQueue;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeoutException;

/**
 * One SendBatch stream: the caller's thread sends, gRPC's threads bring the answers.
 *
 * <p>onNext never blocks and takes whatever it is given, so without {@link #UNANSWERED_MAX} a fast sender would pile up frames
 * in memory. The stream has no deadline, which would leave open what became of the rest; each frame has one, and each answer.
 */
final class Batch implements StreamObserver<SendBatchResponse> {
    /** How many records a frame has; GetInfo tells the most that the sidecar takes. */
    private static final int FRAME_RECORDS = 100;

    /** How many frames may wait for their answers: what is kept in memory, and what is in doubt if the stream breaks. */
    private static final int UNANSWERED_MAX = 10;

    /** How long the sidecar may take over a frame; the records that are not in Kafka then have failed. */
    private static final long FRAME_WAIT_S = 10;

    /** How long to wait for the sidecar's answers before the stream is given up. */
    private static final long ANSWER_WAIT_S = FRAME_WAIT_S + 5;

    private record Frame(long sequence, int records) {}

    private final BlockingQueue<Frame> unanswered = new ArrayBlockingQueue<>(UNANSWERED_MAX);
    private final CompletableFuture<Void> ended = new CompletableFuture<>();

    // Written by gRPC one call at a time, read by the caller once `ended` is done.
    private int done;
    private int refused;

    private Batch() {}

    /** Sends the records key-1 to key-COUNT and returns when all are answered. */
    static Batch send(ProducerServiceStub client, String topic, int count) throws InterruptedException {
        Batch batch = new Batch();
        StreamObserver<SendBatchRequest> requests = client.sendBatch(batch);
        try {
            batch.sendFrames(requests, topic, count);
            batch.ended.get(ANSWER_WAIT_S, SECONDS);
        } catch (TimeoutException silent) {
            requests.onError(Status.CANCELLED.asException());
            throw new IllegalStateException("the sidecar does not answer", silent);
        } catch (ExecutionException failed) {
            String sentence = "SendBatch, after " + batch.answered() + " answered records: " + failed.getCause();
            throw new IllegalStateException(sentence, failed.getCause());
        }
        if (batch.answered() != count) {
            throw new IllegalStateException(batch.answered() + " of " + count + " records were answered");
        }
        return batch;
    }

    int done() {
        return done;
    }

    int refused() {
        return refused;
    }

    private int answered() {
        return done + refused;
    }

    /** Sends all records and then half-closes; waits while as many frames as allowed are unanswered. */
    private void sendFrames(StreamObserver<SendBatchRequest> requests, String topic, int count)
            throws InterruptedException, TimeoutException {
        long sequence = 0;
        for (int first = 1; first <= count; first += FRAME_RECORDS) {
            var frame = SendBatchRequest.newBuilder()
                    .setSequence(sequence)
                    .setTimeout(Duration.newBuilder().setSeconds(FRAME_WAIT_S));
            for (int number = first; number < first + FRAME_RECORDS && number <= count; number++) {
                frame.addRecords(numbered(topic, number));
            }
            if (!unanswered.offer(new Frame(sequence, frame.getRecordsCount()), ANSWER_WAIT_S, SECONDS)) {
                throw new TimeoutException();
            }
            if (ended.isDone()) {
                return;
            }
            requests.onNext(frame.build());
            sequence++;
        }
        requests.onCompleted();
    }

    @Override
    public void onNext(SendBatchResponse answer) {
        Frame frame = unanswered.poll();
        if (frame == null || frame.sequence != answer.getSequence() || frame.records != answer.getResultsCount()) {
            // What is thrown here cancels the call, and comes back to onError as the cause.
            throw new IllegalStateException(frame + " was answered as " + answer.getSequence() + " with "
                    + answer.getResultsCount() + " results");
        }
        for (RecordResult result : answer.getResultsList()) {
            // Anything but a receipt is a failure, also a kind of result that this client does not know.
            if (result.hasReceipt()) {
                done++;
            } else {
                refused++;
            }
        }
    }

    @Override
    public void onError(Throwable failure) {
        ended.completeExceptionally(failure);
        // Wakes the sender, which finds the stream ended.
        unanswered.clear();
    }

    @Override
    public void onCompleted() {
        ended.complete(null);
        unanswered.clear();
    }

    /** Makes a record; each 50th is wrong, to show that a failure is data and does not end the stream. */
    private static ProducerRecord numbered(String topic, int number) {
        var record = Main.text(topic, "key-" + number, "java-" + number);
        if (number % 50 == 0) {
            record.addHeaders(Header.getDefaultInstance());
        }
        return record.build();
    }
}
