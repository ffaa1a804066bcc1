package feature

import (
	"encoding/binary"
	"math"
	"math/bits"
	"slices"

	"github.com/freshet-io/freshet/event"
)

// The entries of a key in a snapshot are columns of numbers of one width, so that
// they are decoded without a branch for each:
//
//	packed    the smallest number (a varint), a byte for the width w from 0 to 8,
//	          and the differences from it in w little-endian bytes each
//	times     a byte for the unit (ns, ms, s), the first as a zigzag varint, and
//	          the differences, packed
//	numbers   a leading 0 byte says that all are 0, else 1 and packed, zigzag
//	floats    a byte: 0 for raw little-endian bits, else 1 + the index of a decimal
//	          scale; 16 more where there are nulls. Then value × scale, packed,
//	          zigzag; with nulls 0 for null and 1 + the difference
//	strings   the number of different ones, each with its length, and packed their
//	          numbers in order of appearance from 1, 0 for null
//	raw       eight bytes each
const withNulls = 16

// appendPacked writes codes, of which least is the smallest and most the largest.
func appendPacked(dst []byte, codes []uint64, least, most uint64) []byte {
	width := (bits.Len64(most-least) + 7) / 8
	dst = append(dst, byte(width))
	if width == 0 {
		return dst
	}
	// Eight bytes each, the next one over what is too many of them.
	size := len(codes) * width
	dst = slices.Grow(dst, size+8)
	b := dst[len(dst) : len(dst)+size+8]
	for i, c := range codes {
		binary.LittleEndian.PutUint64(b[i*width:], c-least)
	}
	return dst[:len(dst)+size]
}

func appendSigned(dst []byte, codes []uint64) []byte {
	least, most := int64(math.MaxInt64), int64(math.MinInt64)
	for _, c := range codes {
		least, most = min(least, int64(c)), max(most, int64(c))
	}
	dst = binary.AppendUvarint(dst, zigzag(least))
	return appendPacked(dst, codes, uint64(least), uint64(most))
}

// packTimes writes rising times; codes is scratch of their number.
func packTimes(dst []byte, times []int64, codes []uint64) []byte {
	unit := unitOf(times)
	scale := units[unit]
	dst = append(dst, unit)
	least, most, prev := uint64(math.MaxUint64), uint64(0), times[0]
	dst = binary.AppendUvarint(dst, zigzag(prev/scale))
	if len(times) == 1 {
		return dst
	}
	for i, t := range times[1:] {
		c := uint64(t) - uint64(prev)
		switch unit {
		case 2:
			c /= 1e9
		case 1:
			c /= 1e6
		}
		codes[i] = c
		least, most, prev = min(least, c), max(most, c), t
	}
	dst = binary.AppendUvarint(dst, least)
	// At least a byte each: so entries are never more than bytes.
	return appendPacked(dst, codes[:len(times)-1], least, max(most, least+1))
}

func packNumbers(dst []byte, words []uint64) []byte {
	all := uint64(0)
	for _, v := range words {
		all |= v
	}
	if all == 0 {
		return append(dst, 0)
	}
	return appendSigned(append(dst, 1), words)
}

// packFloats writes floats; codes is scratch of their number.
func packFloats(dst []byte, words, codes []uint64) []byte {
next:
	for i, scale := range scales {
		nulls := 0
		least, most := int64(math.MaxInt64), int64(math.MinInt64)
		for j, v := range words {
			if v == nullFloat {
				nulls++
				continue
			}
			d, ok := decimal(v, scale)
			if !ok {
				continue next
			}
			codes[j] = uint64(d)
			least, most = min(least, d), max(most, d)
		}
		switch nulls {
		case 0:
			dst = binary.AppendUvarint(append(dst, byte(1+i)), zigzag(least))
			return appendPacked(dst, codes, uint64(least), uint64(most))
		case len(words):
			least, most = 0, 0
		}
		dst = binary.AppendUvarint(append(dst, byte(1+i+withNulls)), zigzag(least))
		for j, v := range words {
			if codes[j] -= uint64(least) - 1; v == nullFloat {
				codes[j] = 0
			}
		}
		return appendPacked(dst, codes, 0, uint64(most-least)+1)
	}
	return appendRaw(append(dst, 0), words)
}

