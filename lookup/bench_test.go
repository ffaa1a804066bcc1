package lookup_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/lookup"
)

// hits prepares a table of rows rows and batches of 1,024 keys that it has.
func hits(b testing.TB, rows int) (*lookup.Table, [][]string) {
	table := newTable(b, &server{maxKeys: 10_000}, lookup.Config{Rows: 2 * rows})
	r := rand.New(rand.NewPCG(1, 2))
	all := make([]string, rows)
	for i := range all {
		all[i] = fmt.Sprintf("merchant-%d", i)
	}
	if _, err := find(b.Context(), table, all...); err != nil {
		b.Fatal(err)
	}
	batches := make([][]string, 64)
	for i := range batches {
		for range 1024 {
			batches[i] = append(batches[i], all[r.IntN(rows)])
		}
	}
	return table, batches
}

// BenchmarkHit reads rows of five fields from the cache, in batches of 1,024.
func BenchmarkHit(b *testing.B) {
	for _, rows := range []int{1000, 100_000} {
		b.Run(fmt.Sprintf("rows=%d", rows), func(b *testing.B) {
			table, batches := hits(b, rows)
			b.ResetTimer()
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				out := make([]*event.Column, len(fields))
				for i := range out {
					out[i] = new(event.Column)
				}
				at, state := make([]int64, 1024), make([]lookup.Outcome, 1024)
				i := 0
				for pb.Next() {
					if err := table.Lookup(b.Context(), batches[i&63], 1024, out, at, state); err != nil {
						b.Error(err)
					}
					i++
				}
			})
			b.ReportMetric(float64(b.N)*1024/b.Elapsed().Seconds(), "hits/s")
		})
	}
}

func TestAHitAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	table, batches := hits(t, 1000)
	out := make([]*event.Column, len(fields))
	for i := range out {
		out[i] = new(event.Column)
	}
	at, state := make([]int64, 1024), make([]lookup.Outcome, 1024)
	if n := testing.AllocsPerRun(200, func() { _ = table.Lookup(t.Context(), batches[0], 1024, out, at, state) }); n >= 1 {
		t.Errorf("%v allocations a call", n)
	}
}
