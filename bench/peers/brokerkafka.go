package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/freshet-io/freshet/event"
)

// kafkaClient is franz-go as a program without Freshet would use it.
type kafkaClient struct {
	address  string
	producer *kgo.Client
	sessions int
}

func openKafkaClient(address string) (*kafkaClient, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(address), kgo.ProducerLinger(0), kgo.MaxBufferedRecords(1<<20))
	if err != nil {
		return nil, err
	}
	return &kafkaClient{address: address, producer: cl}, nil
}

func (k *kafkaClient) create(ctx context.Context, topic string) error {
	req := kmsg.NewPtrCreateTopicsRequest()
	t := kmsg.NewCreateTopicsRequestTopic()
	t.Topic, t.NumPartitions, t.ReplicationFactor = topic, 1, 1
	req.Topics, req.TimeoutMillis = append(req.Topics, t), 30_000
	resp, err := req.RequestWith(ctx, k.producer)
	if err != nil {
		return err
	}
	if code := resp.Topics[0].ErrorCode; code != 0 {
		return fmt.Errorf("create topic %s: error %d", topic, code)
	}
	return nil
}

func kafkaRecord(topic string, r *event.Record) *kgo.Record {
	return &kgo.Record{Topic: topic, Key: r.Key, Value: r.Value, Headers: []kgo.RecordHeader{
		{Key: "ce_id", Value: r.ID}, {Key: "ce_type", Value: []byte(benchType)}, {Key: "ce_source", Value: []byte(benchSource)},
	}}
}

// publish keeps no more under way than the callers of the adapter do.
func (k *kafkaClient) publish(ctx context.Context, topic string, recs []event.Record, s *stopwatch) error {
	var failed error
	var once sync.Once
	slots := make(chan struct{}, logCallers*logBatch)
	n := 0
	s.start()
	for ; s.more(n); n += logBatch {
		for i := range logBatch {
			slots <- struct{}{}
			k.producer.Produce(ctx, kafkaRecord(topic, &recs[i]), func(_ *kgo.Record, err error) {
				if err != nil {
					once.Do(func() { failed = err })
				}
				<-slots
			})
		}
	}
	err := k.producer.Flush(ctx)
	s.stop(n)
	return errors.Join(err, failed)
}

func (k *kafkaClient) consume(ctx context.Context, topic string, n int) (bytes int, err error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(k.address), kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.FetchMaxPartitionBytes(2<<20))
	if err != nil {
		return 0, err
	}
	defer cl.Close()
	for n > 0 {
		f := cl.PollRecords(ctx, logBatch)
		if err := f.Err(); err != nil {
			return 0, err
		}
		f.EachRecord(func(r *kgo.Record) { bytes += len(r.Value) })
		n -= f.NumRecords()
	}
	return bytes, nil
}

func (k *kafkaClient) move(ctx context.Context, from, to string, watch *stopwatch) error {
	k.sessions++
	name := fmt.Sprintf("client-%d", k.sessions)
	s, err := kgo.NewGroupTransactSession(kgo.SeedBrokers(k.address), kgo.ProducerLinger(0), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumerGroup(name), kgo.TransactionalID(name), kgo.ConsumeTopics(from), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchMaxPartitionBytes(2<<20))
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.PollRecords(ctx, 1).Err(); err != nil {
		return err
	}
	watch.start()
	n := 0
	for watch.more(n) {
		f := s.PollRecords(ctx, logBatch)
		if err := errors.Join(f.Err(), s.Begin()); err != nil {
			return err
		}
		f.EachRecord(func(r *kgo.Record) {
			n++
			s.Produce(ctx, &kgo.Record{Topic: to, Key: r.Key, Value: r.Value, Headers: r.Headers}, nil)
		})
		if ok, err := s.End(ctx, kgo.TryCommit); err != nil || !ok {
			return fmt.Errorf("end the transaction: committed %v, %w", ok, err)
		}
	}
	watch.stop(n)
	return nil
}

func (k *kafkaClient) close() error {
	k.producer.Close()
	return nil
}
