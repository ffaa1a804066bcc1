package pipeline

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// TestTrackerKnowsTheFirstRecordThatIsNotDone compares it with a plain set,
// through restarts, with and without gaps between positions.
func TestTrackerKnowsTheFirstRecordThatIsNotDone(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 1))
		gap := []int{1, 1, 3, 1 << 30}[seed%4]
		var records []int64
		p := int64(r.IntN(200))
		for range 600 {
			records = append(records, p)
			p += 1 + int64(r.IntN(gap))
		}
		end := p
		behind := func(i int) int64 {
			if i+1 < len(records) {
				return records[i+1]
			}
			return end
		}
		tr := newTracker(records[0])
		done := map[int64]bool{}
		scan := 0 // records before it were read
		for range 4000 {
			switch {
			case r.IntN(3) == 0 && scan < len(records):
				if before := tr.read(records[scan], behind(scan)); before != done[records[scan]] {
					t.Fatalf("seed %d: record at %d was done before: %v", seed, records[scan], before)
				}
				scan++
			case scan > 0:
				q := records[max(0, scan-1-r.IntN(1+r.IntN(300)))]
				tr.add(q)
				done[q] = true
			}
			next := records[0]
			if scan > 0 {
				next = behind(scan - 1)
			}
			for _, q := range records[:scan] {
				if !done[q] {
					next = q
					break
				}
			}
			if tr.next != next {
				t.Fatalf("seed %d: next is %d, not %d", seed, tr.next, next)
			}
			if q := records[r.IntN(len(records))]; q >= next && tr.has(q) != done[q] {
				t.Fatalf("seed %d: record at %d is done: %v", seed, q, tr.has(q))
			}
			if r.IntN(300) == 0 {
				c := cursor{b: tr.append(nil)}
				if tr = readTracker(&c); c.bad || len(c.b) > 0 || tr.next != next {
					t.Fatalf("seed %d: read again: next %d, not %d", seed, tr.next, next)
				}
				scan, _ = slices.BinarySearch(records, next)
			}
		}
	}
}
