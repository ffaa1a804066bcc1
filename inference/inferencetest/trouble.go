package inferencetest

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
)

// golden holds known rows against the driver's answers, together and one by one.
func (e *env) golden(g *Golden) {
	tol := g.Tolerance
	if tol <= 0 {
		tol = 1e-5
	}
	n := g.In[0].Rows()
	for from := 0; from < n; from += e.rows(n) {
		in, want := rowsOf(g.In, from, min(n, from+e.rows(n))), rowsOf(g.Out, from, min(n, from+e.rows(n)))
		if err := differ(e.infer(in), want, tol); err != nil {
			e.Fatalf("rows from %d, got and expected: %v", from, err)
		}
	}
	for r := range min(n, 20) {
		if err := differ(e.infer(row(g.In, r)), row(g.Out, r), tol); err != nil {
			e.Fatalf("row %d alone, got and expected: %v", r, err)
		}
	}
}

// rowsOf copies rows [from, to).
func rowsOf(ts []inference.Tensor, from, to int) []inference.Tensor {
	out := row(ts, from)
	for r := from + 1; r < to; r++ {
		one := row(ts, r)
		for k := range out {
			out[k].F32 = append(out[k].F32, one[k].F32...)
			out[k].F64 = append(out[k].F64, one[k].F64...)
			out[k].I64 = append(out[k].I64, one[k].I64...)
			out[k].I32 = append(out[k].I32, one[k].I32...)
			out[k].Bool = append(out[k].Bool, one[k].Bool...)
			out[k].Str = append(out[k].Str, one[k].Str...)
			out[k].Shape[0]++
		}
	}
	return out
}

// fault brings a failure about and holds the errors against its kind.
func (e *env) fault(f *Fault) {
	if f.Open != nil {
		e.use(f.Open(e))
	}
	good := e.batch(e.rows(4), 30)
	want := e.infer(good)
	if f.Provoke != nil {
		f.Provoke(e, e.d)
	}
	in := f.In
	if in == nil {
		in = good
	}
	for range 3 {
		ctx, cancel := context.WithTimeout(e.ctx, e.h.Patience)
		out := e.outputs()
		err := e.d.Infer(ctx, in, out)
		cancel()
		if err == nil {
			e.Fatalf("%s: the call was answered", f.Name)
		}
		if k := errkind.Of(err); k != f.Kind {
			e.Fatalf("%s: kind %v, expected %v: %v", f.Name, k, f.Kind, err)
		}
		if f.RetryAfter > 0 {
			var ra *inference.RetryAfter
			if !errors.As(err, &ra) || ra.After > f.RetryAfter || ra.After < f.RetryAfter/2 {
				e.Fatalf("%s: the error does not carry the pause of %v: %v", f.Name, f.RetryAfter, err)
			}
		}
	}
	if f.Recover != nil {
		f.Recover(e, e.d)
	} else if f.Provoke != nil {
		return
	}
	// Rows at fault leave the driver as it was; what has been repaired comes back.
	e.comesBack(good, want)
}

