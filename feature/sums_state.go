package feature

import (
	"encoding/binary"
	"math"
	"math/bits"
	"slices"
	"unsafe"

	"github.com/freshet-io/freshet/event"
)

// A delta is version, 'd', the number of rows, keys (as strings, see codec.go),
// times and columns. A snapshot is version, 's', the newest time of any row and
// records of keys; a key's state alone is version, 'k' and that record. A record
// is a tag, the key and, unless the key was dropped,
//
//	newest   zigzag varint: time of the key's newest row
//	decayed  a double for each decayed sum
//	tracks   for each: the number of buckets; for each bucket its number, as the
//	         difference from the one before (a session: start, length), and slots
//
// with, by kind of slot,
//
//	count, moments    varints and doubles
//	first, last       0, or 1 and time, value
//	set               number of values, values ascending
//	sketch            0, number of codes, differences of codes; or 1 and registers
//	digest            number of centroids, means, weights
//
// A double is the varint of its bits with the bytes turned around, which is short for round numbers.
const pagedRecord = 'k'

// maxWeight bounds the values of a digest, so that ranks are exact in a double.
const maxWeight = 1 << 53

func appendDouble(dst []byte, word uint64) []byte {
	return binary.AppendUvarint(dst, bits.ReverseBytes64(word))
}

func wordOf(v float64) uint64  { return math.Float64bits(v) }
func floatOf(w uint64) float64 { return math.Float64frombits(w) }

func (r *reader) double() uint64 { return bits.ReverseBytes64(r.uvarint()) }

// finite reads a double that a field can have.
func (r *reader) finite() uint64 {
	w := r.double()
	if w == nullFloat || floatWord(floatOf(w)) != w {
		r.fail("a number that is never stored")
	}
	return w
}

func (r *reader) sumsHeader(kind byte) {
	switch v := r.byte(); {
	case r.err != nil:
	case v != sumsVersion:
		r.fail("version is not the one this program reads")
	case r.byte() != kind:
		r.fail("another kind of record than expected")
	}
}

func (s *Sums) appendDelta(dst []byte, times []int64) []byte {
	dst = append(dst, sumsVersion, deltaRecord)
	dst = binary.AppendUvarint(dst, uint64(len(times)))
	s.local.begin(len(times))
	for _, k := range s.numbers[:len(times)] {
		ref, fresh := s.local.ref(k)
		dst = binary.AppendUvarint(dst, uint64(ref))
		if fresh {
			dst = appendText(dst, s.index.key(k))
		}
	}
	dst = appendTimes(dst, times)
	for f := range s.words {
		switch {
		case f == len(s.fields) || needsMask(s.fields[f].Kind):
			dst = appendNumbers(dst, s.words[f])
		case s.fields[f].Kind == event.Float:
			dst = appendFloats(dst, s.words[f])
		default:
			dst = s.appendTexts(dst, s.words[f])
		}
	}
	return dst
}

func (s *Sums) appendTexts(dst []byte, ids []uint64) []byte {
	s.local.begin(len(ids))
	for _, id := range ids {
		if id == 0 {
			dst = append(dst, 0)
			continue
		}
		ref, fresh := s.local.ref(uint32(id))
		dst = binary.AppendUvarint(dst, uint64(ref))
		if fresh {
			dst = appendText(dst, s.dict.text[id])
		}
	}
	return dst
}

// sumsDecoded is a delta before it is applied.
type sumsDecoded struct {
	keys  [][]byte
	refs  []uint64
	times []int64
	words [][]uint64
	texts [][][]byte
}

// ApplyDelta is State.ApplyDelta.
func (s *Sums) ApplyDelta(delta []byte) error {
	n, err := s.readDelta(delta)
	if err != nil {
		return err
	}
	d := &s.read
	s.adopt(d)
	s.numbers = resize(s.numbers, len(d.keys))
	for i, key := range d.keys {
		s.numbers[i] = s.number(unsafe.String(unsafe.SliceData(key), len(key)))
	}
	for i, ref := range d.refs {
		s.push(s.numbers[ref-1], d.times[i], i, false)
	}
	s.letGo(n)
	clear(d.keys)
	for f := range d.texts {
		clear(d.texts[f])
	}
	return nil
}

