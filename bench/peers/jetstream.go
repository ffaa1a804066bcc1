package main

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
)

// jetStreamLog appends events to an embedded JetStream and consumes them.
func jetStreamLog(events [][]byte) side {
	return side{
		Name: "JetStream embedded",
		What: "nats-server in the process, default file store (not synced): async publish with 4,096 outstanding, all acknowledged; then a pull consumer with up to 5,000 prefetched acknowledges every 1,000th for all before it",
		run: func(ctx context.Context, dir string) (sample, error) {
			b, err := newNATSBench(ctx, dir, false, jetstream.WithPublishAsyncMaxPending(4096))
			if err != nil {
				return sample{}, err
			}
			defer b.close()
			m := startMeter()
			if err := b.publish(ctx, events); err != nil {
				return sample{}, err
			}
			bytes, err := b.consume(ctx, len(events))
			if err != nil {
				return sample{}, err
			}
			s := m.stop(len(events))
			return s, wantBytes(bytes, events)
		},
	}
}

// consume reads n messages and returns the number of their bytes.
func (b *natsBench) consume(ctx context.Context, n int) (int, error) {
	c, err := b.js.CreateOrUpdateConsumer(ctx, sourceTopic, jetstream.ConsumerConfig{Durable: "bench", AckPolicy: jetstream.AckAllPolicy, MaxAckPending: 100_000})
	if err != nil {
		return 0, fmt.Errorf("create consumer: %w", err)
	}
	it, err := c.Messages(jetstream.PullMaxMessages(5000))
	if err != nil {
		return 0, fmt.Errorf("consume: %w", err)
	}
	defer it.Stop()
	bytes := 0
	for i := 1; i <= n; i++ {
		msg, err := it.Next()
		if err != nil {
			return 0, fmt.Errorf("consume: %w", err)
		}
		bytes += len(msg.Data())
		if i%1000 == 0 || i == n {
			if err := msg.Ack(); err != nil {
				return 0, err
			}
		}
	}
	return bytes, nil
}

// wantBytes checks that what was read is as long as what was written.
func wantBytes(got int, events [][]byte) error {
	want := 0
	for _, e := range events {
		want += len(e)
	}
	if got != want {
		return fmt.Errorf("read %d bytes, wrote %d", got, want)
	}
	return nil
}
