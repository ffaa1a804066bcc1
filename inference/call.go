package inference

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/internal/backoff"
)

// retries is the pause before a repeated call: 10 ms, doubling, half of it drawn.
var retries = backoff.Retry{Min: 10 * time.Millisecond, Max: 5 * time.Second}

// longestPause bounds the pause that a server may ask for where no row expires.
const longestPause = time.Minute

// call gives rows to the driver, again after a pause where the error may pass
// and the budget allows it. It ends early when all requests of the batch have
// expired. The answer is in out, or in storage of the worker where out is nil.
func (m *Model) call(w *worker, in, out []Tensor, rows int) (answer []Tensor, attempts int, err error) {
	padded := m.padded(rows)
	if padded > rows {
		m.pad(in, padded)
		m.stats.Padded.Add(uint64(padded - rows))
	}
	for {
		start, probe, err := m.admit(w, attempts == 0)
		w.now = start
		if err != nil {
			return nil, attempts, m.failed(err)
		}
		attempts++
		answer, err = m.attempt(w, in, out, padded, start)
		w.now = time.Now()
		took := w.now.Sub(start)
		if err == nil {
			err = m.checkOut(answer, padded)
		}
		m.stats.Seconds.Record(int64(took))
		m.stats.Busy.Add(int64(took))
		m.judge(w, padded, took, err, probe)
		if err == nil {
			if padded > rows {
				for i := range answer {
					answer[i].cut(rows)
				}
			}
			return answer, attempts, nil
		}
		if w.timed {
			m.expire(w, w.now)
		}
		if w.left == 0 || probe || attempts >= m.cfg.Attempts || !errkind.Of(err).Retryable() {
			return nil, attempts, m.failed(err)
		}
		if !m.again(w, attempts, err) {
			return nil, attempts, m.failed(err)
		}
		m.stats.Retries.Add(1)
	}
}

func (m *Model) failed(err error) error {
	return fmt.Errorf("infer with model %q: %w", m.meta.Name, err)
}

// admit lets a call begin, after the pause that the server has asked for, or
// refuses it: the breaker is open, Close has waited long enough, or all
// requests expire before the pause is over.
func (m *Model) admit(w *worker, first bool) (now time.Time, probe bool, err error) {
	for {
		now = time.Now()
		if m.ctx.Err() != nil {
			return now, false, errkind.New(errkind.Closed, "the model is closed")
		}
		m.mu.Lock()
		wait := m.pause.Sub(now)
		if m.pause.IsZero() || wait <= 0 || m.closed {
			probe, err = m.breaker.allow(now)
			if err == nil && first {
				m.budget.earn()
			}
			m.mu.Unlock()
			if err != nil {
				m.stats.Refused.Add(1)
			}
			return now, probe, err
		}
		err = m.last.err
		m.mu.Unlock()
		if !m.sleep(w, wait, longestPause) {
			return time.Now(), false, RetryAfterError(errkind.Errorf(errkind.Throttled, "the server asked for a pause: %w", err), wait)
		}
	}
}

// again pauses before a repeat; false means that there is to be none.
func (m *Model) again(w *worker, attempts int, err error) bool {
	if pause := retryAfter(err); pause > 0 {
		return pause <= longestPause // admit waits; the server says when, so this adds no load that it did not ask for
	}
	m.mu.Lock()
	ok := m.budget.spend()
	m.mu.Unlock()
	if !ok {
		m.stats.OverBudget.Add(1)
		return false
	}
	r := retries.Or(backoff.Retry{Attempts: m.cfg.Attempts})
	return m.sleep(w, r.Wait(attempts-1, errkind.Of(err)), longestPause)
}

func retryAfter(err error) time.Duration {
	var ra *RetryAfter
	if errors.As(err, &ra) {
		return ra.After
	}
	return 0
}

// sleep pauses, and answers requests that expire meanwhile. False means that no
// request is left that could use a call after it, or that it is longer than most.
func (m *Model) sleep(w *worker, pause, most time.Duration) bool {
	end := time.Now().Add(pause)
	if pause > most {
		return false
	}
	for w.left > 0 {
		if last, ok := w.expiry(true); ok && !end.Before(last) {
			return false // all of them expire first
		}
		until := end
		if next, ok := w.expiry(false); ok && next.Before(end) {
			until = next
		}
		timer := time.NewTimer(time.Until(until))
		select {
		case <-m.closing:
			timer.Stop()
			return true // no pause any more
		case <-timer.C:
		}
		now := time.Now()
		m.expire(w, now)
		if !now.Before(end) {
			return w.left > 0
		}
	}
	return false
}

// expiry is when the first request of the batch expires, or the last, provided
// that each does.
func (w *worker) expiry(last bool) (t time.Time, ok bool) {
	if !w.timed {
		return t, false
	}
	for _, r := range w.batch {
		switch {
		case r == nil:
		case r.Expires.IsZero():
			if last {
				return t, false
			}
		case !ok || last == r.Expires.After(t):
			t, ok = r.Expires, true
		}
	}
	return t, ok
}

// attempt makes one call, with a deadline.
func (m *Model) attempt(w *worker, in, out []Tensor, rows int, start time.Time) ([]Tensor, error) {
	deadline := start.Add(m.cfg.Timeout)
	if last, ok := w.expiry(true); ok && last.Before(deadline) {
		deadline = last
	}
	if !m.local {
		return m.guarded(w, in, rows, deadline)
	}
	if out == nil {
		w.out = resize(w.out, len(m.meta.Outputs))
		out = w.out
	}
	ctx := w.ctx.begin(m.ctx, deadline)
	err := m.infer(ctx, in, out)
	w.ctx.end()
	return out, err
}

// infer guards the process against a driver that panics.
func (m *Model) infer(ctx context.Context, in, out []Tensor) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errkind.Errorf(errkind.Permanent, "the model panicked: %v\n%s", p, debug.Stack())
		}
	}()
	return m.driver.Infer(ctx, in, out)
}

// callContext is the context of calls on the model's own goroutine: it costs no
// timer unless the driver asks for Done.
type callContext struct {
	context.Context // of the model
	deadline        time.Time
	mu              sync.Mutex
	timed           context.Context // made by Done
	stop            context.CancelFunc
}

func (c *callContext) begin(parent context.Context, deadline time.Time) context.Context {
	c.Context, c.deadline = parent, deadline
	return c
}

func (c *callContext) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stop != nil {
		c.stop()
		c.timed, c.stop = nil, nil
	}
}

// Deadline says when the call is to end.
func (c *callContext) Deadline() (time.Time, bool) { return c.deadline, true }

// Done is closed when the call is to end.
func (c *callContext) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timed == nil {
		c.timed, c.stop = context.WithDeadline(c.Context, c.deadline)
	}
	return c.timed.Done()
}

// Err is not nil when the call is to end.
func (c *callContext) Err() error {
	c.mu.Lock()
	timed := c.timed
	c.mu.Unlock()
	if timed != nil {
		return timed.Err()
	}
	if err := c.Context.Err(); err != nil {
		return err
	}
	if !time.Now().Before(c.deadline) {
		return context.DeadlineExceeded
	}
	return nil
}
