//go:build unix

package kafka_test

import (
	"context"
	"fmt"
	"sync"
	"syscall"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/broker/brokertest"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/test/servers"
)

func BenchmarkKafka(b *testing.B) {
	brokertest.Benchmark(b, harness(servers.Run(b, "kafka"), serverVersion))
}

const (
	benchParts  = 4
	publishers  = 32 // each waits for its call; the client's own loop waits for none
	benchBatch  = 1000
	benchSize   = 300       // bytes of a record
	benchFilled = 1_000_000 // records that are there to be read
)

// bench is one server with a topic to read, and both clients.
type bench struct {
	ctx  context.Context
	s    *servers.Server
	d    broker.Driver
	in   string
	next int
}

func (x *bench) topic(b *testing.B) string {
	x.next++
	name := fmt.Sprintf("bench-%d", x.next)
	if err := x.d.(broker.Admin).CreateTopic(x.ctx, broker.TopicConfig{Name: name, Partitions: benchParts}); err != nil {
		b.Fatal(err)
	}
	return name
}

func (x *bench) client(b *testing.B, opts ...kgo.Opt) *kgo.Client {
	opts = append(opts, kgo.SeedBrokers(x.s.Address), kgo.ProducerLinger(0), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.MaxBufferedRecords(1<<20), kgo.FetchMaxPartitionBytes(2<<20))
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(cl.Close)
	return cl
}

func benchRecords() []event.Record {
	recs := make([]event.Record, benchBatch)
	for i := range recs {
		recs[i] = event.Record{
			ID: fmt.Appendf(nil, "%016x", i*7919), Key: fmt.Appendf(nil, "customer-%03d", i),
			Headers: event.Headers(nil).AppendString("ce_type", "payment").AppendString("ce_source", "/bench"),
		}
		recs[i].Value = make([]byte, benchSize-recs[i].Size())
		for j := range recs[i].Value {
			recs[i].Value[j] = byte('a' + (i*j)%26)
		}
	}
	return recs
}

func clientRecords(topic string, recs []event.Record) []*kgo.Record {
	out := make([]*kgo.Record, len(recs))
	for i := range recs {
		out[i] = &kgo.Record{Topic: topic, Key: recs[i].Key, Value: recs[i].Value, Headers: []kgo.RecordHeader{
			{Key: "ce_id", Value: recs[i].ID}, {Key: "ce_type", Value: []byte("payment")}, {Key: "ce_source", Value: []byte("/bench")},
		}}
	}
	return out
}

// begin begins to measure. What it returns reports, for n events, how many there
// were in a second, and what they cost this process, which says more where
// others use the machine too.
func begin(b *testing.B) func(n int) {
	b.ReportAllocs()
	before := used(b)
	b.ResetTimer()
	return func(n int) {
		b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s")
		b.ReportMetric(float64(used(b)-before)/float64(n), "cpu-ns/event")
		b.ReportMetric(0, "ns/op")
	}
}

// used is the processor time of this process, in nanoseconds.
func used(b *testing.B) int64 {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return r.Utime.Nano() + r.Stime.Nano()
}

// BenchmarkBesideClient measures the adapter and franz-go's own loops on one server.
func BenchmarkBesideClient(b *testing.B) {
	s := servers.Run(b, "kafka")
	x := &bench{ctx: context.Background(), s: s, d: open(b, urlOf(s))}
	b.Cleanup(func() { _ = x.d.Close() })
	recs := benchRecords()
	b.Run("publish/franz-go", func(b *testing.B) { x.clientPublishes(b, recs) })
	b.Run("publish/freshet", func(b *testing.B) { x.publishes(b, recs) })
	b.Run("consume/franz-go", func(b *testing.B) { x.clientConsumes(b) })
	b.Run("consume/freshet", func(b *testing.B) { x.consumes(b) })
	for _, size := range []int{100, benchBatch} {
		b.Run(fmt.Sprintf("transform/batch=%d/franz-go", size), func(b *testing.B) { x.clientTransforms(b, size) })
		b.Run(fmt.Sprintf("transform/batch=%d/freshet", size), func(b *testing.B) { x.transforms(b, size) })
	}
}

// fill makes what the others read, once.
func (x *bench) fill(b *testing.B) {
	if x.in != "" {
		return
	}
	x.in = x.topic(b)
	recs := benchRecords()
	for range benchFilled / benchBatch {
		if _, err := x.d.Publish(x.ctx, x.in, recs); err != nil {
			b.Fatal(err)
		}
	}
}

