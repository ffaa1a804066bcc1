package feature

import (
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/freshet-io/freshet/event"
)

// naive computes windows by the definition, looking at every row of the key.
type naive struct {
	ws      []Window
	fields  []Field
	horizon uint64
	rows    map[string][]naiveRow
}

type naiveRow struct {
	t      int64
	values []any // nil for null
}

func newNaive(t *testing.T, ws []Window, retain time.Duration) (*naive, *Windows) {
	t.Helper()
	w, err := NewWindows(Config{Windows: ws, Retain: retain})
	if err != nil {
		t.Fatal(err)
	}
	longest := time.Duration(0)
	for _, x := range ws {
		longest = max(longest, x.Over)
	}
	return &naive{ws: ws, fields: w.Fields(), horizon: uint64(longest + retain), rows: map[string][]naiveRow{}}, w
}

// row takes in one row and returns what each window holds.
func (n *naive) row(key string, t int64, values []any) []any {
	rows := n.rows[key]
	newest := int64(math.MinInt64)
	for _, r := range rows {
		newest = max(newest, r.t)
	}
	me := naiveRow{t, values}
	switch {
	case len(rows) > 0 && newest > t && uint64(newest)-uint64(t) >= n.horizon:
		rows = []naiveRow{me} // alone, and not kept
	default:
		newest = max(newest, t)
		kept := rows[:0:0]
		for _, r := range rows {
			if uint64(newest)-uint64(r.t) < n.horizon {
				kept = append(kept, r)
			}
		}
		kept = append(kept, me)
		rows = kept
		n.rows[key] = rows
	}
	out := make([]any, len(n.ws))
	for i, w := range n.ws {
		field := -1
		for f, x := range n.fields {
			if w.Aggregate != Count && x == (Field{w.Field, w.Kind}) {
				field = f
			}
		}
		out[i] = aggregate(rows, t, w, field)
	}
	return out
}

func aggregate(rows []naiveRow, t int64, w Window, field int) any {
	var (
		count    int64
		values   []any
		distinct = map[any]bool{}
		newest   = int64(math.MinInt64)
		last     any
	)
	for _, r := range rows {
		if r.t > t || uint64(t)-uint64(r.t) >= uint64(w.Over) {
			continue
		}
		count++
		if field >= 0 && r.values[field] != nil {
			v := r.values[field]
			values = append(values, v)
			distinct[v] = true
			if r.t >= newest { // a tie: the later in processing order
				newest, last = r.t, v
			}
		}
	}
	switch w.Aggregate {
	case Count:
		return count
	case Distinct:
		return int64(len(distinct))
	case Last:
		return last
	}
	if len(values) == 0 {
		if w.Aggregate == Sum {
			return 0.0
		}
		return nil
	}
	total := new(big.Float).SetPrec(2200)
	lo, hi := math.Inf(1), math.Inf(-1)
	for _, v := range values {
		total.Add(total, big.NewFloat(v.(float64)))
		lo, hi = min(lo, v.(float64)), max(hi, v.(float64))
	}
	switch w.Aggregate {
	case Min:
		return lo
	case Max:
		return hi
	case Mean:
		m, _ := new(big.Float).SetPrec(2200).Quo(total, big.NewFloat(float64(len(values)))).Float64()
		return m
	}
	s, _ := total.Float64()
	if math.IsInf(s, 0) {
		return nil
	}
	return s
}

// same reports whether got is want: floats to one ulp, all else exactly.
func same(got, want any) bool {
	g, ok1 := got.(float64)
	f, ok2 := want.(float64)
	if ok1 && ok2 {
		return g == f || math.Nextafter(g, f) == f
	}
	return got == want
}

func cell(c *event.Column, i int) any {
	if c.IsNull(i) {
		return nil
	}
	switch c.Kind {
	case event.Float:
		return c.Floats[i]
	case event.Bool:
		return c.Bools[i]
	case event.String:
		return c.Strings[i]
	default:
		return c.Ints[i]
	}
}

// batch is rows in the shape that Update takes.
type batch struct {
	keys   []string
	times  []int64
	fields []*event.Column
	values [][]any
}

func newBatch(fields []Field, n int) *batch {
	b := &batch{keys: make([]string, n), times: make([]int64, n)}
	for _, f := range fields {
		c := &event.Column{Name: f.Name, Kind: f.Kind}
		c.Reset(n)
		b.fields = append(b.fields, c)
	}
	return b
}

func (b *batch) set(i int, key string, t int64, values []any) {
	b.keys[i], b.times[i] = key, t
	for f, v := range values {
		c := b.fields[f]
		switch v := v.(type) {
		case nil:
			c.SetNull(i)
		case float64:
			c.Floats[i] = v
		case int64:
			c.Ints[i] = v
		case bool:
			c.Bools[i] = v
		case string:
			c.Strings[i] = v
		}
	}
	b.values = append(b.values, values)
}

