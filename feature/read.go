package feature

import (
	"math"

	"github.com/freshet-io/freshet/event"
)

// readNow reads every window of a key as of its newest entry.
func (w *Windows) readNow(k uint32, row int) {
	r := &w.rings[k]
	heads := w.keyHeads(k)
	for i := range w.ops {
		o, out := &w.ops[i], &w.outs[i]
		switch o.agg {
		case Count:
			out.ints[row] = int64(r.tail - heads[o.span])
		case Sum, Mean:
			s := &w.sum[int(k)*w.sums+o.slot]
			switch {
			case s.n == 0:
				if o.agg == Mean {
					out.col.SetNull(row)
				}
			case s.broken():
				w.readRange(k, heads[o.span], r.tail, i, row)
			case o.agg == Mean:
				out.floats[row] = s.hi / float64(s.n)
			default:
				out.floats[row] = s.hi
			}
		case Distinct:
			out.ints[row] = int64(w.keyDist(k)[o.slot])
		case Min, Max:
			w.readExtreme(k, o, heads[o.span], out, row)
		case Last:
			if l := w.keyLasts(k)[o.slot]; int32(l-1-heads[o.span]) >= 0 {
				w.emit(out, o, w.view(r).at(l - 1)[1+o.field], row)
			} else {
				out.col.SetNull(row)
			}
		}
	}
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
	r := &w.rings[k]
	e := w.view(r).at(items[lo&mask])
	out.floats[row] = math.Float64frombits(e[1+o.field])
}

// emit writes an entry's word as the result of Last.
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

// readRange computes window i over the entries from ≤ s < to, from scratch.
func (w *Windows) readRange(k uint32, from, to uint32, i, row int) {
	o, out := &w.ops[i], &w.outs[i]
	r := &w.rings[k]
	block := w.view(r)
	if o.agg == Count {
		out.ints[row] = int64(to - from)
		return
	}
	var (
		n    uint32
		best float64
	)
	clear(w.set)
	for s := to; s != from; s-- {
		e := block.at(s - 1)
		if !w.valid(e, o.field) {
			continue
		}
		v := e[1+o.field]
		n++
		switch f := math.Float64frombits(v); {
		case o.agg == Last:
			w.emit(out, o, v, row)
			return
		case o.agg == Distinct:
			w.set[v] = struct{}{}
		case n == 1, o.agg == Min && f < best, o.agg == Max && f > best:
			best = f
		}
	}
	switch {
	case o.agg == Distinct:
		out.ints[row] = int64(len(w.set))
	case o.agg == Sum || o.agg == Mean && n > 0:
		v, ok := w.total(block, from, to, o, n)
		out.floats[row] = v
		if !ok {
			out.floats[row] = 0
			out.col.SetNull(row)
		}
	case n == 0:
		out.col.SetNull(row)
	default:
		out.floats[row] = best
	}
}

// total sums a range exactly. Only a Sum beyond the largest float64 is not ok.
func (w *Windows) total(block view, from, to uint32, o *op, n uint32) (v float64, ok bool) {
	const down = 0x1p-64
	for _, scale := range [...]float64{1, down} {
		w.exp.reset()
		for s := from; s != to; s++ {
			if v := block.at(s)[1+o.field]; v != nullFloat {
				w.exp.add(math.Float64frombits(v) * scale)
			}
		}
		if w.exp.over {
			continue
		}
		v = w.exp.round()
		if o.agg == Mean {
			v /= float64(n)
		}
		v /= scale
		break
	}
	return v, !math.IsInf(v, 0)
}
