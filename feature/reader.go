package feature

import (
	"encoding/binary"
	"math"

	"github.com/freshet-io/freshet/errkind"
)

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
	if len(r.b) > 0 && r.b[0] < 0x80 {
		v := r.b[0]
		r.b = r.b[1:]
		return uint64(v)
	}
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail("no varint")
		return 0
	}
	r.b = r.b[n:]
	return v
}

// varint decodes the varint at b[i:] and returns where the next one begins, or
// −1 where there is none. Loops over many use it: the reader stays untouched.
func varint(b []byte, i int) (v uint64, next int) {
	for shift := uint(0); shift < 64 && i < len(b); shift += 7 {
		c := b[i]
		i++
		v |= uint64(c&0x7f) << shift
		if c < 0x80 {
			if shift == 63 && c > 1 {
				break
			}
			return v, i
		}
	}
	return 0, -1
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
	prev, at, scale := int64(0), 0, units[unit]
	for i := range dst {
		var u uint64
		if u, at = varint(r.b, at); at < 0 {
			r.fail("no varint")
			return
		}
		prev += unzigzag(u)
		dst[i] = prev * scale
	}
	r.b = r.b[at:]
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
		at, scale := 0, scales[form-1]
		for i := range dst {
			var u uint64
			if u, at = varint(r.b, at); at < 0 {
				r.fail("no varint")
				return
			}
			if u == 0 {
				dst[i] = nullFloat
				continue
			}
			dst[i] = floatWord(float64(unzigzag(u-1)) / scale)
		}
		r.b = r.b[at:]
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
func (r *reader) columns(w *Windows, n int, into *decoded) {
	into.words = resize(into.words, len(w.words))
	into.texts = resize(into.texts, len(w.words))
	for f := range w.words {
		if r.err != nil {
			return
		}
		into.texts[f] = into.texts[f][:0]
		if into.words[f] = resize(into.words[f], n); !w.begins(f) {
			into.texts[f] = r.words(w.form[f], into.words[f], into.texts[f])
		}
	}
}

// decoded is a delta or a key's snapshot before it is applied, and scratch of both directions.
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

	block  []uint64 // the entries of a snapshot's key
	nulls  []bool   // columns that may have nulls
	codes  []uint64
	column []uint64
	ids    []uint64
}

// adopt makes n decoded entries the current words, holding their strings until unload.
func (w *Windows) adopt(d *decoded, n int) {
	w.fillWords(n)
	for f := range w.words {
		if w.begins(f) {
			continue
		}
		w.words[f], d.words[f] = d.words[f], w.words[f]
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
