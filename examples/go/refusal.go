package main

import (
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

func (r refusal) String() string {
	return r.code.String() + " " + r.reason + " " + r.persisted
}
