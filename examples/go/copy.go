package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/scram"
	"google.golang.org/protobuf/proto"

	producerv1 "example.com/producer-client/caas/producer/v1"
)

const (
	// unitRecords is how many records a unit has at most.
	unitRecords = 10
	// unitWait is the deadline of one call; shorter than the session, because what outlives it is refused.
	unitWait      = 5 * time.Second
	sessionWait   = 10 * time.Second
	rebalanceWait = 2 * time.Minute
	// offsetsWait is longer than the transaction time-out, because the offsets of open transactions are waited for.
	offsetsWait = 70 * time.Second
	// againFor is how long the same unit is sent again and again. The group cannot rebalance meanwhile, and throws this
	// consumer out after rebalanceWait.
	againFor  = 30 * time.Second
	againWait = 200 * time.Millisecond
)

// copyJob copies a topic's records into another one, each once: what was written and how far was read are committed together.
type copyJob struct {
	sidecar              producerv1.ProducerServiceClient
	consumer             *kgo.Client
	input, output, group string

	// expected is what the group has committed for each partition, and where reading goes on: always both.
	expected map[int32]int64
	mutex    sync.Mutex
}

// copyTopic runs until SIGTERM or SIGINT, or an answer that it can do nothing about.
func copyTopic(target, input, output, group string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	connection, err := connect(target)
	if err != nil {
		return err
	}
	defer connection.Close()
	job := &copyJob{
		sidecar: producerv1.NewProducerServiceClient(connection),
		input:   input, output: output, group: group, expected: map[int32]int64{},
	}
	if err := info(ctx, job.sidecar); err != nil {
		return fmt.Errorf("GetInfo: %w", err)
	}
	if job.consumer, err = job.consume(); err != nil {
		return err
	}
	// Leaves the group, so that the others need not wait for the end of the session.
	defer job.consumer.CloseAllowingRebalance()
	for ctx.Err() == nil {
		fetches := job.consumer.PollRecords(ctx, unitRecords)
		fetches.EachError(func(topic string, partition int32, err error) {
			if ctx.Err() == nil {
				fmt.Fprintln(os.Stderr, topic, partition, err)
			}
		})
		// Until AllowRebalance, what was read stays this consumer's, unless its session ends.
		if records := fetches.Records(); len(records) > 0 {
			if err := job.process(ctx, records); err != nil && ctx.Err() == nil {
				return err
			}
		}
		job.consumer.AllowRebalance()
	}
	return nil
}

func (j *copyJob) consume() (*kgo.Client, error) {
	certificates, err := os.ReadFile(os.Getenv("KAFKA_CA_FILE"))
	if err != nil {
		return nil, err
	}
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM(certificates)
	login := scram.Auth{User: os.Getenv("KAFKA_USER"), Pass: os.Getenv("KAFKA_PASSWORD")}
	return kgo.NewClient(
		kgo.SeedBrokers(strings.Split(os.Getenv("KAFKA_BROKERS"), ",")...),
		kgo.DialTLSConfig(&tls.Config{RootCAs: trusted}),
		kgo.SASL(login.AsSha512Mechanism()),
		kgo.ConsumerGroup(j.group),
		kgo.ConsumeTopics(j.input),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		// The default is ReadUncommitted.
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.DisableAutoCommit(),
		kgo.SessionTimeout(sessionWait),
		kgo.RebalanceTimeout(rebalanceWait),
		kgo.BlockRebalanceOnPoll(),
		kgo.AdjustFetchOffsetsFn(j.begin),
	)
}

// begin is told the committed offsets of new partitions before they are read.
func (j *copyJob) begin(
	_ context.Context, offsets map[string]map[int32]kgo.Offset,
) (map[string]map[int32]kgo.Offset, error) {
	j.mutex.Lock()
	defer j.mutex.Unlock()
	for partition, offset := range offsets[j.input] {
		// Negative where nothing is committed: then nothing is compared, and 0 will do.
		j.expected[partition] = max(offset.EpochOffset().Offset, 0)
	}
	return offsets, nil
}

// process has a unit committed, or goes back to read it anew.
func (j *copyJob) process(ctx context.Context, records []*kgo.Record) error {
	unit := j.unit(records)
	for until := time.Now().Add(againFor); time.Now().Before(until) && ctx.Err() == nil; wait(ctx, againWait) {
		answer, err := j.send(unit)
		if err == nil {
			j.committed(unit, answer)
			return nil
		}
		// Without details, as when the connection broke, it may be committed: expected_offset makes the same unit safe.
		refusal, _ := refusalOf(err)
		switch {
		case refusal.isOutdated():
			fmt.Println("dropped", refusal)
			return j.rewind(ctx, unit)
		case refusal.allowsAgain():
			fmt.Println("again", refusal)
		default:
			return fmt.Errorf("ProcessAndForward: %w", err)
		}
	}
	return j.rewind(ctx, unit)
}

