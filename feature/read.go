package feature

import (
	"math"

	"github.com/freshet-io/freshet/event"
)

// readNow reads every window of a key as of time t, at which the key stands.
func (w *Windows) readNow(k uint32, t int64, row int) {
	r := w.ring(k)
	heads, sums := w.keyHeads(k), w.keySums(k)
	for i := range w.ops {
		o, out := &w.ops[i], &w.outs[i]
		head, lead := heads[o.span], r.tail
		if l := w.spans[o.span].lead; l >= 0 {
			lead = heads[l]
		}
		switch o.agg {
		case Count:
			if o.col >= 0 {
				out.ints[row] = int64(w.keyCounts(k)[o.slot])
			} else {
				out.ints[row] = int64(lead - head)
			}
		case Rate:
			n := lead - head
			if o.col >= 0 {
				n = w.keyCounts(k)[o.slot]
			}
			out.floats[row] = w.rate(o, n)
		case Sum, Mean:
			s := &sums[o.slot]
			switch {
			case s.n == 0:
				if o.agg == Mean {
					out.col.SetNull(row)
				}
			case s.broken():
				w.readRange(k, head, lead, i, t, row)
			case o.agg == Mean:
				out.floats[row] = s.hi / float64(s.n)
			default:
				out.floats[row] = s.hi
			}
		case StdDev:
			m := &w.keyMoments(k)[o.slot]
			if m.n < 2 {
				out.col.SetNull(row)
			} else if v, ok := m.variance(); ok {
				out.floats[row] = math.Sqrt(v)
			} else {
				w.readRange(k, head, lead, i, t, row)
			}
		case Distinct:
			out.ints[row] = int64(w.keyCounts(k)[o.slot])
		case Min, Max:
			w.readExtreme(k, o, head, out, row)
		case First:
			w.readFirst(k, o, head, lead, out, row)
		case Last:
			if l := w.keyLasts(k)[o.slot]; int32(l-1-head) >= 0 {
				w.emit(out, o, w.view(r).at(l - 1)[1+o.col], row)
			} else {
				out.col.SetNull(row)
			}
		case SinceLast:
			l := lead
			if o.col >= 0 {
				if l = w.keyLasts(k)[o.slot]; o.self && l == lead {
					l = w.keyLasts(k)[o.prior]
				}
			} else if o.self {
				l--
			}
			w.since(k, o, head, l, out, t, row)
		}
	}
}

// rate is n rows or values a second of the window's length.
func (w *Windows) rate(o *op, n uint32) float64 {
	return float64(n) / (float64(w.spans[o.span].over) / 1e9)
}

// since gives the time since the entry before l, where that lies in the window.
func (w *Windows) since(k uint32, o *op, head, l uint32, out *target, t int64, row int) {
	if int32(l-1-head) < 0 {
		out.col.SetNull(row)
		return
	}
	r := w.ring(k)
	out.floats[row] = float64(uint64(t)-w.view(r).at(l - 1)[0]) / 1e9
}

// readFirst looks for the first value from where the last search stopped.
func (w *Windows) readFirst(k uint32, o *op, head, lead uint32, out *target, row int) {
	first := &w.keyFirsts(k)[o.slot]
	s := *first
	if int32(s-head) < 0 {
		s = head
	}
	v := w.view(w.ring(k))
	for s != lead && !w.valid(v.at(s), o.col) {
		s++
	}
	*first = s
	if s == lead {
		out.col.SetNull(row)
		return
	}
	w.emit(out, o, v.at(s)[1+o.col], row)
}

// readExtreme finds the first queued entry inside the window.
func (w *Windows) readExtreme(k uint32, o *op, head uint32, out *target, row int) {
	q := &w.keyQueues(k)[o.slot]
	items := w.queues.block(q.block, q.class)
	mask := uint32(len(items) - 1)
	lo, n := q.start, q.tail-q.start
	for n > 0 {
		half := n / 2
		if int32(items[(lo+half)&mask]-head) < 0 {
			lo += half + 1
			n -= half + 1
		} else {
			n = half
		}
	}
	if lo == q.tail {
		out.col.SetNull(row)
		return
	}
	r := w.ring(k)
	e := w.view(r).at(items[lo&mask])
	out.floats[row] = math.Float64frombits(e[1+o.col])
}

// emit writes an entry's word as the result of First or Last.
func (w *Windows) emit(out *target, o *op, word uint64, row int) {
	switch o.kind {
	case event.Float:
		out.floats[row] = math.Float64frombits(word)
	case event.Bool:
		out.bools[row] = word != 0
	case event.String:
		out.strings[row] = w.dict.text[word]
	default:
		out.ints[row] = int64(word)
	}
}