func newOut(w *Windows) []*event.Column {
	out := make([]*event.Column, len(w.ops))
	for i := range out {
		out[i] = &event.Column{}
	}
	return out
}

// history draws random rows.
type history struct {
	rng    *rand.Rand
	keys   int
	late   float64 // share of rows out of order
	far    float64 // share of late rows that are very late
	now    int64
	step   int64
	values func(rng *rand.Rand) float64
}

func (h *history) next(fields []Field, n int) *batch {
	b := newBatch(fields, n)
	for i := range n {
		h.now += h.rng.Int64N(h.step) * h.rng.Int64N(2)
		t := h.now
		if h.rng.Float64() < h.late {
			t -= h.rng.Int64N(40 * h.step)
			if h.rng.Float64() < h.far {
				t -= h.rng.Int64N(2000 * h.step)
			}
		}
		values := make([]any, len(fields))
		for f := range values {
			values[f] = h.value(fields[f].Kind)
		}
		b.set(i, fmt.Sprint("k", h.rng.IntN(h.keys)), t, values)
	}
	return b
}

func (h *history) value(k event.Kind) any {
	if h.rng.IntN(8) == 0 {
		return nil
	}
	switch k {
	case event.Float:
		return h.values(h.rng)
	case event.Bool:
		return h.rng.IntN(2) == 0
	case event.String:
		return fmt.Sprint("s", h.rng.IntN(6))
	default:
		return h.rng.Int64N(5) - 2
	}
}

// seeds is n, or a third of it under the race detector: there is one goroutine to watch.
func seeds(n uint64) uint64 {
	if raceDetector {
		return n / 3
	}
	return n
}

func cents(rng *rand.Rand) float64 { return float64(rng.IntN(30000)-100) / 100 }
func small(rng *rand.Rand) float64 { return float64(rng.IntN(7)) - 3 }

func nasty(rng *rand.Rand) float64 {
	v := math.Ldexp(rng.Float64()*2-1, rng.IntN(400)-200)
	switch rng.IntN(6) {
	case 0:
		return math.Ldexp(rng.NormFloat64(), 1020)
	case 1:
		return -1e300
	case 2:
		return 1e300
	}
	return v
}

func allWindows(over ...time.Duration) []Window {
	var ws []Window
	for _, o := range over {
		add := func(a Aggregate, field string, k event.Kind) {
			ws = append(ws, Window{Name: fmt.Sprint(a, field, o), Aggregate: a, Field: field, Kind: k, Over: o})
		}
		add(Count, "", event.Float)
		for _, a := range []Aggregate{Sum, Mean, Min, Max, Last, Distinct} {
			add(a, "x", event.Float)
		}
		add(Mean, "y", event.Float)
		add(Last, "s", event.String)
		add(Distinct, "s", event.String)
		add(Last, "i", event.Int)
		add(Distinct, "i", event.Int)
		add(Last, "b", event.Bool)
	}
	return ws
}

func TestWindowsEqualTheDefinitionOnRandomHistories(t *testing.T) {
	cases := []struct {
		name   string
		late   float64
		far    float64
		retain time.Duration
		values func(*rand.Rand) float64
	}{
		{"in order, cents", 0, 0, 0, cents},
		{"in order, ties and repeats", 0, 0, 0, small},
		{"in order, values that cancel and overflow", 0, 0, 0, nasty},
		{"late, cents", 0.3, 0.2, 0, cents},
		{"late, retained", 0.3, 0.2, 500, small},
		{"late, values that cancel and overflow", 0.2, 0.1, 50, nasty},
	}
	compared := 0
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			for seed := range seeds(6) {
				ref, w := newNaive(t, allWindows(20, 100, 1000), c.retain)
				h := &history{rng: rand.New(rand.NewPCG(seed, 1)), keys: 1 + int(seed)*2, late: c.late, far: c.far, now: -500, step: 1 + int64(seed)*4, values: c.values}
				out := newOut(w)
				for range 40 {
					b := h.next(w.Fields(), 1+h.rng.IntN(20))
					w.Update(&Batch{N: len(b.keys), Keys: b.keys, Times: b.times, Fields: b.fields}, out, nil)
					for i := range b.keys {
						for j, want := range ref.row(b.keys[i], b.times[i], b.values[i]) {
							compared++
							if got := cell(out[j], i); !same(got, want) {
								t.Fatalf("seed %d key %s time %d window %s: got %v, want %v", seed, b.keys[i], b.times[i], w.name(ref, j), got, want)
							}
						}
					}
				}
			}
		})
	}
	t.Logf("%d values compared", compared)
}

func (w *Windows) name(n *naive, i int) string { return n.ws[i].Name }
