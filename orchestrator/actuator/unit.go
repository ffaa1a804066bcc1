package actuator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/internal/backoff"
	"github.com/freshet-io/freshet/orchestrator"
)

// Options says how a Unit calls its driver. Zero fields take the defaults.
type Options struct {
	// Retry is for failures that may pass: by default 4 calls, 200 ms to 5 s apart.
	Retry backoff.Retry
	// Timeout bounds one call of a Unit, its repetitions included; 30 s by default.
	Timeout time.Duration
	// Logger hears of orders that ended because nobody renewed them.
	Logger *slog.Logger
}

// Unit is the caller's side of a driver, and a Driver itself: it lets one call run at a time, repeats
// what may pass, refuses orders that the driver cannot carry out, and takes orders back
// at their expiry where they do not end by themselves. It does that as long as its process
// lives; the next process does it in Resume.
//
// Orders that were refused, a Conflict among them, prolong nothing: when the last accepted ones expire the driver
// lets go, which leaves alone what someone else has written, and orders begin anew from there.
type Unit struct {
	d       Driver
	caps    Capabilities
	retry   backoff.Retry
	timeout time.Duration
	log     *slog.Logger

	gate  chan struct{}   // one call at a time
	until time.Time       // when the orders in force expire; whoever is in the gate may touch it
	wake  chan struct{}   // until has changed
	life  context.Context // ends with Close, and every call with it
	end   context.CancelFunc
	watch sync.WaitGroup
	close sync.Once
}

var errClosed = errkind.New(errkind.Closed, "the actuator is closed")

