package feature

import "github.com/freshet-io/freshet/event"

// labelRows is the labels of one batch on their way in, joined ByEvent. Those
// that have found an event are moved to the front, for the delta.
type labelRows struct {
	before []int64
	ids    [2][]uint64
	words  [][]uint64 // by label field
	mask   []uint64
	hits   []idSlot
	found  int
}

// Labelled is the number of labels that have found their event since the start.
func (w *Windows) Labelled() uint64 { return w.matched }

func (w *Windows) updateByEvent(b *Batch, delta []byte) []byte {
	w.begin(b)
	for i, id := range b.IDs[:b.N] {
		w.words[w.idAt-1][i], w.words[w.idAt][i] = hashID(id)
	}
	n := w.loadLabels(&b.Labels)
	next := 0
	for i := range b.N {
		if i%touchAhead == 0 {
			w.touch(w.numbers[i:min(i+touchAhead, b.N)])
		}
		for ; next < n && b.Labels.Before[next] <= int32(i); next++ {
			w.takeLabel(next)
		}
		w.row(w.numbers[i], b.Times[i], i)
	}
	for ; next < n; next++ {
		w.takeLabel(next)
	}
	delta = w.appendRows(delta, b.Times[:b.N])
	delta = w.appendLabels(delta)
	w.unload(b.N)
	w.unloadLabels(n)
	return delta
}

// loadLabels turns a batch's labels into words.
func (w *Windows) loadLabels(b *Labels) int {
	l := &w.label
	n := len(b.IDs)
	w.fitLabels(n)
	for f := range w.labels {
		w.loadColumn(l.words[f], b.Fields[f], w.labels[f].Kind, l.mask, f)
	}
	for i, id := range b.IDs {
		l.before[i] = int64(b.Before[i])
		l.ids[0][i], l.ids[1][i] = hashID(id)
	}
	return n
}

func (w *Windows) fitLabels(n int) {
	l := &w.label
	l.found = 0
	l.before = resize(l.before, n)
	l.mask = resize(l.mask, n)
	clear(l.mask)
	l.words = resize(l.words, len(w.labels))
	for i := range l.ids {
		l.ids[i] = resize(l.ids[i], n)
	}
	for f := range l.words {
		l.words[f] = resize(l.words[f], n)
	}
}

func (w *Windows) unloadLabels(n int) {
	for f := range w.labels {
		if w.labels[f].Kind == event.String {
			for _, id := range w.label.words[f][:n] {
				w.dict.drop(id)
			}
		}
	}
}

// takeLabel gives label j to its event and, if there is one, moves it behind those found before.
func (w *Windows) takeLabel(j int) {
	if !w.applyLabel(j) {
		return
	}
	w.matched++
	l := &w.label
	m := l.found
	l.found++
	if m == j {
		return
	}
	l.before[m], l.before[j] = l.before[j], l.before[m]
	l.mask[m], l.mask[j] = l.mask[j], l.mask[m]
	for _, s := range l.ids {
		s[m], s[j] = s[j], s[m]
	}
	for _, s := range l.words {
		s[m], s[j] = s[j], s[m]
	}
}

// applyLabel sets the labels of every entry with the label's id, and reports whether there is one.
func (w *Windows) applyLabel(j int) bool {
	l := &w.label
	hash, check := l.ids[0][j], l.ids[1][j]
	l.hits = l.hits[:0]
	mask := len(w.idx.slots) - 1
	for i := int(hash) & mask; w.idx.slots[i].key != 0; i = (i + 1) & mask {
		if s := w.idx.slots[i]; s.hash == hash {
			l.hits = append(l.hits, s)
		}
	}
	found := false
	for i, hit := range l.hits {
		// An id that comes several times is rare: look through the whole ring then.
		if len(l.hits) > 1 && seenBefore(l.hits[:i], hit.key) {
			continue
		}
		k := hit.key - 1
		r := w.ring(k)
		v := w.view(r)
		s := r.start
		if len(l.hits) == 1 && int32(hit.seq-s) > 0 {
			s = hit.seq
		}
		for ; s != r.tail; s++ {
			if e := v.at(s); e[w.idAt] == hash && e[w.idAt+1] == check {
				w.relabel(k, s, j)
				if found = true; len(l.hits) == 1 {
					break
				}
			}
		}
	}
	return found
}

func seenBefore(hits []idSlot, key uint32) bool {
	for _, h := range hits {
		if h.key == key {
			return true
		}
	}
	return false
}

// relabel sets the label columns of entry s to label j. A label without a value
// takes the value back.
func (w *Windows) relabel(k, s uint32, j int) {
	for col := range w.columns {
		c := &w.columns[col]
		if !c.label {
			continue
		}
		word, null := w.label.words[c.source][j], w.label.mask[j]>>c.source&1 != 0
		if null || c.Kind == event.Float && word == nullFloat {
			word, null = c.begin, c.null
		}
		e := w.view(w.ring(k)).at(s)
		if e[1+col] == word && (!needsMask(c.Kind) || null == !w.valid(e, col)) {
			continue
		}
		w.change(k, s, col, word, null)
	}
}

