package inference

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshet-io/freshet/errkind"
)

// plusOne answers each row's value plus one after a time of fixed + rows·each,
// and refuses batches that hold a negative value.
type plusOne struct {
	instances   int
	fixed, each time.Duration
	fail        func(call int) error

	calls  atomic.Int32
	inside atomic.Int32
	most   atomic.Int32
	closed atomic.Bool
}

func (p *plusOne) Metadata() Metadata {
	return Metadata{
		Name:    "plus-one",
		Inputs:  []Signature{{Name: "x", Type: Float32, Shape: []int{1}}},
		Outputs: []Signature{{Name: "y", Type: Float32, Shape: []int{1}}},
	}
}
func (p *plusOne) Concurrency() int { return max(1, p.instances) }
func (p *plusOne) Close() error     { p.closed.Store(true); return nil }
func (p *plusOne) Infer(_ context.Context, in, out []Tensor) error {
	call := int(p.calls.Add(1))
	p.most.Store(max(p.most.Load(), p.inside.Add(1)))
	defer p.inside.Add(-1)
	n := in[0].Rows()
	if p.fixed > 0 {
		time.Sleep(p.fixed + time.Duration(n)*p.each)
	}
	if p.fail != nil {
		if err := p.fail(call); err != nil {
			return err
		}
	}
	if slices.ContainsFunc(in[0].F32, func(v float32) bool { return v < 0 }) {
		return errkind.New(errkind.Invalid, "negative")
	}
	out[0].Type, out[0].Shape = Float32, append(out[0].Shape[:0], n, 1)
	out[0].F32 = out[0].F32[:0]
	for _, v := range in[0].F32 {
		out[0].F32 = append(out[0].F32, v+1)
	}
	return nil
}

func rows(vs ...float32) *Request {
	return &Request{In: []Tensor{{Name: "x", Type: Float32, Shape: []int{len(vs), 1}, F32: vs}}}
}

func submit(t *testing.T, m *Model, r *Request) {
	t.Helper()
	if err := m.Submit(t.Context(), r); err != nil {
		t.Fatal(err)
	}
}

func wait(t *testing.T, r *Request) {
	t.Helper()
	if err := r.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestNoRowWaitsWhileAnInstanceIsIdleAndBatchesGrowWithLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &plusOne{fixed: 10 * time.Millisecond}
		m := New(d, Config{MaxBatch: 8})
		defer m.Close()
		began := time.Now()
		first := rows(1)
		submit(t, m, first)
		synctest.Wait() // the instance is busy with the first row now
		var rest []*Request
		for i := range 5 {
			r := rows(float32(i), float32(i)+0.5)
			rest = append(rest, r)
			submit(t, m, r)
		}
		wait(t, first)
		if took := time.Since(began); took != 10*time.Millisecond || first.BatchRows != 1 || first.Reason != FlushIdle {
			t.Errorf("first row took %v in a batch of %d, closed %v", took, first.BatchRows, first.Reason)
		}
		for i, r := range rest {
			wait(t, r)
			if r.Err != nil || r.Out[0].F32[0] != float32(i)+1 || r.Out[0].F32[1] != float32(i)+1.5 {
				t.Errorf("request %d: %v %v", i, r.Err, r.Out)
			}
		}
		// Four requests of two rows fill a batch of eight; the fifth is alone.
		if rest[0].BatchRows != 8 || rest[0].Reason != FlushFull || rest[4].BatchRows != 2 || rest[4].Reason != FlushIdle {
			t.Errorf("batches %d (%v), %d (%v)", rest[0].BatchRows, rest[0].Reason, rest[4].BatchRows, rest[4].Reason)
		}
	})
}

func TestThroughputWaitsForAFullBatchOrTheLastMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &plusOne{fixed: 10 * time.Millisecond}
		m := New(d, Config{MaxBatch: 4, Prefer: Throughput})
		defer m.Close()
		late := func(r *Request) *Request { r.Deadline = time.Now().Add(100 * time.Millisecond); return r }
		// Nothing is known of the service time yet: the first call teaches it.
		learn := rows(0)
		submit(t, m, learn)
		wait(t, learn)
		began := time.Now()
		a := late(rows(1))
		submit(t, m, a)
		wait(t, a)
		if took := time.Since(began); took != 100*time.Millisecond || a.Reason != FlushDeadline {
			t.Errorf("a lone row was answered after %v (%v), not at its deadline", took, a.Reason)
		}
		began = time.Now()
		b := []*Request{late(rows(1)), late(rows(2)), late(rows(3)), late(rows(4))}
		for _, r := range b {
			submit(t, m, r)
		}
		for _, r := range b {
			wait(t, r)
		}
		if took := time.Since(began); took != 10*time.Millisecond || b[3].BatchRows != 4 || b[3].Reason != FlushFull {
			t.Errorf("a full batch was answered after %v (%v, %d rows), not at once", took, b[3].Reason, b[3].BatchRows)
		}
	})
}

