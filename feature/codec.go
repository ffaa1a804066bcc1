package feature

import (
	"encoding/binary"
	"math"

	"github.com/freshet-io/freshet/event"
)

// Deltas are made of columns (snapshots: packed.go):
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

// unitOf is the coarsest unit that all times are whole numbers of.
func unitOf(times []int64) byte {
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
				return 0
			}
		}
	}
	return unit
}

// decimal is a word's value × scale, if that is a whole number from which the value comes back.
func decimal(word uint64, scale float64) (d int64, ok bool) {
	f := math.Float64frombits(word) * scale
	if !(math.Abs(f) < zigzagLimit) {
		return 0, false
	}
	d = int64(f + math.Copysign(0.5, f))
	return d, math.Float64bits(float64(d)/scale) == word
}

func appendTimes(dst []byte, times []int64) []byte {
	unit := unitOf(times)
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
			d, ok := decimal(v, scale)
			if !ok {
				continue next
			}
			dst = binary.AppendUvarint(dst, 1+zigzag(d))
		}
		return dst
	}
	return appendRaw(append(dst[:mark], 0), words)
}

// appendStrings writes n numbered strings with an inline dictionary.
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
	return appendRaw(dst, words)
}

// appendColumns writes the columns of new entries, times and labels aside.
func (w *Windows) appendColumns(dst []byte) []byte {
	for f := range w.words {
		if !w.begins(f) {
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
