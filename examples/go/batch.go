package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	producerv1 "example.com/producer-client/caas/producer/v1"
)

const (
	// frameRecords is how many records a frame has; GetInfo tells the most that the sidecar takes.
	frameRecords = 100
	// unansweredMax is how many frames may wait for their answers: the bound of what this client keeps in memory, and of
	// what is in doubt if the stream breaks.
	unansweredMax = 10
	// frameWait is how long the sidecar may take over a frame; the records that are not in Kafka then have failed.
	frameWait = 10 * time.Second
	// answerWait is how long this client waits for the next answer before it gives the stream up.
	answerWait = frameWait + 5*time.Second
)

type batchStream = grpc.BidiStreamingClient[producerv1.SendBatchRequest, producerv1.SendBatchResponse]

// frame is what must be known of a frame to judge its answer.
type frame struct {
	sequence uint64
	records  int
}

// sendBatch sends count records over one stream and returns how many were taken and how many refused.
//
// One goroutine sends, this one receives: a client that only sends is ended by the sidecar, because its answers pile up.
// The stream has no deadline, which would leave open what became of the rest; each frame has one, and each answer.
func sendBatch(
	ctx context.Context, client producerv1.ProducerServiceClient, topic string, count int,
) (done, refused int, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stream, err := client.SendBatch(ctx)
	if err != nil {
		return 0, 0, err
	}
	silence := time.AfterFunc(answerWait, func() { cancel(errors.New("the sidecar does not answer")) })
	defer silence.Stop()

	unanswered := make(chan frame, unansweredMax)
	go sendFrames(stream, unanswered, topic, count)
	answered := 0
	for {
		answer, err := stream.Recv()
		if err == io.EOF {
			break
		}
		if err != nil {
			return done, refused, fmt.Errorf("after %d answered records: %w", answered, errors.Join(err, context.Cause(ctx)))
		}
		silence.Reset(answerWait)
		if err := expect(unanswered, answer); err != nil {
			return done, refused, err
		}
		answered += len(answer.GetResults())
		for _, result := range answer.GetResults() {
			// Anything but a receipt is a failure, also a kind of result that this client does not know.
			if result.GetReceipt() != nil {
				done++
			} else {
				refused++
			}
		}
	}
	if answered != count {
		return done, refused, fmt.Errorf("%d of %d records were answered", answered, count)
	}
	return done, refused, nil
}

// sendFrames sends all records and then half-closes. It waits while unanswered is full, and ends early when the stream
// does: Recv tells why.
func sendFrames(stream batchStream, unanswered chan<- frame, topic string, count int) {
	for sequence, first := uint64(0), 1; first <= count; sequence, first = sequence+1, first+frameRecords {
		request := &producerv1.SendBatchRequest{Sequence: sequence, Timeout: durationpb.New(frameWait)}
		for number := first; number <= min(first+frameRecords-1, count); number++ {
			request.Records = append(request.Records, numbered(topic, number))
		}
		select {
		case unanswered <- frame{sequence, len(request.GetRecords())}:
		case <-stream.Context().Done():
			return
		}
		if stream.Send(request) != nil {
			return
		}
	}
	stream.CloseSend()
}

// expect takes the oldest unanswered frame, whose answer this must be.
func expect(unanswered <-chan frame, answer *producerv1.SendBatchResponse) error {
	select {
	case frame := <-unanswered:
		if answer.GetSequence() != frame.sequence || len(answer.GetResults()) != frame.records {
			return fmt.Errorf("frame %d of %d records was answered as %d with %d results",
				frame.sequence, frame.records, answer.GetSequence(), len(answer.GetResults()))
		}
		return nil
	default:
		return fmt.Errorf("the answer %d belongs to no frame", answer.GetSequence())
	}
}

// numbered makes a record; each 50th is wrong, to show that a failure is data and does not end the stream.
func numbered(topic string, number int) *producerv1.ProducerRecord {
	record := text(topic, fmt.Sprintf("key-%d", number), fmt.Sprintf("go-%d", number))
	if number%50 == 0 {
		record.Headers = []*producerv1.Header{{Name: ""}}
	}
	return record
}
