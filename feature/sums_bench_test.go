package feature

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/freshet-io/freshet/event"
)

// paneWindows is count and mean of 30 days in panes of a day, or exact.
func paneWindows(panes int) []Window {
	shape := Sliding
	if panes > 0 {
		shape = Panes
	}
	month := 30 * 24 * time.Hour
	return []Window{
		{Name: "n", Aggregate: Count, Shape: shape, Panes: panes, Over: month},
		{Name: "mean", Aggregate: Mean, Field: "x", Shape: shape, Panes: panes, Over: month},
	}
}

// steadySums feeds any aggregator rows of random keys, perMonth a key in 30
// days, until its state no longer grows, and returns what feeds it on.
func steadySums(tb testing.TB, ws []Window, keys, perMonth int) (Aggregator, func()) {
	a, err := New(Config{Windows: ws})
	if err != nil {
		tb.Fatal(err)
	}
	const n, batches = 256, 1024
	rng := rand.New(rand.NewPCG(1, 9))
	names := make([]string, keys)
	for i := range names {
		names[i] = fmt.Sprint(i)
	}
	type rows struct {
		keys   []string
		fields []*event.Column
	}
	all := make([]rows, batches)
	for b := range all {
		all[b].keys = make([]string, n)
		x := &event.Column{Kind: event.Float, Floats: make([]float64, n)}
		for i := range n {
			all[b].keys[i], x.Floats[i] = names[rng.IntN(keys)], float64(rng.IntN(20000))/100
		}
		for range a.Fields() {
			all[b].fields = append(all[b].fields, x)
		}
	}
	if keys > n*batches/4 { // every key in turn, so that all are there
		for b := range all {
			for i := range n {
				all[b].keys[i] = ""
			}
		}
	}
	now := int64(1522540800e9)
	step := int64(30*24*3600e9) / int64(perMonth*keys)
	times := make([]int64, n)
	out := outFor(len(ws))
	var delta []byte
	next, turn := 0, 0
	batch := &Batch{N: n, Times: times}
	run := func() {
		r := &all[next%batches]
		next++
		for i := range times {
			now += step
			times[i] = now
			if keys > n*batches/4 {
				turn = (turn + 7919) % keys
				r.keys[i] = names[turn]
			}
		}
		batch.Keys, batch.Fields = r.keys, r.fields
		delta = a.Update(batch, out, delta[:0])
	}
	for range perMonth * keys / n * 5 / 4 {
		run()
	}
	return a, run
}

// BenchmarkPanesAndRows compares windows in panes with exact ones on the same rows.
func BenchmarkPanesAndRows(b *testing.B) {
	for _, perMonth := range []int{30, 300} {
		for _, panes := range []int{30, 0} {
			name := "panes=30"
			if panes == 0 {
				name = "exact"
			}
			b.Run(fmt.Sprintf("rows=%d/%s", perMonth, name), func(b *testing.B) {
				a, run := steadySums(b, paneWindows(panes), 10_000, perMonth)
				benchmarkRows(b, a, run)
			})
		}
	}
}

// BenchmarkPanesAndRowsOfAMillionKeys takes minutes and gigabytes.
func BenchmarkPanesAndRowsOfAMillionKeys(b *testing.B) {
	if os.Getenv("FRESHET_LONG_BENCH") == "" {
		b.Skip("set FRESHET_LONG_BENCH")
	}
	for _, panes := range []int{30, 0} {
		name := "panes=30"
		if panes == 0 {
			name = "exact"
		}
		a, run := steadySums(b, paneWindows(panes), 1_000_000, 60)
		b.Run(name, func(b *testing.B) { benchmarkRows(b, a, run) })
	}
}

func benchmarkRows(b *testing.B, a Aggregator, run func()) {
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		run()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/256, "ns/row")
	b.ReportMetric(float64(a.Bytes())/float64(a.Keys()), "B/key")
}

// BenchmarkSums measures each kind of sum on its own.
func BenchmarkSums(b *testing.B) {
	day := 24 * time.Hour
	for _, w := range []Window{
		{Name: "tumbling", Aggregate: Sum, Field: "x", Shape: Tumbling, Over: day},
		{Name: "session", Aggregate: Sum, Field: "x", Shape: Session, Over: day},
		{Name: "decayed", Aggregate: Decayed, Field: "x", Over: day},
		{Name: "quantile tumbling", Aggregate: Quantile, Q: 0.9, Field: "x", Shape: Tumbling, Over: 30 * day},
		{Name: "quantile panes", Aggregate: Quantile, Q: 0.9, Field: "x", Shape: Panes, Panes: 6, Over: 30 * day},
		{Name: "distinct tumbling", Aggregate: Distinct, Field: "x", Shape: Tumbling, Over: 30 * day},
		{Name: "sketch tumbling", Aggregate: Distinct, Sketch: true, Field: "x", Shape: Tumbling, Over: 30 * day},
		{Name: "sketch panes", Aggregate: Distinct, Sketch: true, Field: "x", Shape: Panes, Panes: 6, Over: 30 * day},
	} {
		b.Run(w.Name, func(b *testing.B) {
			a, run := steadySums(b, []Window{w}, 100, 3000)
			benchmarkRows(b, a, run)
		})
	}
}

func TestSumsAllocateNothingInSteadyState(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector allocates")
	}
	for name, ws := range map[string][]Window{
		"panes": paneWindows(30),
		"sketches": {
			{Name: "q", Aggregate: Quantile, Q: 0.9, Field: "x", Shape: Panes, Panes: 6, Over: time.Hour},
			{Name: "d", Aggregate: Distinct, Field: "x", Shape: Panes, Panes: 6, Over: time.Hour},
			{Name: "h", Aggregate: Distinct, Sketch: true, Field: "x", Shape: Panes, Panes: 6, Over: time.Hour},
			{Name: "s", Aggregate: StdDev, Field: "x", Shape: Session, Over: time.Hour},
		},
	} {
		_, run := steadySums(t, ws, 20, 3000)
		if a := testing.AllocsPerRun(100, run); a > 0.2 {
			t.Errorf("%s: %v allocations for 256 rows", name, a)
		}
	}
}
