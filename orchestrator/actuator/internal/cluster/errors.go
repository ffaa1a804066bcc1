package cluster

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/internal/endpoint"
)

// Kind is the kind of an error of the API server or of the way to it. What it calls Conflict is
// a write that came too late (another resource version).
func Kind(err error) errkind.Kind {
	var answer apierrors.APIStatus
	switch {
	case apierrors.IsUnauthorized(err), apierrors.IsForbidden(err):
		return errkind.Config
	case apierrors.IsNotFound(err), apierrors.IsGone(err):
		return errkind.NotFound
	case apierrors.IsConflict(err):
		return errkind.Conflict
	case apierrors.IsTooManyRequests(err):
		return errkind.Throttled
	case apierrors.IsTimeout(err), apierrors.IsServerTimeout(err), apierrors.IsUnexpectedServerError(err),
		errors.As(err, &answer) && answer.Status().Code >= 500: // also of a proxy before the server
		return errkind.Transient
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err):
		return errkind.Invalid
	}
	if k := endpoint.NetworkKind(err); k != errkind.Unknown {
		return k
	}
	if k := errkind.Of(err); k != errkind.Unknown {
		return k
	}
	return errkind.Permanent
}

// wrap says what failed. A context that has ended is what ended the call, whatever the client makes of it.
func (t *Target) wrap(ctx context.Context, doing string, err error) error {
	k := Kind(err)
	switch cause := ctx.Err(); {
	case errors.Is(cause, context.Canceled):
		k = errkind.Canceled
	case cause != nil:
		k = errkind.Transient
	}
	return errkind.Errorf(k, "%s: %s: %w", t, doing, err)
}

// Failed wraps what a request came to; nil stays nil.
func (t *Target) Failed(ctx context.Context, doing string, err error) error {
	if err == nil {
		return nil
	}
	return t.wrap(ctx, doing, err)
}

// tries is how often a read and the writes built on it are repeated when another write came
// between: controllers update the status of busy objects dozens of times a second. The timeout of the
// call is what ends them in practice.
const tries = 100

// errLate marks a write that came too late.
var errLate = errors.New("changed in between")

// Write wraps what a write came to. One that came too late makes Settle begin again.
func (t *Target) Write(ctx context.Context, doing string, err error) error {
	if apierrors.IsConflict(err) && ctx.Err() == nil {
		return errLate
	}
	return t.Failed(ctx, doing, err)
}

// Late makes Settle begin again.
func Late() error { return errLate }

// Settle repeats f, which reads an object and writes what follows from it, until no other write
// came between.
func (t *Target) Settle(ctx context.Context, f func() error) error {
	for n := range tries {
		if err := f(); !errors.Is(err, errLate) {
			return err
		}
		pause := time.NewTimer(time.Duration(rand.Int64N(int64(5*time.Millisecond) << min(n, 4))))
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return t.wrap(ctx, "write", ctx.Err())
		}
	}
	return errkind.Errorf(errkind.Transient, "%s: other writes came between each of %d times", t, tries)
}