// comesBack wants the driver to answer as before, by itself.
func (e *env) comesBack(in, want []inference.Tensor) {
	e.Helper()
	for end := time.Now().Add(e.h.Patience); ; {
		out := e.outputs()
		ctx, cancel := context.WithTimeout(e.ctx, e.h.Patience)
		err := e.d.Infer(ctx, in, out)
		cancel()
		if err == nil {
			if err := differ(out, want, e.h.Tolerance); err != nil {
				e.Errorf("another answer afterwards: %v", err)
			}
			return
		}
		if !errkind.Of(err).Retryable() || time.Now().After(end) {
			e.Fatalf("no answer afterwards: %v", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (e *env) late() {
	ctx, cancel := context.WithDeadline(e.ctx, time.Now().Add(-time.Second))
	defer cancel()
	err := e.d.Infer(ctx, e.batch(e.rows(2), 31), e.outputs())
	if !errors.Is(err, context.DeadlineExceeded) || errkind.Of(err) != errkind.Transient {
		e.Errorf("got %v (%v), expected a Transient error that wraps context.DeadlineExceeded", err, errkind.Of(err))
	}
	e.infer(e.batch(e.rows(2), 31)) // the instance is not lost
}

// soon runs a call and fails where it does not return within the time given to it.
func (e *env) soon(what string, within time.Duration, call func()) {
	e.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		call()
	}()
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		e.Fatalf("%s: the call has not returned within %v", what, within)
	}
}

func (e *env) cancelledUnderWay() {
	in := e.batch(e.rows(2000), 32)
	want := e.infer(in)
	for _, wait := range []time.Duration{0, 50 * time.Microsecond, 500 * time.Microsecond, 5 * time.Millisecond} {
		ctx, cancel := context.WithCancel(e.ctx)
		timer := time.AfterFunc(wait, cancel)
		out := e.outputs()
		e.soon("cancelled", e.h.Patience, func() {
			// It may have been quicker.
			if err := e.d.Infer(ctx, in, out); err == nil {
				if err := differ(out, want, e.h.Tolerance); err != nil {
					e.Errorf("answered although cancelled after %v, and wrongly: %v", wait, err)
				}
			} else if !errors.Is(err, context.Canceled) || errkind.Of(err) != errkind.Canceled {
				e.Errorf("cancelled after %v: %v (%v)", wait, err, errkind.Of(err))
			}
		})
		timer.Stop()
		cancel()
		if err := differ(e.infer(in), want, e.h.Tolerance); err != nil {
			e.Fatalf("after a call that was cancelled: %v", err)
		}
	}
}

func (e *env) frozen() {
	if e.h.Freeze == nil {
		e.Skip("the harness has no server that it can freeze")
	}
	in := e.batch(e.rows(3), 33)
	want := e.infer(in)
	thaw := sync.OnceFunc(e.h.Freeze(e, e.d))
	e.Cleanup(thaw)
	const deadline = 300 * time.Millisecond
	// More than there are instances: none may be lost to the frozen server.
	for range e.d.Concurrency() + 2 {
		ctx, cancel := context.WithTimeout(e.ctx, deadline)
		e.soon("frozen server", deadline+e.h.Patience/2, func() {
			err := e.d.Infer(ctx, in, e.outputs())
			if !errors.Is(err, context.DeadlineExceeded) || errkind.Of(err) != errkind.Transient {
				e.Errorf("got %v (%v), expected a Transient error that wraps context.DeadlineExceeded", err, errkind.Of(err))
			}
		})
		cancel()
	}
	ctx, cancel := context.WithCancel(e.ctx)
	time.AfterFunc(50*time.Millisecond, cancel)
	e.soon("frozen server, cancelled", e.h.Patience/2, func() {
		if err := e.d.Infer(ctx, in, e.outputs()); errkind.Of(err) != errkind.Canceled {
			e.Errorf("got %v (%v), expected kind canceled", err, errkind.Of(err))
		}
	})
	thaw()
	e.comesBack(in, want)
}

// held is a driver that leaves closing to the suite.
type held struct{ inference.Driver }

func (held) Close() error { return nil }

func (e *env) model() {
	m := inference.New(held{e.d}, inference.Config{MaxBatch: 16, Cache: inference.Cache{Rows: 1000, TTL: time.Hour}})
	defer func() {
		if err := m.Close(); err != nil {
			e.Error(err)
		}
	}()
	in := e.batch(e.rows(50), 34)
	want := e.infer(in)
	out := e.outputs()
	if err := m.Infer(e.ctx, in, out); err != nil {
		e.Fatal(err)
	}
	if err := differ(out, want, e.h.Tolerance); err != nil {
		e.Fatalf("through a model, and straight: %v", err)
	}
	for _, way := range []string{"by a call", "from the cache"} {
		for r := range min(in[0].Rows(), 10) {
			req := &inference.Request{In: row(in, r)}
			if err := m.Submit(e.ctx, req); err != nil {
				e.Fatal(err)
			}
			if err := req.Wait(e.ctx); err != nil {
				e.Fatal(err)
			}
			if req.Err != nil {
				e.Fatal(req.Err)
			}
			if err := differ(req.Out, row(want, r), e.h.Tolerance); err != nil {
				e.Fatalf("row %d %s, and straight: %v", r, way, err)
			}
		}
	}
}

func (e *env) reload() {
	in := e.batch(e.rows(20), 35)
	want := e.infer(in)
	use := func(d inference.Driver, calls int) {
		out := e.outputs()
		for range calls {
			if err := d.Infer(e.ctx, in, out); err != nil {
				e.Errorf("while others open and close: %v", err)
				return
			}
			if err := differ(out, want, e.h.Tolerance); err != nil {
				e.Errorf("while others open and close: %v", err)
				return
			}
		}
	}
	stop := make(chan struct{})
	var steady, others sync.WaitGroup
	steady.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				use(e.d, 1)
			}
		}
	})
	for range 4 {
		// Open may end the test, which only this goroutine can.
		a, b := e.h.Open(e), e.h.Open(e)
		for _, d := range []inference.Driver{a, b} {
			if got := d.Metadata(); got.Name != e.meta.Name || got.Version != e.meta.Version || got.Digest != e.meta.Digest {
				e.Errorf("opened anew it is %s %s %s, and was %s %s %s", got.Name, got.Version, got.Digest, e.meta.Name, e.meta.Version, e.meta.Digest)
			}
			others.Go(func() {
				use(d, 5)
				if err := d.Close(); err != nil {
					e.Errorf("close beside others: %v", err)
				}
			})
		}
	}
	others.Wait()
	close(stop)
	steady.Wait()
	use(e.d, 1)
}

// many gives a batch of a size that few callers ask for, whose rows must stay in order.
func (e *env) many() {
	n := e.rows(3000)
	in := e.batch(n, 36)
	out := e.infer(in)
	if err := e.fits(out, n); err != nil {
		e.Fatal(err)
	}
	for _, r := range []int{0, 1, n / 3, n / 2, n - 2, n - 1} {
		if r < 0 || r >= n {
			continue
		}
		if err := differ(e.infer(row(in, r)), row(out, r), e.h.Tolerance); err != nil {
			e.Fatalf("row %d alone and among %d: %v", r, n, err)
		}
	}
}