// change replaces a value of an entry and corrects the windows that it is in.
func (w *Windows) change(k, s uint32, col int, word uint64, null bool) {
	e := w.view(w.ring(k)).at(s)
	for i := range w.groups {
		if g := &w.groups[i]; int32(s-w.end(k, g)) < 0 {
			w.uncount(k, g, e, s, col)
		}
	}
	if w.columns[col].Kind == event.String {
		w.dict.retain(word)
		w.dict.drop(e[1+col])
	}
	e[1+col] = word
	if needsMask(w.columns[col].Kind) {
		e[w.maskAt] &^= 1 << col
		if null {
			e[w.maskAt] |= 1 << col
		}
	}
	for i := range w.groups {
		if g := &w.groups[i]; int32(s-w.end(k, g)) < 0 {
			w.recount(k, i, e, s, col)
		}
	}
}

// uncount takes a value that is about to change out of a group's windows.
func (w *Windows) uncount(k uint32, g *group, e []uint64, s uint32, col int) {
	ok := w.valid(e, col)
	for i := g.from; i < g.to && ok; i++ {
		sp := &w.spans[i]
		if int32(s-w.keyHeads(k)[i]) < 0 {
			continue
		}
		for _, a := range sp.sums {
			if a.col == col {
				x := &w.keySums(k)[a.slot]
				x.add(-floatOf(e[1+col]))
				if x.n--; x.n == 0 {
					*x = sum{}
				}
			}
		}
		for _, a := range sp.counts {
			if a.col == col {
				w.keyCounts(k)[a.slot]--
			}
		}
		for _, a := range sp.moments {
			if a.col == col {
				w.keyMoments(k)[a.slot].remove(floatOf(e[1+col]))
			}
		}
	}
	for _, c := range g.distinct {
		if c == col {
			w.forgetValues(k, g, col)
		}
	}
}

// recount takes a value that has changed into a group's windows.
func (w *Windows) recount(k uint32, gi int, e []uint64, s uint32, col int) {
	g := &w.groups[gi]
	ok := w.valid(e, col)
	for i := g.from; i < g.to; i++ {
		sp := &w.spans[i]
		if int32(s-w.keyHeads(k)[i]) < 0 {
			continue
		}
		for _, a := range sp.sums {
			if a.col != col {
				continue
			}
			x := &w.keySums(k)[a.slot]
			if ok {
				x.add(floatOf(e[1+col]))
				x.n++
			}
			if !x.exact() {
				w.settle(k, i, a)
			}
		}
		for _, a := range sp.counts {
			if a.col == col && ok {
				w.keyCounts(k)[a.slot]++
			}
		}
		for _, a := range sp.moments {
			if a.col != col {
				continue
			}
			if ok {
				w.keyMoments(k)[a.slot].add(floatOf(e[1+col]))
			}
			w.settleMoments(k, i, a)
		}
		for _, a := range sp.firsts {
			if f := &w.keyFirsts(k)[a.slot]; a.col == col && int32(s-*f) < 0 {
				*f = s
			}
		}
	}
	for _, c := range g.distinct {
		if c == col {
			w.learnValues(k, gi, col)
		}
	}
	for _, i := range g.extremes {
		if w.extremes[i].col == col {
			w.rebuildQueue(k, i)
		}
	}
	for _, i := range g.lasts {
		if w.lasts[i].col == col {
			w.rebuildLast(k, g, i)
		}
	}
}

// forgetValues takes a key's values of a column out of the table of values.
func (w *Windows) forgetValues(k uint32, g *group, col int) {
	f := w.seenField(w.spans[g.from].group, col)
	v := w.view(w.ring(k))
	for s, end := w.ring(k).start, w.end(k, g); s != end; s++ {
		if e := v.at(s); w.valid(e, col) {
			w.seen.remove(k, f, e[1+col])
		}
	}
}

// learnValues enters a key's values of a column and counts those that each window holds.
func (w *Windows) learnValues(k uint32, gi, col int) {
	g := &w.groups[gi]
	f := w.seenField(gi, col)
	v := w.view(w.ring(k))
	end := w.end(k, g)
	for s := w.ring(k).start; s != end; s++ {
		e := v.at(s)
		if !w.valid(e, col) {
			continue
		}
		if x := w.seen.find(k, f, e[1+col]); x != nil {
			x.last = s
		} else {
			w.seen.put(k, f, e[1+col], s)
		}
	}
	for i := g.from; i < g.to; i++ {
		for _, a := range w.spans[i].dist {
			if a.col != col {
				continue
			}
			n := uint32(0)
			for s := w.keyHeads(k)[i]; s != end; s++ {
				if e := v.at(s); w.valid(e, col) && w.seen.find(k, f, e[1+col]).last == s {
					n++
				}
			}
			w.keyCounts(k)[a.slot] = n
		}
	}
}
