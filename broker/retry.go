package broker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/internal/backoff"
)

// Retry is how failed calls are repeated: by default 8 attempts, waits from 20 ms to 2 s, about 3 s in all.
type Retry = backoff.Retry

var defaultRetry = Retry{Attempts: 8, Min: 20 * time.Millisecond, Max: 2 * time.Second}

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
	var began time.Time
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
		if n == 0 {
			began = time.Now()
		}
		wait := b.retry.Wait(n, k)
		if b.wait > 0 {
			if waited := time.Since(began); waited+wait > b.wait {
				return fmt.Errorf("given up after %s: %w", waited.Round(time.Millisecond), err)
			} else if waited > tellAfter {
				b.tell(err, waited)
			}
		} else if n+1 >= b.retry.Attempts {
			return fmt.Errorf("given up after %d attempts: %w", n+1, err)
		}
		t := time.NewTimer(wait)
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

// The log is told of a broker that has failed for tellAfter, and every tellEvery.
const (
	tellAfter = time.Second
	tellEvery = 10 * time.Second
)

func (b *Broker) tell(err error, waited time.Duration) {
	now := time.Now().UnixNano()
	told := b.told.Load()
	if now-told >= int64(tellEvery) && b.told.CompareAndSwap(told, now) {
		b.log.Warn("waiting for the broker", "waited", waited.Round(time.Second), "give_up_after", b.wait, "error", err)
	}
}
