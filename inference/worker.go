package inference

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/freshet-io/freshet/errkind"
)

// worker is one instance's scratch: the batch in hand and, where several
// requests travel together, their rows side by side.
type worker struct {
	batch   []*Request
	in, out []Tensor
}

// answer runs the worker's batch and closes every request of it.
func (m *Model) answer(w *worker, reason FlushReason) {
	rows := 0
	for _, r := range w.batch {
		rows += r.rows
	}
	for _, r := range w.batch {
		r.Reason, r.BatchRows = reason, rows
	}
	m.stats.Batches.Record(int64(rows))
	m.stats.Rows.Add(uint64(rows))
	if len(w.batch) == 1 || !m.together(w, rows) {
		for _, r := range w.batch {
			m.alone(r)
		}
	}
	for i, r := range w.batch {
		if r.Err != nil {
			m.stats.Failed.Add(uint64(r.rows))
		} else {
			m.stats.Failed.Add(uint64(len(r.Failed)))
		}
		close(r.done)
		w.batch[i] = nil
	}
}

// together runs all requests as one call. False means that at least one row was
// refused, and that the requests have to be run one by one to find it.
func (m *Model) together(w *worker, rows int) bool {
	w.in = resize(w.in, len(m.meta.Inputs))
	for i := range w.in {
		first := &w.batch[0].In[i]
		w.in[i].Name, w.in[i].Type = first.Name, first.Type
		w.in[i].truncate()
		for _, r := range w.batch {
			w.in[i].append(&r.In[i])
		}
		w.in[i].Shape = append(append(w.in[i].Shape[:0], rows), first.Shape[1:]...)
	}
	w.out = resize(w.out, len(m.meta.Outputs))
	attempts, err := m.call(w.in, w.out, rows)
	if err != nil {
		return false
	}
	at := 0
	for _, r := range w.batch {
		r.Attempts = attempts
		r.Out = resize(r.Out, len(w.out))
		for i := range w.out {
			r.Out[i].set(&w.out[i], at, r.rows)
		}
		at += r.rows
	}
	return true
}

// alone runs one request, and halves it where rows are refused until the
// culprits are found.
func (m *Model) alone(r *Request) {
	r.Out = resize(r.Out, len(m.meta.Outputs))
	r.Attempts, r.Err = m.call(r.In, r.Out, r.rows)
	if r.Err == nil || r.rows == 1 || !culprit(r.Err) {
		return
	}
	scored := false
	all := make([]Tensor, len(m.meta.Outputs))
	m.halve(r, 0, r.rows, all, &scored)
	if !scored {
		return // nothing but refusals: Err stands for them all
	}
	r.Err, r.Out = nil, all
}

// culprit reports whether single rows may be at fault.
func culprit(err error) bool {
	k := errkind.Of(err)
	return k == errkind.Invalid || k == errkind.Permanent || k == errkind.Unknown
}

func (m *Model) halve(r *Request, from, to int, all []Tensor, scored *bool) {
	in := make([]Tensor, len(r.In))
	for i := range in {
		in[i].set(&r.In[i], from, to-from)
		in[i].Name = r.In[i].Name
	}
	out := make([]Tensor, len(m.meta.Outputs))
	_, err := m.call(in, out, to-from)
	switch {
	case err == nil:
		*scored = true
		for i := range all {
			all[i].place(&out[i], from, r.rows)
		}
	case to-from == 1:
		r.Failed = append(r.Failed, RowError{Row: from, Err: err})
	default:
		mid := from + (to-from)/2
		m.halve(r, from, mid, all, scored)
		m.halve(r, mid, to, all, scored)
	}
}

// call gives a batch to the driver, again after a pause where the error may pass.
func (m *Model) call(in, out []Tensor, rows int) (attempts int, err error) {
	pause := retryPause
	for attempts = 1; ; attempts++ {
		start := time.Now()
		err = m.infer(in, out)
		took := time.Since(start)
		m.stats.Seconds.Record(int64(took))
		m.stats.Busy.Add(int64(took))
		if err == nil {
			m.mu.Lock()
			m.service.observe(rows, took)
			m.mu.Unlock()
			return attempts, m.checkOut(out, rows)
		}
		if attempts >= m.cfg.Attempts || !errkind.Of(err).Retryable() {
			return attempts, fmt.Errorf("infer with model %q: %w", m.meta.Name, err)
		}
		select {
		case <-m.closing:
		case <-time.After(pause):
		}
		pause *= 2
	}
}

// infer guards the process against a driver that panics.
func (m *Model) infer(in, out []Tensor) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errkind.Errorf(errkind.Permanent, "the model panicked: %v\n%s", p, debug.Stack())
		}
	}()
	return m.driver.Infer(context.Background(), in, out)
}

// checkOut refuses answers that do not have one row per row asked.
func (m *Model) checkOut(out []Tensor, rows int) error {
	for i := range out {
		if out[i].Rows() != rows {
			return errkind.Errorf(errkind.Permanent, "model %q answered %d rows of output %q for a batch of %d",
				m.meta.Name, out[i].Rows(), m.meta.Outputs[i].Name, rows)
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
