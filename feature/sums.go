package feature

import (
	"math"
	"slices"
	"unsafe"

	"github.com/freshet-io/freshet/event"
)

// Sums holds windows that are kept as sums of rows, not as rows: panes,
// tumbling windows, sessions, quantiles, decayed sums. It is used by one
// goroutine.
type Sums struct {
	*sumsPlan
	index   index
	buckets []arena[uint64] // of each track
	blocks  arena[uint64]   // of sets, sketches and digests
	dict    dictionary

	// Per key, by number: a fixed count of places in each array.
	newest  []int64
	used    []uint8
	batch   []uint32     // the batch that asked for the key last
	lists   []bucketList // per track
	caches  []cache      // per track that has one
	decayed []float64    // per decay, as of the key's newest time

	watermark int64 // newest time of any row
	live      int64 // bytes of blocks in use

	// Snapshot cycle, and the clock's hand.
	cursor, limit, hand int
	current             uint32 // number of the batch under way

	// Scratch of one call.
	numbers []uint32
	words   [][]uint64  // per field; behind them a word of null marks if masked
	before  []int64     // per op: time of the newest row before this one in its bucket
	spare   [2][]uint64 // buckets as wide as any
	pairs   []uint64
	sorted  []uint64
	local   localTable
	ahead   prefetch
	outs    []target
	read    sumsDecoded
	touched uint64 // keeps the compiler from dropping the reads of touch
}

// bucketList is the buckets of a key in a track, oldest first.
type bucketList struct {
	block uint64
	n     uint32
	class uint8
}

// cache is the merger of the buckets of a key from number from on, below number to.
type cache struct {
	bucket   []uint64
	from, to int64 // to ≤ from: none
}

// What is known about a key's number.
const (
	keyFree    uint8 = iota // it belongs to no key
	keyPassed               // the clock's hand passed it
	keyTouched              // it was used since
)

// NewSums compiles windows that are not exact. Rows up to Retain older than
// their key's newest row still find all buckets that their windows are made of.
// Errors are of kind Config.
func NewSums(c Config) (*Sums, error) {
	p, err := newSumsPlan(c)
	if err != nil {
		return nil, err
	}
	s := &Sums{
		sumsPlan:  p,
		index:     newIndex(0),
		buckets:   make([]arena[uint64], len(p.tracks)),
		blocks:    arena[uint64]{stride: 1},
		dict:      newDictionary(),
		watermark: math.MinInt64,
		words:     make([][]uint64, len(p.fields), len(p.fields)+1),
		before:    make([]int64, len(p.ops)),
		outs:      make([]target, len(p.ops)),
	}
	if p.masked {
		s.words = append(s.words, nil)
	}
	widest := 0
	for i := range p.tracks {
		s.buckets[i].stride = p.tracks[i].stride
		widest = max(widest, p.tracks[i].stride)
	}
	s.spare = [2][]uint64{make([]uint64, widest), make([]uint64, widest)}
	return s, nil
}

// Fields returns the columns that Update wants, in order. Where it says Float,
// Update takes Int and Bool columns as well.
func (s *Sums) Fields() []Field { return slices.Clone(s.fields) }

// LabelFields is empty: sums know no labels.
func (s *Sums) LabelFields() []Field { return nil }

// Fingerprint identifies the definition, names and order aside.
func (s *Sums) Fingerprint() uint64 { return s.print }

// Definition is what the state depends on, one line a window; Compatible reads it.
func (s *Sums) Definition() []byte { return slices.Clone(s.definition) }

// Compatible reports whether state of the definition old is state of this one,
// and if not says in one sentence what differs.
func (s *Sums) Compatible(old []byte) (same bool, why string) {
	return sameDefinition(s.definition, old)
}

// Keys is the number of keys with state in memory.
func (s *Sums) Keys() int { return s.index.len() }

