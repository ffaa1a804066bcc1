package feature

import (
	"math"
	"strings"
	"unsafe"

	"github.com/freshet-io/freshet/event"
)

// noFirst and noLast are the times of a First and a Last of nothing.
const (
	noFirst uint64 = math.MaxInt64
	noLast  uint64 = 1 << 63
)

// ApplySnapshot is State.ApplySnapshot.
func (s *Sums) ApplySnapshot(b []byte) error {
	if err := s.walkSnapshot(b, false); err != nil {
		return err
	}
	return s.walkSnapshot(b, true)
}

func (s *Sums) walkSnapshot(b []byte, apply bool) error {
	r := newReader(b)
	r.sumsHeader(snapshotRecord)
	watermark := unzigzag(r.uvarint())
	if apply {
		s.watermark = max(s.watermark, watermark)
	}
	for r.err == nil && len(r.b) > 0 {
		s.readRecord(&r, apply)
	}
	return r.end()
}

// readRecord reads a key's record: first to check it, then to apply it.
func (s *Sums) readRecord(r *reader, apply bool) {
	tag := r.byte()
	text := r.text()
	key := unsafe.String(unsafe.SliceData(text), len(text))
	k := uint32(0)
	switch tag {
	case keyEvicted:
		if k, ok := s.index.find(key); ok && apply {
			s.forget(k)
		}
		return
	case keyState:
	default:
		r.fail("unknown kind of key record")
		return
	}
	if apply {
		k = s.number(key)
		s.empty(k)
	}
	newest := unzigzag(r.uvarint())
	if apply {
		s.newest[k] = newest
	}
	for i := range s.decays {
		v := r.finite()
		if apply {
			s.keyDecayed(k)[i] = floatOf(v)
		}
	}
	for ti := range s.tracks {
		if r.err != nil {
			return
		}
		if s.tracks[ti].shape == Session {
			s.readSession(r, ti, k, newest, apply)
		} else {
			s.readPanes(r, ti, k, newest, apply)
		}
	}
}

func (s *Sums) readSession(r *reader, ti int, k uint32, newest int64, apply bool) {
	start := unzigzag(r.uvarint())
	end := start + int64(r.uvarint())
	if end != newest || start > end {
		r.fail("a session that does not end with the key's newest row")
		return
	}
	b := s.spare[1][:s.tracks[ti].stride]
	if apply {
		l := &s.keyLists(k)[ti]
		s.insertBucket(ti, l, 0)
		b = s.bucket(ti, l, 0)
		b[bucketNumber], b[bucketEnd] = uint64(start), uint64(end)
	}
	s.readSlots(r, &s.tracks[ti], b, apply)
}

func (s *Sums) readPanes(r *reader, ti int, k uint32, newest int64, apply bool) {
	tr := &s.tracks[ti]
	n := r.count()
	if r.err == nil && n == 0 {
		r.fail("a key without panes")
		return
	}
	last, edge := int64(0), s.lowest(tr, newest)
	for i := range n {
		number := last + unzigzag(r.uvarint())
		if i == 0 && number < edge || i > 0 && number <= last || i == n-1 && number != floorDiv(newest, tr.width) {
			r.fail("panes out of order or out of range")
			return
		}
		last = number
		b := s.spare[1][:tr.stride]
		if apply {
			l := &s.keyLists(k)[ti]
			s.insertBucket(ti, l, i)
			b = s.bucket(ti, l, i)
			b[bucketNumber] = uint64(number)
		}
		if s.readSlots(r, tr, b, apply); r.err != nil {
			return
		}
	}
}

// readSlots reads a bucket's slots. Unless it is to keep them, what lies outside
// the bucket's own words is only checked.
func (s *Sums) readSlots(r *reader, tr *track, b []uint64, keep bool) {
	for i := range tr.slots {
		x := &tr.slots[i]
		at := b[x.at:]
		switch x.kind {
		case slotCount:
			at[0] = r.uvarint()
		case slotSum:
			at[0], at[1] = r.double(), r.double()
		case slotMoments:
			at[0], at[1], at[2] = r.uvarint(), r.double(), r.double()
		case slotMin, slotMax:
			if at[0] = r.double(); at[0] != nullFloat && floatWord(floatOf(at[0])) != at[0] {
				r.fail("a number that is never stored")
			}
		case slotOldest, slotNewest:
			at[0] = uint64(unzigzag(r.uvarint()))
		case slotFirst, slotLast:
			switch r.byte() {
			case 0:
			case 1:
				t := uint64(unzigzag(r.uvarint()))
				v, text := s.readWord(r, x.field)
				if keep {
					at[0], at[1] = t, s.wordFor(x.field, v, text)
				}
			default:
				r.fail("unknown form of a value")
			}
		case slotSet:
			s.readSet(r, x.field, at, keep)
		case slotSketch:
			s.readSketch(r, at, keep)
		case slotDigest:
			s.readDigest(r, at, keep)
		}
		if r.err != nil {
			return
		}
	}
}

// readWord reads a value: a word, or the bytes of a string.
func (s *Sums) readWord(r *reader, field int) (word uint64, text []byte) {
	switch s.fields[field].Kind {
	case event.Float:
		return r.finite(), nil
	case event.String:
		return 0, r.text()
	default:
		return uint64(unzigzag(r.uvarint())), nil
	}
}