// adopt makes decoded rows the current words, holding their strings until letGo.
func (s *Sums) adopt(d *sumsDecoded) {
	for f := range s.words {
		s.words[f] = append(s.words[f][:0], d.words[f]...)
		if f < len(s.fields) && s.fields[f].Kind == event.String {
			for i, ref := range s.words[f] {
				if ref != 0 {
					s.words[f][i] = s.dict.hold(string(d.texts[f][ref-1]))
				}
			}
		}
	}
}

// BeginSnapshot starts a cycle over all keys present now; a cycle in progress is abandoned.
func (s *Sums) BeginSnapshot() { s.cursor, s.limit = 0, s.index.size() }

// AppendSnapshot is State.AppendSnapshot. It also drops keys that no row can
// need any more: those whose newest row is older, against the newest row of any
// key, than the longest window and what is retained, and a quarter more. The
// bytes say so, hence a replay drops them at the same place.
func (s *Sums) AppendSnapshot(dst []byte, budget int) (out []byte, done bool) {
	end := len(dst) + budget
	dst = append(dst, sumsVersion, snapshotRecord)
	dst = binary.AppendUvarint(dst, zigzag(s.watermark))
	for first := true; s.cursor < s.limit && (first || len(dst) < end); s.cursor++ {
		k := uint32(s.cursor)
		if s.used[k] == keyFree {
			continue
		}
		first = false
		if age := uint64(s.watermark) - uint64(s.newest[k]); s.newest[k] <= s.watermark && age-age/5 >= s.horizon {
			dst = appendText(append(dst, keyEvicted), s.index.key(k))
			s.forget(k)
			continue
		}
		dst = s.appendState(dst, k)
	}
	return dst, s.cursor >= s.limit
}

// appendState writes a key's record.
func (s *Sums) appendState(dst []byte, k uint32) []byte {
	dst = appendText(append(dst, keyState), s.index.key(k))
	dst = binary.AppendUvarint(dst, zigzag(s.newest[k]))
	for _, v := range s.keyDecayed(k) {
		dst = appendDouble(dst, wordOf(v))
	}
	for ti := range s.tracks {
		tr, l := &s.tracks[ti], &s.keyLists(k)[ti]
		if tr.shape == Session {
			b := s.bucket(ti, l, 0)
			dst = binary.AppendUvarint(dst, zigzag(int64(b[bucketNumber])))
			dst = binary.AppendUvarint(dst, b[bucketEnd]-b[bucketNumber])
			dst = s.appendSlots(dst, tr, b)
			continue
		}
		dst = binary.AppendUvarint(dst, uint64(l.n))
		last := int64(0)
		for i := range int(l.n) {
			b := s.bucket(ti, l, i)
			dst = binary.AppendUvarint(dst, zigzag(int64(b[bucketNumber])-last))
			last = int64(b[bucketNumber])
			dst = s.appendSlots(dst, tr, b)
		}
	}
	return dst
}

func (s *Sums) appendSlots(dst []byte, tr *track, b []uint64) []byte {
	for i := range tr.slots {
		x := &tr.slots[i]
		at := b[x.at:]
		switch x.kind {
		case slotCount:
			dst = binary.AppendUvarint(dst, at[0])
		case slotSum:
			dst = appendDouble(appendDouble(dst, at[0]), at[1])
		case slotMoments:
			dst = binary.AppendUvarint(dst, at[0])
			dst = appendDouble(appendDouble(dst, at[1]), at[2])
		case slotMin, slotMax:
			dst = appendDouble(dst, at[0])
		case slotOldest, slotNewest:
			dst = binary.AppendUvarint(dst, zigzag(int64(at[0])))
		case slotFirst, slotLast:
			if x.kind == slotFirst && at[0] == noFirst || x.kind == slotLast && at[0] == noLast {
				dst = append(dst, 0)
				continue
			}
			dst = binary.AppendUvarint(append(dst, 1), zigzag(int64(at[0])))
			dst = s.appendValue(dst, x.field, at[1])
		case slotSet:
			dst = s.appendSet(dst, x.field, at)
		case slotSketch:
			dst = s.appendSketch(dst, at)
		case slotDigest:
			c := s.digestOf(at)
			dst = binary.AppendUvarint(dst, uint64(len(c)/2))
			for i := 0; i < len(c); i += 2 {
				dst = binary.AppendUvarint(appendDouble(dst, c[i]), c[i+1])
			}
		}
	}
	return dst
}

