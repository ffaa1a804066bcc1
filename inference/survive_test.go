package inference

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshet-io/freshet/errkind"
)

// remote answers each row's value plus one by a script: what a server might do.
type remote struct {
	instances int
	do        func(ctx context.Context, call int) error

	calls, inside, most atomic.Int32
	sizes               []int // of calls, where instances is 1
}

func (d *remote) Metadata() Metadata { return (&plusOne{}).Metadata() }
func (d *remote) Concurrency() int   { return max(1, d.instances) }
func (d *remote) Close() error       { return nil }
func (d *remote) Infer(ctx context.Context, in, out []Tensor) error {
	call := int(d.calls.Add(1))
	now := d.inside.Add(1)
	for m := d.most.Load(); now > m && !d.most.CompareAndSwap(m, now); m = d.most.Load() {
	}
	defer d.inside.Add(-1)
	if d.Concurrency() == 1 {
		d.sizes = append(d.sizes, in[0].Rows())
	}
	if d.do != nil {
		if err := d.do(ctx, call); err != nil {
			return err
		}
	}
	return (&plusOne{}).Infer(ctx, in, out)
}

// pass waits, or until the call is over.
func pass(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func expiring(d time.Duration, vs ...float32) *Request {
	r := rows(vs...)
	r.Expires = time.Now().Add(d)
	return r
}

func TestACallEndsAtItsTimeoutOrWithTheLastRowThatCouldUseIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &remote{do: func(ctx context.Context, _ int) error { return pass(ctx, time.Hour) }}
		m := New(d, Config{Timeout: time.Second, Attempts: 1})
		defer m.Close()
		began := time.Now()
		r := rows(1)
		submit(t, m, r)
		wait(t, r)
		if took := time.Since(began); took != time.Second || !errkind.Is(r.Err, errkind.Transient) {
			t.Errorf("answered after %v: %v", took, r.Err)
		}
		began = time.Now()
		r = expiring(300*time.Millisecond, 1)
		submit(t, m, r)
		wait(t, r)
		if took := time.Since(began); took != 300*time.Millisecond || !errors.Is(r.Err, ErrExpired) {
			t.Errorf("a row that expires is answered after %v: %v", took, r.Err)
		}
		if m.Stats().Expired.Load() != 1 || m.Stats().Timeouts.Load() < 1 {
			t.Errorf("expired %d, timeouts %d", m.Stats().Expired.Load(), m.Stats().Timeouts.Load())
		}
	})
}

func TestADriverThatIgnoresItsContextHoldsNoRowsAndCloseIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		d := &remote{instances: 2, do: func(_ context.Context, call int) error {
			if call <= 2 {
				<-release
			}
			return nil
		}}
		m := New(d, Config{Timeout: time.Second, MaxBatch: 2, Attempts: 1})
		began := time.Now()
		first, second := rows(1, 2), rows(3, 4)
		submit(t, m, first)
		submit(t, m, second)
		synctest.Wait()
		queued, forever := expiring(200*time.Millisecond, 5), rows(6, 7)
		submit(t, m, queued)
		submit(t, m, forever)
		wait(t, queued)
		if took := time.Since(began); took != 200*time.Millisecond || !errors.Is(queued.Err, ErrExpired) || queued.Attempts != 0 {
			t.Errorf("a row in the queue expired after %v, %d attempts: %v", took, queued.Attempts, queued.Err)
		}
		wait(t, first)
		wait(t, second)
		if took := time.Since(began); took != time.Second || first.Err == nil || second.Err == nil {
			t.Errorf("rows hang with their calls: %v, %v, %v", took, first.Err, second.Err)
		}
		if h := m.Health(); h.Behind != 2 || h.Outstanding != 2 {
			t.Errorf("%d calls under way, %d left behind", h.Outstanding, h.Behind)
		}
		// What was given may be changed now; the calls left behind read their own copy.
		first.In[0].F32[0] = 99
		wait(t, forever)
		if took := time.Since(began); took != 2*time.Second || !errkind.Is(forever.Err, errkind.Transient) {
			t.Errorf("with every place taken, rows fail after %v: %v", took, forever.Err)
		}
		if d.most.Load() != 2 {
			t.Errorf("%d calls at a time", d.most.Load())
		}
		began = time.Now()
		if err := m.Close(); err == nil || time.Since(began) > 5*time.Second {
			t.Errorf("close took %v: %v", time.Since(began), err)
		}
		close(release)
	})
}

