package feature

import (
	"encoding/binary"
	"math"
	"unsafe"
)

const (
	keyState   = 1
	keyEvicted = 2
)

// BeginSnapshot starts a cycle over all keys present now; a cycle in progress is abandoned.
func (w *Windows) BeginSnapshot() { w.cursor, w.limit = 0, w.index.size() }

// AppendSnapshot appends the full state of the cycle's next keys, at least one
// and about budget bytes, and reports whether that was the last of them. The
// state may change between calls.
//
// It also drops keys that no row can need any more: those whose newest entry is
// older, against the newest row of any key, than the longest window and what is
// retained, and a quarter more. The chunk says so, hence a replay drops them at
// the same place. One row with a time far in the future ages every key: keep
// such rows out before they come here.
func (w *Windows) AppendSnapshot(dst []byte, budget int) (out []byte, done bool) {
	end := len(dst) + budget
	dst = append(dst, formatVersion, snapshotRecord)
	dst = binary.AppendUvarint(dst, zigzag(w.watermark))
	for first := true; w.cursor < w.limit && (first || len(dst) < end); w.cursor++ {
		k := uint32(w.cursor)
		r := w.ring(k)
		if !r.used() {
			continue
		}
		first = false
		if w.outlived(r) {
			dst = appendText(append(dst, keyEvicted), w.index.key(k))
			w.forget(k)
			continue
		}
		dst = w.appendKey(dst, k)
	}
	return dst, w.cursor >= w.limit
}

// outlived reports whether no row can need a key's entries any more.
func (w *Windows) outlived(r *ring) bool {
	if r.start == r.tail {
		return true
	}
	age := uint64(w.watermark) - w.view(r).at(r.tail - 1)[0]
	return age-age/5 >= w.horizon
}

// appendKey writes a key's state: the key, its entries as columns, and the sums
// with what rounding left in them. All else follows from the entries.
func (w *Windows) appendKey(dst []byte, k uint32) []byte {
	dst = appendText(append(dst, keyState), w.index.key(k))
	r := w.ring(k)
	if w.join == ByKey {
		dst = binary.AppendUvarint(dst, uint64(*w.keyClock(k))-w.view(r).at(r.tail - 1)[0])
	}
	dst = w.appendEntries(dst, r)
	for _, s := range w.keySums(k) {
		dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(s.hi))
		dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(s.lo))
		dst = binary.LittleEndian.AppendUint32(dst, math.Float32bits(s.err))
	}
	for i := range w.keyMoments(k) {
		dst = appendMoments(dst, &w.keyMoments(k)[i])
	}
	return dst
}

// ApplySnapshot replaces the state of the keys that one AppendSnapshot wrote and
// drops those that it dropped. After an error, of kind Corrupt, the state must
// not be used any more: some of the keys have been replaced.
func (w *Windows) ApplySnapshot(b []byte) error {
	r := newReader(b)
	r.header(snapshotRecord)
	watermark := unzigzag(r.uvarint())
	for r.err == nil && len(r.b) > 0 {
		tag := r.byte()
		text := r.text()
		key := unsafe.String(unsafe.SliceData(text), len(text))
		switch tag {
		case keyEvicted:
			if k, ok := w.index.find(key); ok {
				w.forget(k)
			}
		case keyState:
			if w.readKey(&r); r.err == nil {
				w.restore(key)
			}
		default:
			r.fail("unknown kind of key record")
		}
	}
	if err := r.end(); err != nil {
		return err
	}
	w.watermark = max(w.watermark, watermark)
	return nil
}

// readKey decodes one key's entries and sums.
func (w *Windows) readKey(r *reader) {
	d := &w.read
	ahead := uint64(0)
	if w.join == ByKey {
		ahead = r.uvarint()
	}
	n := r.entries(w, d)
	if r.err != nil {
		return
	}
	first, last := int64(d.block[0]), int64(d.block[(n-1)*w.stride])
	d.clock = int64(uint64(last) + ahead)
	if d.clock < last || uint64(d.clock)-uint64(first) >= w.horizon {
		r.fail("entries out of range")
		return
	}
	const size = 8 + 8 + 4
	d.sums = resize(d.sums, w.sums)
	if len(r.b) < size*len(d.sums) {
		r.fail("ends early")
		return
	}
	for i := range d.sums {
		b := r.b[size*i:][:size]
		d.sums[i] = sum{
			hi:  math.Float64frombits(binary.LittleEndian.Uint64(b)),
			lo:  math.Float64frombits(binary.LittleEndian.Uint64(b[8:])),
			err: math.Float32frombits(binary.LittleEndian.Uint32(b[16:])),
		}
	}
	r.b = r.b[size*len(d.sums):]
	d.moments = resize(d.moments, w.moments)
	for i := range d.moments {
		d.moments[i] = r.moments()
	}
}

// restore makes what readKey decoded the state of the key.
func (w *Windows) restore(key string) {
	d := &w.read
	n := len(d.block) / w.stride
	k, v := w.install(key, n, d.clock)
	w.holdEntries(k, n)
	copy(v.words, d.block)
	copy(w.keySums(k), d.sums)
	copy(w.keyMoments(k), d.moments)
	w.derive(k, d.clock, d.nulls)
}

// install gives the key a ring of n entries, to be filled in, instead of what it had.
func (w *Windows) install(key string, n int, clock int64) (uint32, view) {
	k := w.number(key)
	w.clearEntries(k)
	w.clearSlots(k)
	if w.join == ByKey {
		*w.keyClock(k) = clock
	}
	r := w.ring(k)
	class := uint8(0)
	for capacity(class) < uint32(n) {
		class++
	}
	if class != r.class() {
		w.entries.release(r.block(), r.class())
		*r = newRing(w.entries.alloc(class), class, 0)
	}
	r.tail = uint32(n)
	return k, w.view(r)
}

// derive makes cursors, counts and orders from the entries, as of when the key
// stands. Columns that have no nulls need not be looked at.
func (w *Windows) derive(k uint32, now int64, nulls []bool) {
	heads := w.keyHeads(k)
	for i := range w.groups {
		g := &w.groups[i]
		if g.lead >= 0 {
			heads[g.lead] = w.younger(k, now, g.delay)
		}
		for s := g.from; s < g.to; s++ {
			heads[s] = w.younger(k, now, w.spans[s].far)
			w.deriveCounts(k, s, nulls)
		}
		for _, c := range g.distinct {
			w.learnValues(k, i, c)
		}
		w.rebuildOrder(k, g)
	}
}

// younger returns the first entry of less than an age.
func (w *Windows) younger(k uint32, now int64, age uint64) uint32 {
	r := w.ring(k)
	v := w.view(r)
	lo, n := r.start, r.tail-r.start
	for n > 0 {
		half := n / 2
		if uint64(now)-v.words[int((lo+half)&v.mask)*v.stride] < age {
			n = half
		} else {
			lo += half + 1
			n -= half + 1
		}
	}
	return lo
}

// deriveCounts counts a span's values.
func (w *Windows) deriveCounts(k uint32, spanIndex int, nulls []bool) {
	sp := &w.spans[spanIndex]
	v := w.view(w.ring(k))
	from, to := w.extent(k, spanIndex)
	count := func(col int) uint32 {
		if !nulls[col] {
			return to - from
		}
		return w.countRange(v, from, to, col)
	}
	for _, a := range sp.sums {
		w.keySums(k)[a.slot].n = count(a.col)
	}
	for _, a := range sp.moments {
		w.keyMoments(k)[a.slot].n = count(a.col)
	}
	for _, a := range sp.counts {
		w.keyCounts(k)[a.slot] = count(a.col)
	}
}