// clientPublishes keeps as much under way as the client likes.
func (x *bench) clientPublishes(b *testing.B, recs []event.Record) {
	topic, cl := x.topic(b), x.client(b)
	done := begin(b)
	for range b.N {
		for _, r := range clientRecords(topic, recs) {
			cl.Produce(x.ctx, r, func(_ *kgo.Record, err error) {
				if err != nil {
					b.Error(err)
				}
			})
		}
	}
	if err := cl.Flush(x.ctx); err != nil {
		b.Fatal(err)
	}
	done(b.N * benchBatch)
}

func (x *bench) publishes(b *testing.B, recs []event.Record) {
	topic := x.topic(b)
	done := begin(b)
	var wg sync.WaitGroup
	work := make(chan struct{})
	for range publishers {
		wg.Go(func() {
			for range work {
				if _, err := x.d.Publish(x.ctx, topic, recs); err != nil {
					b.Error(err)
				}
			}
		})
	}
	for range b.N {
		work <- struct{}{}
	}
	close(work)
	wg.Wait()
	done(b.N * benchBatch)
}

func (x *bench) clientConsumes(b *testing.B) {
	x.fill(b)
	done := begin(b)
	n := 0
	for n < b.N*benchBatch {
		cl := x.client(b, kgo.ConsumeTopics(x.in))
		for left := benchFilled; left > 0 && n < b.N*benchBatch; {
			got := cl.PollRecords(x.ctx, benchBatch).NumRecords()
			n += got
			left -= got
		}
		cl.Close()
	}
	done(n)
}

func (x *bench) consumes(b *testing.B) {
	x.fill(b)
	done := begin(b)
	n := 0
	for n < b.N*benchBatch {
		var wg sync.WaitGroup
		var mu sync.Mutex
		t, err := x.d.Describe(x.ctx, x.in, "")
		if err != nil {
			b.Fatal(err)
		}
		want := (b.N*benchBatch - n) / benchParts
		for p := range t.Partitions {
			wg.Go(func() {
				r, err := x.d.Read(x.ctx, x.in, p, 0)
				if err != nil {
					b.Error(err)
					return
				}
				defer r.Close()
				got := 0
				for next := int64(0); next < t.Partitions[p].End && got <= want; {
					batch, err := r.Fetch(x.ctx, benchBatch)
					if err != nil {
						b.Error(err)
						return
					}
					got += len(batch.Records)
					next = batch.Next()
					batch.Release()
				}
				mu.Lock()
				n += got
				mu.Unlock()
			})
		}
		wg.Wait()
	}
	done(n)
}

func (x *bench) clientTransforms(b *testing.B, size int) {
	x.fill(b)
	out := x.topic(b)
	x.next++
	session, err := kgo.NewGroupTransactSession(kgo.SeedBrokers(x.s.Address), kgo.ProducerLinger(0), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumerGroup(fmt.Sprintf("client-%d", x.next)), kgo.ConsumeTopics(x.in),
		kgo.TransactionalID(fmt.Sprintf("client-%d", x.next)), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		b.Fatal(err)
	}
	defer session.Close()
	session.PollRecords(x.ctx, 1)
	done := begin(b)
	n := 0
	for range b.N {
		fetches := session.PollRecords(x.ctx, size)
		if err := session.Begin(); err != nil {
			b.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			n++
			session.Produce(x.ctx, &kgo.Record{Topic: out, Key: r.Key, Value: r.Value, Headers: r.Headers}, nil)
		})
		if ok, err := session.End(x.ctx, kgo.TryCommit); err != nil || !ok {
			b.Fatal(ok, err)
		}
	}
	done(n)
}

// transforms uses one claim, as one session of the client does.
func (x *bench) transforms(b *testing.B, size int) {
	x.fill(b)
	out := x.topic(b)
	x.next++
	c, err := x.d.Subscribe(x.ctx, broker.Subscription{Topic: x.in, Group: fmt.Sprintf("freshet-%d", x.next)})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	claim, err := c.Claim(x.ctx)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := claim.Fetch(x.ctx, 1); err != nil { // connected, as the session is
		b.Fatal(err)
	}
	done := begin(b)
	n := 0
	for range b.N {
		batch, err := claim.Fetch(x.ctx, size)
		if err != nil {
			b.Fatal(err)
		}
		err = x.d.(broker.Transactor).Commit(x.ctx, &broker.Tx{
			Publish:   []broker.Publication{{Topic: out, Partition: broker.AnyPartition, Records: batch.Records}},
			Positions: []broker.ClaimPosition{{Claim: claim, Next: batch.Next()}},
		})
		if err != nil {
			b.Fatal(err)
		}
		n += len(batch.Records)
		if batch.Next() >= batch.End {
			if err := claim.SeekTo(0); err != nil {
				b.Fatal(err)
			}
		}
		batch.Release()
	}
	done(n)
}
