package feature

import (
	"math"

	"github.com/freshet-io/freshet/event"
)

// push takes in a row that is not older than its key's newest: windows move to
// its time and it is added to them. It reports false, having done nothing, for an older row.
func (w *Windows) push(k uint32, t int64, row int) bool {
	r := &w.rings[k]
	block := w.view(r)
	if r.start != r.tail {
		if t < int64(block.at(r.tail - 1)[0]) {
			return false
		}
		w.expire(k, r, block, t)
		w.fit(r)
		block = w.view(r)
	}
	w.watermark = max(w.watermark, t)
	s := r.tail
	r.tail++
	e := block.at(s)
	e[0] = uint64(t)
	for f := range w.words {
		e[1+f] = w.words[f][row]
	}
	w.enter(k, e, s)
	return true
}

// expire moves every window's head to time t and drops entries past the horizon.
func (w *Windows) expire(k uint32, r *ring, block view, t int64) {
	heads, sums := w.keyHeads(k), w.keySums(k)
	for i := range w.spans {
		sp := &w.spans[i]
		h := heads[i]
		for ; h != r.tail; h++ {
			e := block.at(h)
			if uint64(t)-e[0] < sp.over {
				break
			}
			for _, a := range sp.sums {
				if v := e[1+a.field]; v != nullFloat {
					s := &sums[a.slot]
					s.add(-math.Float64frombits(v))
					s.n--
				}
			}
			for _, a := range sp.dist {
				if w.valid(e, a.field) && w.seen.find(k, uint32(a.field), e[1+a.field]).last == h {
					w.keyDist(k)[a.slot]--
				}
			}
		}
		heads[i] = h
		if h == r.tail {
			for _, a := range sp.sums {
				sums[a.slot] = sum{}
			}
		}
	}
	for r.start != r.tail {
		e := block.at(r.start)
		if uint64(t)-e[0] < w.horizon {
			break
		}
		w.leave(k, e, r.start)
		r.start++
	}
	// Keep the distance small, for sequence numbers wrap around.
	for i, l := range w.keyLasts(k) {
		if int32(l-r.start) < 0 {
			w.keyLasts(k)[i] = r.start
		}
	}
}

// leave takes an entry's values out of the tables that all keys share.
func (w *Windows) leave(k uint32, e []uint64, s uint32) {
	for _, f := range w.distinct {
		if w.valid(e, f) {
			if x := w.seen.find(k, uint32(f), e[1+f]); x != nil && x.last == s {
				w.seen.remove(k, uint32(f), e[1+f])
			}
		}
	}
	if w.strings {
		for f := range w.fields {
			if w.fields[f].Kind == event.String {
				w.dict.drop(e[1+f])
			}
		}
	}
}

// enter counts a newest entry into every window.
func (w *Windows) enter(k uint32, e []uint64, s uint32) {
	sums := w.keySums(k)
	for i := range w.spans {
		sp := &w.spans[i]
		for _, a := range sp.sums {
			if v := e[1+a.field]; v != nullFloat {
				acc := &sums[a.slot]
				acc.add(math.Float64frombits(v))
				acc.n++
			}
			if acc := &sums[a.slot]; !acc.exact() {
				w.settle(k, i, a)
			}
		}
	}
	if len(w.distinct) > 0 {
		w.enterDistinct(k, e, s)
	}
	if w.strings {
		w.retainStrings(e)
	}
	for i := range w.extremes {
		w.enqueue(k, i, e, s)
	}
	for i, f := range w.lasts {
		if w.valid(e, f) {
			w.keyLasts(k)[i] = s + 1
		}
	}
}

func (w *Windows) retainStrings(e []uint64) {
	for f := range w.fields {
		if w.fields[f].Kind == event.String {
			w.dict.retain(e[1+f])
		}
	}
}

func (w *Windows) enterDistinct(k uint32, e []uint64, s uint32) {
	heads, dist := w.keyHeads(k), w.keyDist(k)
	for _, f := range w.distinct {
		if !w.valid(e, f) {
			continue
		}
		x := w.seen.find(k, uint32(f), e[1+f])
		for i := range w.spans {
			for _, a := range w.spans[i].dist {
				if a.field == f && (x == nil || int32(x.last-heads[i]) < 0) {
					dist[a.slot]++
				}
			}
		}
		if x != nil {
			x.last = s
		} else {
			w.seen.put(k, uint32(f), e[1+f], s)
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
	if e[1+x.field] == nullFloat {
		return
	}
	r := &w.rings[k]
	block := w.view(r)
	v := math.Float64frombits(e[1+x.field])
	for q.start != q.tail {
		back := math.Float64frombits(block.at(items[(q.tail-1)&mask])[1+x.field])
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

// fit gives the ring room for one more entry, and less room when it holds far less.
func (w *Windows) fit(r *ring) {
	n := r.tail - r.start
	switch {
	case n == capacity(r.class):
		w.resizeRing(r, r.class+1)
	case r.class > 2 && n < capacity(r.class)/4:
		w.resizeRing(r, r.class-1)
	}
}

func (w *Windows) resizeRing(r *ring, class uint8) {
	to := w.entries.alloc(class)
	old := *r
	src := w.view(&old)
	r.block, r.class = to, class
	dst := w.view(r)
	for s := r.start; s != r.tail; s++ {
		copy(dst.at(s), src.at(s))
	}
	w.entries.release(old.block, old.class)
}

// settle sums a window anew, exactly, where rounding may have reached the
// result's last bit. It is part of taking a row in, so that a replay does it too.
func (w *Windows) settle(k uint32, spanIndex int, a accumulator) {
	r := &w.rings[k]
	block := w.view(r)
	x := &w.exp
	x.reset()
	for s := w.keyHeads(k)[spanIndex]; s != r.tail; s++ {
		if v := block.at(s)[1+a.field]; v != nullFloat {
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
