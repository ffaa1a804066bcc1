package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Bento's kafka_franz input and output move whole batches; its nats_jetstream
// input takes one message at a time. kfake is a Kafka broker in the process that keeps
// its data in memory, so that Bento pays neither for a disk nor for a promise.

const (
	kafkaInput = `
kafka_franz:
  seed_brokers: [%q]
  topics: [payments]
  consumer_group: bench
  checkpoint_limit: 65536
  fetch_max_wait: 50ms
  batching: {count: 512, period: 20ms}
`
	kafkaOutput = `
kafka_franz:
  seed_brokers: [%q]
  topic: ${! meta("topic") }
  idempotent_write: false
  compression: none
  max_in_flight: 16
`
	natsInput = `
nats_jetstream:
  urls: [%q]
  stream: %s
  subject: %s
  durable: bench
  ack_wait: 30s
  max_ack_pending: 8192
`
	natsOutput = `
nats_jetstream:
  urls: [%q]
  subject: %s${! meta("topic") }
  max_in_flight: 1024
`
)

type kafkaBench struct {
	cluster *kfake.Cluster
	client  *kgo.Client
}

func (b *bentoSide) openKafka(ctx context.Context, _ string) (bentoBroker, string, string, error) {
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, "payments", "scored", "alerts"))
	if err != nil {
		return nil, "", "", fmt.Errorf("start kfake: %w", err)
	}
	k := &kafkaBench{cluster: c}
	k.client, err = kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		k.close()
		return nil, "", "", err
	}
	var recs []*kgo.Record
	for i := range b.events {
		recs = append(recs, &kgo.Record{Topic: sourceTopic, Key: b.s.keys[i], Value: b.s.events[i]})
	}
	if err := k.client.ProduceSync(ctx, recs...).FirstErr(); err != nil {
		k.close()
		return nil, "", "", fmt.Errorf("fill kfake: %w", err)
	}
	addr := c.ListenAddrs()[0]
	return k, fmt.Sprintf(strings.TrimSpace(kafkaInput), addr), fmt.Sprintf(strings.TrimSpace(kafkaOutput), addr), nil
}

func (k *kafkaBench) results(ctx context.Context) (int, error) {
	req := kmsg.NewPtrListOffsetsRequest()
	for _, topic := range []string{"scored", "alerts"} {
		t := kmsg.NewListOffsetsRequestTopic()
		t.Topic = topic
		for i := range int32(2) {
			p := kmsg.NewListOffsetsRequestTopicPartition()
			p.Partition, p.Timestamp, p.CurrentLeaderEpoch = i, -1, -1
			t.Partitions = append(t.Partitions, p)
		}
		req.Topics = append(req.Topics, t)
	}
	resp, err := req.RequestWith(ctx, k.client)
	if err != nil {
		return 0, fmt.Errorf("ask kfake for its ends: %w", err)
	}
	n := 0
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			n += int(p.Offset)
		}
	}
	return n, nil
}

func (k *kafkaBench) close() {
	if k.client != nil {
		k.client.Close()
	}
	k.cluster.Close()
}

func (b *bentoSide) openNATS(ctx context.Context, dir string) (bentoBroker, string, string, error) {
	n, err := newNATSBench(ctx, dir, true, jetstream.WithPublishAsyncMaxPending(4096))
	if err != nil {
		return nil, "", "", err
	}
	if err := n.publish(ctx, b.s.events[:b.events]); err != nil {
		n.close()
		return nil, "", "", err
	}
	input, output := natsConfig(n.server.ClientURL(), "")
	return n, input, output, nil
}

// natsConfig configures Bento for streams whose names begin with prefix.
func natsConfig(url, prefix string) (input, output string) {
	stream := prefix + sourceTopic
	return fmt.Sprintf(strings.TrimSpace(natsInput), url, stream, stream), fmt.Sprintf(strings.TrimSpace(natsOutput), url, prefix)
}

// openServer fills streams on a NATS server that runs already.
func (b *bentoSide) openServer(ctx context.Context, url string) (bentoBroker, string, string, error) {
	n, err := joinNATS(ctx, url, "bento-", jetstream.WithPublishAsyncMaxPending(4096))
	if err != nil {
		return nil, "", "", err
	}
	if err := n.publish(ctx, b.s.events[:b.events]); err != nil {
		n.close()
		return nil, "", "", err
	}
	input, output := natsConfig(url, n.prefix)
	return n, input, output, nil
}
