package lookup

import (
	"context"
	"sync"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/internal/backoff"
)

// Retry is how failed requests are repeated: by default 3 attempts, pauses from 20 ms to 1 s. The pauses
// after requests that failed in the end begin and grow in the same way.
type Retry = backoff.Retry

var defaultRetry = Retry{Attempts: 3, Min: 20 * time.Millisecond, Max: time.Second}

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
	h.until = now.Add(r.Wait(h.failures, errkind.Of(err)))
	h.failures++
	h.err, h.probe = err, time.Time{}
	h.mu.Unlock()
}
