package feature

import (
	"fmt"
	"math"
	"testing"

	"github.com/freshet-io/freshet/event"
)

// sketchState is a Sums to keep sketches in.
func sketchState(t *testing.T) *Sums {
	t.Helper()
	s, err := NewSums(Config{Windows: []Window{{Name: "d", Aggregate: Distinct, Field: "s", Kind: event.String, Sketch: true, Shape: Tumbling, Over: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

const sigma = 0.0081 // 1.04 / √2^14

func TestSketchErrorIsWithinThreeSigma(t *testing.T) {
	s := sketchState(t)
	for _, n := range []int{1, 10, 100, 1000, 1024, 1025, 10_000, 30_000, 41_000, 60_000, 100_000, 1_000_000} {
		var worst, sum float64
		runs := max(1, min(20, 2_000_000/n))
		if raceDetector {
			runs = min(runs, 2)
		}
		for run := range runs {
			h := make([]uint64, 2)
			for i := range n {
				s.sketchPut(h, hashWord(uint64(run)<<40|uint64(i)))
			}
			for i := range min(n, 100) { // again: nothing new
				s.sketchPut(h, hashWord(uint64(run)<<40|uint64(i)))
			}
			off := s.sketchEstimate(nil, h)/float64(n) - 1
			worst = max(worst, math.Abs(off))
			sum += off
			s.freeBlock(h)
		}
		limit := 3 * sigma
		if n <= hllSparse {
			limit = 1.5 / float64(n) // two values may share a code
		}
		if worst > limit {
			t.Errorf("%d values: off by %.4f, more than %.4f", n, worst, limit)
		}
		if bias := math.Abs(sum) / float64(runs); bias > 3*sigma/math.Sqrt(float64(runs)) {
			t.Errorf("%d values: bias %.4f", n, bias)
		}
		t.Logf("%8d values: off by at most %.4f in %d runs", n, worst, runs)
	}
	if s.live != 0 {
		t.Errorf("%d bytes left", s.live)
	}
}

func TestTextsSpreadAsWell(t *testing.T) {
	s := sketchState(t)
	h := make([]uint64, 2)
	const n = 100_000
	for i := range n {
		s.sketchPut(h, hashText(fmt.Sprint("user-", i)))
	}
	if off := s.sketchEstimate(nil, h)/n - 1; math.Abs(off) > 3*sigma {
		t.Errorf("off by %.4f", off)
	}
}

// TestUnionsOfSketchesAreSketchesOfUnions compares all combinations of sparse and dense.
func TestUnionsOfSketchesAreSketchesOfUnions(t *testing.T) {
	s := sketchState(t)
	sizes := []int{0, 1, 500, 1024, 1500, 20_000}
	for _, n := range sizes {
		for _, m := range sizes {
			a, b, both := make([]uint64, 2), make([]uint64, 2), make([]uint64, 2)
			for i := range n {
				s.sketchPut(a, hashWord(uint64(i)))
				s.sketchPut(both, hashWord(uint64(i)))
			}
			for i := range m {
				s.sketchPut(b, hashWord(uint64(n/2+i)))
				s.sketchPut(both, hashWord(uint64(n/2+i)))
			}
			want := s.sketchEstimate(nil, both)
			read := s.sketchEstimate(a, b)
			merged := make([]uint64, 2)
			s.sketchMerge(merged, a)
			s.sketchMerge(merged, b)
			stored := s.sketchEstimate(nil, merged)
			// Two sparse lists may count linearly what one sketch holds dense.
			if stored != want || math.Abs(read-want) > 3*sigma*want || (read != want && n <= hllSparse != (m <= hllSparse)) {
				t.Errorf("%d and %d: read together %v, merged %v, want %v", n, m, read, stored, want)
			}
			for _, h := range [][]uint64{a, b, both, merged} {
				s.freeBlock(h)
			}
		}
	}
}
