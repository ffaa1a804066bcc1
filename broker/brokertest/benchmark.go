package brokertest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/event"
)

// recordSize is the size of the benchmarks' records, in bytes.
const recordSize = 300

// Benchmark measures the driver on records of 300 bytes over 1,000 keys in
// topics of 4 partitions: publishing one batch after the other, consuming, and
// consume-transform-publish (in transactions where the driver has them,
// otherwise Publish and then Commit). It reports events/s.
func Benchmark(b *testing.B, h Harness) {
	for _, n := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("publish/batch=%d", n), func(b *testing.B) { benchPublish(b, h, n) })
	}
	b.Run("publish/batch=1/parallel=64", func(b *testing.B) { benchPublishParallel(b, h) })
	b.Run("consume/batch=1000", func(b *testing.B) { benchConsume(b, h) })
	for _, n := range []int{100, 1000} {
		b.Run(fmt.Sprintf("transform/batch=%d", n), func(b *testing.B) { benchTransform(b, h, n) })
	}
}

const benchParts = 4

// events reports n events of the whole run.
func events(b *testing.B, n int) {
	b.SetBytes(int64(n) * recordSize / int64(b.N))
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s")
}

func newBench(b *testing.B, h Harness) *env {
	e := newEnv(b, h)
	e.ctx = context.Background() // a benchmark may take its time
	return e
}

func benchPublish(b *testing.B, h Harness, n int) {
	e := newBench(b, h)
	if e.caps.MaxBatch > 0 && n > e.caps.MaxBatch {
		b.Skip("above the driver's MaxBatch")
	}
	topic := e.topic(benchParts)
	recs := sameSize(n)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := e.d.Publish(e.ctx, topic, recs); err != nil {
			b.Fatal(err)
		}
	}
	events(b, n*b.N)
}

func benchPublishParallel(b *testing.B, h Harness) {
	e := newBench(b, h)
	topic := e.topic(benchParts)
	recs := sameSize(1)
	b.ReportAllocs()
	b.SetParallelism(64)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := e.d.Publish(e.ctx, topic, recs); err != nil {
				b.Error(err)
				return
			}
		}
	})
	events(b, b.N)
}

// filled returns a topic with n records in one of its partitions, and that
// partition's claim.
func (e *env) filled(n int) broker.Claim {
	topic := e.topic(1)
	for range n / 1000 {
		if _, err := e.tryPublish(topic, sameSize(1000)); err != nil {
			e.Fatal(err)
		}
	}
	return e.claim(e.subscribe(topic, "g"))
}

func benchConsume(b *testing.B, h Harness) {
	e := newBench(b, h)
	claim := e.filled(100_000)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		batch, err := claim.Fetch(e.ctx, 1000)
		if err != nil {
			b.Fatal(err)
		}
		n += len(batch.Records)
		if batch.Next() == batch.End {
			e.must("SeekTo", claim.SeekTo(0))
		}
		batch.Release()
	}
	events(b, n)
}

func benchTransform(b *testing.B, h Harness, size int) {
	e := newBench(b, h)
	if e.caps.MaxBatch > 0 {
		size = min(size, e.caps.MaxBatch)
	}
	claim := e.filled(100_000)
	out := e.topic(benchParts)
	var recs []event.Record
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		batch, err := claim.Fetch(e.ctx, size)
		if err != nil {
			b.Fatal(err)
		}
		recs = append(recs[:0], batch.Records...)
		for i := range recs {
			recs[i].ID = recs[i].ID[1:] // a result's own id
		}
		if err := e.move(claim, batch.Next(), out, recs); err != nil {
			b.Fatal(err)
		}
		n += len(recs)
		if batch.Next() == batch.End {
			e.must("SeekTo", claim.SeekTo(0))
		}
		batch.Release()
	}
	events(b, n)
}

// move publishes recs and commits next, in one transaction where there are any.
func (e *env) move(claim broker.Claim, next int64, out string, recs []event.Record) error {
	if t, ok := e.d.(broker.Transactor); ok && e.caps.Transactions {
		return t.Commit(e.ctx, &broker.Tx{
			Publish:   []broker.Publication{{Topic: out, Partition: broker.AnyPartition, Records: recs}},
			Positions: []broker.ClaimPosition{{Claim: claim, Next: next}},
		})
	}
	if _, err := e.d.Publish(e.ctx, out, recs); err != nil {
		return err
	}
	return claim.Commit(e.ctx, next)
}

// sameSize returns n records of recordSize bytes over 1,000 keys.
func sameSize(n int) []event.Record {
	recs := make([]event.Record, n)
	for i := range recs {
		recs[i] = event.Record{
			ID:      fmt.Appendf(nil, "%016x", rand.Uint64()),
			Key:     fmt.Appendf(nil, "customer-%03d", rand.IntN(1000)),
			Headers: event.Headers(nil).AppendString("ce_type", "payment").AppendString("ce_source", "/bench"),
		}
		recs[i].Value = make([]byte, recordSize-recs[i].Size())
		for j := range recs[i].Value {
			recs[i].Value[j] = byte('a' + (i+j)%26)
		}
	}
	return recs
}
