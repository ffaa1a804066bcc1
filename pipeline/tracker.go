package pipeline

import (
	"encoding/binary"
	"math"
	"slices"
	"sort"
)

// tracker knows which records of a partition are done, where they are not done
// in order. Positions may have gaps.
type tracker struct {
	next int64 // the first position that is not done
	end  int64 // the position behind the records read
	// open are the positions of the records read, from the first that is not done
	// on, and done says which of them are.
	open []int64
	done []bool
	kept []span  // done before a restart, by position; may lie ahead of end
	runs []int64 // storage of append
}

// span is a run of positions, from ≤ p < to.
type span struct{ from, to int64 }

func newTracker(next int64) *tracker { return &tracker{next: next, end: next} }

// read takes in a record; none lies between it and upTo, where the next one
// may. It reports whether the record was done before a restart.
func (t *tracker) read(p, upTo int64) (before bool) {
	before = t.has(p)
	if p >= t.end && (!before || len(t.open) > 0) {
		t.open = append(t.open, p)
		t.done = append(t.done, before)
	}
	t.end = max(t.end, upTo)
	for len(t.kept) > 0 && t.kept[0].to <= t.end {
		t.kept = t.kept[1:]
	}
	t.advance()
	return before
}

// add marks a record that was read as done.
func (t *tracker) add(p int64) {
	if i, ok := slices.BinarySearch(t.open, p); ok {
		t.done[i] = true
		if i == 0 {
			t.advance()
		}
	}
}

func (t *tracker) advance() {
	n := 0
	for n < len(t.open) && t.done[n] {
		n++
	}
	t.open, t.done = t.open[n:], t.done[n:]
	if t.next = t.end; len(t.open) > 0 {
		t.next = t.open[0]
	}
}

// has reports whether a record is done.
func (t *tracker) has(p int64) bool {
	if p < t.next {
		return true
	}
	if i, ok := slices.BinarySearch(t.open, p); ok {
		return t.done[i]
	}
	i := sort.Search(len(t.kept), func(i int) bool { return t.kept[i].to > p })
	return i < len(t.kept) && t.kept[i].from <= p
}

// append writes next, and behind it by turns how far positions are open and how
// far they are done, up to the last that is done; the number of runs comes first.
func (t *tracker) append(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(t.next))
	t.runs = t.runs[:0] // where a run ends, the first one open
	for i := 1; i < len(t.open); i++ {
		if t.done[i] != t.done[i-1] {
			t.runs = append(t.runs, t.open[i])
		}
	}
	if len(t.runs)%2 == 1 { // the last run is done
		t.runs = append(t.runs, t.end)
	}
	for _, k := range t.kept {
		from := max(k.from, t.next)
		if n := len(t.runs); n > 0 && t.runs[n-1] >= from {
			t.runs[n-1] = max(t.runs[n-1], k.to)
		} else {
			t.runs = append(t.runs, from, k.to)
		}
	}
	b = binary.AppendUvarint(b, uint64(len(t.runs)))
	last := t.next
	for _, p := range t.runs {
		b = binary.AppendUvarint(b, uint64(p-last))
		last = p
	}
	return b
}

// readTracker reads what append wrote.
func readTracker(c *cursor) *tracker {
	first := c.uvarint()
	if first > math.MaxInt64/2 {
		c.bad, first = true, 0
	}
	t := newTracker(int64(first))
	from, p := t.next, t.next
	for i := range c.uvarint() {
		n := c.uvarint()
		if c.bad || n > math.MaxInt64/4 || p > math.MaxInt64/2 {
			c.bad = true
			break
		}
		p += int64(n)
		if i%2 == 0 {
			from = p
		} else {
			t.kept = append(t.kept, span{from, p})
		}
	}
	return t
}
