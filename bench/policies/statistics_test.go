package policies

import (
	"math"
	"testing"
)

func TestSignedRanksHaveTheExactProbabilities(t *testing.T) {
	// Published examples and cases that can be counted by hand.
	for _, tc := range []struct {
		name string
		ds   []float64
		n    int
		w, p float64
	}{
		{"all of seven positive", []float64{1, 2, 3, 4, 5, 6, 7}, 7, 28, 2.0 / 128},
		{"all of seven negative", []float64{-1, -2, -3, -4, -5, -6, -7}, 7, 0, 2.0 / 128},
		{"the least against the rest", []float64{-1, 2, 3, 4, 5, 6, 7}, 7, 27, 4.0 / 128},
		{"even", []float64{1, -1}, 2, 1.5, 1},
		{"ties and a zero", []float64{0, 2, 2, -2, 5}, 4, 8, 0.5},
		{"none", nil, 0, 0, 1},
		// Darwin's fifteen pairs of maize plants, as in many textbooks.
		{"Darwin's maize", []float64{49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48}, 15, 96, 0.0412597},
	} {
		got := signedRank(tc.ds)
		if got.N != tc.n || got.W != tc.w || math.Abs(got.P-tc.p) > 1e-6 {
			t.Errorf("%s: n %d, W %g, p %.7f, expected %d, %g, %.7f", tc.name, got.N, got.W, got.P, tc.n, tc.w, tc.p)
		}
	}
}

func TestIntervalsAreStudents(t *testing.T) {
	got := intervalOf([]float64{1, 2, 3, 4, 5})
	if half := 2.776 * math.Sqrt(2.5/5); math.Abs(got.Mean-3) > 1e-12 || math.Abs(got.High-3-half) > 1e-9 || math.Abs(got.Low-3+half) > 1e-9 {
		t.Errorf("got %+v, expected 3 ± %g", got, half)
	}
	if got := intervalOf([]float64{7}); got != (Interval{7, 7, 7}) {
		t.Errorf("of one value %+v", got)
	}
	if got := intervalOf(nil); got != (Interval{}) {
		t.Errorf("of none %+v", got)
	}
}

func TestMedianOfKnownValues(t *testing.T) {
	for _, tc := range []struct {
		xs   []float64
		want float64
	}{{[]float64{3, 1, 2}, 2}, {[]float64{4, 1, 2, 3}, 2.5}, {[]float64{math.NaN(), 5}, 5}} {
		if got := median(tc.xs); got != tc.want {
			t.Errorf("median of %v is %g, expected %g", tc.xs, got, tc.want)
		}
	}
}
