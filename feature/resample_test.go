package feature

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

func newTestResampler(t testing.TB, c ResampleConfig) *Resampler {
	t.Helper()
	r, err := NewResampler(c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// naiveSeries is the definition: it keeps all readings and looks at all of them.
type naiveSeries struct {
	c    ResampleConfig
	keys map[string][]naiveRow
}

type seriesRow struct {
	g      int64
	values []any
	filled bool
}

// reading takes in one reading and returns the rows that it gives out.
func (n *naiveSeries) reading(key string, t int64, values []any) (rows []seriesRow, late bool) {
	old := n.keys[key]
	n.keys[key] = append(old, naiveRow{t, values})
	all := n.keys[key]
	newest := int64(math.MinInt64)
	for _, r := range old {
		newest = max(newest, r.t)
	}
	if t < newest {
		return nil, true
	}
	from := newest // grid points behind this are not given out yet
	if len(old) == 0 || t-newest > int64(n.c.Limit) {
		from = t - 1
	}
	for g := from + 1; g <= t; g++ {
		if g%int64(n.c.Every) == 0 {
			rows = append(rows, n.row(all, g))
		}
	}
	return rows, false
}

func (n *naiveSeries) row(all []naiveRow, g int64) seriesRow {
	row := seriesRow{g: g, filled: true}
	every, limit := int64(n.c.Every), int64(n.c.Limit)
	for _, r := range all {
		if g-every < r.t && r.t <= g {
			row.filled = false
		}
	}
	for f, field := range n.c.Fields {
		var before, after *naiveRow
		for i := range all {
			r := &all[i]
			switch {
			case r.values[f] == nil:
			case r.t <= g && (before == nil || r.t >= before.t):
				before = r
			case r.t > g && (after == nil || r.t <= after.t):
				after = r
			}
		}
		var v any
		switch {
		case before == nil:
		case before.t == g:
			v = before.values[f]
		case field.Fill == FillNone:
			if g-before.t < every {
				v = before.values[f]
			}
		case field.Fill == FillLast:
			if g-before.t <= limit {
				v = before.values[f]
			}
		case after != nil && after.t-before.t <= limit:
			a, b := before.values[f].(float64), after.values[f].(float64)
			w := float64(g-before.t) / float64(after.t-before.t)
			if v = a + float64(w*float64(b-a)); math.IsInf(b-a, 0) {
				v = float64(a*(1-w)) + float64(b*w)
			}
		}
		row.values = append(row.values, v)
	}
	return row
}

func everyFill(every, limit, retain time.Duration) ResampleConfig {
	return ResampleConfig{Every: every, Limit: limit, Retain: retain, Fields: []ResampleField{
		{"x", event.Float, FillLinear},
		{"y", event.Float, FillLinear},
		{"last", event.Float, FillLast},
		{"state", event.String, FillLast},
		{"open", event.Bool, FillLast},
		{"n", event.Int, FillNone},
		{"at", event.Time, FillNone},
		{"raw", event.Float, FillNone},
	}}
}

func TestSeriesEqualTheDefinitionOnRandomHistories(t *testing.T) {
	rows := 0
	for _, late := range []float64{0, 0.3} {
		for seed := range seeds(12) {
			c := everyFill(time.Duration(1+seed*3), time.Duration(1+seed*3)*time.Duration(1+seed%7), 1<<40)
			ref, r := &naiveSeries{c, map[string][]naiveRow{}}, newTestResampler(t, c)
			h := &history{rng: rand.New(rand.NewPCG(seed, 6)), keys: 1 + int(seed), late: late, far: 0.1, now: -500, step: 1 + int64(seed)*4, values: cents}
			if seed%3 == 0 {
				h.values = nasty
			}
			out := &Series{}
			for range 40 {
				b := h.next(r.Fields(), 1+h.rng.IntN(30))
				in := &Batch{N: len(b.keys), Keys: b.keys, Times: b.times, Fields: b.fields}
				r.BeginSnapshot()
				r.AppendSnapshot(nil, 1<<20) // drops what no row needs
				maxRows := 1 + h.rng.IntN(50)
				for from := 0; from < in.N; {
					next, _ := r.Resample(in, from, maxRows, out, nil)
					if next <= from {
						t.Fatalf("took nothing from reading %d", from)
					}
					at, lates := 0, 0
					for i := from; i < next; i++ {
						if at >= maxRows {
							t.Fatalf("went on to reading %d with %d rows of at most %d", i, at, maxRows)
						}
						want, isLate := ref.reading(b.keys[i], b.times[i], b.values[i])
						if isLate {
							lates++
						}
						for _, w := range want {
							rows++
							got := seriesRow{g: math.MinInt64}
							if at < out.Len() && out.Row[at] == int32(i) && out.Keys[at] == b.keys[i] {
								got = seriesRow{g: out.Times[at], filled: out.Filled[at]}
								for _, c := range out.Columns {
									got.values = append(got.values, cell(c, at))
								}
							}
							if fmt.Sprint(got) != fmt.Sprint(w) {
								t.Fatalf("seed %d every %v limit %v: reading %d (key %s, time %d): got %v, want %v", seed, c.Every, c.Limit, i, b.keys[i], b.times[i], got, w)
							}
							at++
						}
					}
					if at != out.Len() || lates != out.Late {
						t.Fatalf("readings %d to %d: %d rows and %d late, want %d and %d", from, next, out.Len(), out.Late, at, lates)
					}
					from = next
				}
			}
		}
	}
	t.Logf("%d rows compared", rows)
}

func TestIntegersAndTruthValuesAreNumbersInASeries(t *testing.T) {
	r := newTestResampler(t, ResampleConfig{Every: 10, Limit: 100, Fields: []ResampleField{
		{"i", event.Float, FillLinear}, {"b", event.Float, FillLast}, {"f", event.Float, FillLast}}})
	out := &Series{}
	b := &Batch{N: 3, Keys: []string{"k", "k", "k"}, Times: []int64{0, 20, 30}, Fields: []*event.Column{
		{Kind: event.Int, Ints: []int64{1, 4, 4}},
		{Kind: event.Bool, Bools: []bool{true, false, false}},
		{Kind: event.Float, Floats: []float64{7, math.NaN(), math.Inf(1)}},
	}}
	r.Resample(b, 0, 100, out, nil)
	got := fmt.Sprint(out.Columns[0].Floats, out.Columns[1].Floats, out.Columns[2].Floats, out.Columns[2].Null, out.Filled)
	if want := "[1 2.5 4 4] [1 1 0 0] [7 7 7 7] [] [false true false false]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestNoReadingsAndLateOnesChangeNothing(t *testing.T) {
	r, out := newTestResampler(t, everyFill(10, 100, 0)), &Series{}
	if next, delta := r.Resample(&Batch{}, 0, 1, out, nil); next != 0 || len(delta) != 0 || len(out.Columns) != len(r.Fields()) || out.Len() != 0 {
		t.Errorf("no readings: next %d, delta %q, %d columns, %d rows", next, delta, len(out.Columns), out.Len())
	}
	b := newBatch(r.Fields(), 2)
	b.set(0, "k", 20, []any{1.0, 1.0, 1.0, "s", true, int64(1), int64(1), 1.0})
	b.set(1, "k", 19, []any{2.0, 2.0, 2.0, "t", false, int64(2), int64(2), 2.0})
	in := &Batch{N: 2, Keys: b.keys, Times: b.times, Fields: b.fields}
	r.Resample(in, 0, 1, out, nil)
	if next, delta := r.Resample(in, 1, 1, out, nil); next != 2 || len(delta) != 0 || out.Late != 1 || out.Len() != 0 {
		t.Errorf("late reading: next %d, delta %q, %d late, %d rows", next, delta, out.Late, out.Len())
	}
}

func TestSeriesStandTheEndsOfTime(t *testing.T) {
	for _, every := range []time.Duration{7, 1000, math.MaxInt64} {
		limit := every
		if every < 1e9 {
			limit = every * 100
		}
		r := newTestResampler(t, ResampleConfig{Every: every, Limit: limit, Retain: math.MaxInt64, Fields: []ResampleField{{"x", event.Float, FillLinear}}})
		times := []int64{math.MinInt64, math.MinInt64 + 3, -1, 0, 1, math.MaxInt64 - 500, math.MaxInt64 - 1, math.MaxInt64, math.MinInt64}
		b := &Batch{N: len(times), Times: times, Fields: []*event.Column{{Floats: make([]float64, len(times))}}}
		for range times {
			b.Keys = append(b.Keys, "")
		}
		out := &Series{}
		r.Resample(b, 0, math.MaxInt, out, nil)
		for i, g := range out.Times {
			if at := times[out.Row[i]]; g%int64(every) != 0 || g > at || at-g > int64(limit) {
				t.Errorf("every %d: reading at %d gave out %d", every, at, g)
			}
		}
	}
}

func TestWrongSeriesDefinitionsAreRefused(t *testing.T) {
	x := []ResampleField{{"x", event.Float, FillLinear}}
	for want, c := range map[string]ResampleConfig{
		"every 0s":                   {Limit: time.Second, Fields: x},
		"at least the step of 2s":    {Every: 2 * time.Second, Limit: time.Second, Fields: x},
		"at most 100000 steps":       {Every: time.Millisecond, Limit: 101 * time.Second, Fields: x},
		"retain -1s":                 {Every: 1, Limit: 1, Retain: -time.Second, Fields: x},
		"no fields":                  {Every: 1, Limit: 1},
		"65 fields":                  {Every: 1, Limit: 1, Fields: make([]ResampleField, 65)},
		`field ""`:                   {Every: 1, Limit: 1, Fields: make([]ResampleField, 1)},
		`field "x": names`:           {Every: 1, Limit: 1, Fields: append(x, x...)},
		"unknown kind 9":             {Every: 1, Limit: 1, Fields: []ResampleField{{"x", 9, FillLast}}},
		"unknown fill 9":             {Every: 1, Limit: 1, Fields: []ResampleField{{"x", event.Int, 9}}},
		"is a string: use last or n": {Every: 1, Limit: 1, Fields: []ResampleField{{"x", event.String, FillLinear}}},
	} {
		_, err := NewResampler(c)
		if !errkind.Is(err, errkind.Config) || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: got %v, want a configuration error with %q", c, err, want)
		}
	}
}

func TestFillsAreReadByName(t *testing.T) {
	for _, f := range []Fill{FillNone, FillLinear, FillLast} {
		if got, err := ParseFill(f.String()); got != f || err != nil {
			t.Errorf("%v: got %v, %v", f, got, err)
		}
	}
	if _, err := ParseFill("cubic"); !errkind.Is(err, errkind.Config) {
		t.Errorf("got %v", err)
	}
}

// steadyReadings makes batches of 256 readings of 1,000 keys, each of which gives out about one row.
func steadyReadings(tb testing.TB) (run func() int) {
	const keys, n = 1000, 256
	r := newTestResampler(tb, ResampleConfig{Every: 10 * time.Second, Limit: time.Minute, Fields: []ResampleField{
		{"pressure", event.Float, FillLinear}, {"flow", event.Float, FillLast}, {"state", event.String, FillLast}}})
	rng := rand.New(rand.NewPCG(1, 9))
	b := &Batch{N: n, Keys: make([]string, n), Times: make([]int64, n), Fields: []*event.Column{
		{Floats: make([]float64, n)}, {Floats: make([]float64, n)}, {Kind: event.String, Strings: make([]string, n)}}}
	names := make([]string, keys)
	for i := range names {
		names[i] = fmt.Sprint("sensor-", i)
	}
	out, next, now := &Series{}, 0, int64(1522540800e9)
	var delta []byte
	return func() int {
		for i := range n {
			b.Keys[i], b.Times[i] = names[next%keys], now
			b.Fields[0].Floats[i], b.Fields[1].Floats[i], b.Fields[2].Strings[i] = float64(rng.IntN(1000)), 1, "open"
			now += 1e7
			next++
		}
		_, delta = r.Resample(b, 0, 1<<20, out, delta[:0])
		return out.Len()
	}
}

func TestResampleAllocatesNothingInSteadyState(t *testing.T) {
	run := steadyReadings(t)
	for range 20 {
		run()
	}
	if a := testing.AllocsPerRun(200, func() { run() }); a > 0.1 {
		t.Errorf("%v allocations for 256 readings", a)
	}
}

func BenchmarkResample(b *testing.B) {
	run := steadyReadings(b)
	rows := 0
	b.ReportAllocs()
	for b.Loop() {
		rows += run()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/256, "ns/reading")
	b.ReportMetric(float64(rows)/float64(b.N)/256, "rows/reading")
}
