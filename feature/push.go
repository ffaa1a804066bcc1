package feature

import (
	"math"

	"github.com/freshet-io/freshet/event"
)

// push takes in a row that is not older than its key's newest: windows move to
// its time and it is added to them. It reports false, having done nothing, for an older row.
func (w *Windows) push(k uint32, t int64, row int) bool {
	r := w.ring(k)
	block := w.view(r)
	if w.join == ByKey {
		if t < *w.keyClock(k) {
			return false
		}
		*w.keyClock(k) = t
	}
	if r.start != r.tail {
		if t < int64(block.time(r.tail-1)) {
			return false
		}
		w.advance(k, r, block, t)
		if w.fit(r) {
			block = w.view(r)
		}
	}
	w.watermark = max(w.watermark, t)
	s := r.tail
	r.tail++
	e := block.at(s)
	w.write(e, t, row)
	if g := &w.groups[0]; g.lead < 0 {
		w.enter(k, g, e, s, 0)
	}
	if w.strings || w.ids {
		w.register(k, e, s)
	}
	return true
}

// register enters a new entry into the tables that all keys share.
func (w *Windows) register(k uint32, e []uint64, s uint32) {
	if w.strings {
		for f := range w.columns {
			if w.columns[f].Kind == event.String {
				w.dict.retain(e[1+f])
			}
		}
	}
	if w.ids {
		w.idx.put(e[w.idAt], k, s)
	}
}

// advance moves every window to time t and drops entries past the horizon.
func (w *Windows) advance(k uint32, r *ring, block view, t int64) {
	heads, sums := w.keyHeads(k), w.keySums(k)
	for i := range w.spans {
		sp := &w.spans[i]
		h, lead := heads[i], r.tail
		if sp.lead >= 0 {
			lead = heads[sp.lead]
		}
		from := h
		for ; h != lead && uint64(t)-block.time(h) >= sp.far; h++ {
			e := block.at(h)
			for _, a := range sp.sums {
				if v := e[1+a.col]; v != nullFloat {
					s := &sums[a.slot]
					s.add(-math.Float64frombits(v))
					s.n--
				}
			}
			if sp.more {
				w.exit(k, sp, e, h)
			}
		}
		heads[i] = h
		if h == lead && h != from {
			for _, a := range sp.sums {
				sums[a.slot] = sum{}
			}
		}
	}
	for i := len(w.groups) - 1; i >= 0 && w.groups[i].lead >= 0; i-- {
		w.follow(k, r, block, t, &w.groups[i])
	}
	shared := w.distincts || w.strings || w.ids
	for ; r.start != r.tail && uint64(t)-block.time(r.start) >= w.horizon; r.start++ {
		if shared {
			w.leave(k, block.at(r.start), r.start)
		}
	}
	if len(w.lasts)+w.firsts == 0 {
		return
	}
	// Keep the distance small, for sequence numbers wrap around.
	for i, l := range w.keyLasts(k) {
		if int32(l-r.start) < 0 {
			w.keyLasts(k)[i] = r.start
		}
	}
	for i, f := range w.keyFirsts(k) {
		if int32(f-r.start) < 0 {
			w.keyFirsts(k)[i] = r.start
		}
	}
}

// exit counts an entry out of what a span holds beside sums.
func (w *Windows) exit(k uint32, sp *span, e []uint64, h uint32) {
	for _, a := range sp.counts {
		if w.valid(e, a.col) {
			w.keyCounts(k)[a.slot]--
		}
	}
	for _, a := range sp.dist {
		if w.valid(e, a.col) && w.seen.find(k, w.seenField(sp.group, a.col), e[1+a.col]).last == h {
			w.keyCounts(k)[a.slot]--
		}
	}
	for _, a := range sp.moments {
		if v := e[1+a.col]; v != nullFloat {
			w.keyMoments(k)[a.slot].remove(math.Float64frombits(v))
		}
	}
}

