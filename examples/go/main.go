// The example client in Go: one call of each kind to a running sidecar, one printed line for each step.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/structpb"

	producerv1 "example.com/producer-client/caas/producer/v1"
)

const usage = `usage: producer-client TARGET TOPIC COUNT
       producer-client copy TARGET INPUT OUTPUT GROUP
copy reads the topic INPUT in the consumer group GROUP, and has the sidecar write it to OUTPUT, each record once; until SIGTERM.
It finds Kafka by KAFKA_BROKERS, KAFKA_USER, KAFKA_PASSWORD and KAFKA_CA_FILE.
`

const (
	// startWait bounds the wait for a sidecar that is still starting.
	startWait = 10 * time.Second
	// sendWait is the deadline of one Send; without one the sidecar's own default holds.
	sendWait = 5 * time.Second
)

func main() {
	if len(os.Args) == 6 && os.Args[1] == "copy" {
		exit(copyTopic(os.Args[2], os.Args[3], os.Args[4], os.Args[5]))
	}
	if len(os.Args) != 4 {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(64)
	}
	count, err := strconv.Atoi(os.Args[3])
	if err != nil || count < 0 {
		fmt.Fprintln(os.Stderr, "COUNT must be a number, zero or more")
		os.Exit(64)
	}
	exit(run(os.Args[1], os.Args[2], count))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func run(target, topic string, count int) error {
	connection, err := connect(target)
	if err != nil {
		return err
	}
	defer connection.Close()
	client := producerv1.NewProducerServiceClient(connection)
	ctx := context.Background()

	if err := info(ctx, client); err != nil {
		return fmt.Errorf("GetInfo: %w", err)
	}
	if err := sendOne(ctx, client, topic); err != nil {
		return fmt.Errorf("Send: %w", err)
	}
	if err := sendRefused(ctx, client, "bad topic"); err != nil {
		return fmt.Errorf("Send to a bad topic: %w", err)
	}
	if err := sendUnknown(ctx, client, topic+"-unknown"); err != nil {
		return fmt.Errorf("Send to an unknown topic: %w", err)
	}
	done, refused, err := sendBatch(ctx, client, topic, count)
	if err != nil {
		return fmt.Errorf("SendBatch: %w", err)
	}
	fmt.Println("batch", done, refused)
	return nil
}

const retryPolicy = `{"methodConfig": [{
	"name": [{"service": "caas.producer.v1.ProducerService", "method": "Send"}],
	"retryPolicy": {"maxAttempts": 4, "initialBackoff": "0.1s", "maxBackoff": "2s",
		"backoffMultiplier": 2, "retryableStatusCodes": ["UNAVAILABLE"]}}]}`

// connect makes a connection to HOST:PORT or unix:/path; it does not wait for the sidecar, the first call does.
//
// The retry policy also repeats calls whose connection broke after Kafka had the record, so it is for records with a message
// id, which the sidecar writes once. It stops retries that cannot help by a trailer.
func connect(target string) (*grpc.ClientConn, error) {
	retry := backoff.DefaultConfig
	retry.BaseDelay, retry.MaxDelay = 100*time.Millisecond, time.Second
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		// The default backs off for up to two minutes, which is for strangers; a sidecar is back in seconds.
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: retry, MinConnectTimeout: 5 * time.Second}),
		grpc.WithDefaultServiceConfig(retryPolicy),
	}
	if strings.HasPrefix(target, "unix:") {
		// What `unix:` targets say by themselves; a socket's path, as other ways to it say, is refused.
		options = append(options, grpc.WithAuthority("localhost"))
	}
	return grpc.NewClient(target, options...)
}

func info(ctx context.Context, client producerv1.ProducerServiceClient) error {
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	// Without WaitForReady a sidecar that is not up yet is UNAVAILABLE at once.
	answer, err := client.GetInfo(ctx, &producerv1.GetInfoRequest{}, grpc.WaitForReady(true))
	if err != nil {
		return err
	}
	fmt.Println("info", answer.GetVersion())
	return nil
}

func sendOne(ctx context.Context, client producerv1.ProducerServiceClient, topic string) error {
	value, err := structpb.NewValue(map[string]any{"client": "go"})
	if err != nil {
		return err
	}
	receipt, err := send(ctx, client, &producerv1.ProducerRecord{
		Topic:     topic,
		RecordKey: &producerv1.ProducerRecord_KeyText{KeyText: "key-0"},
		Payload:   &producerv1.ProducerRecord_Json{Json: value},
		Headers: []*producerv1.Header{
			{Name: "client", Content: &producerv1.Header_ValueText{ValueText: "go"}},
		},
		MessageId: "go-0",
	})
	if err != nil {
		return err
	}
	fmt.Println("sent", receipt.GetTopic(), receipt.GetPartition(), receipt.GetOffset())
	return nil
}

// sendRefused sends what the sidecar must refuse, and prints why and which field.
func sendRefused(ctx context.Context, client producerv1.ProducerServiceClient, topic string) error {
	_, err := send(ctx, client, text(topic, "key-0", "go-0"))
	if err == nil {
		return errors.New("it was taken")
	}
	refusal, ok := refusalOf(err)
	if !ok || refusal.reason != "INVALID_RECORD" || len(refusal.fields) == 0 {
		return err
	}
	fmt.Println("refused", refusal, refusal.fields[0])
	return nil
}

// sendUnknown sends to a topic that Kafka does not know; `producer-sidecar dev` creates topics, and takes the record.
func sendUnknown(ctx context.Context, client producerv1.ProducerServiceClient, topic string) error {
	receipt, err := send(ctx, client, text(topic, "key-0", "go-0"))
	if err == nil {
		fmt.Println("sent", receipt.GetTopic(), receipt.GetPartition(), receipt.GetOffset())
		return nil
	}
	refusal, ok := refusalOf(err)
	if !ok || refusal.reason != "TOPIC_NOT_FOUND" {
		return err
	}
	fmt.Println("refused", refusal)
	return nil
}

func send(
	ctx context.Context, client producerv1.ProducerServiceClient, record *producerv1.ProducerRecord,
) (*producerv1.Receipt, error) {
	ctx, cancel := context.WithTimeout(ctx, sendWait)
	defer cancel()
	answer, err := client.Send(ctx, &producerv1.SendRequest{Record: record})
	return answer.GetReceipt(), err
}

func text(topic, key, value string) *producerv1.ProducerRecord {
	return &producerv1.ProducerRecord{
		Topic:     topic,
		RecordKey: &producerv1.ProducerRecord_KeyText{KeyText: key},
		Payload:   &producerv1.ProducerRecord_ValueText{ValueText: value},
	}
}
