package feature

import (
	"math"
	"slices"
	"strings"
	"unsafe"

	"github.com/freshet-io/freshet/event"
)

// Windows holds the windows of all keys of one kind for one task. It is used by
// one goroutine.
type Windows struct {
	*plan
	index   index
	entries arena[uint64]
	queues  arena[uint32]

	// Per key, by number: its ring and a fixed count of slots in each array.
	rings []ring
	heads []uint32 // per span: sequence number of the first entry in the window
	sum   []sum
	dist  []uint32
	queue []queue
	last  []uint32 // per tracked field: one past the sequence number of its newest value

	seen      lastSeen
	dict      dictionary
	watermark int64 // newest time of any row

	// Snapshot cycle.
	cursor, limit int

	// Scratch of one call.
	numbers []uint32
	words   [][]uint64 // per column of an entry after the time
	exp     expansion
	local   localTable
	outs    []target
	set     map[uint64]struct{}
	read    decoded
	touched uint64 // keeps the compiler from dropping the reads of touch
}

// ring is the entries of a key, oldest first: sequence numbers start ≤ s < tail,
// entry s in place s modulo the capacity.
type ring struct {
	block       uint64
	start, tail uint32
	class       uint8
}

// queue is a monotonic queue of sequence numbers: the entries whose value is
// the extreme of all entries from there on.
type queue struct {
	block       uint64
	start, tail uint32
	class       uint8
}

type target struct {
	col     *event.Column
	floats  []float64
	ints    []int64
	bools   []bool
	strings []string
}

const nullFloat = 0x7ff8000000000001

// NewWindows compiles exact windows. Rows up to Retain older than their key's
// newest row are still counted exactly: entries are kept for that long beyond
// the longest window. Errors are of kind Config.
func NewWindows(c Config) (*Windows, error) {
	p, err := newPlan(c)
	if err != nil {
		return nil, err
	}
	w := &Windows{
		plan:      p,
		index:     newIndex(),
		entries:   arena[uint64]{stride: p.stride},
		queues:    arena[uint32]{stride: 1},
		seen:      newLastSeen(),
		dict:      newDictionary(),
		watermark: math.MinInt64,
		words:     make([][]uint64, p.stride-1),
		outs:      make([]target, len(p.ops)),
		set:       map[uint64]struct{}{},
	}
	return w, nil
}

// Fields returns the columns that Update wants, in order. Where it says Float,
// Update takes Int and Bool columns as well.
func (w *Windows) Fields() []Field { return slices.Clone(w.fields) }

// LabelFields returns the columns of labels that Update wants, in order.
func (w *Windows) LabelFields() []Field { return nil }

// OutKind is the kind of the i-th window's result.
func (w *Windows) OutKind(i int) event.Kind {
	switch o := &w.ops[i]; o.agg {
	case Count, Distinct:
		return event.Int
	case Last:
		return o.kind
	default:
		return event.Float
	}
}

// Fingerprint identifies the definition, names aside. State of another
// fingerprint must not be applied.
func (w *Windows) Fingerprint() uint64 { return w.print }

// Keys is the number of keys with state.
func (w *Windows) Keys() int { return w.index.len() }

// Bytes is the approximate size of the state in memory.
func (w *Windows) Bytes() int64 {
	n := 8*w.entries.total + 4*w.queues.total + w.index.bytes + 8*len(w.index.slots) + 16*cap(w.index.keys)
	n += cap(w.rings)*int(unsafe.Sizeof(ring{})) + cap(w.sum)*int(unsafe.Sizeof(sum{})) +
		cap(w.queue)*int(unsafe.Sizeof(queue{})) + 4*(cap(w.heads)+cap(w.dist)+cap(w.last))
	n += len(w.seen.slots)*int(unsafe.Sizeof(seenSlot{})) + w.dict.bytes + 40*len(w.dict.text)
	return int64(n)
}

// Update is Aggregator.Update.
func (w *Windows) Update(b *Batch, out []*event.Column, delta []byte) []byte {
	keys, times, fields, n := b.Keys, b.Times, b.Fields, b.N
	w.load(fields, n)
	w.numbers = resize(w.numbers, n)
	for i := range n {
		w.numbers[i] = w.number(keys[i])
	}
	for i, c := range out {
		c.Kind = w.OutKind(i)
		c.Reset(n)
		w.outs[i] = target{c, c.Floats, c.Ints, c.Bools, c.Strings}
	}
	for i := range n {
		if i%touchAhead == 0 {
			w.touch(w.numbers[i:min(i+touchAhead, n)])
		}
		if k := w.numbers[i]; w.push(k, times[i], i) {
			w.readNow(k, i)
		} else {
			w.insertLate(k, times[i], i, true)
		}
	}
	delta = w.appendDelta(delta, times[:n])
	w.unload(n)
	clear(w.outs)
	return delta
}

// touchAhead is how many rows have their state fetched into the cache together.
const touchAhead = 32

// touch reads what the next rows will need. With many keys a row's state lies in
// main memory; reading it for several rows at once lets the waits overlap.
func (w *Windows) touch(numbers []uint32) {
	x := uint64(0)
	for _, k := range numbers {
		r := &w.rings[k]
		v := w.view(r)
		x ^= v.words[int((r.tail-1)&v.mask)*v.stride]
		for _, h := range w.keyHeads(k) {
			x ^= v.words[int(h&v.mask)*v.stride]
		}
		if w.sums > 0 {
			x ^= uint64(w.sum[int(k)*w.sums].n) ^ uint64(w.sum[int(k+1)*w.sums-1].n)
		}
	}
	w.touched = x
}

