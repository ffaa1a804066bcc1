package feature

import (
	"math"
	"slices"
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

	seen      lastSeen
	dict      dictionary
	idx       idIndex
	pages     *paging // nil until state is paged
	matched   uint64
	watermark int64 // newest time of any row

	// Snapshot cycle.
	cursor, limit int

	// Scratch of one call.
	numbers []uint32
	form    []form     // of each column
	words   [][]uint64 // per word of an entry after the time
	label   labelRows
	changes changes
	exp     expansion
	local   localTable
	outs    []target
	set     map[uint64]struct{}
	read    decoded
	hashes  []uint64 // of the ids of the key that is paged
	ahead   prefetch
}

// ring is the entries of a key, oldest first: sequence numbers start ≤ s < tail,
// entry s in place s modulo the capacity.
type ring struct {
	place       uint64 // upper byte: the block's class + 1, 0 where no key has this number; the rest: the block
	start, tail uint32
}

const placeBits = 56

func newRing(block uint64, class uint8, tail uint32) ring {
	return ring{place: uint64(class+1)<<placeBits | block, tail: tail}
}

func (r *ring) used() bool    { return r.place != 0 }
func (r *ring) class() uint8  { return uint8(r.place>>placeBits) - 1 }
func (r *ring) block() uint64 { return r.place & (1<<placeBits - 1) }

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
		index:     newIndex(p.record.size - keyTextWords),
		entries:   arena[uint64]{stride: p.stride},
		queues:    arena[uint32]{stride: 1},
		seen:      newLastSeen(),
		dict:      newDictionary(),
		idx:       newIDIndex(),
		watermark: math.MinInt64,
		form:      p.forms(),
		words:     make([][]uint64, p.stride-1),
		outs:      make([]target, len(p.ops)),
		set:       map[uint64]struct{}{},
	}
	return w, nil
}

// Fields returns the columns that Update wants, in order. Where it says Float,
// Update takes Int and Bool columns as well.
func (w *Windows) Fields() []Field { return slices.Clone(w.rows) }

// LabelFields returns the columns of labels that Update wants, in order.
func (w *Windows) LabelFields() []Field { return slices.Clone(w.plan.labels) }