// unit makes the request for what was read. Member and generation are those under which it was read, and stay so when it is
// sent again: a later generation may have given the partitions to another consumer.
func (j *copyJob) unit(records []*kgo.Record) *producerv1.ProcessAndForwardRequest {
	j.mutex.Lock()
	defer j.mutex.Unlock()
	member, generation := j.consumer.GroupMetadata()
	unit := &producerv1.ProcessAndForwardRequest{Group: &producerv1.ConsumerGroup{
		GroupId: j.group,
		Membership: &producerv1.ConsumerGroup_Member{
			Member: &producerv1.GroupMember{MemberId: member, GenerationId: generation},
		},
	}}
	next := map[int32]int64{}
	for _, record := range records {
		unit.Outputs = append(unit.Outputs, outputOf(record, j.output))
		next[record.Partition] = record.Offset + 1
	}
	for partition, offset := range next {
		unit.Inputs = append(unit.Inputs, &producerv1.InputOffset{
			Topic: j.input, Partition: partition, ExpectedOffset: proto.Int64(j.expected[partition]), NextOffset: offset,
		})
	}
	return unit
}

// outputOf is where an application does its work; this one copies key and value.
func outputOf(record *kgo.Record, topic string) *producerv1.ProducerRecord {
	output := &producerv1.ProducerRecord{Topic: topic, Payload: &producerv1.ProducerRecord_Tombstone{
		Tombstone: &producerv1.Tombstone{},
	}}
	if record.Key != nil {
		output.RecordKey = &producerv1.ProducerRecord_Key{Key: record.Key}
	}
	if record.Value != nil {
		output.Payload = &producerv1.ProducerRecord_Value{Value: record.Value}
	}
	return output
}

func (j *copyJob) send(unit *producerv1.ProcessAndForwardRequest) (*producerv1.ProcessAndForwardResponse, error) {
	ctx, cancel := context.WithTimeout(context.Background(), unitWait)
	defer cancel()
	return j.sidecar.ProcessAndForward(ctx, unit)
}

func (j *copyJob) committed(
	unit *producerv1.ProcessAndForwardRequest, answer *producerv1.ProcessAndForwardResponse,
) {
	j.mutex.Lock()
	defer j.mutex.Unlock()
	for _, input := range unit.GetInputs() {
		j.expected[input.GetPartition()] = input.GetNextOffset()
	}
	if answer.GetAlreadyCommitted() {
		fmt.Println("already", len(unit.GetOutputs()))
	} else {
		fmt.Println("copied", len(unit.GetOutputs()))
	}
}

// rewind drops a unit: goes back to what the group has committed for its partitions.
func (j *copyJob) rewind(ctx context.Context, unit *producerv1.ProcessAndForwardRequest) error {
	wait(ctx, againWait)
	// Without RequireStable it would be what was committed before a transaction that has not ended yet.
	stable, admin := kadm.RequireStable(ctx), kadm.NewClient(j.consumer)
	found, err := admin.FetchOffsetsForTopics(stable, j.group, j.input)
	for until := time.Now().Add(offsetsWait); err != nil && time.Now().Before(until) && ctx.Err() == nil; {
		wait(ctx, againWait)
		found, err = admin.FetchOffsetsForTopics(stable, j.group, j.input)
	}
	if err != nil {
		return fmt.Errorf("committed offsets: %w", err)
	}
	j.mutex.Lock()
	defer j.mutex.Unlock()
	offsets := map[int32]kgo.EpochOffset{}
	for _, input := range unit.GetInputs() {
		committed, _ := found.Lookup(j.input, input.GetPartition())
		offset := kgo.NewOffset().AtStart()
		if committed.At >= 0 {
			offset = kgo.NewOffset().At(committed.At)
		}
		offsets[input.GetPartition()] = offset.EpochOffset()
		j.expected[input.GetPartition()] = max(committed.At, 0)
	}
	// Leaves out what is no longer this consumer's.
	j.consumer.SetOffsets(map[string]map[int32]kgo.EpochOffset{j.input: offsets})
	return nil
}

func wait(ctx context.Context, pause time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(pause):
	}
}
