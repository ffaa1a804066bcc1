package pulsar_test

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"

	client "github.com/apache/pulsar-client-go/pulsar"
	"github.com/apache/pulsar-client-go/pulsar/log"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/broker/brokertest"
	"github.com/freshet-io/freshet/event"
)

func BenchmarkDriver(b *testing.B) { brokertest.Benchmark(b, harness(b)) }

const (
	nativeBatch = 1000
	nativeTotal = 100_000
)

// BenchmarkAgainstNative runs the same work by the driver and by the best loop
// on the client library: 300 bytes a record, 1,000 a batch, one partition.
func BenchmarkAgainstNative(b *testing.B) {
	s := server(b)
	d := open(b, urlOf(s))
	defer d.Close()
	c, err := client.NewClient(client.ClientOptions{URL: "pulsar://" + s.Address, Logger: log.DefaultNopLogger(), MemoryLimitBytes: -1})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	ctx := context.Background()
	recs := make([]event.Record, nativeBatch)
	for i := range recs {
		recs[i] = event.Record{
			ID: fmt.Appendf(nil, "%016x", i), Key: fmt.Appendf(nil, "customer-%03d", i),
			Headers: event.Headers(nil).AppendString("ce_source", "/bench").AppendString("ce_type", "payment"),
			Value:   bytes.Repeat([]byte("x"), 240),
		}
	}
	rate := func(b *testing.B) {
		b.ReportMetric(float64(b.N*nativeBatch)/b.Elapsed().Seconds(), "events/s")
	}
	topic := func(b *testing.B) string {
		name := topicName("bench")
		if err := d.CreateTopic(ctx, broker.TopicConfig{Name: name, Partitions: 1}); err != nil {
			b.Fatal(err)
		}
		return name
	}
	physical := func(name string) string { return "persistent://public/default/" + name + "-partition-0" }
	publish := func(b *testing.B, name string) {
		if _, err := d.Publish(ctx, name, recs); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("publish/native", func(b *testing.B) {
		p, err := c.CreateProducer(client.ProducerOptions{Topic: physical(topic(b)), MaxPendingMessages: 4 * nativeBatch, BatchingMaxMessages: nativeBatch, BatchingMaxSize: 4 << 20})
		if err != nil {
			b.Fatal(err)
		}
		defer p.Close()
		b.ReportAllocs()
		for b.Loop() {
			var wg sync.WaitGroup
			wg.Add(len(recs))
			for i := range recs {
				r := &recs[i]
				p.SendAsync(ctx, &client.ProducerMessage{
					Payload: r.Value, Key: string(r.Key),
					Properties: map[string]string{"ce_id": string(r.ID), "ce_source": "/bench", "ce_type": "payment"},
				}, func(_ client.MessageID, _ *client.ProducerMessage, err error) {
					if err != nil {
						b.Error(err)
					}
					wg.Done()
				})
			}
			if err := p.FlushWithCtx(ctx); err != nil {
				b.Fatal(err)
			}
			wg.Wait()
		}
		rate(b)
	})
	b.Run("publish/driver", func(b *testing.B) {
		name := topic(b)
		b.ReportAllocs()
		for b.Loop() {
			publish(b, name)
		}
		rate(b)
	})
	full := topic(b)
	for range nativeTotal / nativeBatch {
		publish(b, full)
	}
	b.Run("consume/native", func(b *testing.B) {
		b.ReportAllocs()
		var r client.Reader
		left := 0
		for b.Loop() {
			for range nativeBatch {
				if left == 0 {
					if r != nil {
						r.Close()
					}
					if r, err = c.CreateReader(client.ReaderOptions{Topic: physical(full), StartMessageID: client.EarliestMessageID()}); err != nil {
						b.Fatal(err)
					}
					left = nativeTotal
				}
				if _, err := r.Next(ctx); err != nil {
					b.Fatal(err)
				}
				left--
			}
		}
		r.Close()
		rate(b)
	})
	b.Run("consume/driver", func(b *testing.B) {
		b.ReportAllocs()
		var r broker.Reader
		left := 0
		for b.Loop() {
			for n := 0; n < nativeBatch; {
				if left == 0 {
					if r != nil {
						_ = r.Close()
					}
					if r, err = d.Read(ctx, full, 0, 0); err != nil {
						b.Fatal(err)
					}
					left = nativeTotal
				}
				batch, err := r.Fetch(ctx, min(nativeBatch-n, left))
				if err != nil {
					b.Fatal(err)
				}
				n += len(batch.Records)
				left -= len(batch.Records)
				batch.Release()
			}
		}
		_ = r.Close()
		rate(b)
	})
}
