package com.example.producer;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.Set;

/**
 * What the details of a failed call say.
 *
 * @param reason a name of ErrorReason without its prefix
 * @param persisted NO where the record surely is not in Kafka, MAYBE where it may be
 * @param fields the wrong ones, the first 20 at most
 */
record Refusal(String code, String reason, String persisted, List<String> fields) {
    private static final Set<String> AGAIN = Set.of(
            "TRANSACTION_ABORTED", "COMMIT_UNKNOWN", "BROKERS_UNAVAILABLE", "DRAINING", "QUEUE_FULL", "DEADLINE_NOT_WRITTEN", "INTERNAL");

    /**
     * Takes the details out of a failure; empty where there are none from the sidecar. Such a failure, as when the connection
     * broke, says nothing about the record: treat it as MAYBE.
     */
    static Optional<Refusal> of(StatusRuntimeException failure) {
        var status = StatusProto.fromThrowable(failure);
        if (status == null) {
            return Optional.empty();
        }
        ErrorInfo info = null;
        List<String> fields = new ArrayList<>();
        try {
            for (Any detail : status.getDetailsList()) {
                if (detail.is(ErrorInfo.class)) {
                    info = detail.unpack(ErrorInfo.class);
                } else if (detail.is(BadRequest.class)) {
                    detail.unpack(BadRequest.class).getFieldViolationsList()
                            .forEach(violation -> fields.add(violation.getField()));
                }
            }
        } catch (InvalidProtocolBufferException broken) {
            return Optional.empty();
        }
        if (info == null || !info.getDomain().equals("producer.caas")) {
            return Optional.empty();
        }
        String persisted = info.getMetadataOrDefault("persisted", "MAYBE");
        return Optional.of(new Refusal(failure.getStatus().getCode().name(), info.getReason(), persisted, fields));
    }

    /** The same for a failure that must have this reason; any other is thrown again. */
    static Refusal of(StatusRuntimeException failure, String reason) {
        return of(failure).filter(refusal -> refusal.reason.equals(reason)).orElseThrow(() -> failure);
    }

    /**
     * Whether a unit of ProcessAndForward is to be dropped and read anew: this consumer, or the offsets that it knows, are no
     * longer the group's. What is wrong with the member itself is that this consumer was in no group at that moment.
     */
    boolean isOutdated() {
        return reason.equals("CONSUMER_FENCED")
                || reason.equals("OFFSET_MISMATCH")
                || (!fields.isEmpty() && fields.get(0).startsWith("group.member."));
    }

    /** Whether the same unit is to be sent again, with the same expected_offset. */
    boolean allowsAgain() {
        return AGAIN.contains(reason);
    }

    @Override
    public String toString() {
        return code + " " + reason + " " + persisted;
    }
}
