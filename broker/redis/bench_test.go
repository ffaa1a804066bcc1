package redis_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/freshet-io/freshet/broker/brokertest"
)

func BenchmarkDriver(b *testing.B) {
	s := start(b, "aof")
	h := harness(s)
	brokertest.Benchmark(b, h)
}

const (
	nativeRecord = 300
	nativeParts  = 4
)

// BenchmarkNative is go-redis' own best loop for the work of BenchmarkDriver, on
// a server of the same settings: XADD of the same five parts in pipelines, XREAD
// without waiting, and both in one MULTI with the position in a hash.
func BenchmarkNative(b *testing.B) {
	s := start(b, "aof")
	c := s.client(b)
	ctx := b.Context()
	value := make([]byte, nativeRecord-50)
	for i := range value {
		value[i] = byte('a' + i%26)
	}
	add := func(pipe goredis.Pipeliner, stream string, i int) {
		pipe.Do(ctx, "XADD", stream, "*", "id", fmt.Sprintf("%016x", i), "key", fmt.Sprintf("customer-%03d", i%1000), "h", "ce_type=payment ce_source=/be", "data", value)
	}
	rate := func(b *testing.B, n int) { b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s") }
	for _, n := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("publish/batch=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				pipe := c.Pipeline()
				for i := range n {
					add(pipe, fmt.Sprintf("p%d", i%nativeParts), i)
				}
				if _, err := pipe.Exec(ctx); err != nil {
					b.Fatal(err)
				}
			}
			rate(b, n*b.N)
		})
	}
	for range 100 {
		pipe := c.Pipeline()
		for i := range 1000 {
			add(pipe, "full", i)
		}
		if _, err := pipe.Exec(ctx); err != nil {
			b.Fatal(err)
		}
	}
	read := func(b *testing.B, from string, n int64) []goredis.XMessage {
		for {
			got, err := c.XRead(ctx, &goredis.XReadArgs{Streams: []string{"full", from}, Count: n, Block: time.Millisecond}).Result()
			if errors.Is(err, goredis.Nil) {
				from = "0"
				continue
			}
			if err != nil {
				b.Fatal(err)
			}
			return got[0].Messages
		}
	}
	b.Run("consume/batch=1000", func(b *testing.B) {
		b.ReportAllocs()
		n, from := 0, "0"
		for b.Loop() {
			got := read(b, from, 1000)
			n, from = n+len(got), got[len(got)-1].ID
		}
		rate(b, n)
	})
	for _, size := range []int{100, 1000} {
		b.Run(fmt.Sprintf("transform/batch=%d", size), func(b *testing.B) {
			b.ReportAllocs()
			n, from := 0, "0"
			for b.Loop() {
				got := read(b, from, int64(size))
				pipe := c.TxPipeline()
				for i, m := range got {
					pipe.Do(ctx, "XADD", fmt.Sprintf("o%d", i%nativeParts), "*", "id", m.Values["id"], "key", m.Values["key"], "h", m.Values["h"], "data", m.Values["data"])
				}
				from = got[len(got)-1].ID
				pipe.HSet(ctx, "position", "full", from)
				if _, err := pipe.Exec(ctx); err != nil {
					b.Fatal(err)
				}
				n += len(got)
			}
			rate(b, n)
		})
	}
}
