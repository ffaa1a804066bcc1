package state

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/freshet-io/freshet/errkind"
)

// Retry says how often and how fast a call of Objects is repeated whose
// failure is Transient or Throttled. A zero field takes its default.
type Retry struct {
	// Attempts is the largest number of calls, the first included; 6 by default.
	Attempts int
	// Min is the wait before the first repetition; it doubles with each, and is
	// four times as long after a Throttled failure. 50 ms by default.
	Min time.Duration
	// Max bounds the wait. 5 s by default.
	Max time.Duration
	// Rand returns numbers in [0, 1) from which half of each wait is drawn; nil
	// is math/rand/v2.
	Rand func() float64
}

func (r Retry) withDefaults() Retry {
	if r.Attempts <= 0 {
		r.Attempts = 6
	}
	if r.Min <= 0 {
		r.Min = 50 * time.Millisecond
	}
	if r.Max <= 0 {
		r.Max = 5 * time.Second
	}
	if r.Rand == nil {
		r.Rand = rand.Float64
	}
	return r
}

// WithRetry returns o with its names checked and its calls repeated; it owns o.
// Put is repeated where its reader is an io.Seeker. A Create whose outcome was
// unknown may meet its own object and be a Conflict. The reader that Get returns
// is not repeated. After Close calls are Closed.
func WithRetry(o Objects, r Retry) Objects {
	return &retrying{o: o, r: r.withDefaults(), closed: make(chan struct{})}
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
		timer := time.NewTimer(t.r.wait(n, k))
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

// wait returns the pause after failure number n, counted from 1.
func (r *Retry) wait(n int, k errkind.Kind) time.Duration {
	d := r.Min
	if k == errkind.Throttled {
		d *= 4
	}
	for ; n > 1 && d < r.Max; n-- {
		d *= 2
	}
	d = min(d, r.Max)
	return d/2 + time.Duration(r.Rand()*float64(d/2))
}
