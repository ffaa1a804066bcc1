package pulsar

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/apache/pulsar-client-go/pulsar"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/internal/endpoint"
)

var errClosed = errkind.New(errkind.Closed, "the broker is closed")

// fail gives an error of the client library its kind and says what failed.
func (d *Driver) fail(ctx context.Context, what string, err error) error {
	switch {
	case err == nil:
		return nil
	case d.ctx.Err() != nil:
		return errClosed
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", what, ctx.Err())
	case errkind.Of(err) != errkind.Unknown && !errors.Is(err, context.Canceled):
		return fmt.Errorf("%s: %w", what, err)
	}
	return errkind.Errorf(kindOf(err), "%s: %w", what, err)
}

// kindOf reads the kind of an error of the client library. It says what the
// server answered in words only.
func kindOf(err error) errkind.Kind {
	var e *pulsar.Error
	if errors.As(err, &e) {
		switch e.Result() {
		case pulsar.TopicNotFound:
			return errkind.NotFound
		case pulsar.ProducerFenced:
			return errkind.Conflict
		case pulsar.MessageTooBig, pulsar.InvalidMessage, pulsar.AddToBatchFailed:
			return errkind.Invalid
		case pulsar.TopicTerminated:
			return errkind.Permanent
		case pulsar.ProducerBlockedQuotaExceededException, pulsar.ProducerBlockedQuotaExceededError:
			return errkind.Exhausted
		case pulsar.AuthenticationError, pulsar.AuthorizationError:
			return errkind.Config
		}
	}
	if k := endpoint.NetworkKind(err); k != errkind.Unknown && k != errkind.Canceled {
		return k
	}
	text := err.Error()
	for _, f := range []struct {
		word string
		kind errkind.Kind
	}{
		{"TopicNotFound", errkind.NotFound}, {"ProducerFenced", errkind.Conflict},
		{"AuthenticationError", errkind.Config}, {"AuthorizationError", errkind.Config}, {"x509:", errkind.Config},
		{"exceeds MaxMessageSize", errkind.Invalid}, {"NotAllowedError", errkind.Invalid},
		{"ProducerBlockedQuota", errkind.Exhausted}, {"TooManyRequests", errkind.Throttled},
		{"TopicTerminated", errkind.Permanent},
	} {
		if strings.Contains(text, f.word) {
			return f.kind
		}
	}
	return errkind.Transient // what is left is about connections
}

// await runs f, which cannot be cancelled but ends within the driver's timeout,
// and returns early when ctx or the driver ends; drop then takes what f brings.
func await[T any](ctx context.Context, d *Driver, f func() (T, error), drop func(T)) (T, error) {
	type result struct {
		v   T
		err error
	}
	var none T
	if err := d.enter(ctx); err != nil {
		return none, err
	}
	done := make(chan result, 1)
	if !d.spawn(func() {
		v, err := f()
		done <- result{v, err}
	}) {
		return none, errClosed
	}
	abandon := func() {
		d.spawn(func() {
			if r := <-done; r.err == nil && drop != nil {
				drop(r.v)
			}
		})
	}
	select {
	case r := <-done:
		return r.v, r.err
	case <-ctx.Done():
		abandon()
		return none, ctx.Err()
	case <-d.ctx.Done():
		abandon()
		return none, errClosed
	}
}

func isClosed(err error) bool {
	return errors.Is(err, pulsar.ErrProducerClosed) || errors.Is(err, pulsar.ErrProducerFenced)
}
