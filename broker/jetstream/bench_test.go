package jetstream

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/broker/brokertest"
	"github.com/freshet-io/freshet/event"
)

func BenchmarkDriver(b *testing.B) {
	s := startInProcess(b, nil)
	brokertest.Benchmark(b, brokertest.Harness{Open: func(t testing.TB) broker.Driver { return open(t, s.url("")) }, Patience: time.Minute})
}

// BenchmarkAgainstTheClient does the same work through the driver and in the
// client's own best loop, on one partition of one server with the same streams,
// payloads and headers, and reports events/s.
func BenchmarkAgainstTheClient(b *testing.B) {
	for _, w := range []struct {
		name  string
		dedup time.Duration
	}{{"plain", 0}, {"dedup", time.Hour}} {
		b.Run("publish/"+w.name+"/driver", func(b *testing.B) { newContest(b, w.dedup).publish(b) })
		b.Run("publish/"+w.name+"/client", func(b *testing.B) { newContest(b, w.dedup).publishNative(b) })
	}
	b.Run("consume/driver", func(b *testing.B) { newContest(b, 0).consume(b) })
	b.Run("consume/client", func(b *testing.B) { newContest(b, 0).consumeNative(b) })
	b.Run("transform/driver", func(b *testing.B) { newContest(b, 0).transform(b) })
	b.Run("transform/client", func(b *testing.B) { newContest(b, 0).transformNative(b) })
}

const contestBatch = 1000

type contest struct {
	d       *Driver
	in, out partition
	recs    []event.Record
	dedup   bool
}

func newContest(b *testing.B, dedup time.Duration) *contest {
	s := startInProcess(b, nil)
	c := &contest{d: open(b, s.url("")).(*Driver), dedup: dedup > 0}
	b.Cleanup(func() { _ = c.d.Close() })
	for _, name := range []string{"in", "out"} {
		if err := c.d.CreateTopic(b.Context(), broker.TopicConfig{Name: name, Partitions: 1, DedupWindow: dedup}); err != nil {
			b.Fatal(err)
		}
	}
	for name, p := range map[string]*partition{"in": &c.in, "out": &c.out} {
		t, err := c.d.topic(b.Context(), name)
		if err != nil {
			b.Fatal(err)
		}
		*p = t.partitions[0]
	}
	c.recs = make([]event.Record, contestBatch)
	for i := range c.recs {
		c.recs[i] = event.Record{
			Key:     fmt.Appendf(nil, "customer-%04d", rand.IntN(10_000)),
			Headers: event.Headers(nil).AppendString("ce_source", "/bench").AppendString("ce_type", "payment"), Value: make([]byte, 250),
		}
	}
	c.name(0)
	return c
}

// name gives the records ids that nobody has had.
func (c *contest) name(round int) {
	for i := range c.recs {
		c.recs[i].ID = fmt.Appendf(c.recs[i].ID[:0], "%08d-%08d", round, i)
	}
}

func rate(b *testing.B, n int) { b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s") }

func (c *contest) publish(b *testing.B) {
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		n++
		c.name(n)
		if p, err := c.d.Publish(b.Context(), "in", c.recs); err != nil || p.Stored != contestBatch {
			b.Fatal(p, err)
		}
	}
	rate(b, n*contestBatch)
}

func (c *contest) message(r *event.Record) *nats.Msg {
	m := &nats.Msg{Subject: c.in.subject, Data: r.Value, Header: nats.Header{
		"ce-id": {string(r.ID)}, "ce-partitionkey": {string(r.Key)}, "ce-source": {"/bench"}, "ce-type": {"payment"},
	}}
	if c.dedup {
		m.Header[headerMsgID] = []string{string(r.ID)}
	}
	return m
}

// publishNative is PublishMsgAsync with a large window, one batch after the other.
func (c *contest) publishNative(b *testing.B) {
	js, err := jetstream.New(c.d.nc, jetstream.WithPublishAsyncMaxPending(4096))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		n++
		c.name(n)
		c.publishAll(b, js, c.recs)
	}
	rate(b, n*contestBatch)
}

