package feature

import (
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

// naiveSums computes windows by the definition, from all rows.
type naiveSums struct {
	ws     []Window
	fields []Field
	retain int64
	newest map[string]int64
	rows   []map[string][]naiveRow // of each window
}

func newNaiveSums(t testing.TB, ws []Window, retain time.Duration) (*naiveSums, *Sums) {
	t.Helper()
	s, err := NewSums(Config{Windows: ws, Retain: retain})
	if err != nil {
		t.Fatal(err)
	}
	n := &naiveSums{ws: ws, fields: s.Fields(), retain: int64(retain), newest: map[string]int64{}}
	for range ws {
		n.rows = append(n.rows, map[string][]naiveRow{})
	}
	return n, s
}

func (n *naiveSums) row(key string, t int64, values []any) []any {
	newest, ok := n.newest[key]
	if !ok || t > newest {
		newest = t
	}
	n.newest[key] = newest
	me := naiveRow{t, values}
	out := make([]any, len(n.ws))
	for i, w := range n.ws {
		rows := n.rows[i][key]
		var counted []naiveRow
		switch {
		case w.Aggregate == Decayed:
			rows = append(rows, me)
			counted = rows
		case w.Shape == Session:
			rows, counted = naiveSession(rows, me, int64(w.Over))
		default:
			panes := max(1, int64(w.Panes))
			width := int64(w.Over) / panes
			pane := func(t int64) int64 { return int64(math.Floor(float64(t) / float64(width))) }
			kept := rows[:0:0]
			lowest := pane(newest-n.retain) - panes + 1
			for _, r := range rows {
				if pane(r.t) >= lowest {
					kept = append(kept, r)
				}
			}
			if pane(t) < lowest {
				rows, counted = kept, []naiveRow{me}
				break
			}
			kept = append(kept, me)
			rows = kept
			for _, r := range rows {
				if p := pane(r.t); p <= pane(t) && p*width > t-int64(w.Over) {
					counted = append(counted, r)
				}
			}
		}
		n.rows[i][key] = rows
		out[i] = n.aggregate(&w, counted, t, newest)
	}
	return out
}

func naiveSession(rows []naiveRow, me naiveRow, gap int64) (kept, counted []naiveRow) {
	start, end := int64(math.MaxInt64), int64(math.MinInt64)
	for _, r := range rows {
		start, end = min(start, r.t), max(end, r.t)
	}
	switch {
	case len(rows) == 0, me.t >= end && me.t-end >= gap:
		kept = []naiveRow{me}
	case me.t < start && start-me.t >= gap:
		return rows, []naiveRow{me}
	default:
		kept = append(slices.Clone(rows), me)
	}
	return kept, kept
}

func (n *naiveSums) aggregate(w *Window, rows []naiveRow, t, newest int64) any {
	field := slices.Index(n.fields, Field{w.Field, w.Kind})
	var (
		values          []any
		numbers         []float64
		first, last     = int64(math.MaxInt64), int64(math.MinInt64)
		before          = int64(math.MinInt64)
		oldest          = int64(math.MaxInt64)
		start, end      = int64(math.MaxInt64), int64(math.MinInt64)
		firstV, lastV   any
		different       = map[any]bool{}
		decayed, total  = 0.0, new(big.Float).SetPrec(300)
		mean, distances float64
	)
	for i, r := range rows {
		start, end = min(start, r.t), max(end, r.t)
		if w.Field != "" && r.values[field] == nil {
			continue
		}
		if i < len(rows)-1 { // this row is the last
			before = max(before, r.t)
		}
		oldest = min(oldest, r.t)
		if w.Field == "" {
			values = append(values, nil)
			continue
		}
		v := r.values[field]
		values = append(values, v)
		different[v] = true
		if r.t < first {
			first, firstV = r.t, v
		}
		if r.t >= last {
			last, lastV = r.t, v
		}
		if f, ok := v.(float64); ok {
			numbers = append(numbers, f)
			total.Add(total, big.NewFloat(f))
			decayed += f * math.Exp2(-float64(newest-r.t)/float64(w.Over))
		}
	}
	sum, _ := total.Float64()
	for _, x := range numbers {
		mean += x / float64(len(numbers))
	}
	for _, x := range numbers {
		distances += (x - mean) * (x - mean)
	}
	slices.Sort(numbers)
	switch w.Aggregate {
	case Count:
		return int64(len(values))
	case Distinct:
		return int64(len(different))
	case Sum:
		return sum
	case Decayed:
		return decayed
	case First:
		return firstV
	case Last:
		return lastV
	case Rate:
		length := int64(w.Over)
		if w.Shape == Session {
			if length = end - start; length == 0 {
				return nil
			}
		}
		return float64(len(values)) / seconds(uint64(length))
	case SinceLast:
		if before == math.MinInt64 || before > t {
			return nil
		}
		return seconds(uint64(t - before))
	case Duration:
		if oldest > t {
			return nil
		}
		return seconds(uint64(t - oldest))
	}
	if len(values) == 0 || w.Aggregate == StdDev && len(values) < 2 {
		return nil
	}
	switch w.Aggregate {
	case Quantile:
		if len(numbers) > digestPairs {
			return estimated{}
		}
		return exactQuantile(numbers, w.Q)
	case Mean:
		return sum / float64(len(numbers))
	case StdDev:
		return math.Sqrt(distances / float64(len(numbers)-1))
	case Min:
		return numbers[0]
	default: // Max
		return numbers[len(numbers)-1]
	}
}

// estimated stands for a value that the definition leaves open.
type estimated struct{}

// exactQuantile is that of sorted values, the i-th of n standing at (i − ½)/n.
func exactQuantile(sorted []float64, q float64) float64 {
	at := q*float64(len(sorted)) - 0.5
	if at <= 0 {
		return sorted[0]
	}
	i := int(at)
	if i >= len(sorted)-1 {
		return sorted[len(sorted)-1]
	}
	return sorted[i]*(1-(at-float64(i))) + sorted[i+1]*(at-float64(i))
}

func near(got, want any) bool {
	g, ok1 := got.(float64)
	f, ok2 := want.(float64)
	if ok1 && ok2 {
		return math.Abs(g-f) <= 1e-10*math.Max(1, math.Abs(f))
	}
	return got == want || want == estimated{}
}

// sumWindows is every aggregate in every shape that Sums computes.
func sumWindows(over time.Duration, panes int) []Window {
	var ws []Window
	add := func(w Window, a Aggregate, field string, kind event.Kind) {
		w.Aggregate, w.Field, w.Kind = a, field, kind
		w.Name = strings.ReplaceAll(w.describeSums(), " ", "_")
		ws = append(ws, w)
	}
	for _, w := range []Window{{Shape: Panes, Panes: panes}, {Shape: Tumbling}, {Shape: Session}} {
		w.Over = over
		for _, a := range []Aggregate{Count, Rate, SinceLast, Duration} {
			if a != Duration || w.Shape == Session {
				add(w, a, "", 0)
				add(w, a, "i", event.Int)
			}
		}
		for _, a := range []Aggregate{Sum, Mean, Min, Max, StdDev} {
			add(w, a, "x", event.Float)
		}
		for _, q := range []float64{0, 0.1, 0.5, 0.99, 1} {
			w.Q = q
			add(w, Quantile, "x", event.Float)
		}
		for _, f := range []Field{{"x", event.Float}, {"s", event.String}, {"i", event.Int}, {"b", event.Bool}} {
			add(w, First, f.Name, f.Kind)
			add(w, Last, f.Name, f.Kind)
			add(w, Distinct, f.Name, f.Kind)
			w.Sketch = true
			add(w, Distinct, f.Name, f.Kind)
			w.Sketch = false
		}
	}
	w := Window{Over: over}
	add(w, Decayed, "x", event.Float)
	w.Over /= 7
	add(w, Decayed, "x", event.Float)
	return ws
}

func outFor(n int) []*event.Column {
	out := make([]*event.Column, n)
	for i := range out {
		out[i] = &event.Column{}
	}
	return out
}

func (b *batch) asBatch() *Batch {
	return &Batch{N: len(b.keys), Keys: b.keys, Times: b.times, Fields: b.fields}
}

func TestSumsEqualTheDefinitionOnRandomHistories(t *testing.T) {
	cases := []struct {
		name      string
		late, far float64
		retain    time.Duration
		over      time.Duration
		panes     int
		values    func(*rand.Rand) float64
	}{
		{"in order", 0, 0, 0, 60, 6, cents},
		{"in order, ties and repeats", 0, 0, 0, 12, 12, small},
		{"late", 0.3, 0.2, 0, 60, 5, cents},
		{"late, retained", 0.3, 0.2, 55, 60, 5, small},
		{"late, long", 0.3, 0.1, 500, 1000, 10, cents},
		{"one pane", 0.1, 0.1, 7, 100, 1, cents},
		{"many panes", 0.1, 0.1, 7, 300, 150, small},
	}
	compared := 0
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			for seed := range seeds(4) {
				ref, s := newNaiveSums(t, sumWindows(c.over, c.panes), c.retain)
				h := &history{rng: rand.New(rand.NewPCG(seed, 1)), keys: 1 + int(seed)*2, late: c.late, far: c.far, now: -500, step: 2 + int64(seed)*4, values: c.values}
				out := outFor(len(ref.ws))
				for range seeds(20) {
					b := h.next(s.Fields(), 1+h.rng.IntN(20))
					s.Update(b.asBatch(), out, nil)
					for i := range b.keys {
						for j, want := range ref.row(b.keys[i], b.times[i], b.values[i]) {
							compared++
							if got := cell(out[j], i); !near(got, want) {
								t.Fatalf("seed %d key %s time %d %s q %v: got %v, want %v", seed, b.keys[i], b.times[i], ref.ws[j].Name, ref.ws[j].Q, got, want)
							}
						}
					}
				}
				checkAccounts(t, s)
			}
		})
	}
	t.Logf("%d values compared", compared)
}

