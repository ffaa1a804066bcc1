package inference

import (
	"math/bits"
	"time"

	"github.com/freshet-io/freshet/errkind"
)

// worker is one instance's scratch: the batch in hand and, where several
// requests travel together, their rows side by side.
type worker struct {
	busy   bool // counted in Model.live
	reason FlushReason
	batch  []*Request // nil where answered already
	left   int        // requests of the batch without an answer
	timed  bool       // a request of the batch expires
	sizes  []int      // rows that each request has in the call
	in     []Tensor
	out    []Tensor
	shared bool // a call left behind still reads in
	// searching: parts of a request are called to find the rows at fault.
	searching bool
	ctx       callContext
	now       time.Time // when the last call ended
	due       int       // rows of the batch with a deadline ahead, with Throughput
	late      int       // those of them answered after it
}

// answer runs the worker's batch and closes every request of it.
func (m *Model) answer(w *worker) {
	rows := 0
	w.left, w.timed = len(w.batch), false
	for _, r := range w.batch {
		rows += r.travelling()
		w.timed = w.timed || !r.Expires.IsZero()
	}
	for _, r := range w.batch {
		r.Reason, r.BatchRows = w.reason, rows
	}
	m.stats.Batches.Record(int64(rows))
	m.stats.Rows.Add(uint64(rows))
	if w.timed {
		m.expire(w, time.Now())
	}
	if w.left == 0 || w.left > 1 && m.together(w) {
		return
	}
	for i, r := range w.batch {
		if r != nil {
			m.alone(w, i)
		}
	}
}

// expire answers the requests of the batch that have expired, even while a call
// is under way that holds their rows.
func (m *Model) expire(w *worker, now time.Time) {
	for i, r := range w.batch {
		if r != nil && !r.Expires.IsZero() && !now.Before(r.Expires) {
			w.batch[i] = nil
			w.left--
			m.expireOne(r, now)
		}
	}
}

// close answers request i of the batch.
func (m *Model) close(w *worker, i int) {
	r := w.batch[i]
	w.batch[i] = nil
	w.left--
	if m.cfg.Prefer == Throughput && r.Deadline.After(r.queued) {
		w.due += r.rows
		if w.now.Sub(r.Deadline) > r.Deadline.Sub(r.queued)/500 { // less is the clock's
			w.late += r.rows
		}
	}
	switch {
	case !r.Expires.IsZero() && !w.now.Before(r.Expires):
		m.expireOne(r, w.now)
		return
	case r.Err != nil:
		m.stats.Failed.Add(uint64(r.rows))
	default:
		if len(r.Failed) > 0 {
			m.stats.Failed.Add(uint64(len(r.Failed)))
		}
		if m.cache != nil && !r.uncached {
			m.remember(r)
		}
	}
	r.answered(w.now)
}

// fresh makes room for a call's rows where a call left behind still reads the last ones.
func (w *worker) fresh(inputs int) {
	if w.shared {
		w.in, w.shared = nil, false
	}
	w.in = resize(w.in, inputs)
	for i := range w.in {
		w.in[i].truncate()
	}
}

// gather puts rows [from, from+n) of those of r that travel behind those in w.in.
func (w *worker) gather(r *Request, from, n int) {
	for i := range w.in {
		t, u := &w.in[i], &r.In[i]
		if t.Name = u.Name; t.length() == 0 {
			t.Type = u.Type
			t.Shape = append(append(t.Shape[:0], 0), u.Shape[1:]...)
		}
		if r.hits == 0 {
			t.appendRows(u, from, n)
			continue
		}
		for k := from; k < from+n; k++ {
			t.appendRows(u, r.row(k), 1)
		}
	}
}

// together runs all requests as one call. False means that at least one row may have
// been refused, and that the requests have to be run one by one to find it.
func (m *Model) together(w *worker) bool {
	w.fresh(len(m.meta.Inputs))
	w.sizes = w.sizes[:0]
	rows := 0
	for _, r := range w.batch {
		n := 0
		if r != nil {
			n = r.travelling()
			w.gather(r, 0, n)
		}
		w.sizes = append(w.sizes, n)
		rows += n
	}
	out, attempts, err := m.call(w, w.in, nil, rows)
	if err != nil && culprit(err) && w.left > 1 {
		return false
	}
	at, complete := 0, true
	for i, r := range w.batch {
		if r != nil {
			r.Attempts = attempts
			switch {
			case err != nil:
				m.refuse(r, err)
				m.close(w, i)
			case r.take(out, at, w.sizes[i], 0):
				m.close(w, i)
			default:
				complete = false // its cached rows have another shape: all of it has to travel
			}
		}
		at += w.sizes[i]
	}
	return complete
}

