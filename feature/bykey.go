package feature

import "math"

// changes is what one batch changed where labels are joined ByKey: labels taken
// in, and keys whose windows an event row moved on.
type changes struct {
	keys  []uint32
	times []int64
	moves []uint64 // 1 for a move
}

func (c *changes) add(k uint32, t int64, move uint64) {
	c.keys, c.times, c.moves = append(c.keys, k), append(c.times, t), append(c.moves, move)
}

// updateByKey takes labels in as entries and reads the windows for event rows. An
// event row changes a key's state only where an entry enters or leaves a window by then.
func (w *Windows) updateByKey(b *Batch, delta []byte) []byte {
	l := &b.Labels
	n := len(l.IDs)
	w.load(l.Fields, n)
	c := &w.changes
	c.keys, c.times, c.moves = c.keys[:0], c.times[:0], c.moves[:0]
	next := 0
	for i := range b.N {
		for ; next < n && l.Before[next] <= int32(i); next++ {
			w.takeKeyLabel(l, next)
		}
		w.readKeyed(b.Keys[i], b.Times[i], i)
	}
	for ; next < n; next++ {
		w.takeKeyLabel(l, next)
	}
	delta = w.appendChanges(delta)
	w.unload(n)
	return delta
}

func (w *Windows) takeKeyLabel(l *Labels, j int) {
	k := w.number(l.IDs[j])
	w.changes.add(k, l.Times[j], 0)
	if w.matched++; !w.push(k, l.Times[j], j) {
		w.insertLate(k, l.Times[j], j, false)
	}
}

func (w *Windows) readKeyed(key string, t int64, row int) {
	k, ok := w.index.find(key)
	switch {
	case !ok:
		w.readNothing(row)
		return
	case w.pages != nil:
		w.pages.use(k)
	}
	switch {
	case t < *w.keyClock(k):
		w.readPast(k, t, w.search(k, func(u uint64) bool { return int64(u) > t }), row)
		return
	case w.due(k, t):
		w.changes.add(k, t, 1)
		w.move(k, t)
	}
	w.readNow(k, t, row)
}

// due reports whether an entry enters or leaves a window until t.
func (w *Windows) due(k uint32, t int64) bool {
	r := w.ring(k)
	v := w.view(r)
	heads := w.keyHeads(k)
	for i := range w.spans {
		sp := &w.spans[i]
		if _, end := w.extent(k, i); heads[i] != end && uint64(t)-v.at(heads[i])[0] >= sp.far {
			return true
		}
	}
	for i := range w.groups {
		if g := &w.groups[i]; g.lead >= 0 && heads[g.lead] != r.tail && uint64(t)-v.at(heads[g.lead])[0] >= g.delay {
			return true
		}
	}
	return false
}

// move lets a key's windows stand at time t, without a new entry.
func (w *Windows) move(k uint32, t int64) {
	if t < *w.keyClock(k) {
		return
	}
	*w.keyClock(k) = t
	w.watermark = max(w.watermark, t)
	r := w.ring(k)
	w.advance(k, r, w.view(r), t)
	for i := range w.groups {
		if g := &w.groups[i]; g.lead < 0 {
			w.settleGroup(k, g)
		}
	}
	if r.start == r.tail {
		*w.keyClock(k) = math.MinInt64 // an empty key is as good as none, which may come of it
	}
}