// follow lets entries that have become old enough enter a group with a delay.
func (w *Windows) follow(k uint32, r *ring, block view, t int64, g *group) {
	heads := w.keyHeads(k)
	for s := heads[g.lead]; s != r.tail; s++ {
		e := block.at(s)
		age := uint64(t) - e[0]
		if age < g.delay {
			break
		}
		heads[g.lead] = s + 1
		for i := g.from; i < g.to; i++ {
			if age >= w.spans[i].far {
				heads[i] = s + 1 // it has passed through between two rows
			}
		}
		w.enter(k, g, e, s, age)
	}
	w.settleGroup(k, g)
}

// leave takes an entry's values out of the tables that all keys share.
func (w *Windows) leave(k uint32, e []uint64, s uint32) {
	for i := range w.groups {
		for _, c := range w.groups[i].distinct {
			if w.valid(e, c) {
				f := w.seenField(i, c)
				if x := w.seen.find(k, f, e[1+c]); x != nil && x.last == s {
					w.seen.remove(k, f, e[1+c])
				}
			}
		}
	}
	if w.strings {
		for f := range w.columns {
			if w.columns[f].Kind == event.String {
				w.dict.drop(e[1+f])
			}
		}
	}
	if w.ids {
		w.idx.remove(e[w.idAt], k, w.ring(k).start)
	}
}

// seenField numbers a group's column in the table of values.
func (w *Windows) seenField(group, col int) uint32 { return uint32(group*maxFields + col) }

// enter counts the newest entry of a group, of the given age, into those of its windows that reach so far.
func (w *Windows) enter(k uint32, g *group, e []uint64, s uint32, age uint64) {
	sums := w.keySums(k)
	for i := g.from; i < g.to; i++ {
		sp := &w.spans[i]
		if age >= sp.far {
			continue
		}
		for _, a := range sp.sums {
			if v := e[1+a.col]; v != nullFloat {
				acc := &sums[a.slot]
				acc.add(math.Float64frombits(v))
				acc.n++
			}
			if acc := &sums[a.slot]; !acc.exact() {
				w.settle(k, i, a)
			}
		}
		if sp.more {
			w.enterMore(k, i, e)
		}
	}
	if len(g.distinct) > 0 {
		w.enterDistinct(k, g, e, s, age)
	}
	for _, i := range g.extremes {
		w.enqueue(k, i, e, s)
	}
	for _, i := range g.lasts {
		switch l := &w.lasts[i]; {
		case !w.valid(e, l.col):
		case l.prior:
			w.keyLasts(k)[i] = w.keyLasts(k)[l.newest]
		default:
			w.keyLasts(k)[i] = s + 1
		}
	}
}

// enterMore counts an entry into what a span holds beside sums and distinct values.
func (w *Windows) enterMore(k uint32, spanIndex int, e []uint64) {
	sp := &w.spans[spanIndex]
	for _, a := range sp.counts {
		if w.valid(e, a.col) {
			w.keyCounts(k)[a.slot]++
		}
	}
	for _, a := range sp.moments {
		if v := e[1+a.col]; v != nullFloat {
			w.keyMoments(k)[a.slot].add(math.Float64frombits(v))
		}
		w.settleMoments(k, spanIndex, a)
	}
}

// enterDistinct counts values that are new to a window.
func (w *Windows) enterDistinct(k uint32, g *group, e []uint64, s uint32, age uint64) {
	heads, counts := w.keyHeads(k), w.keyCounts(k)
	for _, c := range g.distinct {
		if !w.valid(e, c) {
			continue
		}
		f := w.seenField(w.spans[g.from].group, c)
		x := w.seen.find(k, f, e[1+c])
		for i := g.from; i < g.to; i++ {
			for _, a := range w.spans[i].dist {
				if a.col == c && age < w.spans[i].far && (x == nil || int32(x.last-heads[i]) < 0) {
					counts[a.slot]++
				}
			}
		}
		switch {
		case x == nil:
			w.seen.put(k, f, e[1+c], s)
		case int32(x.last-s) < 0:
			x.last = s
		}
	}
}

