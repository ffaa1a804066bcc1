package journal

import (
	"hash/maphash"
	"sync"
	"time"

	"github.com/freshet-io/freshet/event"
)

// maxIDs is how many ids one of a topic's two generations remembers. When more
// come within the window the older generation is let go early.
const maxIDs = 1 << 20

// idHash is 96 bits of an id's hash under two secret seeds: at 2 M ids the odds
// that any two of them fall together are below 1 in 10^16.
type idHash struct {
	a uint64 // never 0
	b uint32
	n uint32 // index of the record
}

// idAdded is an id that an op made known.
type idAdded struct {
	d *dedup
	h idHash
}

// dedup remembers the ids of a topic, across its partitions, for a window.
type dedup struct {
	window       int64
	unit         int64 // resolution of the times in slots
	seedA, seedB maphash.Seed

	mu        sync.Mutex
	now       int64 // never goes back
	cur, prev idTable
}

func newDedup(window time.Duration) *dedup {
	d := &dedup{window: int64(window), unit: max(1, int64(window)>>24), seedA: maphash.MakeSeed(), seedB: maphash.MakeSeed()}
	return d
}

// hash appends the hashes of those records that have an id.
func (d *dedup) hash(ids []idHash, recs []event.Record) []idHash {
	for i := range recs {
		if id := recs[i].ID; len(id) > 0 {
			a := maphash.Bytes(d.seedA, id)
			if a == 0 {
				a = 1
			}
			ids = append(ids, idHash{a, uint32(maphash.Bytes(d.seedB, id)), uint32(i)})
		}
	}
	return ids
}

// admit makes the ids of o known and returns how many were known already; then
// o.keep holds the records of the others. Under mu.
func (d *dedup) admit(o *op, now int64, recs []event.Record) int {
	d.advance(now)
	dups := 0
	done := 0 // records before it are in keep, once there was a duplicate
	for _, h := range o.ids {
		if d.insert(h, d.now) {
			o.added = append(o.added, idAdded{d, h})
			continue
		}
		o.keep = append(o.keep, recs[done:h.n]...)
		done = int(h.n) + 1
		dups++
	}
	if dups > 0 {
		o.keep = append(o.keep, recs[done:]...)
	}
	return dups
}

// remember makes the ids of o known, whatever they were. Under mu.
func (d *dedup) remember(o *op, now int64) {
	d.advance(now)
	for _, h := range o.ids {
		if d.insert(h, d.now) {
			o.added = append(o.added, idAdded{d, h})
		}
	}
}

// takeBack forgets what a failed op added. Under mu.
func (d *dedup) takeBack(added []idAdded) {
	for _, a := range added {
		if a.d == d {
			d.cur.remove(a.h)
			d.prev.remove(a.h)
		}
	}
}

// advance moves to now and starts a new generation where one is over.
func (d *dedup) advance(now int64) {
	d.now = max(d.now, now)
	if d.cur.n >= maxIDs || d.now-d.cur.start >= d.window {
		d.prev, d.cur = d.cur, d.prev
		d.cur.reset(d.now)
	}
}

// insert adds an id seen at time t and reports whether it was new within the window.
func (d *dedup) insert(h idHash, t int64) bool {
	if s := d.prev.find(h); s != nil && t-(d.prev.start+int64(s.at)*d.unit) < d.window {
		return false
	}
	if s := d.cur.find(h); s != nil {
		if t-(d.cur.start+int64(s.at)*d.unit) < d.window {
			return false
		}
		s.at = uint32((t - d.cur.start) / d.unit)
		return true
	}
	if d.cur.n >= maxIDs {
		d.prev, d.cur = d.cur, d.prev
		d.cur.reset(max(t, d.now))
	}
	d.cur.put(idSlot{h.a, h.b, uint32(min(max(0, t-d.cur.start)/d.unit, 1<<32-1))})
	return true
}

// idTable is an open-addressing hash table of at most maxIDs ids.
type idTable struct {
	start int64 // Unix nanoseconds from which slots count
	slots []idSlot
	n     int // used slots, removed ones included
}

// idSlot is one id; a is 0 where the slot is free. A removed one keeps its
// place with a b that no longer matches.
type idSlot struct {
	a  uint64
	b  uint32
	at uint32 // units since idTable.start
}

func (t *idTable) reset(start int64) {
	clear(t.slots)
	t.start, t.n = start, 0
}

func (t *idTable) find(h idHash) *idSlot {
	if len(t.slots) == 0 {
		return nil
	}
	mask := uint64(len(t.slots) - 1)
	for i := h.a & mask; ; i = (i + 1) & mask {
		s := &t.slots[i]
		if s.a == 0 {
			return nil
		}
		if s.a == h.a && s.b == h.b {
			return s
		}
	}
}

func (t *idTable) put(s idSlot) {
	if 2*(t.n+1) > len(t.slots) {
		old := t.slots
		t.slots = make([]idSlot, max(1024, 2*len(old)))
		for _, o := range old {
			if o.a != 0 {
				t.place(o)
			}
		}
	}
	t.place(s)
	t.n++
}

func (t *idTable) place(s idSlot) {
	mask := uint64(len(t.slots) - 1)
	i := s.a & mask
	for t.slots[i].a != 0 {
		i = (i + 1) & mask
	}
	t.slots[i] = s
}

func (t *idTable) remove(h idHash) {
	if s := t.find(h); s != nil {
		s.b = ^s.b
	}
}

// rememberIDs fills the deduplication windows from the end of the log.
func (j *Journal) rememberIDs() error {
	now := j.clock().UnixNano()
	for _, t := range j.topics {
		d := t.dedup
		if d == nil {
			continue
		}
		from := now - d.window
		d.cur.reset(from)
		d.prev.reset(from)
		for _, p := range t.parts {
			position, err := j.seekTime(p, from)
			if err != nil {
				return err
			}
			position = max(position, p.end-2*maxIDs/int64(len(t.parts)))
			if err := j.rememberFrom(p, position); err != nil {
				return err
			}
		}
		d.now = max(now, from)
	}
	return nil
}

func (j *Journal) rememberFrom(p *partition, position int64) error {
	d := p.topic.dedup
	r := &reader{j: j, p: p, next: position}
	defer r.drop()
	var ids []idHash
	for r.next < p.end {
		b, err := r.cut(4096, p.end)
		if err != nil {
			return err
		}
		ids = d.hash(ids[:0], b.Records)
		for _, h := range ids {
			d.insert(h, b.Records[h.n].Time)
		}
		b.Release()
	}
	return nil
}
