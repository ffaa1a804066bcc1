package feature

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/freshet-io/freshet/event"
)

// steadyRows makes batches of 256 rows of 5,000 keys with about 60 rows a key in 30 days.
func steadyRows(tb testing.TB, keys, batches int) (*Windows, func()) {
	w, err := NewWindows(Config{Windows: customerWindows()})
	if err != nil {
		tb.Fatal(err)
	}
	const n = 256
	rng := rand.New(rand.NewPCG(1, 9))
	names := make([]string, keys)
	for i := range names {
		names[i] = fmt.Sprint(i)
	}
	type rows struct {
		keys  []string
		times []int64
		col   *event.Column
	}
	now := int64(1522540800e9)
	step := int64(30*24*3600e9) / int64(60*keys)
	all := make([]rows, batches)
	for b := range all {
		r := rows{make([]string, n), make([]int64, n), &event.Column{Kind: event.Float, Floats: make([]float64, n)}}
		for i := range n {
			r.keys[i], r.col.Floats[i] = names[rng.IntN(keys)], float64(rng.IntN(20000))/100
		}
		all[b] = r
	}
	out := newOut(w)
	cols := []*event.Column{nil}
	var delta []byte
	next := 0
	run := func() {
		r := &all[next%batches]
		next++
		for i := range r.times {
			now += step
			r.times[i] = now / 1e9 * 1e9
		}
		cols[0] = r.col
		delta = w.Update(&Batch{N: n, Keys: r.keys, Times: r.times, Fields: cols}, out, delta[:0])
	}
	for range 2 * 60 * keys / n {
		run()
	}
	return w, run
}

func BenchmarkUpdate(b *testing.B) {
	for _, keys := range []int{100, 5000, 100000} {
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) {
			w, run := steadyRows(b, keys, 1024)
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				run()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/256, "ns/row")
			b.ReportMetric(float64(w.Bytes())/float64(w.Keys()), "B/key")
		})
	}
}

func TestUpdateAllocatesNothingInSteadyState(t *testing.T) {
	_, run := steadyRows(t, 100, 512)
	for range 1000 {
		run()
	}
	if a := testing.AllocsPerRun(200, run); a > 0.1 {
		t.Errorf("%v allocations for 256 rows", a)
	}
}

func TestStateOfAnIdleKeyIsSmall(t *testing.T) {
	w, err := NewWindows(Config{Windows: customerWindows()})
	if err != nil {
		t.Fatal(err)
	}
	const n = 50_000
	out := newOut(w)
	col := &event.Column{Kind: event.Float, Floats: []float64{1}}
	for i := range n {
		w.Update(&Batch{N: 1, Keys: []string{fmt.Sprint("customer-", i)}, Times: []int64{int64(i) * 1e9}, Fields: []*event.Column{col}}, out, nil)
	}
	// Two entries of 16 bytes are reserved for each key.
	if per := w.Bytes()/n - 32; per > 280 {
		t.Errorf("%d bytes a key beside its entries", per)
	} else {
		t.Logf("%d bytes a key beside its entries", per)
	}
}

// BenchmarkRestore gives the whole of a state to empty windows.
func BenchmarkRestore(b *testing.B) {
	w, _ := steadyRows(b, 5000, 64)
	var chunks [][]byte
	total := 0
	w.BeginSnapshot()
	for done := false; !done; {
		var c []byte
		c, done = w.AppendSnapshot(nil, 1<<20)
		chunks = append(chunks, c)
		total += len(c)
	}
	b.SetBytes(w.Bytes())
	b.ResetTimer()
	for range b.N {
		r, err := NewWindows(Config{Windows: customerWindows()})
		if err != nil {
			b.Fatal(err)
		}
		for _, c := range chunks {
			if err := r.ApplySnapshot(c); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(total)*float64(b.N)/1e6/b.Elapsed().Seconds(), "snapshot-MB/s")
}

// BenchmarkMillionKeys is windows over 30 days with 20 rows a key in them. One
// round takes 30 million rows and about 1 GB of memory: -benchtime 1x.
func BenchmarkMillionKeys(b *testing.B) {
	const keys, rows = 1_000_000, 20_000_000
	names := make([]string, keys)
	for i := range names {
		names[i] = fmt.Sprint(i)
	}
	const n = 1024
	batch := &Batch{N: n, Keys: make([]string, n), Times: make([]int64, n), Fields: []*event.Column{{Kind: event.Float, Floats: make([]float64, n)}}}
	for range b.N {
		w, err := NewWindows(Config{Windows: customerWindows()})
		if err != nil {
			b.Fatal(err)
		}
		out := newOut(w)
		rng := rand.New(rand.NewPCG(1, 10))
		now := int64(1522540800e9)
		var delta []byte
		done := 0
		// The windows fill in 30 days; half of that again runs full.
		for ; done < rows*3/2; done += n {
			for i := range n {
				now += int64(30*24*3600e9) / rows
				batch.Keys[i], batch.Times[i], batch.Fields[0].Floats[i] = names[rng.IntN(keys)], now/1e9*1e9, float64(rng.IntN(20000))/100
			}
			delta = w.Update(batch, out, delta[:0])
		}
		b.ReportMetric(float64(done)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		b.ReportMetric(float64(w.Bytes())/keys, "B/key")
		b.ReportMetric(float64(w.entries.total)*8/keys, "B-arena/key")
	}
}