func TestARefusedRowDoesNotTakeItsNeighboursDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &plusOne{fixed: time.Millisecond}
		m := New(d, Config{MaxBatch: 64})
		defer m.Close()
		block := rows(0)
		submit(t, m, block)
		synctest.Wait()
		good, bad, worse := rows(1, 2), rows(3, -1, 5, 6, -2), rows(-3)
		for _, r := range []*Request{good, bad, worse} {
			submit(t, m, r)
		}
		for _, r := range []*Request{good, bad, worse} {
			wait(t, r)
		}
		if good.Err != nil || good.Failed != nil || !slices.Equal(good.Out[0].F32, []float32{2, 3}) {
			t.Errorf("good: %+v", good)
		}
		if bad.Err != nil || len(bad.Failed) != 2 || bad.Failed[0].Row != 1 || bad.Failed[1].Row != 4 ||
			!slices.Equal(bad.Out[0].F32, []float32{4, 0, 6, 7, 0}) {
			t.Errorf("bad: err %v failed %v out %v", bad.Err, bad.Failed, bad.Out)
		}
		if !errkind.Is(worse.Err, errkind.Invalid) {
			t.Errorf("worse: %v", worse.Err)
		}
	})
}

func TestPassingErrorsAreRetriedAndOthersAreNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &plusOne{fail: func(call int) error {
			if call < 3 {
				return errkind.New(errkind.Throttled, "busy")
			}
			return nil
		}}
		m := New(d, Config{})
		r := rows(1)
		submit(t, m, r)
		wait(t, r)
		if r.Err != nil || r.Attempts != 3 {
			t.Errorf("after %d attempts: %v", r.Attempts, r.Err)
		}
		m.Close()
		if !d.closed.Load() {
			t.Error("the driver was not closed")
		}
		d = &plusOne{fail: func(int) error { panic("boom") }}
		m = New(d, Config{})
		defer m.Close()
		r = rows(1)
		submit(t, m, r)
		wait(t, r)
		if !errkind.Is(r.Err, errkind.Permanent) || d.calls.Load() != 1 {
			t.Errorf("a panic gave %v after %d calls", r.Err, d.calls.Load())
		}
	})
}

func TestTheQueueIsBoundedAndSubmitGivesUpWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &plusOne{fixed: time.Second}
		m := New(d, Config{MaxBatch: 2, Queue: 2})
		first, second := rows(1, 2), rows(3, 4)
		submit(t, m, first)
		synctest.Wait()
		submit(t, m, second)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if err := m.Submit(ctx, rows(5)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a full queue took a third request: %v", err)
		}
		third := rows(5)
		submit(t, m, third) // waits until the first batch is done
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		wait(t, third)
		if third.Err != nil || third.Out[0].F32[0] != 6 {
			t.Errorf("what was queued is answered before the model closes: %v", third.Err)
		}
		if err := m.Submit(t.Context(), rows(1)); !errkind.Is(err, errkind.Closed) {
			t.Errorf("submit after close: %v", err)
		}
		if err := m.Close(); err != nil {
			t.Errorf("second close: %v", err)
		}
	})
}

func TestRequestsThatDoNotFitAreInvalid(t *testing.T) {
	m := New(&plusOne{}, Config{MaxBatch: 2})
	defer m.Close()
	for name, r := range map[string]*Request{
		"no rows": rows(), "too many": rows(1, 2, 3), "no input": {},
	} {
		if err := m.Submit(t.Context(), r); !errkind.Is(err, errkind.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestManyTasksShareAModel(t *testing.T) {
	for _, prefer := range []Preference{Latency, Throughput} {
		t.Run(fmt.Sprint(prefer), func(t *testing.T) {
			d := &plusOne{instances: 2}
			m := New(d, Config{MaxBatch: 16, Prefer: prefer, Queue: 40})
			var tasks sync.WaitGroup
			for task := range 8 {
				tasks.Go(func() {
					for i := range 200 {
						v := float32(task*1000 + i)
						r := rows(v, v+0.5, v+0.25)
						r.Deadline = time.Now().Add(200 * time.Microsecond)
						if err := m.Submit(context.Background(), r); err != nil {
							t.Error(err)
							return
						}
						_ = r.Wait(context.Background())
						if r.Err != nil || !slices.Equal(r.Out[0].F32, []float32{v + 1, v + 1.5, v + 1.25}) {
							t.Errorf("%v: %v %v", v, r.Err, r.Out[0].F32)
							return
						}
					}
				})
			}
			tasks.Wait()
			if err := m.Close(); err != nil {
				t.Error(err)
			}
			if got := m.Stats().Rows.Load(); got != 8*200*3 {
				t.Errorf("%d rows", got)
			}
			if d.most.Load() > 2 {
				t.Errorf("%d calls at a time", d.most.Load())
			}
		})
	}
}