// OutKind is the kind of the i-th window's result.
func (w *Windows) OutKind(i int) event.Kind {
	switch o := &w.ops[i]; o.agg {
	case Count, Distinct:
		return event.Int
	case First, Last:
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

// Bytes is the approximate size of the state in memory. What keys that are gone
// took is not in it: it is used again before anything is added.
func (w *Windows) Bytes() int64 {
	const text = 40 // of the dictionary, beside the bytes themselves
	n := w.index.memory() + 8*w.entries.live + 4*w.queues.live
	n += w.seen.n*int(unsafe.Sizeof(seenSlot{}))*3/2 + w.idx.n*int(unsafe.Sizeof(idSlot{}))*3/2
	n += w.dict.bytes + text*(len(w.dict.text)-len(w.dict.free))
	if w.pages != nil {
		n += w.pages.bytes()
	}
	return int64(n)
}

// Update is Aggregator.Update.
func (w *Windows) Update(b *Batch, out []*event.Column, delta []byte) []byte {
	for i, c := range out {
		c.Kind = w.OutKind(i)
		c.Reset(b.N)
		w.outs[i] = target{c, c.Floats, c.Ints, c.Bools, c.Strings}
	}
	if w.pages != nil {
		w.pages.batch++
	}
	switch {
	case w.join == ByKey:
		delta = w.updateByKey(b, delta)
	case w.ids:
		delta = w.updateByEvent(b, delta)
	default:
		delta = w.updateRows(b, delta)
	}
	clear(w.outs)
	return delta
}

func (w *Windows) updateRows(b *Batch, delta []byte) []byte {
	w.begin(b)
	for i := range b.N {
		if i%touchAhead == 0 {
			w.touch(w.numbers[i:min(i+touchAhead, b.N)])
		}
		w.row(w.numbers[i], b.Times[i], i)
	}
	delta = w.appendRows(delta, b.Times[:b.N])
	w.unload(b.N)
	return delta
}

// begin loads a batch's rows and gives their keys numbers.
func (w *Windows) begin(b *Batch) {
	w.load(b.Fields, b.N)
	w.numbers = resize(w.numbers, b.N)
	for from := 0; from < b.N; from += touchAhead {
		keys := b.Keys[from:min(from+touchAhead, b.N)]
		for i, h := range w.ahead.fetch(&w.index, keys) {
			w.numbers[from+i] = w.numberHashed(keys[i], h)
		}
	}
}

// row takes in one row and reads its windows.
func (w *Windows) row(k uint32, t int64, i int) {
	if w.push(k, t, i) {
		w.readNow(k, t, i)
	} else {
		w.insertLate(k, t, i, true)
	}
}

// touchAhead is how many rows have their state fetched into the cache together.
const touchAhead = 32

// cachedWords is how much state is taken to be in the first cache.
const cachedWords = 1 << 12

// touch reads what the next rows will need. With many keys a row's state lies in
// main memory; reading it for several rows at once lets the waits overlap.
func (w *Windows) touch(numbers []uint32) {
	if w.entries.total < cachedWords {
		return
	}
	x := uint64(0)
	for _, k := range numbers {
		row := w.index.records.row(k)
		for i := 8; i < len(row); i += 8 {
			x ^= row[i]
		}
		x ^= row[len(row)-1]
	}
	// As few instructions as possible, for waits overlap as far as the processor looks ahead.
	stride := w.stride
	for _, k := range numbers {
		row := w.index.records.row(k)
		r := (*ring)(unsafe.Pointer(&row[keyTextWords]))
		block := w.entries.chunks[r.block()>>32][uint32(r.place):]
		mask := capacity(r.class()) - 1
		x ^= block[int((r.tail-1)&mask)*stride]
		for _, h := range part[uint32](row, smallAt, w.heads) {
			x ^= block[int(h&mask)*stride]
		}
	}
	w.ahead.touched = x
}

// number returns the key's number, giving it state if it is new.
func (w *Windows) number(key string) uint32 { return w.numberHashed(key, w.index.hash(key)) }

// numberHashed is number for a key whose hash in the index is known.
func (w *Windows) numberHashed(key string, h uint32) uint32 {
	k, ok := w.index.lookup(key, h)
	if ok {
		if w.pages != nil {
			w.pages.use(k)
		}
		return k
	}
	k = w.index.add(key, h)
	if w.pages != nil {
		w.pages.use(k)
	}
	*w.ring(k) = newRing(w.entries.alloc(0), 0, 0)
	w.clearSlots(k)
	for i := range w.keyQueues(k) {
		w.keyQueues(k)[i] = queue{block: w.queues.alloc(0)}
	}
	return k
}

// clearSlots makes all of a key's slots those of an empty ring that starts at 0.
func (w *Windows) clearSlots(k uint32) {
	clear(w.keyHeads(k))
	clear(w.keySums(k))
	clear(w.keyCounts(k))
	clear(w.keyMoments(k))
	clear(w.keyFirsts(k))
	clear(w.keyLasts(k))
	if w.join == ByKey {
		*w.keyClock(k) = math.MinInt64
	}
}

// The parts of a key's record. They move when a key is added.

const (
	ringWords    = int(unsafe.Sizeof(ring{})) / 8
	sumWords     = int(unsafe.Sizeof(sum{})) / 8
	momentsWords = int(unsafe.Sizeof(moments{})) / 8
	queueWords   = int(unsafe.Sizeof(queue{})) / 8
	smallAt      = keyTextWords + ringWords
)

// part views n values within a row of words. T has no pointers.
func part[T any](row []uint64, at, n int) []T {
	if n == 0 {
		return nil
	}
	return unsafe.Slice((*T)(unsafe.Pointer(&row[at])), n)
}

func (w *Windows) ring(k uint32) *ring {
	return (*ring)(unsafe.Pointer(&w.index.records.row(k)[keyTextWords]))
}

func (w *Windows) small(k uint32) []uint32 {
	return part[uint32](w.index.records.row(k), smallAt, w.record.small)
}
func (w *Windows) keyHeads(k uint32) []uint32 { return w.small(k)[:w.heads] }
func (w *Windows) keyCounts(k uint32) []uint32 {
	return w.small(k)[w.heads : w.heads+w.counts]
}
func (w *Windows) keyFirsts(k uint32) []uint32 {
	return w.small(k)[w.heads+w.counts : w.heads+w.counts+w.firsts]
}
func (w *Windows) keyLasts(k uint32) []uint32 { return w.small(k)[w.heads+w.counts+w.firsts:] }
func (w *Windows) keySums(k uint32) []sum {
	return part[sum](w.index.records.row(k), w.record.sums, w.sums)
}
func (w *Windows) keyMoments(k uint32) []moments {
	return part[moments](w.index.records.row(k), w.record.moments, w.moments)
}
func (w *Windows) keyQueues(k uint32) []queue {
	return part[queue](w.index.records.row(k), w.record.queues, len(w.extremes))
}

// keyClock is the newest time at which the key's state stands, joined ByKey only.
func (w *Windows) keyClock(k uint32) *int64 {
	return (*int64)(unsafe.Pointer(&w.index.records.row(k)[w.record.clock]))
}

// forget drops all state of a key.
func (w *Windows) forget(k uint32) {
	w.clearEntries(k)
	w.entries.release(w.ring(k).block(), w.ring(k).class())
	for _, q := range w.keyQueues(k) {
		w.queues.release(q.block, q.class)
	}
	w.index.remove(k)
}

// clearEntries empties a key's ring and takes its values out of the tables that
// all keys share.
func (w *Windows) clearEntries(k uint32) {
	r := w.ring(k)
	if w.strings || w.distincts || w.ids {
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
	return view{w.entries.block(r.block(), r.class()), capacity(r.class()) - 1, w.stride}
}

// at returns the words of entry s.
func (v view) at(s uint32) []uint64 {
	i := int(s&v.mask) * v.stride
	return v.words[i : i+v.stride]
}

// time returns the time of entry s.
func (v view) time(s uint32) uint64 { return v.words[int(s&v.mask)*v.stride] }

func resize[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n, max(n, 2*cap(s)))
	}
	return s[:n]
}
