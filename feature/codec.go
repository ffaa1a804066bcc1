package feature

import (
	"encoding/binary"
	"math"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

// Deltas and snapshots are made of columns:
//
//	numbers   zigzag varints; a leading 0 byte says that all are 0, else 1
//	times     a byte for the unit (ns, ms, s), then zigzag varints of the
//	          differences in that unit, the first against 0
//	floats    a byte: 0 for raw little-endian bits, else 1 + the index of a
//	          decimal scale, then per value a varint: 0 for null, or
//	          1 + zigzag(value × scale), used where that is exact
//	strings   per value a varint: 0 for null, r ≤ d for the r-th string so far,
//	          d + 1 for a new string, whose length and bytes follow

var (
	units  = [...]int64{1, 1e6, 1e9}
	scales = [...]float64{1, 100, 10000}
)

// zigzagLimit keeps scaled decimals within the integers that a float64 holds exactly.
const zigzagLimit = 1 << 52

func zigzag(v int64) uint64   { return uint64(v)<<1 ^ uint64(v>>63) }
func unzigzag(u uint64) int64 { return int64(u>>1) ^ -int64(u&1) }

func appendTimes(dst []byte, times []int64) []byte {
	unit := byte(2)
	for _, t := range times {
		if t%1e9 != 0 {
			unit = 1
			break
		}
	}
	if unit == 1 {
		for _, t := range times {
			if t%1e6 != 0 {
				unit = 0
				break
			}
		}
	}
	dst = append(dst, unit)
	prev := int64(0)
	for _, t := range times {
		switch unit {
		case 2:
			t /= 1e9
		case 1:
			t /= 1e6
		}
		dst = binary.AppendUvarint(dst, zigzag(t-prev))
		prev = t
	}
	return dst
}

func appendNumbers(dst []byte, words []uint64) []byte {
	all := uint64(0)
	for _, v := range words {
		all |= v
	}
	if all == 0 {
		return append(dst, 0)
	}
	dst = append(dst, 1)
	for _, v := range words {
		dst = binary.AppendUvarint(dst, zigzag(int64(v)))
	}
	return dst
}

func appendFloats(dst []byte, words []uint64) []byte {
	mark := len(dst)
next:
	for i, scale := range scales {
		dst = append(dst[:mark], byte(1+i))
		for _, v := range words {
			if v == nullFloat {
				dst = append(dst, 0)
				continue
			}
			f := math.Float64frombits(v)
			d := math.Round(f * scale)
			if !(math.Abs(d) < zigzagLimit) || math.Float64bits(d/scale+0) != v {
				continue next
			}
			dst = binary.AppendUvarint(dst, 1+zigzag(int64(d)))
		}
		return dst
	}
	dst = append(dst[:mark], 0)
	for _, v := range words {
		dst = binary.LittleEndian.AppendUint64(dst, v)
	}
	return dst
}

// appendRefs writes n numbered strings with an inline dictionary.
func (w *Windows) appendStrings(dst []byte, ids []uint64) []byte {
	w.local.begin(len(ids))
	for _, id := range ids {
		if id == 0 {
			dst = append(dst, 0)
			continue
		}
		ref, fresh := w.local.ref(uint32(id))
		dst = binary.AppendUvarint(dst, uint64(ref))
		if fresh {
			dst = appendText(dst, w.dict.text[id])
		}
	}
	return dst
}

func appendText(dst []byte, s string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

// appendColumns writes the columns of entries, times aside.
func (w *Windows) appendColumns(dst []byte) []byte {
	for f := range w.words {
		switch {
		case f == len(w.fields) || needsMask(w.fields[f].Kind):
			dst = appendNumbers(dst, w.words[f])
		case w.fields[f].Kind == event.Float:
			dst = appendFloats(dst, w.words[f])
		default:
			dst = w.appendStrings(dst, w.words[f])
		}
	}
	return dst
}

// localTable numbers the members of one batch from 1 in order of appearance.
type localTable struct {
	slots      []localSlot
	generation uint32
	n          uint32
}

type localSlot struct{ generation, key, ref uint32 }

func (t *localTable) begin(n int) {
	size := 16
	for size < 2*n {
		size *= 2
	}
	t.n = 0
	t.generation++
	if size > len(t.slots) || t.generation == 0 {
		t.slots = make([]localSlot, size)
		t.generation = 1
	}
}

func (t *localTable) ref(key uint32) (ref uint32, fresh bool) {
	mask := uint32(len(t.slots) - 1)
	for i := key * 0x9e3779b1 >> 7 & mask; ; i = (i + 1) & mask {
		s := &t.slots[i]
		if s.generation != t.generation {
			t.n++
			*s = localSlot{t.generation, key, t.n}
			return t.n, true
		}
		if s.key == key {
			return s.ref, false
		}
	}
}

// reader decodes; after the first fault it yields zeros and keeps the fault.
type reader struct {
	b    []byte
	size int
	err  error
}

func newReader(b []byte) reader { return reader{b: b, size: len(b)} }

func (r *reader) fail(what string) {
	if r.err == nil {
		r.err = errkind.Errorf(errkind.Corrupt, "window state: byte %d of %d: %s", r.size-len(r.b), r.size, what)
	}
	r.b = nil
}

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.fail("ends early")
		return 0
	}
	v := r.b[0]
	r.b = r.b[1:]
	return v
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail("no varint")
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) fixed64() uint64 {
	if len(r.b) < 8 {
		r.fail("ends early")
		return 0
	}
	v := binary.LittleEndian.Uint64(r.b)
	r.b = r.b[8:]
	return v
}

