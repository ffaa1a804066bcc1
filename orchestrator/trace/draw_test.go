package trace

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestDrawnStepsKeepTheirEventsOnTheMean(t *testing.T) {
	tr := &Trace{Step: time.Minute, Counts: []float64{6000, 600, 60, 0, 60, 12000, math.NaN(), 6000}}
	const runs = 200
	sums := make([]float64, len(tr.Counts))
	for seed := range uint64(runs) {
		d := tr.Draw(seed, time.Second)
		if len(d.Counts) != 60*len(tr.Counts) || d.Step != time.Second {
			t.Fatalf("%d ticks of %s", len(d.Counts), d.Step)
		}
		for i, c := range d.Counts {
			if c != math.Trunc(c) && !math.IsNaN(c) || c < 0 {
				t.Fatalf("tick %d has %g events", i, c)
			}
			sums[i/60] += c / runs
		}
	}
	for i, want := range tr.Counts {
		// Four standard errors of a mean of Poisson counts.
		if got := sums[i]; math.IsNaN(want) != math.IsNaN(got) || math.Abs(got-want) > 4*math.Sqrt(want/runs) {
			t.Errorf("step %d has %.2f events on the mean, expected %.2f", i, got, want)
		}
	}
}

func TestPoissonCountsHaveTheMeanVarianceAndSkewnessOfTheirs(t *testing.T) {
	for _, mean := range []float64{0.1, 3, 29, 31, 100, 5000} {
		tr := &Trace{Step: 400_000 * time.Second, Counts: []float64{mean * 400_000}}
		var m, v, s float64
		counts := tr.Draw(7, time.Second).Counts
		for _, c := range counts {
			m += c / float64(len(counts))
		}
		for _, c := range counts {
			v += (c - m) * (c - m) / float64(len(counts))
			s += (c - m) * (c - m) * (c - m) / float64(len(counts))
		}
		s /= math.Pow(v, 1.5)
		if math.Abs(m/mean-1) > 0.02 || math.Abs(v/mean-1) > 0.03 || math.Abs(s-1/math.Sqrt(mean)) > 0.04*max(1, s) {
			t.Errorf("mean %g: drawn mean %g, variance %g, skewness %g", mean, m, v, s)
		}
	}
}

func TestTheSameSeedDrawsTheSame(t *testing.T) {
	tr := &Trace{Step: time.Minute, Counts: []float64{600, 1200}}
	a, b, c := tr.Draw(1, 0), tr.Draw(1, 0), tr.Draw(2, 0)
	if d := cmp.Diff(a, b); d != "" {
		t.Error(d)
	}
	if cmp.Equal(a, c) {
		t.Error("another seed drew the same")
	}
}

func TestTracesOfSecondsKeepTheirOwnNoise(t *testing.T) {
	tr := &Trace{Step: time.Second, Counts: []float64{1, 0, 7, math.NaN(), 2, 2, 4}}
	if d := cmp.Diff(tr.Counts, tr.Draw(9, time.Second).Counts, cmpopts.EquateNaNs()); d != "" {
		t.Error(d)
	}
	got := tr.Draw(9, 2*time.Second)
	if d := cmp.Diff([]float64{1, 14, 4, 4}, got.Counts, cmpopts.EquateNaNs()); d != "" {
		t.Error(d)
	}
	if got.Step != 2*time.Second {
		t.Errorf("ticks of %s", got.Step)
	}
}

func TestTicksDivideSteps(t *testing.T) {
	tr := &Trace{Step: 7 * time.Second, Counts: []float64{70, 70}}
	d := tr.Draw(1, 2*time.Second)
	if d.Step != 7*time.Second/4 || len(d.Counts) != 8 {
		t.Errorf("%d ticks of %s, expected 8 of 1.75s", len(d.Counts), d.Step)
	}
	if a, b := (&Trace{Step: 10 * time.Minute}).Tick(), (&Trace{Step: time.Minute}).Tick(); a != 5*time.Second || b != time.Second {
		t.Errorf("ticks of %s and %s", a, b)
	}
}

func TestSlicesAndThirdsShareTheTrace(t *testing.T) {
	tr := &Trace{Start: zero, Step: time.Minute, Counts: []float64{0, 1, 2, 3, 4, 5, 6}}
	for _, tc := range []struct {
		from, to time.Duration
		want     []float64
	}{
		{time.Minute, 3 * time.Minute, []float64{1, 2}},
		{30 * time.Second, 61 * time.Second, []float64{1}},
		{-time.Hour, time.Hour, tr.Counts},
		{2 * time.Hour, time.Hour, nil},
		{3 * time.Minute, time.Minute, nil},
	} {
		got := tr.Slice(tc.from, tc.to)
		if d := cmp.Diff(tc.want, got.Counts, cmpopts.EquateEmpty()); d != "" {
			t.Errorf("%s to %s: %s", tc.from, tc.to, d)
		}
		if len(got.Counts) > 0 && got.Start != zero.Add(time.Duration(got.Counts[0])*time.Minute) {
			t.Errorf("%s to %s begins at %s", tc.from, tc.to, got.Start)
		}
	}
	first, rest := tr.Thirds()
	if len(first.Counts) != 2 || len(rest.Counts) != 5 || !rest.Start.Equal(first.End()) {
		t.Errorf("%v and %v from %s", first.Counts, rest.Counts, rest.Start)
	}
}

func TestScaledTracesHaveTheMean(t *testing.T) {
	tr := &Trace{Step: time.Minute, Counts: []float64{60, math.NaN(), 180}}
	if got := tr.Scale(100); got.Mean() != 100 || got.Counts[0] != 3000 || tr.Counts[0] != 60 {
		t.Errorf("mean %g of %v, from %v", got.Mean(), got.Counts, tr.Counts)
	}
	none := &Trace{Step: time.Minute, Counts: []float64{0, 0}}
	for _, mean := range []float64{100, 0, -1, math.Inf(1), math.NaN()} {
		if got := none.Scale(mean); got.Mean() != 0 {
			t.Errorf("nothing scaled to %g is %v", mean, got.Counts)
		}
	}
}

func TestGeneratedTracesAreWhatTheirNamesSay(t *testing.T) {
	for _, kind := range Kinds() {
		tr, err := Generate(kind, 3, 4*24*time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		again, _ := Generate(kind, 3, 4*24*time.Hour)
		other, _ := Generate(kind, 4, 4*24*time.Hour)
		if !cmp.Equal(tr, again) || cmp.Equal(tr.Counts, other.Counts) {
			t.Errorf("%s: seeds do not decide", kind)
		}
		peak, low := 0.0, math.Inf(1)
		for _, c := range tr.Counts {
			peak, low = max(peak, c/10), min(low, c/10)
		}
		if m := tr.Mean(); math.Abs(m-100) > 1e-6 || low < 0 {
			t.Errorf("%s: mean %g, least %g", kind, m, low)
		}
		if kind == "smooth" && peak > 250 || kind == "spikes" && peak < 500 || kind == "bursts" && (peak < 250 || peak > 1500) || kind == "on-off" && low > 30 {
			t.Errorf("%s: %g to %g events a second", kind, low, peak)
		}
	}
	if _, err := Generate("sawtooth", 1, time.Hour); err == nil {
		t.Error("an unknown kind was made")
	}
	if _, err := Generate("smooth", 1, time.Second); err == nil {
		t.Error("a trace of one step was made")
	}
}
