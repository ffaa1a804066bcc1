// Package histogram counts values in log-linear buckets that may be written
// and read at the same time without locks.
package histogram

import (
	"math"
	"math/bits"
	"sync/atomic"
)

const (
	subBits = 4 // 16 buckets each power of two: at most 6.25 % wide
	subs    = 1 << subBits
	buckets = (64 - subBits) * subs
)

// Histogram counts values from 0 to 2⁶³−1; negative ones count as 0. The zero value is empty.
type Histogram struct {
	counts [buckets]atomic.Uint64
	sum    atomic.Int64
	max    atomic.Int64
}

func index(v int64) int {
	u := uint64(max(0, v))
	if u < subs {
		return int(u)
	}
	exp := bits.Len64(u) - subBits - 1 // ≥ 0
	return exp<<subBits + int(u>>exp)
}

// upper is the greatest value that falls into bucket i.
func upper(i int) int64 {
	if i < 2*subs {
		return int64(i)
	}
	exp := i>>subBits - 1
	return (int64(i-exp<<subBits)+1)<<exp - 1
}

// Record counts v once.
func (h *Histogram) Record(v int64) { h.RecordN(v, 1) }

// RecordN counts v n times.
func (h *Histogram) RecordN(v int64, n uint64) {
	h.counts[index(v)].Add(n)
	h.sum.Add(v * int64(n))
	for {
		m := h.max.Load()
		if v <= m || h.max.CompareAndSwap(m, v) {
			return
		}
	}
}

// Run counts values of one writer into a histogram, neighbours in one bucket
// together. Flush ends it.
type Run struct {
	h        *Histogram
	bucket   int
	n        uint64
	sum, max int64
}

// Run begins a run.
func (h *Histogram) Run() Run { return Run{h: h} }

// Record counts v once, at the latest with Flush.
func (r *Run) Record(v int64) {
	if i := index(v); i != r.bucket {
		r.Flush()
		r.bucket = i
	}
	r.n++
	r.sum += v
	r.max = max(r.max, v)
}

// Flush counts what is left of the run.
func (r *Run) Flush() {
	if r.n == 0 {
		return
	}
	r.h.counts[r.bucket].Add(r.n)
	r.h.sum.Add(r.sum)
	for m := r.h.max.Load(); r.max > m && !r.h.max.CompareAndSwap(m, r.max); m = r.h.max.Load() {
	}
	*r = Run{h: r.h, bucket: r.bucket}
}

// Snapshot is a histogram at one moment.
type Snapshot struct {
	// Count is the number of values, Sum their sum, Max the greatest.
	Count    uint64
	Sum, Max int64
	counts   []uint64
}

// Snapshot copies the counts. Values recorded meanwhile may be in or not.
func (h *Histogram) Snapshot() Snapshot {
	s := Snapshot{counts: make([]uint64, buckets), Sum: h.sum.Load(), Max: h.max.Load()}
	for i := range h.counts {
		c := h.counts[i].Load()
		s.counts[i] = c
		s.Count += c
	}
	return s
}

// Quantile returns the value below or at which the share q of the values lies,
// to the width of a bucket (6.25 %) and never above Max; 0 when empty.
func (s *Snapshot) Quantile(q float64) int64 {
	if s.Count == 0 {
		return 0
	}
	want := uint64(math.Ceil(q * float64(s.Count)))
	want = min(max(want, 1), s.Count)
	var seen uint64
	for i, c := range s.counts {
		if seen += c; seen >= want {
			return min(upper(i), s.Max)
		}
	}
	return s.Max
}

// AtMost returns how many values are at most v, to the width of a bucket.
func (s *Snapshot) AtMost(v int64) uint64 {
	var seen uint64
	for i, c := range s.counts {
		if upper(i) > v {
			break
		}
		seen += c
	}
	return seen
}

// Merge adds o's values to s.
func (s *Snapshot) Merge(o Snapshot) {
	if s.counts == nil {
		s.counts = make([]uint64, buckets)
	}
	for i, c := range o.counts {
		s.counts[i] += c
	}
	s.Count += o.Count
	s.Sum += o.Sum
	s.Max = max(s.Max, o.Max)
}

// Sub takes the values of an earlier snapshot of the same histogram away. Max stays.
func (s *Snapshot) Sub(earlier Snapshot) {
	for i, c := range earlier.counts {
		s.counts[i] -= c
	}
	s.Count -= earlier.Count
	s.Sum -= earlier.Sum
}
