package inference

import (
	"context"
	"time"

	"github.com/freshet-io/freshet/errkind"
)

// flight is a call on a goroutine of its own, so that nobody has to wait for a
// driver that does not return when it is told to.
type flight struct {
	in, out []Tensor
	err     error
	took    time.Duration
	second  bool // sent because the first took long
	over    bool // the driver has returned; under Model.mu, as is left
	left    bool // nobody waits for it any more
	landed  chan<- *flight
}

// guarded makes a call, and a second one where the first takes longer than most,
// until one is answered or the deadline has passed. Requests that expire
// meanwhile are answered at once.
func (m *Model) guarded(w *worker, in []Tensor, rows int, deadline time.Time) ([]Tensor, error) {
	ctx, cancel := context.WithDeadline(m.ctx, deadline)
	defer cancel()
	if err := m.reserve(ctx, w); err != nil {
		return nil, err
	}
	landed := make(chan *flight, 2)
	flights := make([]*flight, 1, 2)
	flights[0] = m.launch(ctx, in, resize(w.out, len(m.meta.Outputs)), landed, false)
	w.out = nil
	// Whoever is still under way when this returns is left behind, and the storage with it.
	under := 1
	defer func() {
		if under > 0 {
			w.shared = true
			m.leave(flights)
		}
	}()

	var hedge <-chan time.Time
	if after, ok := m.hedgeAfter(rows); ok {
		timer := time.NewTimer(after)
		defer timer.Stop()
		hedge = timer.C
	}
	var alarm alarm
	defer alarm.stop()
	var failed error
	for {
		select {
		case f := <-landed:
			under--
			if f.err == nil {
				if f.second {
					m.stats.HedgeWins.Add(1)
				}
				w.out = f.out
				return f.out, nil
			}
			if failed == nil {
				failed = f.err
			}
			if under == 0 || !errkind.Of(f.err).Retryable() {
				if under == 0 {
					w.out = f.out
				}
				return nil, failed
			}
		case <-hedge:
			if m.reserveSecond() {
				m.stats.Hedges.Add(1)
				flights = append(flights, m.launch(ctx, in, make([]Tensor, len(m.meta.Outputs)), landed, true))
				under++
			}
		case <-alarm.next(w):
			if m.expire(w, time.Now()); w.left == 0 {
				return nil, ErrExpired
			}
		case <-ctx.Done():
			select {
			case f := <-landed:
				if f.err == nil {
					under--
					w.out = f.out
					return f.out, nil
				}
			default:
			}
			if m.ctx.Err() != nil {
				return nil, errkind.New(errkind.Closed, "the model was closed during the call")
			}
			m.stats.Timeouts.Add(1)
			return nil, errkind.Errorf(errkind.Transient, "no answer within the time for a call: %w", context.DeadlineExceeded)
		}
	}
}

// alarm wakes a worker when the next request of its batch expires.
type alarm struct {
	at    time.Time
	timer *time.Timer
}

// next is nil, which never wakes, where no request expires.
func (a *alarm) next(w *worker) <-chan time.Time {
	t, ok := w.expiry(false)
	switch {
	case !ok:
		return nil
	case a.timer == nil:
		a.at, a.timer = t, time.NewTimer(time.Until(t))
	case !a.at.Equal(t):
		a.at = t
		a.timer.Reset(time.Until(t))
	}
	return a.timer.C
}

func (a *alarm) stop() {
	if a.timer != nil {
		a.timer.Stop()
	}
}

// launch starts a call; a place for it has been reserved.
func (m *Model) launch(ctx context.Context, in, out []Tensor, landed chan<- *flight, second bool) *flight {
	f := &flight{in: in, out: out, landed: landed, second: second}
	m.flights.Go(func() {
		start := time.Now()
		err := m.infer(ctx, f.in, f.out)
		f.err, f.took = err, time.Since(start)
		m.mu.Lock()
		m.calls--
		f.over = true
		if f.left {
			m.behind--
		}
		m.mu.Unlock()
		m.passOn()
		f.landed <- f // has room for all
	})
	return f
}

// leave gives up waiting for calls under way.
func (m *Model) leave(flights []*flight) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, f := range flights {
		if !f.over {
			f.left = true
			m.behind++
		}
	}
}

// passOn tells one who waits for a place that there is one.
func (m *Model) passOn() {
	select {
	case m.freed <- struct{}{}:
	default:
	}
}

// reserve takes a place for a call. It has to wait only where calls left behind hold them all.
func (m *Model) reserve(ctx context.Context, w *worker) error {
	var alarm alarm
	defer alarm.stop()
	for {
		m.mu.Lock()
		if m.calls < m.cfg.Concurrency {
			m.calls++
			more := m.calls < m.cfg.Concurrency
			m.mu.Unlock()
			if more {
				m.passOn()
			}
			return nil
		}
		behind := m.behind
		m.mu.Unlock()
		select {
		case <-m.freed:
		case <-alarm.next(w):
			if m.expire(w, time.Now()); w.left == 0 {
				return ErrExpired
			}
		case <-ctx.Done():
			if m.ctx.Err() != nil {
				return errkind.New(errkind.Closed, "the model is closed")
			}
			m.stats.Timeouts.Add(1)
			return errkind.Errorf(errkind.Transient, "all places for calls are taken, %d of them by calls that overran their deadline: %w", behind, context.DeadlineExceeded)
		}
	}
}

// reserveSecond takes a place for a second call, where one is free and the budget allows it.
func (m *Model) reserveSecond() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.calls >= m.cfg.Concurrency || !m.budget.spend() {
		return false
	}
	m.calls++
	return true
}
