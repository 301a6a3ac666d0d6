package main

import (
	"strings"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"
)

// refusal is what the details of a failed call say.
type refusal struct {
	code code.Code
	// reason is ErrorReason without its prefix.
	reason string
	// persisted is NO where the record surely is not in Kafka, and MAYBE where it may be.
	persisted string
	// fields are the wrong ones, the first 20 at most.
	fields []string
}

// refusalOf takes the details out of an error; false where there are none from the sidecar. Such an error, as when the
// connection broke, says nothing about the record: treat it as MAYBE.
func refusalOf(err error) (refusal, bool) {
	failed := status.Convert(err)
	// codes.Code prints as InvalidArgument; google.rpc.Code has the names of the specification.
	found := refusal{code: code.Code(failed.Code())}
	ours := false
	for _, detail := range failed.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			if ours = detail.GetDomain() == "producer.caas"; ours {
				found.reason, found.persisted = detail.GetReason(), detail.GetMetadata()["persisted"]
			}
		case *errdetails.BadRequest:
			for _, violation := range detail.GetFieldViolations() {
				found.fields = append(found.fields, violation.GetField())
			}
		}
	}
	return found, ours
}

// isOutdated tells whether a unit of ProcessAndForward is to be dropped and read anew: this consumer, or the offsets that it
// knows, are no longer the group's. What is wrong with the group itself is that this consumer was in none at that moment.
func (r refusal) isOutdated() bool {
	return r.reason == "CONSUMER_FENCED" || r.reason == "OFFSET_MISMATCH" ||
		len(r.fields) > 0 && strings.HasPrefix(r.fields[0], "group.member.")
}

// allowsAgain tells whether the same unit is to be sent again, with the same expected_offset.
func (r refusal) allowsAgain() bool {
	switch r.reason {
	case "TRANSACTION_ABORTED", "COMMIT_UNKNOWN", "BROKERS_UNAVAILABLE", "DRAINING", "QUEUE_FULL", "DEADLINE_NOT_WRITTEN", "INTERNAL":
		return true
	}
	return r.reason == "" && r.code != code.Code_UNIMPLEMENTED
}

func (r refusal) String() string {
	return r.code.String() + " " + r.reason + " " + r.persisted
}
