package feature

import (
	"encoding/binary"
	"math"
	"slices"
	"unsafe"
)

const (
	keyState   = 1
	keyEvicted = 2
)

// BeginSnapshot starts a cycle over all keys present now; a cycle in progress is abandoned.
func (w *Windows) BeginSnapshot() { w.cursor, w.limit = 0, len(w.index.keys) }

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
		r := &w.rings[k]
		if !r.used {
			continue
		}
		first = false
		if w.outlived(r) {
			dst = appendText(append(dst, keyEvicted), w.index.keys[k])
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
	dst = appendText(append(dst, keyState), w.index.keys[k])
	r := &w.rings[k]
	n := int(r.tail - r.start)
	v := w.view(r)
	if w.join == ByKey {
		dst = binary.AppendUvarint(dst, uint64(w.clock[k])-v.at(r.tail - 1)[0])
	}
	dst = binary.AppendUvarint(dst, uint64(n))
	w.read.times = resize(w.read.times, n)
	for f := range w.words {
		w.words[f] = resize(w.words[f], n)
	}
	for i := range n {
		e := v.at(r.start + uint32(i))
		w.read.times[i] = int64(e[0])
		for f := range w.words {
			w.words[f][i] = e[1+f]
		}
	}
	dst = appendTimes(dst, w.read.times)
	dst = w.appendColumns(dst, false)
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
// drops those that it dropped. On an error, of kind Corrupt, nothing has changed.
func (w *Windows) ApplySnapshot(b []byte) error {
	if err := w.walkSnapshot(b, false); err != nil {
		return err
	}
	return w.walkSnapshot(b, true)
}

func (w *Windows) walkSnapshot(b []byte, apply bool) error {
	r := newReader(b)
	r.header(snapshotRecord)
	watermark := unzigzag(r.uvarint())
	if apply {
		w.watermark = max(w.watermark, watermark)
	}
	for r.err == nil && len(r.b) > 0 {
		tag := r.byte()
		text := r.text()
		key := unsafe.String(unsafe.SliceData(text), len(text))
		switch tag {
		case keyEvicted:
			if _, k, ok := w.index.find(key); ok && apply {
				w.forget(k)
			}
		case keyState:
			w.readKey(&r)
			if apply {
				w.restore(key)
			}
		default:
			r.fail("unknown kind of key record")
		}
	}
	return r.end()
}

// readKey decodes one key's entries and sums.
func (w *Windows) readKey(r *reader) {
	d := &w.read
	ahead := uint64(0)
	if w.join == ByKey {
		ahead = r.uvarint()
	}
	n := r.count()
	if n == 0 {
		r.fail("a key without entries")
		return
	}
	d.times = resize(d.times, n)
	r.times(d.times)
	d.clock = int64(uint64(d.times[n-1]) + ahead)
	if !slices.IsSorted(d.times) || d.clock < d.times[n-1] || uint64(d.clock)-uint64(d.times[0]) >= w.horizon {
		r.fail("entries out of order or out of range")
		return
	}
	r.columns(w, n, false, d)
	d.sums = resize(d.sums, w.sums)
	for i := range d.sums {
		d.sums[i] = sum{hi: math.Float64frombits(r.fixed64()), lo: math.Float64frombits(r.fixed64())}
		if len(r.b) < 4 {
			r.fail("ends early")
			return
		}
		d.sums[i].err = math.Float32frombits(binary.LittleEndian.Uint32(r.b))
		r.b = r.b[4:]
	}
	d.moments = resize(d.moments, w.moments)
	for i := range d.moments {
		d.moments[i] = r.moments()
	}
}

// restore makes what readKey decoded the state of the key.
func (w *Windows) restore(key string) {
	d := &w.read
	w.adopt(d, len(d.times), false)
	k := w.install(key)
	copy(w.keySums(k), d.sums)
	copy(w.keyMoments(k), d.moments)
	w.derive(k, d.clock)
}

// install makes the loaded words, with the times and the clock of what was read, the entries of the key.
func (w *Windows) install(key string) uint32 {
	d := &w.read
	n := uint32(len(d.times))
	k := w.number(key)
	w.clearEntries(k)
	w.clearSlots(k)
	if w.clock != nil {
		w.clock[k] = d.clock
	}
	r := &w.rings[k]
	class := uint8(0)
	for capacity(class) < n {
		class++
	}
	w.entries.release(r.block, r.class)
	*r = ring{block: w.entries.alloc(class), tail: n, class: class, used: true}
	v := w.view(r)
	for s := range n {
		e := v.at(s)
		w.write(e, d.times[s], int(s))
		w.register(k, e, s)
	}
	w.unload(int(n))
	return k
}

// derive makes cursors, counts and orders from the entries, as of when the key stands.
func (w *Windows) derive(k uint32, now int64) {
	heads := w.keyHeads(k)
	for i := range w.groups {
		g := &w.groups[i]
		if g.lead >= 0 {
			heads[g.lead] = w.search(k, func(t uint64) bool { return uint64(now)-t < g.delay })
		}
		for s := g.from; s < g.to; s++ {
			sp := &w.spans[s]
			heads[s] = w.search(k, func(t uint64) bool { return uint64(now)-t < sp.far })
			w.deriveCounts(k, s)
		}
		for _, c := range g.distinct {
			w.learnValues(k, i, c)
		}
		w.rebuildOrder(k, g)
	}
}

// deriveCounts counts a span's values.
func (w *Windows) deriveCounts(k uint32, spanIndex int) {
	sp := &w.spans[spanIndex]
	v := w.view(&w.rings[k])
	from, to := w.extent(k, spanIndex)
	for _, a := range sp.sums {
		w.keySums(k)[a.slot].n = w.countRange(v, from, to, a.col)
	}
	for _, a := range sp.moments {
		w.keyMoments(k)[a.slot].n = w.countRange(v, from, to, a.col)
	}
	for _, a := range sp.counts {
		w.keyCounts(k)[a.slot] = w.countRange(v, from, to, a.col)
	}
}