func (c *contest) publishAll(b *testing.B, js jetstream.JetStream, recs []event.Record) {
	for i := range recs {
		if _, err := js.PublishMsgAsync(c.message(&recs[i])); err != nil {
			b.Fatal(err)
		}
	}
	<-js.PublishAsyncComplete()
}

const filled = 100_000

func (c *contest) fill(b *testing.B) {
	for n := range filled / contestBatch {
		c.name(n)
		if _, err := c.d.Publish(b.Context(), "in", c.recs); err != nil {
			b.Fatal(err)
		}
	}
}

func (c *contest) consume(b *testing.B) {
	c.fill(b)
	r, err := c.d.newReader(b.Context(), "in", 0, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		batch, err := r.Fetch(b.Context(), contestBatch)
		if err != nil {
			b.Fatal(err)
		}
		n += len(batch.Records)
		if batch.Next() == filled {
			_ = r.seek(0)
		}
		batch.Release()
	}
	rate(b, n)
}

func (c *contest) ordered(b *testing.B) jetstream.MessagesContext {
	consumer, err := c.d.js.OrderedConsumer(b.Context(), c.in.stream, jetstream.OrderedConsumerConfig{})
	if err != nil {
		b.Fatal(err)
	}
	it, err := consumer.Messages(jetstream.PullMaxMessages(2 * pullBatch))
	if err != nil {
		b.Fatal(err)
	}
	return it
}

// consumeNative is an ordered consumer with the same window.
func (c *contest) consumeNative(b *testing.B) {
	c.fill(b)
	it := c.ordered(b)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		for range contestBatch {
			m, err := it.Next()
			if err != nil {
				b.Fatal(err)
			}
			if _, err := m.Metadata(); err != nil {
				b.Fatal(err)
			}
			n++
		}
		if n%filled == 0 {
			it.Stop()
			it = c.ordered(b)
		}
	}
	it.Stop()
	rate(b, n)
}

func (c *contest) transform(b *testing.B) {
	c.fill(b)
	consumer, err := c.d.Subscribe(b.Context(), broker.Subscription{Topic: "in", Group: "g"})
	if err != nil {
		b.Fatal(err)
	}
	defer consumer.Close()
	claim, err := consumer.Claim(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		batch, err := claim.Fetch(b.Context(), contestBatch)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := c.d.Publish(b.Context(), "out", batch.Records); err != nil {
			b.Fatal(err)
		}
		if err := claim.Commit(b.Context(), batch.Next()); err != nil {
			b.Fatal(err)
		}
		n += len(batch.Records)
		if batch.Next() == filled {
			_ = claim.SeekTo(0)
		}
		batch.Release()
	}
	rate(b, n)
}

// transformNative reads, publishes and stores its position as transform does.
func (c *contest) transformNative(b *testing.B) {
	c.fill(b)
	js, err := jetstream.New(c.d.nc, jetstream.WithPublishAsyncMaxPending(4096))
	if err != nil {
		b.Fatal(err)
	}
	kv, err := js.CreateKeyValue(b.Context(), jetstream.KeyValueConfig{Bucket: "positions"})
	if err != nil {
		b.Fatal(err)
	}
	it := c.ordered(b)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		for range contestBatch {
			m, err := it.Next()
			if err != nil {
				b.Fatal(err)
			}
			if _, err := m.Metadata(); err != nil {
				b.Fatal(err)
			}
			out := &nats.Msg{Subject: c.out.subject, Data: m.Data(), Header: nats.Header{}}
			for k, v := range m.Headers() {
				out.Header[k] = v
			}
			if _, err := js.PublishMsgAsync(out); err != nil {
				b.Fatal(err)
			}
			n++
		}
		<-js.PublishAsyncComplete()
		if _, err := kv.PutString(b.Context(), "in", strconv.Itoa(n)); err != nil {
			b.Fatal(err)
		}
		if n%filled == 0 {
			it.Stop()
			it = c.ordered(b)
		}
	}
	it.Stop()
	rate(b, n)
}