// New returns the Unit of a driver, which it closes with itself.
func New(d Driver, o Options) *Unit {
	if o.Timeout <= 0 {
		o.Timeout = 30 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	u := &Unit{
		d: d, caps: d.Capabilities(), timeout: o.Timeout, log: o.Logger,
		retry: o.Retry.Or(backoff.Retry{Attempts: 4, Min: 200 * time.Millisecond, Max: 5 * time.Second}),
		gate:  make(chan struct{}, 1), wake: make(chan struct{}, 1),
	}
	u.life, u.end = context.WithCancel(context.Background())
	if !u.caps.Expires {
		u.watch.Go(u.watchExpiry)
	}
	return u
}

// Capabilities implements Driver. Orders of a Unit expire while its process lives; Expires says
// whether they do without it.
func (u *Unit) Capabilities() Capabilities { return u.caps }

// Status implements Driver.
func (u *Unit) Status(ctx context.Context) (s Status, err error) {
	err = u.call(ctx, func(ctx context.Context) (err error) {
		s, err = u.d.Status(ctx)
		return err
	})
	return s, err
}

// Resume takes up what an earlier process has left: orders that have expired are taken back, others
// are watched from now on. It returns what is there then.
func (u *Unit) Resume(ctx context.Context) (Status, error) {
	var s Status
	err := u.call(ctx, func(ctx context.Context) (err error) {
		if s, err = u.d.Status(ctx); err == nil && !s.Expires.IsZero() {
			u.rule(s.Expires)
		}
		return err
	})
	// Not only where Ours: somebody else may have changed a part of it, and Revert leaves that alone.
	if err != nil || s.Expires.IsZero() || time.Until(s.Expires) > 0 {
		return s, err
	}
	if err := u.Revert(ctx); err != nil {
		return s, fmt.Errorf("take back orders that expired at %v: %w", s.Expires.UTC().Format(time.RFC3339), err)
	}
	return u.Status(ctx)
}

// Apply implements Driver. Orders that are not the driver's to carry out are Unsupported, absurd
// ones and those that expire in the past Invalid.
func (u *Unit) Apply(ctx context.Context, o orchestrator.Orders, expires time.Time) error {
	if err := Check(u.caps, o); err != nil {
		return err
	}
	if time.Until(expires) <= 0 {
		return errkind.Errorf(errkind.Invalid, "apply orders: they expire at %v, which has passed", expires.UTC().Format(time.RFC3339))
	}
	return u.call(ctx, func(ctx context.Context) error {
		err := u.d.Apply(ctx, o, expires)
		// Orders whose answer was lost are perhaps in force.
		if k := errkind.Of(err); err == nil || k.Retryable() || k == errkind.Canceled {
			u.rule(expires)
		}
		return err
	})
}

// Revert implements Driver.
func (u *Unit) Revert(ctx context.Context) error {
	return u.call(ctx, func(ctx context.Context) error {
		err := u.d.Revert(ctx)
		if err == nil {
			u.rule(time.Time{})
		}
		return err
	})
}

// Close implements Driver: it does not revert. Orders that do not end by themselves
// stay until somebody resumes or reverts them.
func (u *Unit) Close() (err error) {
	u.close.Do(func() {
		u.end()
		u.watch.Wait()
		u.gate <- struct{}{} // whoever is still in it
		err = u.d.Close()
		<-u.gate
	})
	return err
}

// most is the largest number that any server of orders takes.
const most = math.MaxInt32

// Check returns an error where orders are absurd (Invalid) or ask for what the capabilities
// have not (Unsupported). Drivers call it first.
func Check(c Capabilities, o orchestrator.Orders) error {
	switch {
	case o.Workers < 0 || o.Workers > most || o.Batch < 0 || o.Batch > most || !(o.Route.Share >= 0 && o.Route.Share <= 1) || o.Route.Share > 0 && o.Route.To == "":
		return errkind.Errorf(errkind.Invalid, "absurd orders: %d workers, batches of %d, a share of %v to %q", o.Workers, o.Batch, o.Route.Share, o.Route.To)
	case !c.Workers && o.Workers != 0:
		return errkind.New(errkind.Unsupported, "the number of workers cannot be ordered here")
	case !c.Batch && o.Batch != 0:
		return errkind.New(errkind.Unsupported, "the size of batches cannot be ordered here")
	case !c.Route && o.Route != (orchestrator.Route{}):
		return errkind.New(errkind.Unsupported, "events cannot be sent elsewhere here")
	}
	return nil
}

// call runs one call at a time and repeats it while its failure may pass.
func (u *Unit) call(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, u.timeout)
	defer cancel()
	defer context.AfterFunc(u.life, cancel)()
	select {
	case u.gate <- struct{}{}:
		defer func() { <-u.gate }()
	case <-ctx.Done():
	}
	switch {
	case u.life.Err() != nil:
		return errClosed
	case ctx.Err() != nil:
		return fmt.Errorf("wait for the call before: %w", ctx.Err())
	}
	for n := 0; ; n++ {
		err := f(ctx)
		if err == nil || ctx.Err() != nil || !errkind.Of(err).Retryable() || n+1 >= u.retry.Attempts {
			return err
		}
		pause := time.NewTimer(u.retry.Wait(n, errkind.Of(err)))
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return errors.Join(err, ctx.Err())
		}
	}
}

// watchExpiry takes orders back when they have expired, and tries until it has.
func (u *Unit) watchExpiry() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for failures := 0; ; {
		select {
		case <-u.life.Done():
			return
		case <-u.wake:
			failures = 0
		case <-timer.C:
		}
		left, err := u.endExpired(u.life)
		switch {
		case err == nil && left > 0:
			timer.Reset(left)
		case err == nil:
			timer.Stop()
		case u.life.Err() == nil:
			if failures == 0 {
				u.log.Error("orders have expired and cannot be taken back; trying again", "error", err)
			}
			timer.Reset(u.retry.Wait(min(failures, 10), errkind.Of(err)))
			failures++
		}
	}
}

// endExpired reverts if the orders in force have expired, and returns how long they have left; 0
// where there are none.
func (u *Unit) endExpired(ctx context.Context) (left time.Duration, err error) {
	err = u.call(ctx, func(ctx context.Context) error {
		if u.until.IsZero() {
			return nil
		}
		if left = time.Until(u.until); left > 0 {
			return nil
		}
		left = 0
		if err := u.d.Revert(ctx); err != nil {
			return err
		}
		u.log.Warn("orders were not renewed and have been taken back", "expired", u.until)
		u.until = time.Time{}
		return nil
	})
	return left, err
}

// rule notes when the orders in force expire; the zero time: there are none.
func (u *Unit) rule(until time.Time) {
	u.until = until
	select {
	case u.wake <- struct{}{}:
	default: // it has not seen the last one yet
	}
}