func (s *Sums) appendValue(dst []byte, field int, word uint64) []byte {
	switch s.fields[field].Kind {
	case event.Float:
		return appendDouble(dst, word)
	case event.String:
		return appendText(dst, s.dict.text[word])
	default:
		return binary.AppendUvarint(dst, zigzag(int64(word)))
	}
}

// appendSet writes the values in an order that does not depend on how they came in.
func (s *Sums) appendSet(dst []byte, field int, at []uint64) []byte {
	s.sorted = s.sorted[:0]
	if at[1]&slotFlag != 0 {
		s.sorted = append(s.sorted, 0)
	}
	for _, v := range s.block(at) {
		if v != 0 {
			s.sorted = append(s.sorted, v)
		}
	}
	if s.fields[field].Kind == event.String {
		slices.SortFunc(s.sorted, func(a, b uint64) int {
			if s.dict.text[a] < s.dict.text[b] {
				return -1
			}
			return 1
		})
	} else {
		slices.Sort(s.sorted)
	}
	dst = binary.AppendUvarint(dst, uint64(len(s.sorted)))
	for _, v := range s.sorted {
		dst = s.appendValue(dst, field, v)
	}
	return dst
}

func (s *Sums) appendSketch(dst []byte, at []uint64) []byte {
	b := s.block(at)
	if at[1]&slotFlag != 0 {
		dst = append(dst, 1)
		for _, w := range b[:hllWords] {
			dst = binary.LittleEndian.AppendUint64(dst, w)
		}
		return dst
	}
	dst = binary.AppendUvarint(append(dst, 0), uint64(blockCount(at)))
	last := uint32(0)
	for i := range blockCount(at) {
		dst = binary.AppendUvarint(dst, uint64(codeAt(b, i)-last))
		last = codeAt(b, i)
	}
	return dst
}

// readDelta decodes a delta and returns its number of rows.
func (s *Sums) readDelta(delta []byte) (int, error) {
	r := newReader(delta)
	d := &s.read
	r.sumsHeader(deltaRecord)
	n := r.count()
	d.refs = resize(d.refs, n)
	d.keys = r.strings(d.refs, d.keys[:0])
	if r.err == nil && slices.Contains(d.refs, 0) {
		r.fail("row without a key")
	}
	d.times = resize(d.times, n)
	if r.err == nil {
		r.times(d.times)
	}
	d.words, d.texts = resize(d.words, len(s.words)), resize(d.texts, len(s.words))
	for f := range s.words {
		if r.err != nil {
			break
		}
		d.words[f], d.texts[f] = resize(d.words[f], n), d.texts[f][:0]
		switch {
		case f == len(s.fields) || needsMask(s.fields[f].Kind):
			r.numbers(d.words[f])
		case s.fields[f].Kind == event.Float:
			r.floats(d.words[f])
		default:
			d.texts[f] = r.strings(d.words[f], d.texts[f])
		}
	}
	return n, r.end()
}

// DeltaKeys is Windows.DeltaKeys.
func (s *Sums) DeltaKeys(delta []byte, dst []string) ([]string, error) {
	if _, err := s.readDelta(delta); err != nil {
		return dst, err
	}
	for _, key := range s.read.keys {
		if _, ok := s.index.find(unsafe.String(unsafe.SliceData(key), len(key))); !ok {
			dst = append(dst, string(key))
		}
	}
	return dst, nil
}
