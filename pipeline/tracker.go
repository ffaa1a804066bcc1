package pipeline

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// tracker knows which positions of a partition are done, where they are not
// done in order. Its next is the first that is not.
type tracker struct {
	next int64
	end  int64    // no position from here on is done
	done []uint64 // bits from base on
	base int64    // a multiple of 64, at most next
	runs []uint64 // storage of append
}

func newTracker(next int64) *tracker {
	return &tracker{next: next, end: next, base: next &^ 63}
}

// add marks a position as done.
func (t *tracker) add(p int64) {
	if p < t.next {
		return
	}
	w := int((p - t.base) / 64)
	for w >= len(t.done) {
		t.done = append(t.done, 0)
	}
	t.done[w] |= 1 << (p & 63)
	t.end = max(t.end, p+1)
	if p == t.next {
		t.advance()
	}
}

// gap marks the positions from ≤ p < to as done, which the topic does not have any more.
func (t *tracker) gap(from, to int64) {
	if t.next >= from && t.end <= to { // nothing is done behind it
		t.next, t.end = max(t.next, to), to
		t.base, t.done = t.next&^63, t.done[:0]
		return
	}
	for p := from; p < to; p++ {
		t.add(p)
	}
}

// has reports whether a position is done.
func (t *tracker) has(p int64) bool {
	if p < t.next {
		return true
	}
	w := int((p - t.base) / 64)
	return w < len(t.done) && t.done[w]>>(p&63)&1 != 0
}

func (t *tracker) advance() {
	w := int((t.next - t.base) / 64)
	for ; w < len(t.done); w++ {
		// The bits below next belong to positions that are done.
		open := ^t.done[w]
		if at := t.base + int64(w)*64; at < t.next {
			open &^= 1<<(t.next-at) - 1
		}
		if open != 0 {
			t.next = t.base + int64(w)*64 + int64(bits.TrailingZeros64(open))
			break
		}
		t.next = t.base + int64(w+1)*64
	}
	if w > 64 && 2*w > len(t.done) { // forget words that are done
		n := copy(t.done, t.done[w:])
		clear(t.done[n:])
		t.done = t.done[:n]
		t.base += int64(w) * 64
	}
}

// append writes next, and behind it by turns how many positions are open and
// how many are done, up to the last that is done; their number comes first.
func (t *tracker) append(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(t.next))
	t.runs = t.runs[:0]
	for p := t.next; p < t.end; {
		q := p
		for is := t.has(p); q < t.end && t.has(q) == is; q++ {
		}
		t.runs = append(t.runs, uint64(q-p))
		p = q
	}
	b = binary.AppendUvarint(b, uint64(len(t.runs)))
	for _, n := range t.runs {
		b = binary.AppendUvarint(b, n)
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
	p := t.next
	for i := range c.uvarint() {
		n := int64(c.uvarint())
		if c.bad || n < 0 || n > maxAhead || p-t.next > maxAhead {
			c.bad = true
			break
		}
		if i%2 == 1 {
			for q := p; q < p+n; q++ {
				t.add(q)
			}
		}
		p += n
	}
	return t
}

// maxAhead bounds the positions that a damaged record may tell of.
const maxAhead = 1 << 28
