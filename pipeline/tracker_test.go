package pipeline

import (
	"math/rand/v2"
	"testing"
)

// TestTrackerKnowsTheFirstPositionThatIsNotDone compares it with a plain set,
// through restarts.
func TestTrackerKnowsTheFirstPositionThatIsNotDone(t *testing.T) {
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 1))
		start := int64(r.IntN(200))
		tr := newTracker(start)
		done := map[int64]bool{}
		next := start
		for range 3000 {
			p := next + int64(r.IntN(1+r.IntN(300)))
			if r.IntN(200) == 0 {
				to := next + int64(r.IntN(500))
				tr.gap(next, to)
				for q := next; q < to; q++ {
					done[q] = true
				}
			} else {
				tr.add(p)
				done[p] = true
			}
			for done[next] {
				next++
			}
			if tr.next != next {
				t.Fatalf("seed %d: next is %d, not %d", seed, tr.next, next)
			}
			if q := next + int64(r.IntN(400)); tr.has(q) != done[q] {
				t.Fatalf("seed %d: position %d is done: %v", seed, q, tr.has(q))
			}
			if r.IntN(100) == 0 {
				c := cursor{b: tr.append(nil)}
				if tr = readTracker(&c); c.bad || len(c.b) > 0 || tr.next != next {
					t.Fatalf("seed %d: read again: next %d, not %d", seed, tr.next, next)
				}
			}
		}
	}
}
