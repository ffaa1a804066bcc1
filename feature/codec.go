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

// form is how a column of words is written.
type form uint8

const (
	asFloats form = iota
	asStrings
	asNumbers
	asRaw // eight bytes each
)

func formOf(k event.Kind) form {
	switch {
	case k == event.Float:
		return asFloats
	case k == event.String:
		return asStrings
	}
	return asNumbers
}

// forms are those of an entry's words behind the time.
func (p *plan) forms() []form {
	var all []form
	for _, c := range p.columns {
		all = append(all, formOf(c.Kind))
	}
	if p.masked {
		all = append(all, asNumbers)
	}
	for len(all) < p.stride-1 {
		all = append(all, asRaw)
	}
	return all
}

// begins reports whether word f of a new row is always that of an unknown label.
func (w *Windows) begins(f int) bool { return w.ids && f < len(w.columns) && w.columns[f].label }

func (w *Windows) appendWords(dst []byte, f form, words []uint64) []byte {
	switch f {
	case asFloats:
		return appendFloats(dst, words)
	case asStrings:
		return w.appendStrings(dst, words)
	case asNumbers:
		return appendNumbers(dst, words)
	}
	for _, v := range words {
		dst = binary.LittleEndian.AppendUint64(dst, v)
	}
	return dst
}

// appendColumns writes the columns of entries, times aside; of new ones, labels aside too.
func (w *Windows) appendColumns(dst []byte, fresh bool) []byte {
	for f := range w.words {
		if !fresh || !w.begins(f) {
			dst = w.appendWords(dst, w.form[f], w.words[f])
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

// words reads a column; strings stay references into the texts returned.
func (r *reader) words(f form, dst []uint64, texts [][]byte) [][]byte {
	switch f {
	case asFloats:
		r.floats(dst)
	case asStrings:
		return r.strings(dst, texts)
	case asNumbers:
		r.numbers(dst)
	default:
		if len(r.b) < 8*len(dst) {
			r.fail("ends early")
			return texts
		}
		for i := range dst {
			dst[i] = binary.LittleEndian.Uint64(r.b[8*i:])
		}
		r.b = r.b[8*len(dst):]
	}
	return texts
}

// columns reads what appendColumns wrote of n entries.
func (r *reader) columns(w *Windows, n int, fresh bool, into *decoded) {
	into.words = resize(into.words, len(w.words))
	into.texts = resize(into.texts, len(w.words))
	for f := range w.words {
		if r.err != nil {
			return
		}
		into.texts[f] = into.texts[f][:0]
		if into.words[f] = resize(into.words[f], n); !fresh || !w.begins(f) {
			into.texts[f] = r.words(w.form[f], into.words[f], into.texts[f])
		}
	}
}

// decoded is a delta or a key's snapshot before it is applied.
type decoded struct {
	keys       [][]byte
	refs       []uint64
	times      []int64
	words      [][]uint64
	texts      [][][]byte
	moves      []uint64
	sums       []sum
	moments    []moments
	clock      int64
	labels     int
	labelTexts [][][]byte
}

// adopt makes n decoded entries the current words, holding their strings until unload.
func (w *Windows) adopt(d *decoded, n int, fresh bool) {
	w.fillWords(n)
	for f := range w.words {
		if fresh && w.begins(f) {
			continue
		}
		copy(w.words[f], d.words[f])
		if w.form[f] == asStrings {
			w.holdTexts(w.words[f], d.texts[f])
		}
	}
}

// holdTexts turns references into numbers of the dictionary.
func (w *Windows) holdTexts(words []uint64, texts [][]byte) {
	for i, ref := range words {
		if ref != 0 {
			words[i] = w.dict.hold(string(texts[ref-1]))
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