// extent is the entries that a span holds, as of where the key stands.
func (w *Windows) extent(k uint32, spanIndex int) (from, to uint32) {
	heads := w.keyHeads(k)
	if lead := w.spans[spanIndex].lead; lead >= 0 {
		return heads[spanIndex], heads[lead]
	}
	return heads[spanIndex], w.ring(k).tail
}

// settleGroup looks after the precision of a group from which entries have gone.
func (w *Windows) settleGroup(k uint32, g *group) {
	for i := g.from; i < g.to; i++ {
		sp := &w.spans[i]
		for _, a := range sp.sums {
			if !w.keySums(k)[a.slot].exact() {
				w.settle(k, i, a)
			}
		}
		for _, a := range sp.moments {
			w.settleMoments(k, i, a)
		}
	}
}

// enqueue adds an entry to a monotonic queue.
func (w *Windows) enqueue(k uint32, i int, e []uint64, s uint32) {
	x := &w.extremes[i]
	q := &w.keyQueues(k)[i]
	items := w.queues.block(q.block, q.class)
	mask := uint32(len(items) - 1)
	for head := w.keyHeads(k)[x.span]; q.start != q.tail && int32(items[q.start&mask]-head) < 0; q.start++ {
	}
	if e[1+x.col] == nullFloat {
		return
	}
	r := w.ring(k)
	block := w.view(r)
	v := math.Float64frombits(e[1+x.col])
	for q.start != q.tail {
		back := math.Float64frombits(block.at(items[(q.tail-1)&mask])[1+x.col])
		if x.max && back > v || !x.max && back < v {
			break
		}
		q.tail--
	}
	if q.tail-q.start == uint32(len(items)) {
		to := w.queues.alloc(q.class + 1)
		grown := w.queues.block(to, q.class+1)
		n := uint32(0)
		for s := q.start; s != q.tail; s++ {
			grown[n] = items[s&mask]
			n++
		}
		w.queues.release(q.block, q.class)
		*q = queue{block: to, tail: n, class: q.class + 1}
		items, mask = grown, uint32(len(grown)-1)
	}
	items[q.tail&mask] = s
	q.tail++
}

// fit gives the ring room for one more entry, and less room when it holds far
// less, and reports whether its block is another.
func (w *Windows) fit(r *ring) (moved bool) {
	n := r.tail - r.start
	switch {
	case n == capacity(r.class()):
		w.resizeRing(r, r.class()+1)
	case r.class() > 2 && n < capacity(r.class())/4:
		w.resizeRing(r, r.class()-1)
	default:
		return false
	}
	return true
}

func (w *Windows) resizeRing(r *ring, class uint8) {
	to := w.entries.alloc(class)
	old := *r
	src := w.view(&old)
	*r = newRing(to, class, r.tail)
	r.start = old.start
	dst := w.view(r)
	// At most three runs of entries that follow one another in both.
	for s := r.start; s != r.tail; {
		from, into := src.words[int(s&src.mask)*src.stride:], dst.words[int(s&dst.mask)*dst.stride:]
		n := min(len(from), len(into), int(r.tail-s)*src.stride)
		copy(into[:n], from)
		s += uint32(n / src.stride)
	}
	w.entries.release(old.block(), old.class())
}

// settle sums a window anew, exactly, where rounding may have reached the
// result's last bit. It is part of taking a row in, so that a replay does it too.
func (w *Windows) settle(k uint32, spanIndex int, a accumulator) {
	block := w.view(w.ring(k))
	x := &w.exp
	x.reset()
	from, to := w.extent(k, spanIndex)
	for s := from; s != to; s++ {
		if v := block.at(s)[1+a.col]; v != nullFloat {
			x.add(math.Float64frombits(v))
		}
	}
	acc := &w.keySums(k)[a.slot]
	hi := x.round()
	if x.over || math.IsInf(hi, 0) {
		*acc = sum{err: float32(math.Inf(1)), n: acc.n}
		return
	}
	x.add(-hi)
	lo := x.round()
	x.add(-lo)
	*acc = sum{hi: hi, lo: lo, n: acc.n}
	if rest := x.round(); rest != 0 {
		acc.err = widen(0, rest)
	}
}
