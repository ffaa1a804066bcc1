package state

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/internal/backoff"
)

// Retry is how calls of Objects are repeated: by default 6 attempts, waits from 50 ms to 5 s.
type Retry = backoff.Retry

var defaultRetry = Retry{Attempts: 6, Min: 50 * time.Millisecond, Max: 5 * time.Second}

// WithRetry returns o with its names checked and its calls repeated; it owns o.
// Put is repeated where its reader is an io.Seeker. A Create whose outcome was
// unknown may meet its own object and be a Conflict. The reader that Get returns
// is not repeated. After Close calls are Closed.
func WithRetry(o Objects, r Retry) Objects {
	return &retrying{o: o, r: r.Or(defaultRetry), closed: make(chan struct{})}
}

type retrying struct {
	o      Objects
	r      Retry
	once   sync.Once
	closed chan struct{}
}

func (t *retrying) Put(ctx context.Context, name string, size int64, r io.Reader) error {
	if err := CheckName(name); err != nil {
		return err
	}
	if size < 0 {
		return errkind.Errorf(errkind.Invalid, "put %s: a size of %d", name, size)
	}
	seeker, again := r.(io.Seeker)
	var start int64
	if again {
		var err error
		if start, err = seeker.Seek(0, io.SeekCurrent); err != nil {
			again = false
		}
	}
	first := true
	return t.do(ctx, "put "+name, again, func() error {
		if !first {
			if _, err := seeker.Seek(start, io.SeekStart); err != nil {
				return errkind.Errorf(errkind.Permanent, "read what is to be put once more: %w", err)
			}
		}
		first = false
		return t.o.Put(ctx, name, size, r)
	})
}

func (t *retrying) Create(ctx context.Context, name string, data []byte) error {
	if err := CheckName(name); err != nil {
		return err
	}
	return t.do(ctx, "create "+name, true, func() error { return t.o.Create(ctx, name, data) })
}

func (t *retrying) Get(ctx context.Context, name string) (r io.ReadCloser, err error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	err = t.do(ctx, "get "+name, true, func() error {
		r, err = t.o.Get(ctx, name)
		return err
	})
	return r, err
}

func (t *retrying) List(ctx context.Context, prefix string) (all []Object, err error) {
	err = t.do(ctx, "list "+prefix, true, func() error {
		all, err = t.o.List(ctx, prefix)
		return err
	})
	return all, err
}

func (t *retrying) Delete(ctx context.Context, name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	return t.do(ctx, "delete "+name, true, func() error { return t.o.Delete(ctx, name) })
}

func (t *retrying) Close() (err error) {
	t.once.Do(func() {
		close(t.closed)
		err = t.o.Close()
	})
	return err
}

func (t *retrying) do(ctx context.Context, what string, again bool, f func() error) error {
	for n := 1; ; n++ {
		select {
		case <-t.closed:
			return errkind.Errorf(errkind.Closed, "%s: the object store is closed", what)
		default:
		}
		err := f()
		if err == nil {
			return nil
		}
		k := errkind.Of(err)
		if !k.Retryable() || !again || ctx.Err() != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		if n >= t.r.Attempts {
			return fmt.Errorf("%s: given up after %d attempts: %w", what, n, err)
		}
		timer := time.NewTimer(t.r.Wait(n-1, k))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("%s: %w while waiting to repeat after: %s", what, ctx.Err(), err.Error())
		case <-t.closed:
			timer.Stop()
			return errkind.Errorf(errkind.Closed, "%s: the object store was closed while waiting to repeat after: %s", what, err.Error())
		}
	}
}