func appendRaw(dst []byte, words []uint64) []byte {
	for _, v := range words {
		dst = binary.LittleEndian.AppendUint64(dst, v)
	}
	return dst
}

// packStrings writes numbered strings; codes is scratch of their number.
func (w *Windows) packStrings(dst []byte, ids, codes []uint64) []byte {
	w.local.begin(len(ids))
	most := uint64(0)
	for i, id := range ids {
		if codes[i] = 0; id != 0 {
			ref, _ := w.local.ref(uint32(id))
			codes[i] = uint64(ref)
			most = max(most, codes[i])
		}
	}
	dst = binary.AppendUvarint(dst, most)
	for i, given := 0, uint64(0); given < most; i++ {
		if codes[i] > given {
			given++
			dst = appendText(dst, w.dict.text[ids[i]])
		}
	}
	return appendPacked(dst, codes, 0, most)
}

// appendEntries writes the entries of a key, of which there is at least one.
func (w *Windows) appendEntries(dst []byte, r *ring) []byte {
	n := int(r.tail - r.start)
	v := w.view(r)
	d := &w.read
	d.times, d.codes, d.column = resize(d.times, n), resize(d.codes, n), resize(d.column, n)
	dst = binary.AppendUvarint(dst, uint64(n))
	for i := range d.times {
		d.times[i] = int64(v.words[int((r.start+uint32(i))&v.mask)*v.stride])
	}
	dst = packTimes(dst, d.times, d.codes)
	for f, form := range w.form {
		for i := range d.column {
			d.column[i] = v.words[int((r.start+uint32(i))&v.mask)*v.stride+1+f]
		}
		switch form {
		case asFloats:
			dst = packFloats(dst, d.column, d.codes)
		case asStrings:
			dst = w.packStrings(dst, d.column, d.codes)
		case asNumbers:
			dst = packNumbers(dst, d.column)
		default:
			dst = appendRaw(dst, d.column)
		}
	}
	return dst
}

// packed decodes numbers that appendPacked wrote, less the smallest.
func (r *reader) packed(dst []uint64) {
	width := int(r.byte())
	if width > 8 || width*len(dst) > len(r.b) {
		r.fail("packed numbers end early")
		return
	}
	if width == 0 {
		clear(dst)
		return
	}
	b := r.b
	mask := ^uint64(0) >> (64 - 8*width)
	whole := min(len(dst), (len(b)-8)/width+1) // those behind which eight bytes can be read
	if len(b) < 8 {
		whole = 0
	}
	for i := range dst[:whole] {
		dst[i] = binary.LittleEndian.Uint64(b[i*width:]) & mask
	}
	for i := whole; i < len(dst); i++ {
		var last [8]byte
		copy(last[:], b[i*width:][:width])
		dst[i] = binary.LittleEndian.Uint64(last[:])
	}
	r.b = b[width*len(dst):]
}

// entries decodes what appendEntries wrote into d.block, n entries as a ring has
// them, except that strings are references into d.texts, from 1.
func (r *reader) entries(w *Windows, d *decoded) (n int) {
	if n = r.count(); n == 0 {
		r.fail("a key without entries")
		return 0
	}
	d.codes = resize(d.codes, n)
	d.block = resize(d.block, n*w.stride)
	r.packedTimes(d.block, w.stride, d.codes)
	d.texts, d.nulls = resize(d.texts, len(w.form)), resize(d.nulls, len(w.form))
	for f, form := range w.form {
		if r.err != nil {
			return n
		}
		to := d.block[1+f:]
		switch form {
		case asFloats:
			d.nulls[f] = r.packedFloats(to, w.stride, d.codes)
		case asStrings:
			d.texts[f] = r.packedStrings(to, w.stride, d.codes, d.texts[f][:0])
			d.nulls[f] = true
		case asNumbers:
			zero := r.packedNumbers(to, w.stride, d.codes)
			if d.nulls[f] = true; w.masked && f == w.maskAt-1 && zero {
				for c := range w.columns {
					if needsMask(w.columns[c].Kind) {
						d.nulls[c] = false
					}
				}
			}
		default:
			if len(r.b) < 8*n {
				r.fail("ends early")
				return n
			}
			for i := range n {
				to[i*w.stride] = binary.LittleEndian.Uint64(r.b[8*i:])
			}
			r.b = r.b[8*n:]
		}
	}
	return n
}