// alone runs one request, and halves it where rows are refused until the
// culprits are found.
func (m *Model) alone(w *worker, i int) {
	r := w.batch[i]
	var err error
	var out []Tensor
	for again := true; again; {
		again = false
		n := r.travelling()
		if m.local && r.hits == 0 && m.padded(n) == n {
			r.Out = resize(r.Out, len(m.meta.Outputs))
			_, r.Attempts, err = m.call(w, r.In, r.Out, n)
		} else {
			w.fresh(len(m.meta.Inputs))
			w.gather(r, 0, n)
			var attempts int
			out, attempts, err = m.call(w, w.in, nil, n)
			if w.batch[i] == nil {
				return // expired meanwhile
			}
			r.Attempts = attempts
			if err == nil && !r.take(out, 0, n, 0) {
				r.forget()
				again = true
			}
		}
	}
	if err == nil || r.travelling() == 1 || !culprit(err) {
		if err != nil {
			m.refuse(r, err)
		}
		m.close(w, i)
		return
	}
	h := halving{first: err}
	if r.hits == 0 {
		r.Out = resize(r.Out, len(m.meta.Outputs))
		for k := range r.Out {
			r.Out[k].Shape = r.Out[k].Shape[:0] // not known yet
		}
	}
	w.searching = true
	m.halve(w, i, 0, r.travelling(), &h)
	w.searching = false
	if w.batch[i] == nil {
		return
	}
	if !h.scored && r.hits == 0 {
		r.Err, r.Failed = err, r.Failed[:0] // nothing but refusals: Err stands for them all
	}
	m.close(w, i)
}

// culprit reports whether single rows may be at fault.
func culprit(err error) bool {
	k := errkind.Of(err)
	return k == errkind.Invalid || k == errkind.Permanent || k == errkind.Unknown
}

// halving is the search for rows that are refused.
type halving struct {
	first  error
	scored bool
	inARow int // calls refused since the last that was answered, without a row blamed
}

// hopeless says that so many parts were refused that it is not the rows: one
// row at fault is found after as many refusals as the request can be halved.
func (h *halving) hopeless(rows int) bool {
	return !h.scored && !errkind.Is(h.first, errkind.Invalid) && h.inARow > 2*bits.Len(uint(rows))+2
}

func (m *Model) halve(w *worker, i, from, to int, h *halving) {
	r := w.batch[i]
	if r == nil {
		return // expired meanwhile
	}
	err := h.first
	if !h.hopeless(r.travelling()) {
		w.fresh(len(m.meta.Inputs))
		w.gather(r, from, to-from)
		var out []Tensor
		out, _, err = m.call(w, w.in, nil, to-from)
		if w.batch[i] == nil {
			return
		}
		if err == nil && !r.take(out, 0, to-from, from) {
			err = errkind.Errorf(errkind.Permanent, "model %q answers in rows of different shapes", m.meta.Name)
		}
		if err == nil {
			h.scored, h.inARow = true, 0
			return
		}
		h.inARow++
	}
	if to-from == 1 || !culprit(err) || h.hopeless(r.travelling()) {
		for k := from; k < to; k++ {
			r.Failed = append(r.Failed, RowError{Row: r.row(k), Err: err})
		}
		return
	}
	mid := from + (to-from)/2
	m.halve(w, i, from, mid, h)
	m.halve(w, i, mid, to, h)
}

// refuse fails all rows of r that are not answered.
func (m *Model) refuse(r *Request, err error) {
	if r.hits == 0 {
		r.Err, r.Failed = err, r.Failed[:0]
		return
	}
	r.Err, r.Failed = nil, r.Failed[:0]
	for _, row := range r.miss {
		r.Failed = append(r.Failed, RowError{Row: int(row), Err: err})
	}
}

// checkOut refuses answers that do not have one row per row asked.
func (m *Model) checkOut(out []Tensor, rows int) error {
	for i := range out {
		o := &out[i]
		if o.Rows() != rows {
			return errkind.Errorf(errkind.Permanent, "model %q answered %d rows of output %q for a batch of %d",
				m.meta.Name, o.Rows(), m.meta.Outputs[i].Name, rows)
		}
		if o.Type != m.meta.Outputs[i].Type || o.elements() != o.length() {
			return errkind.Errorf(errkind.Permanent, "model %q answered output %q with %d elements of %v for the shape %v, declared %v",
				m.meta.Name, m.meta.Outputs[i].Name, o.length(), o.Type, o.Shape, m.meta.Outputs[i].Type)
		}
	}
	return nil
}

func resize(ts []Tensor, n int) []Tensor {
	if cap(ts) < n {
		return append(ts[:cap(ts)], make([]Tensor, n-cap(ts))...)
	}
	return ts[:n]
}