// Bytes is the approximate size of the state of the keys in memory.
func (s *Sums) Bytes() int64 {
	return s.live + int64(s.index.len())*s.keyBytes() + int64(s.index.memory()) + int64(s.dict.bytes+56*len(s.dict.ids))
}

// keyBytes is what a key takes whatever it holds, the index aside.
func (s *Sums) keyBytes() int64 {
	n := 8 + 5 + 8*len(s.decays)
	for i := range s.tracks {
		n += int(unsafe.Sizeof(bucketList{}))
		if s.tracks[i].cached {
			n += int(unsafe.Sizeof(cache{})) + 8*s.tracks[i].stride
		}
	}
	return int64(n)
}

// Update is Aggregator.Update.
func (s *Sums) Update(b *Batch, out []*event.Column, delta []byte) []byte {
	n := b.N
	s.take(b.Fields, n)
	s.numbers = resize(s.numbers, n)
	for from := 0; from < n; from += touchAhead {
		keys := b.Keys[from:min(from+touchAhead, n)]
		for i, h := range s.ahead.fetch(&s.index, keys) {
			s.numbers[from+i] = s.numberHashed(keys[i], h)
		}
	}
	for i, c := range out {
		o := &s.ops[i]
		c.Kind = (&Window{Aggregate: o.agg, Kind: o.kind}).OutKind()
		c.Reset(n)
		s.outs[i] = target{c, c.Floats, c.Ints, c.Bools, c.Strings}
	}
	for i := range n {
		if i%touchAhead == 0 {
			s.touch(s.numbers[i:min(i+touchAhead, n)])
		}
		s.push(s.numbers[i], b.Times[i], i, true)
	}
	delta = s.appendDelta(delta, b.Times[:n])
	s.letGo(n)
	clear(s.outs)
	return delta
}

// touch reads the newest buckets of the next rows' keys, so that the waits for memory overlap.
func (s *Sums) touch(numbers []uint32) {
	x := uint64(0)
	for _, k := range numbers {
		x ^= uint64(s.newest[k])
		for i := range s.tracks {
			if l := &s.keyLists(k)[i]; l.n > 0 {
				x ^= s.bucket(i, l, 0)[0] ^ s.bucket(i, l, int(l.n-1))[0]
			}
		}
	}
	s.touched = x
}

// number returns the key's number, giving it state if it is new.
func (s *Sums) number(key string) uint32 { return s.numberHashed(key, s.index.hash(key)) }

// numberHashed is number for a key whose hash in the index is known.
func (s *Sums) numberHashed(key string, h uint32) uint32 {
	k, ok := s.index.lookup(key, h)
	if ok {
		s.used[k], s.batch[k] = keyTouched, s.current
		return k
	}
	k = s.index.add(key, h)
	if int(k) == len(s.newest) {
		s.newest = append(s.newest, 0)
		s.used = append(s.used, keyFree)
		s.batch = append(s.batch, 0)
		s.lists = extend(s.lists, len(s.tracks))
		s.decayed = extend(s.decayed, len(s.decays))
		s.caches = extend(s.caches, s.cached)
	}
	s.newest[k] = math.MinInt64
	s.used[k], s.batch[k] = keyTouched, s.current
	return k
}

func (s *Sums) keyLists(k uint32) []bucketList { return s.lists[int(k)*len(s.tracks):][:len(s.tracks)] }
func (s *Sums) keyDecayed(k uint32) []float64 {
	return s.decayed[int(k)*len(s.decays):][:len(s.decays)]
}

// forget drops all state of a key.
func (s *Sums) forget(k uint32) {
	s.empty(k)
	s.index.remove(k)
	s.used[k] = keyFree
}

// empty drops all that a key's buckets hold.
func (s *Sums) empty(k uint32) {
	for i := range s.tracks {
		l := &s.keyLists(k)[i]
		s.dropBuckets(i, l, int(l.n))
		if l.class > 0 {
			s.buckets[i].release(l.block, l.class-1)
			s.live -= s.listBytes(i, l.class)
		}
		*l = bucketList{}
		s.uncache(k, i)
	}
	clear(s.keyDecayed(k))
}