// checkAccounts wants all blocks and strings gone with the keys.
func checkAccounts(t *testing.T, s *Sums) {
	t.Helper()
	if err := s.Evict(0, func(string, []byte) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if s.Missing(nil, nil); s.Keys() > 0 {
		if err := s.Evict(0, func(string, []byte) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	if s.Keys() != 0 || s.live != 0 || len(s.dict.ids) != 0 || s.Bytes() != 0 {
		t.Fatalf("after all keys went: %d keys, %d bytes of blocks, %d strings, %d bytes", s.Keys(), s.live, len(s.dict.ids), s.Bytes())
	}
}

func TestSumsStayPreciseWhereValuesCancel(t *testing.T) {
	_, s := newNaiveSums(t, []Window{
		{Name: "sum", Aggregate: Sum, Field: "x", Shape: Panes, Panes: 4, Over: 40},
		{Name: "sd", Aggregate: StdDev, Field: "x", Shape: Panes, Panes: 4, Over: 40},
	}, 0)
	out := outFor(2)
	for i, v := range []float64{1e20, 1, -1e20, 2} {
		b := newBatch(s.Fields(), 1)
		b.set(0, "k", int64(i*10), []any{v})
		s.Update(b.asBatch(), out, nil)
	}
	if got := out[0].Floats[0]; got != 3 {
		t.Errorf("sum %v: want 3", got)
	}
	// A mean far from 0 must not swallow the deviation.
	for i := range 8 {
		b := newBatch(s.Fields(), 1)
		b.set(0, "far", int64(i*5), []any{1e9 + float64(i%2)})
		s.Update(b.asBatch(), out, nil)
	}
	if got, want := out[1].Floats[0], math.Sqrt(2.0/7); math.Abs(got-want) > 1e-9 {
		t.Errorf("stddev %v: want %v", got, want)
	}
}

func TestSumsBeyondTheLargestNumberAreNull(t *testing.T) {
	ws := []Window{
		{Name: "sum", Aggregate: Sum, Field: "x", Shape: Tumbling, Over: 10},
		{Name: "mean", Aggregate: Mean, Field: "x", Shape: Tumbling, Over: 10},
		{Name: "sd", Aggregate: StdDev, Field: "x", Shape: Tumbling, Over: 10},
		{Name: "decayed", Aggregate: Decayed, Field: "x", Over: 10},
	}
	_, s := newNaiveSums(t, ws, 0)
	out := outFor(len(ws))
	for _, at := range []int64{0, 1, 1000} {
		b := newBatch(s.Fields(), 1)
		b.set(0, "k", at, []any{math.MaxFloat64 * 0.99})
		s.Update(b.asBatch(), out, nil)
		for j := range ws {
			if null := out[j].IsNull(0); null != (at == 1) != (j == 2) {
				t.Errorf("%s at %d: null %v", ws[j].Name, at, null)
			}
		}
	}
}

func TestWrongSumsAreRefused(t *testing.T) {
	base := Window{Name: "w", Aggregate: Count, Shape: Tumbling, Over: time.Hour}
	change := func(f func(w *Window)) Config {
		w := base
		f(&w)
		return Config{Windows: []Window{w}}
	}
	labelled := change(func(*Window) {})
	labelled.Labels = ByKey
	negative := change(func(*Window) {})
	negative.Retain = -1
	for want, c := range map[string]Config{
		"give at least one":                          {},
		"retain -1ns: must not be negative":          negative,
		"labels are joined by sliding":               labelled,
		"labels are joined by sliding windows alone": change(func(w *Window) { w.Label = true }),
		"use panes, a tumbling window or a session": change(func(w *Window) {
			w.Shape, w.Aggregate, w.Field, w.Q = Sliding, Quantile, "x", 0.5
		}),
		"between 0 and 1":               change(func(w *Window) { w.Aggregate, w.Field, w.Q = Quantile, "x", math.NaN() }),
		"length 0s":                     change(func(w *Window) { w.Over = 0 }),
		"0 panes: give 1":               change(func(w *Window) { w.Shape = Panes }),
		"cannot be cut":                 change(func(w *Window) { w.Shape, w.Panes = Panes, 7 }),
		"mean needs a field":            change(func(w *Window) { w.Aggregate = Mean }),
		"mean needs a number":           change(func(w *Window) { w.Aggregate, w.Field, w.Kind = Mean, "x", event.String }),
		"only sliding windows have one": change(func(w *Window) { w.Delay = 1 }),
		"a sketch is for distinct":      change(func(w *Window) { w.Sketch = true }),
		"that of a session":             change(func(w *Window) { w.Aggregate = Duration }),
		"need an aggregator each":       {Windows: []Window{base, {Name: "x", Aggregate: Count, Over: 1}}},
	} {
		_, err := New(c)
		if !errkind.Is(err, errkind.Config) || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: got %v", want, err)
		}
	}
}

func TestDefinitionsAreComparedInWords(t *testing.T) {
	count := Window{Name: "a", Aggregate: Count, Shape: Tumbling, Over: time.Hour}
	total := Window{Name: "b", Aggregate: Sum, Field: "amount", Shape: Panes, Panes: 6, Over: time.Hour}
	half := Window{Name: "q", Aggregate: Quantile, Field: "amount", Shape: Session, Over: time.Minute, Q: 0.5}
	build := func(retain time.Duration, ws ...Window) *Sums {
		s, err := NewSums(Config{Windows: ws, Retain: retain})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	renamed, ninety := count, half
	renamed.Name, ninety.Q = "z", 0.9
	now := build(0, count, total, half)
	for why, old := range map[string]*Sums{
		"": build(0, ninety, total, half, renamed),
		"rows were retained for 1m0s and are now for 0s.":              build(time.Minute, count, total, half),
		`the window sum "amount" (number) over 1h0m0s panes 6 is new.`: build(0, count, half),
		`the window decayed "x" (number) over 1h0m0s is gone.`:         build(0, count, total, half, Window{Name: "d", Aggregate: Decayed, Field: "x", Over: time.Hour}),
	} {
		same, got := now.Compatible(old.Definition())
		if same != (why == "") || got != why || same != (now.Fingerprint() == old.Fingerprint()) {
			t.Errorf("got %v %q, want %q", same, got, why)
		}
	}
	if same, why := now.Compatible([]byte("rubbish")); same || why == "" {
		t.Errorf("rubbish: %v %q", same, why)
	}
}

func ExampleSums() {
	s, err := NewSums(Config{Windows: []Window{
		{Name: "visits", Aggregate: Count, Shape: Session, Over: 30 * time.Minute},
		{Name: "seconds", Aggregate: Duration, Shape: Session, Over: 30 * time.Minute},
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	minute := int64(time.Minute)
	out := []*event.Column{{}, {}}
	s.Update(&Batch{N: 3, Keys: []string{"ann", "ann", "ann"}, Times: []int64{0, 10 * minute, 40 * minute}}, out, nil)
	fmt.Println(out[0].Ints, out[1].Floats)
	// Output: [1 2 1] [0 600 0]
}
