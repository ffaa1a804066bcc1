package histogram

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestBucketsTileTheRange(t *testing.T) {
	for i := range buckets {
		if got := index(upper(i)); got != i {
			t.Fatalf("upper(%d)=%d falls into bucket %d", i, upper(i), got)
		}
		if i+1 < buckets {
			if got := index(upper(i) + 1); got != i+1 {
				t.Fatalf("%d falls into bucket %d, not %d", upper(i)+1, got, i+1)
			}
		}
	}
	if index(math.MaxInt64) != buckets-1 || index(-1) != 0 {
		t.Fatal("the ends are wrong")
	}
}

func TestQuantilesAreWithinABucketOfTheExactOnes(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var h Histogram
	var all []int64
	for range 10000 {
		v := int64(math.Exp(r.Float64() * 30))
		all = append(all, v)
		h.Record(v)
	}
	slices.Sort(all)
	s := h.Snapshot()
	for _, q := range []float64{0, 0.5, 0.9, 0.99, 0.999, 1} {
		exact := all[max(0, int(math.Ceil(q*float64(len(all))))-1)]
		got := s.Quantile(q)
		if float64(got) < float64(exact) || float64(got) > float64(exact)*1.0626+1 {
			t.Errorf("q=%v: got %d, exact %d", q, got, exact)
		}
	}
	if s.Count != 10000 || s.Max != all[len(all)-1] {
		t.Errorf("count %d max %d", s.Count, s.Max)
	}
	if got := s.AtMost(all[5000]); got > 5001 || got < 4500 {
		t.Errorf("AtMost = %d", got)
	}
}

func TestDifferenceOfSnapshotsHoldsWhatCameBetween(t *testing.T) {
	var h Histogram
	h.RecordN(1000, 50)
	before := h.Snapshot()
	h.RecordN(8, 10)
	after := h.Snapshot()
	after.Sub(before)
	if after.Count != 10 || after.Sum != 80 || after.Quantile(0.99) != 8 {
		t.Errorf("count %d, sum %d, p99 %d", after.Count, after.Sum, after.Quantile(0.99))
	}
}

func TestARunCountsWhatSingleRecordsCount(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	var one, many Histogram
	run := many.Run()
	for range 5000 {
		v := r.Int64N(40) * r.Int64N(40)
		one.Record(v)
		run.Record(v)
	}
	run.Flush()
	a, b := one.Snapshot(), many.Snapshot()
	if a.Count != b.Count || a.Sum != b.Sum || a.Max != b.Max || !slices.Equal(a.counts, b.counts) {
		t.Errorf("%+v and %+v differ", a, b)
	}
}