// number returns the key's number, giving it state if it is new.
func (w *Windows) number(key string) uint32 {
	_, k, ok := w.index.find(key)
	if ok {
		return k
	}
	k = w.index.add(strings.Clone(key))
	if int(k) == len(w.rings) {
		w.rings = append(w.rings, ring{})
		w.heads = extend(w.heads, len(w.spans))
		w.sum = extend(w.sum, w.sums)
		w.dist = extend(w.dist, w.dists)
		w.queue = extend(w.queue, len(w.extremes))
		w.last = extend(w.last, len(w.lasts))
	}
	w.rings[k] = ring{block: w.entries.alloc(0)}
	clear(w.keyHeads(k))
	clear(w.keySums(k))
	clear(w.dist[int(k)*w.dists:][:w.dists])
	clear(w.last[int(k)*len(w.lasts):][:len(w.lasts)])
	for i := range w.keyQueues(k) {
		w.keyQueues(k)[i] = queue{block: w.queues.alloc(0)}
	}
	return k
}

func (w *Windows) keyHeads(k uint32) []uint32 { return w.heads[int(k)*len(w.spans):][:len(w.spans)] }
func (w *Windows) keySums(k uint32) []sum     { return w.sum[int(k)*w.sums:][:w.sums] }
func (w *Windows) keyDist(k uint32) []uint32  { return w.dist[int(k)*w.dists:][:w.dists] }
func (w *Windows) keyQueues(k uint32) []queue {
	return w.queue[int(k)*len(w.extremes):][:len(w.extremes)]
}
func (w *Windows) keyLasts(k uint32) []uint32 { return w.last[int(k)*len(w.lasts):][:len(w.lasts)] }

// forget drops all state of a key.
func (w *Windows) forget(k uint32) {
	w.clearEntries(k)
	w.index.remove(k)
	w.entries.release(w.rings[k].block, w.rings[k].class)
	for _, q := range w.keyQueues(k) {
		w.queues.release(q.block, q.class)
	}
	w.rings[k] = ring{}
}

// clearEntries empties a key's ring and takes its values out of the tables that
// all keys share.
func (w *Windows) clearEntries(k uint32) {
	r := &w.rings[k]
	if w.strings || len(w.distinct) > 0 {
		e := w.view(r)
		for s := r.start; s != r.tail; s++ {
			w.leave(k, e.at(s), s)
		}
	}
	r.start, r.tail = 0, 0
}

// view is a ring's block with the means to address entries by sequence number.
type view struct {
	words  []uint64
	mask   uint32
	stride int
}

func (w *Windows) view(r *ring) view {
	return view{w.entries.block(r.block, r.class), capacity(r.class) - 1, w.stride}
}

// at returns the words of entry s.
func (v view) at(s uint32) []uint64 {
	i := int(s&v.mask) * v.stride
	return v.words[i : i+v.stride]
}

// load turns columns into words, holding a reference to each string until unload.
func (w *Windows) load(fields []*event.Column, n int) {
	for f := range w.words {
		w.words[f] = resize(w.words[f], n)
	}
	var mask []uint64
	if w.masked {
		mask = w.words[len(w.fields)]
		clear(mask)
	}
	for f := range w.fields {
		c, dst := fields[f], w.words[f]
		switch w.fields[f].Kind {
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
					dst[i] = w.dict.hold(v)
				}
			}
		}
		if c.Null == nil {
			continue
		}
		for i, null := range c.Null[:n] {
			switch {
			case !null:
			case w.fields[f].Kind == event.Float:
				dst[i] = nullFloat
			case w.fields[f].Kind != event.String:
				dst[i] = 0
				mask[i] |= 1 << f
			}
		}
	}
}

// loadFloats takes integers and truth values as numbers too.
func loadFloats(dst []uint64, c *event.Column) {
	switch c.Kind {
	case event.Int:
		for i, v := range c.Ints[:len(dst)] {
			dst[i] = floatWord(float64(v))
		}
	case event.Bool:
		for i, v := range c.Bools[:len(dst)] {
			dst[i] = 0
			if v {
				dst[i] = math.Float64bits(1)
			}
		}
	default:
		for i, v := range c.Floats[:len(dst)] {
			dst[i] = floatWord(v)
		}
	}
}

func (w *Windows) unload(n int) {
	if !w.strings {
		return
	}
	for f := range w.fields {
		if w.fields[f].Kind == event.String {
			for _, id := range w.words[f][:n] {
				w.dict.drop(id)
			}
		}
	}
}

// floatWord is a value as entries hold it: one null for NaN and the infinities,
// one zero.
func floatWord(v float64) uint64 {
	if v-v != 0 {
		return nullFloat
	}
	return math.Float64bits(v + 0)
}

// valid reports whether the entry has a value in the field.
func (w *Windows) valid(e []uint64, field int) bool {
	switch v := e[1+field]; w.fields[field].Kind {
	case event.Float:
		return v != nullFloat
	case event.String:
		return v != 0
	default:
		return e[w.stride-1]>>field&1 == 0
	}
}

func resize[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n, max(n, 2*cap(s)))
	}
	return s[:n]
}

// extend appends n zero elements.
func extend[T any](s []T, n int) []T {
	var zero T
	for range n {
		s = append(s, zero)
	}
	return s
}