// readPast reads every window as of a time before that at which the key stands;
// the entries that are not newer end before end.
func (w *Windows) readPast(k uint32, t int64, end uint32, row int) {
	for i := range w.ops {
		sp := &w.spans[w.ops[i].span]
		from := w.search(k, func(u uint64) bool { return int64(u) > t || uint64(t)-u < sp.far })
		to := end
		if sp.delay > 0 {
			to = w.search(k, func(u uint64) bool { return int64(u) > t || uint64(t)-u < sp.delay })
		}
		w.readRange(k, from, to, i, t, row)
	}
}

// readAlone reads a row that is too old to be kept: what holds the row itself holds nothing else.
func (w *Windows) readAlone(k uint32, t int64, row int) {
	// The row takes the state of a passing key of its own.
	r := *w.ring(k)
	*w.ring(k) = newRing(w.entries.alloc(0), 0, 1)
	w.write(w.view(w.ring(k)).at(0), t, row)
	for i := range w.ops {
		to := uint32(0)
		if w.ops[i].self {
			to = 1
		}
		w.readRange(k, 0, to, i, t, row)
	}
	w.entries.release(w.ring(k).block(), 0)
	*w.ring(k) = r
}

// readNothing reads windows that hold no entry.
func (w *Windows) readNothing(row int) {
	for i := range w.ops {
		switch w.ops[i].agg {
		case Count, Distinct, Sum, Rate:
		default:
			w.outs[i].col.SetNull(row)
		}
	}
}

// readRange computes window i over the entries from ≤ s < to, from scratch.
func (w *Windows) readRange(k uint32, from, to uint32, i int, t int64, row int) {
	o, out := &w.ops[i], &w.outs[i]
	block := w.view(w.ring(k))
	if o.agg == SinceLast {
		if o.self {
			to--
		}
		for ; to != from && o.col >= 0 && !w.valid(block.at(to-1), o.col); to-- {
		}
		w.since(k, o, from, to, out, t, row)
		return
	}
	n := to - from
	if o.col >= 0 {
		n = w.countRange(block, from, to, o.col)
	}
	switch o.agg {
	case Count:
		out.ints[row] = int64(n)
	case Rate:
		out.floats[row] = w.rate(o, n)
	case Sum, Mean:
		if n == 0 && o.agg == Mean {
			out.col.SetNull(row)
			return
		}
		v, ok := w.total(block, from, to, o.col, n, o.agg == Mean)
		if !ok {
			out.col.SetNull(row)
			return
		}
		out.floats[row] = v
	case StdDev:
		if n < 2 {
			out.col.SetNull(row)
			return
		}
		out.floats[row] = w.deviation(block, from, to, o.col, n)
	case Distinct:
		clear(w.set)
		for s := from; s != to; s++ {
			if e := block.at(s); w.valid(e, o.col) {
				w.set[e[1+o.col]] = struct{}{}
			}
		}
		out.ints[row] = int64(len(w.set))
	default:
		w.pickRange(block, from, to, i, row)
	}
}

// countRange counts the values of a range.
func (w *Windows) countRange(block view, from, to uint32, col int) (n uint32) {
	if w.columns[col].Kind == event.Float {
		for s := from; s != to; s++ {
			if block.words[int(s&block.mask)*block.stride+1+col] != nullFloat {
				n++
			}
		}
		return n
	}
	for s := from; s != to; s++ {
		if w.valid(block.at(s), col) {
			n++
		}
	}
	return n
}

// pickRange finds the value of one of the entries.
func (w *Windows) pickRange(block view, from, to uint32, i, row int) {
	o, out := &w.ops[i], &w.outs[i]
	var best uint64
	found := false
	for s := from; s != to; s++ {
		e := block.at(s)
		if !w.valid(e, o.col) {
			continue
		}
		v := e[1+o.col]
		f, b := math.Float64frombits(v), math.Float64frombits(best)
		if !found || o.agg == Last || o.agg == Min && f < b || o.agg == Max && f > b {
			best, found = v, true
		}
	}
	if !found {
		out.col.SetNull(row)
		return
	}
	w.emit(out, o, best, row)
}

// total is the exact sum or mean of the n values of a range. Only a sum beyond
// the largest float64 is not ok.
func (w *Windows) total(block view, from, to uint32, col int, n uint32, mean bool) (v float64, ok bool) {
	const down = 0x1p-64
	for _, scale := range [...]float64{1, down} {
		w.exp.reset()
		for s := from; s != to; s++ {
			if v := block.at(s)[1+col]; v != nullFloat {
				w.exp.add(math.Float64frombits(v) * scale)
			}
		}
		if w.exp.over {
			continue
		}
		v = w.exp.round()
		if mean {
			v /= float64(n)
		}
		v /= scale
		break
	}
	return v, !math.IsInf(v, 0)
}
