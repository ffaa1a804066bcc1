package feature

import "math"

// insertLate takes in a row that is older than its key's newest: it goes to its
// place in time, after equals, and is read out as of its own time, over what is
// there by now. A row older than everything that is still kept is read out
// alone and not kept. Cost grows with the number of entries of the key.
func (w *Windows) insertLate(k uint32, t int64, row int, read bool) {
	r := &w.rings[k]
	block := w.view(r)
	age := block.at(r.tail - 1)[0] - uint64(t)
	if age >= w.horizon {
		if read {
			w.readAlone(k, t, row)
		}
		return
	}
	w.fit(r)
	p := w.place(k, t, row)
	block = w.view(r)
	e := block.at(p)
	heads, sums := w.keyHeads(k), w.keySums(k)
	for i := range w.spans {
		sp := &w.spans[i]
		if age >= sp.over {
			heads[i]++ // p lies before the head, which has moved up by one place
			continue
		}
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
	w.lateDistinct(k, e, p, age)
	if w.strings {
		w.retainStrings(e)
	}
	w.rebuildOrder(k)
	if read {
		for i := range w.ops {
			over := w.spans[w.ops[i].span].over
			from := w.search(k, func(u uint64) bool { return int64(u) > t || uint64(t)-u < over })
			w.readRange(k, from, p+1, i, row)
		}
	}
}

// place makes room for the row behind all entries that are not newer, and writes it.
func (w *Windows) place(k uint32, t int64, row int) uint32 {
	r := &w.rings[k]
	block := w.view(r)
	p := w.search(k, func(u uint64) bool { return int64(u) > t })
	for s := r.tail; s != p; s-- {
		from := block.at(s - 1)
		for _, f := range w.distinct {
			if w.valid(from, f) {
				if x := w.seen.find(k, uint32(f), from[1+f]); x.last == s-1 {
					x.last = s
				}
			}
		}
		copy(block.at(s), from)
	}
	r.tail++
	e := block.at(p)
	e[0] = uint64(t)
	for f := range w.words {
		e[1+f] = w.words[f][row]
	}
	return p
}

// search returns the first entry for which found holds; it holds from there on.
func (w *Windows) search(k uint32, found func(t uint64) bool) uint32 {
	r := &w.rings[k]
	block := w.view(r)
	lo, n := r.start, r.tail-r.start
	for n > 0 {
		half := n / 2
		if found(block.at(lo + half)[0]) {
			n = half
		} else {
			lo += half + 1
			n -= half + 1
		}
	}
	return lo
}

func (w *Windows) lateDistinct(k uint32, e []uint64, p uint32, age uint64) {
	heads, dist := w.keyHeads(k), w.keyDist(k)
	for _, f := range w.distinct {
		if !w.valid(e, f) {
			continue
		}
		x := w.seen.find(k, uint32(f), e[1+f])
		for i := range w.spans {
			for _, a := range w.spans[i].dist {
				if a.field == f && age < w.spans[i].over && (x == nil || int32(x.last-heads[i]) < 0) {
					dist[a.slot]++
				}
			}
		}
		switch {
		case x == nil:
			w.seen.put(k, uint32(f), e[1+f], p)
		case int32(x.last-p) < 0:
			x.last = p
		}
	}
}

// rebuildOrder makes the monotonic queues and newest values anew from the ring.
func (w *Windows) rebuildOrder(k uint32) {
	if len(w.extremes) == 0 && len(w.lasts) == 0 {
		return
	}
	r := &w.rings[k]
	block := w.view(r)
	for i := range w.extremes {
		q := &w.keyQueues(k)[i]
		q.start, q.tail = 0, 0
		for s := w.keyHeads(k)[w.extremes[i].span]; s != r.tail; s++ {
			w.enqueue(k, i, block.at(s), s)
		}
	}
	for i, f := range w.lasts {
		w.keyLasts(k)[i] = r.start
		for s := r.tail; s != r.start; s-- {
			if w.valid(block.at(s-1), f) {
				w.keyLasts(k)[i] = s
				break
			}
		}
	}
}

// readAlone reads a row that is too old to be kept: its windows hold itself.
func (w *Windows) readAlone(k uint32, t int64, row int) {
	// The row takes the state of a passing key of its own.
	r := w.rings[k]
	w.rings[k] = ring{block: w.entries.alloc(0), tail: 1}
	e := w.view(&w.rings[k]).at(0)
	e[0] = uint64(t)
	for f := range w.words {
		e[1+f] = w.words[f][row]
	}
	for i := range w.ops {
		w.readRange(k, 0, 1, i, row)
	}
	w.entries.release(w.rings[k].block, 0)
	w.rings[k] = r
}
