package forecast

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// seen is one observation, in seconds from t0.
type seen struct {
	end, window int
	rate        float64
}

func TestWindowsOfAnyLengthBecomeSteps(t *testing.T) {
	steady := func(n, from, every int, rate float64) (out []seen) {
		for i := range n {
			out = append(out, seen{from + i*every, every, rate})
		}
		return out
	}
	for _, c := range []struct {
		name string
		in   []seen
		want []float64
	}{
		{"seconds are gathered", steady(31, 1, 1, 5), []float64{5, 5, 5}},
		{"windows of 15 s are dealt", []seen{{10, 10, 1}, {25, 15, 3}, {40, 15, 6}}, []float64{1, 3, 4.5, 6}},
		{"long windows fill steps", []seen{{60, 60, 7}}, []float64{7, 7, 7, 7, 7, 7}},
		{"a gap is unknown", []seen{{10, 10, 1}, {40, 10, 4}}, []float64{1, nan, nan, 4}},
		{"half a gap is not", []seen{{10, 10, 1}, {20, 5, 4}}, []float64{1, 4}},
		{"repeats count once", []seen{{10, 10, 1}, {10, 10, 1}, {20, 10, 2}, {20, 10, 9}}, []float64{1, 2}},
		{"overlaps count once", []seen{{10, 10, 1}, {20, 20, 2}, {30, 20, 3}}, []float64{1, 2, 3}},
		{"late ones are left out", []seen{{10, 10, 1}, {30, 10, 3}, {20, 10, 2}, {40, 10, 4}}, []float64{1, nan, 3, 4}},
		{"what cannot be is a gap", []seen{{10, 10, 1}, {20, 10, nan}, {30, 10, -1}, {40, 10, math.Inf(1)}, {50, 10, 1e300}, {60, 10, 2}},
			[]float64{1, nan, nan, nan, nan, 2}},
		{"windows without length are not taken", []seen{{10, 10, 1}, {20, 0, 5}, {20, -10, 5}, {20, 10, 2}}, []float64{1, 2}},
		{"zeros are values", []seen{{10, 10, 1}, {20, 10, 0}, {30, 10, 0}}, []float64{1, 0, 0}},
		{"a spike beyond belief is not believed", []seen{{10, 10, 5}, {20, 10, 5e6}, {30, 10, 5}}, []float64{5, nan, 5}},
		{"until it stays", []seen{{10, 10, 5}, {20, 10, 5e6}, {30, 10, 5e6}, {40, 10, 5e6}}, []float64{5, nan, nan, 5e6}},
		{"a clock set back goes on", append(steady(3, 100000, 10, 1), steady(6, 50000, 10, 2)...), []float64{1, 1, 1, nan, 2, 2, 2, 2}},
		{"one observation from before does not matter", append(steady(3, 100000, 10, 1), seen{50, 10, 9}, seen{100030, 10, 2}), []float64{1, 1, 1, 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := gridder{grid: Grid{Step: 10 * time.Second}}
			var got []float64
			for _, s := range c.in {
				g.observe(t0.Add(time.Duration(s.end)*time.Second), time.Duration(s.window)*time.Second, s.rate,
					func(_ int64, x float64) { got = append(got, x) })
			}
			if d := cmp.Diff(c.want, got, cmpopts.EquateNaNs(), cmpopts.EquateApprox(1e-9, 0)); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestStepsRiseAndKeepTheTimeOfDayWhateverTheClockDoes(t *testing.T) {
	for name, start := range map[string]time.Time{
		"now": t0, "without a date": {}, "the epoch": time.Unix(0, 0), "far ahead": time.Date(9000, 1, 1, 0, 0, 0, 0, time.UTC),
	} {
		t.Run(name, func(t *testing.T) {
			g := gridder{grid: Grid{Step: 10 * time.Second}}
			last := int64(math.MinInt64)
			at := start
			of := func(end time.Time) int64 { return (end.Unix()%86400 + 2*86400) % 86400 }
			for i := range 4000 {
				at = at.Add(10 * time.Second)
				switch i {
				case 1000:
					at = at.Add(-3 * time.Hour)
				case 2000:
					at = at.Add(50 * time.Hour)
				case 3000:
					at = at.Add(-500 * time.Hour)
				}
				g.observe(at, 10*time.Second, 1, func(step int64, _ float64) {
					if step <= last || step < 0 {
						t.Fatalf("step %d after %d", step, last)
					}
					last = step
					ended := (g.startOf(step+1)/1e9%86400 + 86400) % 86400
					if i%1000 > 10 && ended != of(at) {
						t.Fatalf("observation %d ends at second %d of the day, its step at %d", i, of(at), ended)
					}
				})
			}
			if got := g.time(last + 1); !got.Equal(at) {
				t.Errorf("the last step ends at %v, observed was until %v", got, at)
			}
		})
	}
}