// count reads a number of items, each of which takes at least one byte more.
func (r *reader) count() int {
	n := r.uvarint()
	if n > uint64(len(r.b)) {
		r.fail("more items than bytes")
		return 0
	}
	return int(n)
}

func (r *reader) text() []byte {
	n := r.count()
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) times(dst []int64) {
	unit := r.byte()
	if int(unit) >= len(units) {
		r.fail("unknown unit of time")
		return
	}
	prev := int64(0)
	for i := range dst {
		prev += unzigzag(r.uvarint())
		dst[i] = prev * units[unit]
	}
}

func (r *reader) numbers(dst []uint64) {
	switch r.byte() {
	case 0:
		clear(dst)
	case 1:
		for i := range dst {
			dst[i] = uint64(unzigzag(r.uvarint()))
		}
	default:
		r.fail("unknown form of numbers")
	}
}

func (r *reader) floats(dst []uint64) {
	form := r.byte()
	switch {
	case form == 0:
		for i := range dst {
			if dst[i] = r.fixed64(); dst[i] != nullFloat && floatWord(math.Float64frombits(dst[i])) != dst[i] {
				r.fail("a number that is never stored")
				return
			}
		}
	case int(form) <= len(scales):
		for i := range dst {
			u := r.uvarint()
			if u == 0 {
				dst[i] = nullFloat
				continue
			}
			dst[i] = floatWord(float64(unzigzag(u-1)) / scales[form-1])
		}
	default:
		r.fail("unknown form of floats")
	}
}

// strings reads references into dst and the strings that they are to, from 1, appended to texts.
func (r *reader) strings(dst []uint64, texts [][]byte) [][]byte {
	for i := range dst {
		ref := r.uvarint()
		if ref > uint64(len(texts))+1 {
			r.fail("reference to a string that was not given")
			return texts
		}
		dst[i] = ref
		if ref == uint64(len(texts))+1 {
			texts = append(texts, r.text())
		}
	}
	return texts
}

// columns reads the columns of n entries; strings stay references into texts.
func (r *reader) columns(w *Windows, n int, into *decoded) {
	into.words = resize(into.words, len(w.words))
	into.texts = resize(into.texts, len(w.words))
	for f := range w.words {
		if r.err != nil {
			return
		}
		into.words[f] = resize(into.words[f], n)
		into.texts[f] = into.texts[f][:0]
		switch {
		case f == len(w.fields) || needsMask(w.fields[f].Kind):
			r.numbers(into.words[f])
		case w.fields[f].Kind == event.Float:
			r.floats(into.words[f])
		default:
			into.texts[f] = r.strings(into.words[f], into.texts[f])
		}
	}
}

// decoded is a delta or a key's snapshot before it is applied.
type decoded struct {
	keys  [][]byte
	refs  []uint64
	times []int64
	words [][]uint64
	texts [][][]byte
	sums  []sum
}

// adopt makes decoded entries the current words, holding their strings until unload.
func (w *Windows) adopt(d *decoded) {
	for f := range w.words {
		w.words[f] = append(w.words[f][:0], d.words[f]...)
		if f < len(w.fields) && w.fields[f].Kind == event.String {
			for i, ref := range w.words[f] {
				if ref != 0 {
					w.words[f][i] = w.dict.hold(string(d.texts[f][ref-1]))
				}
			}
		}
	}
}

func (r *reader) header(kind byte) {
	switch v := r.byte(); {
	case r.err != nil:
	case v != formatVersion:
		r.fail("version is not the one this program reads")
	case r.byte() != kind:
		r.fail("another kind of record than expected")
	}
}

// end checks that nothing is left.
func (r *reader) end() error {
	if r.err == nil && len(r.b) > 0 {
		r.fail("bytes left over")
	}
	return r.err
}