func (r *reader) packedTimes(dst []uint64, stride int, codes []uint64) {
	unit := r.byte()
	if int(unit) >= len(units) {
		r.fail("unknown unit of time")
		return
	}
	scale := units[unit]
	at, least := unzigzag(r.uvarint()), uint64(0)
	dst[0] = uint64(at * scale)
	if len(codes) == 1 {
		return
	}
	least = r.uvarint()
	r.packed(codes[1:])
	last, sorted := at*scale, true
	for i, c := range codes[1:] {
		at += int64(least + c)
		t := at * scale
		sorted = sorted && t >= last
		last = t
		dst[(i+1)*stride] = uint64(t)
	}
	if !sorted {
		r.fail("entries out of order")
	}
}

func (r *reader) packedNumbers(dst []uint64, stride int, codes []uint64) (zero bool) {
	least := uint64(0)
	switch r.byte() {
	case 0:
		zero = true
		clear(codes)
	case 1:
		least = uint64(unzigzag(r.uvarint()))
		r.packed(codes)
	default:
		r.fail("unknown form of numbers")
	}
	for i, c := range codes {
		dst[i*stride] = least + c
	}
	return zero
}

func (r *reader) packedFloats(dst []uint64, stride int, codes []uint64) (nulls bool) {
	form := r.byte()
	nulls = form&withNulls != 0
	switch form &^= withNulls; {
	case form == 0 && !nulls:
		if len(r.b) < 8*len(codes) {
			r.fail("ends early")
			return false
		}
		for i := range codes {
			v := binary.LittleEndian.Uint64(r.b[8*i:])
			if nulls = nulls || v == nullFloat; v != nullFloat && floatWord(math.Float64frombits(v)) != v {
				r.fail("a number that is never stored")
				return nulls
			}
			dst[i*stride] = v
		}
		r.b = r.b[8*len(codes):]
	case form > 0 && int(form) <= len(scales):
		scale, least := scales[form-1], unzigzag(r.uvarint())
		r.packed(codes)
		if nulls {
			least--
		}
		for i, c := range codes {
			v := math.Float64bits(float64(least+int64(c)) / scale)
			if nulls && c == 0 {
				v = nullFloat
			}
			dst[i*stride] = v
		}
	default:
		r.fail("unknown form of floats")
	}
	return nulls
}

func (r *reader) packedStrings(dst []uint64, stride int, codes []uint64, texts [][]byte) [][]byte {
	n := r.count()
	for range n {
		texts = append(texts, r.text())
	}
	r.packed(codes)
	for i, c := range codes {
		if c > uint64(len(texts)) {
			r.fail("reference to a string that was not given")
			return texts
		}
		dst[i*stride] = c
	}
	return texts
}

// holdEntries turns the references of a decoded key into numbers of the
// dictionary, and gives each entry its share in the tables of all keys.
func (w *Windows) holdEntries(k uint32, n int) {
	d := &w.read
	for f := range w.columns {
		if w.columns[f].Kind != event.String {
			continue
		}
		d.ids = append(d.ids[:0], 0)
		for _, text := range d.texts[f] {
			d.ids = append(d.ids, w.dict.hold(string(text)))
		}
		for i := range n {
			at := &d.block[i*w.stride+1+f]
			*at = d.ids[*at]
			w.dict.retain(*at)
		}
		for _, id := range d.ids {
			w.dict.drop(id)
		}
		clear(d.texts[f])
	}
	if w.ids {
		for i := range n {
			w.idx.put(d.block[i*w.stride+w.idAt], k, uint32(i))
		}
	}
}
