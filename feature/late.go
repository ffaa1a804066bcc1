package feature

// insertLate takes in a row that is older than its key's newest: it goes to its
// place in time, after equals, and is read out as of its own time, over what is
// there by now. A row older than everything that is still kept is read out
// alone and not kept. Cost grows with the number of entries of the key.
func (w *Windows) insertLate(k uint32, t int64, row int, read bool) {
	age := uint64(w.standing(k)) - uint64(t)
	if age >= w.horizon {
		if read {
			w.readAlone(k, t, row)
		}
		return
	}
	r := w.ring(k)
	w.fit(r)
	p := w.place(k, t, row)
	e := w.view(r).at(p)
	w.register(k, e, p)
	// What lies before a cursor pushes it up by one place.
	heads := w.keyHeads(k)
	for i := range w.spans {
		if age >= w.spans[i].far {
			heads[i]++
		}
	}
	for i, f := range w.keyFirsts(k) {
		if int32(p-f) < 0 {
			w.keyFirsts(k)[i] = p
		}
	}
	for i := range w.groups {
		g := &w.groups[i]
		if age < g.delay {
			continue
		}
		if g.lead >= 0 {
			heads[g.lead]++
		}
		w.enter(k, g, e, p, age)
		if p+1 != w.end(k, g) {
			w.rebuildOrder(k, g)
		}
	}
	if read {
		w.readPast(k, t, p+1, row)
	}
}

// standing is the time as of which a key's windows stand.
func (w *Windows) standing(k uint32) int64 {
	if w.join == ByKey {
		return *w.keyClock(k)
	}
	r := w.ring(k)
	return int64(w.view(r).at(r.tail - 1)[0])
}

// end is one past the newest entry of a group.
func (w *Windows) end(k uint32, g *group) uint32 {
	if g.lead >= 0 {
		return w.keyHeads(k)[g.lead]
	}
	return w.ring(k).tail
}

// place makes room for the row behind all entries that are not newer, and writes it.
func (w *Windows) place(k uint32, t int64, row int) uint32 {
	r := w.ring(k)
	block := w.view(r)
	p := w.search(k, func(u uint64) bool { return int64(u) > t })
	for s := r.tail; s != p; s-- {
		from := block.at(s - 1)
		for g := range w.groups {
			for _, c := range w.groups[g].distinct {
				if w.valid(from, c) {
					if x := w.seen.find(k, w.seenField(g, c), from[1+c]); x != nil && x.last == s-1 {
						x.last = s
					}
				}
			}
		}
		copy(block.at(s), from)
	}
	r.tail++
	w.write(block.at(p), t, row)
	return p
}

// search returns the first entry for which found holds; it holds from there on.
func (w *Windows) search(k uint32, found func(t uint64) bool) uint32 {
	r := w.ring(k)
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

// rebuildOrder makes a group's monotonic queues and newest values anew from the ring.
func (w *Windows) rebuildOrder(k uint32, g *group) {
	for _, i := range g.extremes {
		w.rebuildQueue(k, i)
	}
	for _, i := range g.lasts {
		w.rebuildLast(k, g, i)
	}
}

func (w *Windows) rebuildQueue(k uint32, i int) {
	q := &w.keyQueues(k)[i]
	q.start, q.tail = 0, 0
	block := w.view(w.ring(k))
	from, to := w.extent(k, w.extremes[i].span)
	for s := from; s != to; s++ {
		w.enqueue(k, i, block.at(s), s)
	}
}

func (w *Windows) rebuildLast(k uint32, g *group, i int) {
	r := w.ring(k)
	block := w.view(r)
	l := &w.lasts[i]
	skip := l.prior
	w.keyLasts(k)[i] = r.start
	for s := w.end(k, g); s != r.start; s-- {
		if w.valid(block.at(s-1), l.col) {
			if !skip {
				w.keyLasts(k)[i] = s
				return
			}
			skip = false
		}
	}
}
