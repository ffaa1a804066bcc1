package broker

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/freshet-io/freshet/errkind"
)

// Retry says how often and how fast a failed call is repeated. Only failures
// whose kind is Transient or Throttled are. A zero field takes its default.
type Retry struct {
	// Attempts is the largest number of calls, the first one included; 8 by
	// default, about 3 s in all.
	Attempts int
	// Min is the wait before the first repetition; it doubles with each, and is
	// four times as long after a Throttled failure. 20 ms by default.
	Min time.Duration
	// Max bounds the wait. 2 s by default.
	Max time.Duration
	// Rand returns numbers in [0, 1) from which half of each wait is drawn, so
	// that callers which failed together do not come back together; nil is
	// math/rand/v2.
	Rand func() float64
}

func (r Retry) withDefaults() Retry {
	if r.Attempts <= 0 {
		r.Attempts = 8
	}
	if r.Min <= 0 {
		r.Min = 20 * time.Millisecond
	}
	if r.Max <= 0 {
		r.Max = 2 * time.Second
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

// do calls f until it succeeds, fails for good, has had its attempts, or ctx
// or the broker ends.
func (b *Broker) do(ctx context.Context, f func() error) error {
	return b.attempt(ctx, f, errkind.Kind.Retryable)
}

// doUnlessUnknown is do for calls that must not be repeated after an unknown
// outcome: a bare deadline error, which counts as Transient elsewhere, says
// nothing of the outcome.
func (b *Broker) doUnlessUnknown(ctx context.Context, f func() error) error {
	timedOut := false
	g := func() error {
		err := f()
		timedOut = errors.Is(err, context.DeadlineExceeded)
		return err
	}
	return b.attempt(ctx, g, func(k errkind.Kind) bool { return k.Retryable() && !timedOut })
}

func (b *Broker) attempt(ctx context.Context, f func() error, again func(errkind.Kind) bool) error {
	for n := 0; ; n++ {
		select {
		case <-b.closed:
			return errkind.New(errkind.Closed, "the broker is closed")
		default:
		}
		err := f()
		if err == nil {
			return nil
		}
		k := errkind.Of(err)
		if !again(k) || ctx.Err() != nil {
			return err
		}
		if n+1 >= b.retry.Attempts {
			return fmt.Errorf("given up after %d attempts: %w", n+1, err)
		}
		t := time.NewTimer(b.retry.wait(n, k))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return fmt.Errorf("%w while waiting to repeat after: %s", ctx.Err(), err.Error())
		case <-b.closed:
			t.Stop()
			return errkind.Errorf(errkind.Closed, "the broker was closed while waiting to repeat after: %s", err.Error())
		}
	}
}