// push takes in a row, and reads the windows as of it.
func (s *Sums) push(k uint32, t int64, row int, read bool) {
	s.watermark = max(s.watermark, t)
	newest := s.newest[k]
	s.decay(k, t, row)
	s.newest[k] = max(newest, t)
	for i := range s.tracks {
		if s.tracks[i].shape == Session {
			s.pushSession(k, i, t, row, read)
		} else {
			s.pushPane(k, i, t, row, read)
		}
	}
	if !read {
		return
	}
	for i := range s.ops {
		if o := &s.ops[i]; o.track < 0 {
			out := &s.outs[i]
			if v := s.keyDecayed(k)[o.at]; math.Abs(v) < math.MaxFloat64 {
				out.floats[row] = v
			} else {
				out.col.SetNull(row)
			}
		}
	}
}

// decay brings a key's decayed sums to the newest time, this row's or that of
// an earlier one, and adds the row as decayed as it is by then.
func (s *Sums) decay(k uint32, t int64, row int) {
	newest := s.newest[k]
	sums := s.keyDecayed(k)
	for i := range s.decays {
		d := &s.decays[i]
		v := &sums[i]
		ahead := t > newest
		if ahead && *v != 0 {
			*v = float64(*v * math.Exp2(-float64(uint64(t)-uint64(newest))/float64(d.over)))
		}
		w := s.words[d.field][row]
		if w == nullFloat {
			continue
		}
		x := floatOf(w)
		if !ahead && t != newest {
			x = float64(x * math.Exp2(-float64(uint64(newest)-uint64(t))/float64(d.over)))
		}
		// Beyond the largest number there is no way back: stay at it.
		*v = min(max(*v+x, -math.MaxFloat64), math.MaxFloat64)
	}
}

// take turns columns into words, holding a reference to each string until letGo.
func (s *Sums) take(fields []*event.Column, n int) {
	for f := range s.words {
		s.words[f] = resize(s.words[f], n)
	}
	var mask []uint64
	if s.masked {
		mask = s.words[len(s.fields)]
		clear(mask)
	}
	for f := range s.fields {
		c, dst := fields[f], s.words[f]
		switch s.fields[f].Kind {
		case event.Float:
			loadFloats(dst, c)
		case event.Int, event.Time:
			for i, v := range c.Ints[:n] {
				dst[i] = uint64(v)
			}
		case event.Bool:
			for i, v := range c.Bools[:n] {
				dst[i] = 0
				if v {
					dst[i] = 1
				}
			}
		case event.String:
			for i, v := range c.Strings[:n] {
				if dst[i] = 0; !c.IsNull(i) {
					dst[i] = s.dict.hold(v)
				}
			}
		}
		if c.Null == nil {
			continue
		}
		for i, null := range c.Null[:n] {
			switch {
			case !null:
			case s.fields[f].Kind == event.Float:
				dst[i] = nullFloat
			case s.fields[f].Kind != event.String:
				dst[i] = 0
				mask[i] |= 1 << f
			}
		}
	}
}

// letGo drops the references that take or adopt held.
func (s *Sums) letGo(n int) {
	if !s.strings {
		return
	}
	for f := range s.fields {
		if s.fields[f].Kind == event.String {
			for _, id := range s.words[f][:n] {
				s.dict.drop(id)
			}
		}
	}
}

// valid reports whether a row has a value in the field; field −1 is the row itself.
func (s *Sums) valid(field, row int) bool {
	if field < 0 {
		return true
	}
	switch v := s.words[field][row]; s.fields[field].Kind {
	case event.Float:
		return v != nullFloat
	case event.String:
		return v != 0
	default:
		return s.words[len(s.fields)][row]>>field&1 == 0
	}
}