func TestCallsLeftBehindGiveTheirPlaceBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		d := &remote{do: func(_ context.Context, call int) error {
			if call == 1 {
				<-release
			}
			return nil
		}}
		m := New(d, Config{Timeout: time.Second, Attempts: 1})
		a := rows(1)
		submit(t, m, a)
		wait(t, a)
		b := rows(2)
		submit(t, m, b)
		time.Sleep(500 * time.Millisecond)
		close(release)
		wait(t, b)
		if b.Err != nil || b.Out[0].F32[0] != 3 || m.Health().Behind != 0 {
			t.Errorf("after the place was given back: %v, %d behind", b.Err, m.Health().Behind)
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestRowsOfABatchExpireOneByOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &remote{do: func(ctx context.Context, _ int) error { return pass(ctx, time.Second) }}
		m := New(d, Config{})
		defer m.Close()
		block := rows(0)
		submit(t, m, block)
		synctest.Wait()
		short, long, never := expiring(1200*time.Millisecond, 1), expiring(5*time.Second, 2), rows(3)
		for _, r := range []*Request{short, long, never} {
			submit(t, m, r)
		}
		began := time.Now()
		wait(t, short)
		if took := time.Since(began); took != 1200*time.Millisecond || !errors.Is(short.Err, ErrExpired) {
			t.Errorf("the short one is answered after %v: %v", took, short.Err)
		}
		wait(t, long)
		wait(t, never)
		if long.Err != nil || never.Err != nil || long.Out[0].F32[0] != 3 || never.Out[0].F32[0] != 4 || long.BatchRows != 3 {
			t.Errorf("the others: %v, %v", long.Err, never.Err)
		}
		if took := time.Since(began); took != 2*time.Second || !long.Answered.Equal(time.Now()) {
			t.Errorf("the others took %v", took)
		}
		gone := expiring(-time.Second, 1)
		submit(t, m, gone)
		wait(t, gone)
		if !errors.Is(gone.Err, ErrExpired) || d.calls.Load() != 2 {
			t.Errorf("a row that has expired: %v, %d calls", gone.Err, d.calls.Load())
		}
	})
}

func TestTheServersPauseIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls []time.Time
		d := &remote{do: func(_ context.Context, call int) error {
			calls = append(calls, time.Now())
			if call == 1 {
				return RetryAfterError(errkind.New(errkind.Throttled, "429"), 3*time.Second)
			}
			return nil
		}}
		m := New(d, Config{})
		defer m.Close()
		r := rows(1)
		submit(t, m, r)
		synctest.Wait()
		hasty := expiring(time.Second, 2)
		submit(t, m, hasty)
		wait(t, r)
		if r.Err != nil || len(calls) != 2 || calls[1].Sub(calls[0]) != 3*time.Second {
			t.Errorf("%v after calls at %v", r.Err, calls)
		}
		wait(t, hasty)
		if !errors.Is(hasty.Err, ErrExpired) {
			t.Errorf("a row that expires during the pause: %v", hasty.Err)
		}
		if m.Stats().Throttled.Load() != 1 || m.Stats().Retries.Load() != 1 {
			t.Errorf("throttled %d, retries %d", m.Stats().Throttled.Load(), m.Stats().Retries.Load())
		}
	})
}

func TestRowsThatExpireWithinThePauseFailAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &remote{do: func(context.Context, int) error {
			return RetryAfterError(errkind.New(errkind.Throttled, "429"), 3*time.Second)
		}}
		m := New(d, Config{})
		defer m.Close()
		r := expiring(time.Second, 1)
		began := time.Now()
		submit(t, m, r)
		wait(t, r)
		if took := time.Since(began); took != 0 || !errkind.Is(r.Err, errkind.Throttled) {
			t.Errorf("after %v: %v", took, r.Err)
		}
	})
}

func TestRetriesStayWithinTheirBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &remote{do: func(context.Context, int) error { return errkind.New(errkind.Transient, "down") }}
		m := New(d, Config{RetryBudget: 0.1, Breaker: Breaker{Failures: 1}})
		defer m.Close()
		const n = 200
		for range n {
			r := rows(1)
			submit(t, m, r)
			wait(t, r)
		}
		// 10 + one instance at the start, then one a ten.
		if retries := m.Stats().Retries.Load(); retries > 11+n/10 || retries < 11+n/10-2 {
			t.Errorf("%d retries of %d calls", retries, n)
		}
		if m.Stats().OverBudget.Load() == 0 {
			t.Error("no call was left unrepeated")
		}
	})
}

func TestTheBreakerOpensTriesAndCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool
		d := &remote{do: func(context.Context, int) error {
			if down.Load() {
				return errkind.New(errkind.Transient, "down")
			}
			return nil
		}}
		m := New(d, Config{Attempts: 1, Breaker: Breaker{Calls: 10, Pause: time.Second}})
		defer m.Close()
		one := func() error {
			r := rows(1)
			submit(t, m, r)
			wait(t, r)
			return r.Err
		}
		for range 20 {
			if err := one(); err != nil {
				t.Fatal(err)
			}
		}
		down.Store(true)
		failed := 0
		for !errors.Is(one(), ErrOpen) {
			failed++
		}
		if failed != 5 || m.Health().Breaker != BreakerOpen || m.Stats().Opened.Load() != 1 {
			t.Errorf("opened after %d failures of 10 calls, state %v", failed, m.Health().Breaker)
		}
		calls := d.calls.Load()
		for range 100 {
			one()
		}
		if d.calls.Load() != calls {
			t.Error("calls are made while it is open")
		}
		time.Sleep(time.Second)
		if err := one(); err == nil || errors.Is(err, ErrOpen) || d.calls.Load() != calls+1 {
			t.Errorf("the call that tries: %v", err)
		}
		time.Sleep(1500 * time.Millisecond) // the pause has doubled
		if err := one(); !errors.Is(err, ErrOpen) {
			t.Errorf("within the doubled pause: %v", err)
		}
		time.Sleep(500 * time.Millisecond)
		down.Store(false)
		if err := one(); err != nil || m.Health().Breaker != BreakerClosed {
			t.Errorf("the model is well: %v", err)
		}
		// Rows at fault are not the model's.
		for range 50 {
			r := rows(-1)
			submit(t, m, r)
			wait(t, r)
		}
		if m.Health().Breaker != BreakerClosed {
			t.Error("refused rows opened it")
		}
	})
}

func TestRowsWithLittleTimeLeftDoNotOpenTheBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var frozen atomic.Bool
		d := &remote{do: func(ctx context.Context, _ int) error {
			if frozen.Load() {
				return pass(ctx, time.Hour)
			}
			return pass(ctx, 100*time.Millisecond)
		}}
		m := New(d, Config{})
		defer m.Close()
		learn := rows(1)
		submit(t, m, learn)
		wait(t, learn)
		for range 50 {
			r := expiring(50*time.Millisecond, 1)
			submit(t, m, r)
			wait(t, r)
		}
		if m.Health().Breaker != BreakerClosed {
			t.Error("calls cut short by their rows count against the model")
		}
		frozen.Store(true)
		for range 50 {
			r := expiring(500*time.Millisecond, 1)
			submit(t, m, r)
			wait(t, r)
		}
		if m.Health().Breaker != BreakerOpen {
			t.Error("calls that take far longer than they did do not")
		}
	})
}

func TestGarbageForEveryRowIsNotSearchedForACulprit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &remote{do: func(context.Context, int) error { return errkind.New(errkind.Permanent, "garbage") }}
		m := New(d, Config{Breaker: Breaker{Failures: 1}})
		defer m.Close()
		r := rows(make([]float32, 256)...)
		submit(t, m, r)
		wait(t, r)
		if !errkind.Is(r.Err, errkind.Permanent) || d.calls.Load() > 40 {
			t.Errorf("%d calls: %v", d.calls.Load(), r.Err)
		}
	})
}

func TestAFailureOfTheServerIsNotRepeatedForEachRequestOfABatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &remote{do: func(_ context.Context, call int) error {
			if call == 1 {
				time.Sleep(time.Millisecond)
				return nil
			}
			return errkind.New(errkind.Transient, "down")
		}}
		m := New(d, Config{})
		defer m.Close()
		block := rows(0)
		submit(t, m, block)
		synctest.Wait()
		rs := []*Request{rows(1), rows(2), rows(3), rows(4)}
		for _, r := range rs {
			submit(t, m, r)
		}
		for _, r := range rs {
			wait(t, r)
			if !errkind.Is(r.Err, errkind.Transient) || r.Attempts != 3 {
				t.Errorf("%d attempts: %v", r.Attempts, r.Err)
			}
		}
		if d.calls.Load() != 4 {
			t.Errorf("%d calls", d.calls.Load())
		}
	})
}

func TestHedgingCutsTheTailWithinTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &remote{instances: 4}
		d.do = func(ctx context.Context, call int) error {
			if call > 40 && call%10 == 0 {
				return pass(ctx, 5*time.Second) // one in ten is stuck
			}
			return pass(ctx, 10*time.Millisecond)
		}
		m := New(d, Config{Hedge: 0.9, RetryBudget: 0.2})
		defer m.Close()
		var longest time.Duration
		for i := range 200 {
			began := time.Now()
			r := rows(float32(i))
			submit(t, m, r)
			wait(t, r)
			if r.Err != nil || r.Out[0].F32[0] != float32(i)+1 {
				t.Fatalf("%v %v", r.Err, r.Out)
			}
			longest = max(longest, time.Since(began))
		}
		s := m.Stats()
		if longest > 200*time.Millisecond || s.HedgeWins.Load() < 10 || s.Hedges.Load() > 60 {
			t.Errorf("the longest took %v with %d second calls, of which %d won", longest, s.Hedges.Load(), s.HedgeWins.Load())
		}
		synctest.Wait()
		if h := m.Health(); h.Outstanding != 0 {
			t.Errorf("%d calls under way: the slower ones were not cancelled", h.Outstanding)
		}
	})
}

func TestTheLimitFollowsTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// Four calls at a time go at full speed; more share it.
		var width atomic.Int32
		width.Store(4)
		d := &remote{instances: 64}
		d.do = func(ctx context.Context, _ int) error {
			return pass(ctx, 10*time.Millisecond*time.Duration(max(1, float64(d.inside.Load())/float64(width.Load()))*1000)/1000)
		}
		m := New(d, Config{MaxBatch: 1, Concurrency: 64, Adaptive: true, Queue: 100})
		defer m.Close()
		load := func(n int) (highest, lowest int) {
			lowest = 64
			var rs []*Request
			for i := range n {
				r := rows(1)
				rs = append(rs, r)
				submit(t, m, r)
				if l := m.Health().Limit; i > n/2 {
					highest, lowest = max(highest, l), min(lowest, l)
				}
			}
			for _, r := range rs {
				wait(t, r)
			}
			return highest, lowest
		}
		if high, low := load(2000); high > 16 || low < 3 {
			t.Errorf("a server that does four calls at a time gets %d to %d", low, high)
		}
		width.Store(32)
		if high, _ := load(6000); high < 24 {
			t.Errorf("a server that does 32 calls at a time gets at most %d", high)
		}
	})
}

func TestThrottledAnswersShrinkTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &remote{instances: 32}
		d.do = func(ctx context.Context, _ int) error {
			if d.inside.Load() > 5 {
				return errkind.New(errkind.Throttled, "too many")
			}
			return pass(ctx, 10*time.Millisecond)
		}
		m := New(d, Config{MaxBatch: 1, Adaptive: true, Attempts: 50, RetryBudget: 1})
		defer m.Close()
		var rs []*Request
		for range 1500 {
			r := rows(1)
			rs = append(rs, r)
			submit(t, m, r)
		}
		for _, r := range rs {
			wait(t, r)
		}
		if l := m.Health().Limit; l > 12 || m.Stats().Throttled.Load() > 300 {
			t.Errorf("limit %d, %d throttled", l, m.Stats().Throttled.Load())
		}
	})
}

func TestNothingIsTakenBeforeTheModelIsWarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &remote{do: func(ctx context.Context, call int) error { return pass(ctx, time.Second) }}
		m := New(d, Config{Warmup: 3, Buckets: []int{4, 8}})
		defer m.Close()
		synctest.Wait()
		if m.Health().Ready {
			t.Error("ready before it is warm")
		}
		r := rows(1, 2)
		began := time.Now()
		submit(t, m, r)
		wait(t, r)
		if took := time.Since(began); took != 4*time.Second || m.Stats().Warmups.Load() != 3 || !m.Health().Ready {
			t.Errorf("answered after %v and %d calls", took, m.Stats().Warmups.Load())
		}
		if !slices.Equal(d.sizes, []int{4, 8, 4, 4}) || m.MaxBatch() != 8 {
			t.Errorf("sizes %v, largest batch %d", d.sizes, m.MaxBatch())
		}
		if n := r.Out[0]; !slices.Equal(n.F32, []float32{2, 3}) || !slices.Equal(n.Shape, []int{2, 1}) || m.Stats().Padded.Load() != 2 {
			t.Errorf("the answer keeps its padding: %+v", n)
		}
	})
}