// wordFor is the value's word, with a reference to it held if it is a string.
func (s *Sums) wordFor(field int, word uint64, text []byte) uint64 {
	if s.fields[field].Kind == event.String {
		return s.dict.hold(string(text))
	}
	return word
}

func (s *Sums) readSet(r *reader, field int, at []uint64, keep bool) {
	var (
		last     uint64
		lastText []byte
		isText   = s.fields[field].Kind == event.String
	)
	for i := range r.count() {
		v, text := s.readWord(r, field)
		if i > 0 && (isText && string(text) <= string(lastText) || !isText && v <= last) {
			r.fail("values of a set out of order")
		}
		if r.err != nil {
			return
		}
		last, lastText = v, text
		if keep {
			s.setPut(at, s.wordFor(field, v, text))
		}
	}
}

func (s *Sums) readSketch(r *reader, at []uint64, keep bool) {
	switch r.byte() {
	case 0:
		n := r.count()
		if n > hllSparse {
			r.fail("too many codes of a sketch")
			return
		}
		code := uint64(0)
		for i := range n {
			more := r.uvarint()
			before := code >> sparseRank
			code += more
			rank := code & (1<<sparseRank - 1)
			if more > math.MaxUint32 || code >= 1<<(sparseBits+sparseRank) || rank == 0 || rank > 64-sparseBits+1 ||
				i > 0 && code>>sparseRank <= before {
				r.fail("no code of a sketch")
				return
			}
			if keep {
				s.sketchPutCode(at, uint32(code))
			}
		}
	case 1:
		if len(r.b) < 8*hllWords {
			r.fail("ends early")
			return
		}
		var b []uint64
		if keep {
			s.sketchDense(at)
			b = s.block(at)
		}
		for i := range hllWords {
			w := r.fixed64()
			for p := range 10 {
				register, rank := 10*i+p, w>>(6*p)&63
				if rank > hllMaxRank || rank > 0 && register >= hllRegisters || w>>60 != 0 {
					r.fail("no register of a sketch")
					return
				}
				if keep && rank > 0 {
					densePut(b, register, rank)
				}
			}
		}
	default:
		r.fail("unknown form of a sketch")
	}
}

func (s *Sums) readDigest(r *reader, at []uint64, keep bool) {
	n := r.count()
	if n > digestPairs {
		r.fail("too many centroids")
		return
	}
	s.pairs = s.pairs[:0]
	total := uint64(0)
	for range n {
		mean, weight := r.finite(), r.uvarint()
		if m := len(s.pairs); m > 0 && floatOf(mean) < floatOf(s.pairs[m-2]) || weight == 0 || weight > maxWeight-total {
			r.fail("centroids out of order or without weight")
		}
		if r.err != nil {
			return
		}
		total += weight
		s.pairs = append(s.pairs, mean, weight)
	}
	if keep {
		s.setDigest(at, s.pairs)
	}
}

// Missing appends the rows whose keys have no state in memory, and makes these
// rows the batch whose keys Evict leaves alone.
func (s *Sums) Missing(keys []string, dst []int32) []int32 {
	s.current++
	for i, key := range keys {
		if k, ok := s.index.find(key); ok {
			s.used[k], s.batch[k] = keyTouched, s.current
		} else {
			dst = append(dst, int32(i))
		}
	}
	return dst
}

// AppendKey appends the key's state as Load reads it; false if there is none in memory.
func (s *Sums) AppendKey(dst []byte, key string) ([]byte, bool) {
	k, ok := s.index.find(key)
	if !ok {
		return dst, false
	}
	return s.appendState(append(dst, sumsVersion, pagedRecord), k), true
}

// Load makes what AppendKey wrote the state of its key. On an error, of kind
// Corrupt, nothing has changed.
func (s *Sums) Load(state []byte) error {
	for _, apply := range [...]bool{false, true} {
		r := newReader(state)
		r.sumsHeader(pagedRecord)
		if r.err == nil && len(r.b) > 0 && r.b[0] != keyState {
			r.fail("not the state of a key")
		}
		s.readRecord(&r, apply)
		if err := r.end(); err != nil {
			return err
		}
	}
	return nil
}

// Evict drops keys from memory until Bytes is at most budget, those first that
// were not used for long: a clock's hand goes around and gives each key used
// since it last passed a second chance. Keys of the batch under way (see
// Missing) stay. Before a key goes, visit gets its state, as AppendKey writes
// it, valid during the call; its error ends Evict and leaves the key in place.
func (s *Sums) Evict(budget int64, visit func(key string, state []byte) error) error {
	var state []byte
	for passed := 0; s.Bytes() > budget && passed <= 2*len(s.used); passed++ {
		if s.hand >= len(s.used) {
			s.hand = 0
		}
		k := uint32(s.hand)
		s.hand++
		switch {
		case len(s.used) == 0:
			return nil
		case s.used[k] == keyFree, s.batch[k] == s.current:
			continue
		case s.used[k] == keyTouched:
			s.used[k] = keyPassed
			continue
		}
		key := strings.Clone(s.index.key(k)) // visit may keep it
		state = s.appendState(append(state[:0], sumsVersion, pagedRecord), k)
		if err := visit(key, state); err != nil {
			return err
		}
		s.forget(k)
	}
	return nil
}
