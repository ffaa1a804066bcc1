package inference

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/freshet-io/freshet/errkind"
)

// outcome is what the last calls came to.
type outcome struct {
	err      error // of the last that failed
	failed   time.Time
	answered time.Time
}

// judge draws the lessons of a call: what it says about how long calls take, how
// many the server can have, and whether to make any.
func (m *Model) judge(w *worker, rows int, took time.Duration, err error, probe bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := w.now
	if err == nil {
		scale := 1.0
		if m.cfg.Adaptive || m.cfg.Hedge > 0 {
			scale = m.scale(rows)
		}
		before := m.limit.size()
		m.limit.answered(rows, m.live, took, scale, now)
		if m.limit.size() > before && m.waiting > 0 {
			m.work.Signal()
		}
		if m.cfg.Hedge > 0 {
			m.recent.add(took.Seconds(), m.service.seconds(rows))
		}
		m.service.observe(rows, took)
		m.breaker.record(false, probe, now)
		m.last.answered = now
		return
	}
	m.last.err, m.last.failed = err, now
	switch kind := errkind.Of(err); {
	case kind == errkind.Throttled:
		m.stats.Throttled.Add(1)
		m.limit.refused()
		if pause := retryAfter(err); pause > 0 {
			if until := now.Add(pause); until.After(m.pause) {
				m.pause = until
			}
		}
		m.breaker.release(probe)
	case kind == errkind.Canceled, kind == errkind.Closed:
		m.breaker.release(probe)
	case kind == errkind.Invalid:
		m.breaker.record(false, probe, now) // the rows are at fault; the model is there
	case w.searching && culprit(err):
		m.breaker.release(probe) // counted when the whole was refused
	case (errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrExpired)) && took < m.cfg.Timeout &&
		m.service.known() && took < m.service.predict(rows):
		m.breaker.release(probe) // the rows had less time left than a call takes
	default:
		if errors.Is(err, context.DeadlineExceeded) {
			m.limit.refused()
		}
		if pause := retryAfter(err); pause > 0 {
			if until := now.Add(pause); until.After(m.pause) {
				m.pause = until
			}
		}
		opened := m.breaker.opened
		m.breaker.record(true, probe, now)
		m.stats.Opened.Add(m.breaker.opened - opened)
	}
}

// scale is how much longer a call of a whole power of two of rows takes than one of rows.
func (m *Model) scale(rows int) float64 {
	whole := 1
	for whole < rows {
		whole *= 2
	}
	if t := m.service.seconds(rows); t > 0 {
		return m.service.seconds(whole) / t
	}
	return 1
}

// recentCalls are the last calls' times, as multiples of what was expected of their sizes.
type recentCalls struct {
	times  []float64
	at     int
	sorted []float64 // of some calls ago
	stale  int
}

const (
	recentMost  = 128
	recentLeast = 20 // calls before anything is said about them
)

func (r *recentCalls) add(took, expected float64) {
	if expected <= 0 {
		return
	}
	if len(r.times) < recentMost {
		r.times = append(r.times, took/expected)
	} else {
		r.times[r.at] = took / expected
		r.at = (r.at + 1) % recentMost
	}
	r.stale++
}

// quantile sorts anew after every eighth call.
func (r *recentCalls) quantile(q float64) (float64, bool) {
	if len(r.times) < recentLeast {
		return 0, false
	}
	if r.sorted == nil || r.stale >= 8 {
		r.sorted = append(r.sorted[:0], r.times...)
		slices.Sort(r.sorted)
		r.stale = 0
	}
	return r.sorted[min(int(q*float64(len(r.sorted))), len(r.sorted)-1)], true
}

// hedgeAfter is when a second call is worth sending (Dean and Barroso, The Tail at Scale, 2013).
func (m *Model) hedgeAfter(rows int) (time.Duration, bool) {
	if m.cfg.Hedge <= 0 || m.cfg.Hedge >= 1 || m.cfg.Concurrency < 2 {
		return 0, false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	q, ok := m.recent.quantile(m.cfg.Hedge)
	if !ok || m.breaker.state != BreakerClosed {
		return 0, false
	}
	return time.Duration(q * m.service.seconds(rows) * float64(time.Second)), true
}
