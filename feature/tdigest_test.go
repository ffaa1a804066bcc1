package feature

import (
	"math"
	"math/rand/v2"
	"slices"
	"sort"
	"testing"
)

// digest is a t-digest on its own.
type digest []uint64

func (d *digest) put(v float64) {
	if len(*d) == 2*digestPairs {
		*d = digestCompress(*d)
	}
	if cap(*d) < len(*d)+2 {
		*d = slices.Grow(*d, 2*digestPairs)
	}
	*d = digestInsert(*d, v)
}

// rankError is how far the share of values below x is from q.
func rankError(sorted []float64, x, q float64) float64 {
	lo := float64(sort.SearchFloat64s(sorted, x)) / float64(len(sorted))
	hi := float64(sort.Search(len(sorted), func(i int) bool { return sorted[i] > x })) / float64(len(sorted))
	return max(0, lo-q, q-hi)
}

var distributions = map[string]func(rng *rand.Rand, i, n int) float64{
	"uniform":    func(rng *rand.Rand, _, _ int) float64 { return rng.Float64() },
	"normal":     func(rng *rand.Rand, _, _ int) float64 { return rng.NormFloat64() },
	"lognormal":  func(rng *rand.Rand, _, _ int) float64 { return math.Exp(2 * rng.NormFloat64()) },
	"rising":     func(_ *rand.Rand, i, _ int) float64 { return float64(i) },
	"falling":    func(_ *rand.Rand, i, n int) float64 { return float64(n - i) },
	"few values": func(rng *rand.Rand, _, _ int) float64 { return float64(rng.IntN(5)) },
	"zigzag":     func(_ *rand.Rand, i, _ int) float64 { return float64(i) * float64(1-i%2*2) },
}

// bound is the error allowed at q: small everywhere, smaller towards the tails.
func bound(q float64) float64 { return 0.02*math.Sqrt(q*(1-q)) + 1e-6 }

var quantiles = []float64{0, 0.0001, 0.001, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999, 0.9999, 1}

func TestDigestsAreExactWhileSmall(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	var d digest
	var all []float64
	for range digestPairs {
		v := rng.NormFloat64()
		d.put(v)
		all = append(all, v)
		slices.Sort(all)
		for _, q := range quantiles {
			if got, _ := digestQuantile(nil, d, q); math.Abs(got-exactQuantile(all, q)) > 1e-12 {
				t.Fatalf("%d values, q %v: got %v, want %v", len(all), q, got, exactQuantile(all, q))
			}
		}
	}
	if _, ok := digestQuantile(nil, nil, 0.5); ok {
		t.Error("a quantile of nothing")
	}
}

func TestDigestErrorIsSmallAndSmallerInTheTails(t *testing.T) {
	n := int(seeds(120_000))
	for name, draw := range distributions {
		rng := rand.New(rand.NewPCG(1, 2))
		var d digest
		all := make([]float64, n)
		for i := range all {
			all[i] = draw(rng, i, n)
			d.put(all[i])
		}
		checkDigest(t, name, all, nil, d)
	}
}

func checkDigest(t *testing.T, name string, all []float64, a, b digest) {
	t.Helper()
	slices.Sort(all)
	worst, tail := 0.0, 0.0
	for _, q := range quantiles {
		got, ok := digestQuantile(a, b, q)
		err := rankError(all, got, q)
		if !ok || err > bound(q) {
			t.Errorf("%s: q %v: %v is off by %.6f, more than %.6f", name, q, got, err, bound(q))
		}
		worst = max(worst, err)
		if q <= 0.01 || q >= 0.99 {
			tail = max(tail, err)
		}
	}
	if lo, _ := digestQuantile(a, b, 0); lo != all[0] {
		t.Errorf("%s: smallest %v, want %v", name, lo, all[0])
	}
	if hi, _ := digestQuantile(a, b, 1); hi != all[len(all)-1] {
		t.Errorf("%s: largest %v, want %v", name, hi, all[len(all)-1])
	}
	if w := digestWeight(a) + digestWeight(b); w != uint64(len(all)) {
		t.Errorf("%s: %d values of %d", name, w, len(all))
	}
	t.Logf("%-10s rank error at most %.5f, up to the 1st and from the 99th percentile %.5f, %d centroids", name, worst, tail, len(b)/2)
}

func TestMergedDigestsAreAsGood(t *testing.T) {
	const n, parts = 90_000, 30
	for name, draw := range distributions {
		rng := rand.New(rand.NewPCG(1, 3))
		var merged, part digest
		all := make([]float64, n)
		for i := range all {
			all[i] = draw(rng, i, n)
			part.put(all[i])
			if (i+1)%(n/parts) == 0 && i < n-1 {
				merged = digestJoin(nil, merged, part)
				if len(merged) > 2*digestPairs {
					merged = digestCompress(merged)
				}
				part = nil
			}
		}
		checkDigest(t, name, all, merged, part)
	}
}

func TestDigestsStandHugeValues(t *testing.T) {
	var d digest
	for i := range 10_000 {
		d.put(math.MaxFloat64 * float64(i%3-1))
	}
	for _, q := range quantiles {
		if v, ok := digestQuantile(nil, d, q); !ok || v-v != 0 {
			t.Errorf("q %v: %v", q, v)
		}
	}
	if !sort.SliceIsSorted(make([]struct{}, len(d)/2), func(i, j int) bool { return floatOf(d[2*i]) < floatOf(d[2*j]) }) {
		t.Error("centroids out of order")
	}
}
