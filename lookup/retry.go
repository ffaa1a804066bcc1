package lookup

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/freshet-io/freshet/errkind"
)

// Retry says how often and how fast a failed request is repeated. Only
// failures whose kind is Transient or Throttled are. A zero field takes its default.
type Retry struct {
	// Attempts is the largest number of calls, the first one included; 3 by default.
	Attempts int
	// Min is the pause before the first repetition; it doubles with each, and is
	// four times as long after a Throttled failure. 20 ms by default. The pauses
	// after requests that failed in the end begin and grow in the same way.
	Min time.Duration
	// Max bounds the pause. 1 s by default.
	Max time.Duration
	// Rand returns numbers in [0, 1) from which half of each pause is drawn; nil
	// is math/rand/v2.
	Rand func() float64
}

func (r Retry) withDefaults() Retry {
	if r.Attempts <= 0 {
		r.Attempts = 3
	}
	if r.Min <= 0 {
		r.Min = 20 * time.Millisecond
	}
	if r.Max <= 0 {
		r.Max = time.Second
	}
	if r.Rand == nil {
		r.Rand = rand.Float64
	}
	return r
}

// wait returns the pause after failure number n, counted from 0.
func (r *Retry) wait(n int, k errkind.Kind) time.Duration {
	d := r.Min
	if k == errkind.Throttled {
		d *= 4
	}
	for ; n > 0 && d < r.Max; n-- {
		d *= 2
	}
	d = min(d, r.Max)
	return d/2 + time.Duration(r.Rand()*float64(d/2))
}

// MayPass reports whether err, of Lookup or Check, may be gone when the call
// is repeated: a server that cannot be reached or asks for less, in contrast to
// wrong credentials or a table that does not exist.
func MayPass(err error) bool { return errkind.Of(err).Retryable() }

// Wait returns when the table asks its server again: at once unless the last
// request failed, otherwise after a pause that grows with each failure up to
// Retry.Max. It returns ctx's error when that ends first, and a Closed error
// after Close.
func (t *Table) Wait(ctx context.Context) error {
	pause := time.NewTimer(t.health.pause(t.cfg.Now()))
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-ctx.Done():
	case <-t.ctx.Done():
	}
	if t.ctx.Err() != nil {
		return closedError()
	}
	return ctx.Err()
}

// health remembers that requests fail, so that not every caller waits for the
// timeout again. After a failure requests are refused for a pause; then one is
// let through, and its outcome decides.
type health struct {
	mu       sync.Mutex
	failures int
	until    time.Time // requests are refused before
	probe    time.Time // and before this, while one tries
	err      error
}

// admit returns nil where a request may be made.
func (h *health) admit(now time.Time, timeout time.Duration) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failures == 0 {
		return nil
	}
	if now.Before(h.until) || now.Before(h.probe) {
		return errkind.Errorf(errkind.Of(h.err), "not asked again yet after: %w", h.err)
	}
	h.probe = now.Add(timeout)
	return nil
}

func (h *health) pause(now time.Time) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failures == 0 {
		return 0
	}
	if d := h.until.Sub(now); d > 0 {
		return d
	}
	if h.probe.After(now) {
		return 5 * time.Millisecond // somebody tries; look again soon
	}
	return 0
}

func (h *health) up() {
	h.mu.Lock()
	h.failures, h.err, h.probe = 0, nil, time.Time{}
	h.mu.Unlock()
}

// unknown ends a probe that was given up.
func (h *health) unknown() {
	h.mu.Lock()
	h.probe = time.Time{}
	h.mu.Unlock()
}

func (h *health) down(now time.Time, r *Retry, err error) {
	h.mu.Lock()
	h.until = now.Add(r.wait(h.failures, errkind.Of(err)))
	h.failures++
	h.err, h.probe = err, time.Time{}
	h.mu.Unlock()
}
