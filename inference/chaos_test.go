package inference

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshet-io/freshet/errkind"
)

// wild fails, stalls and ignores its context by chance, and writes its answers at the last moment.
type wild struct {
	remote
	mu      sync.Mutex
	random  *rand.Rand
	changed atomic.Bool
}

func (d *wild) Infer(ctx context.Context, in, out []Tensor) error {
	d.mu.Lock()
	dice, wait := d.random.IntN(20), time.Duration(d.random.IntN(2000))*time.Microsecond
	d.mu.Unlock()
	before := append([]float32(nil), in[0].F32...)
	switch {
	case dice < 2:
		time.Sleep(10 * wait) // deaf
	default:
		if err := pass(ctx, wait); err != nil {
			return err
		}
	}
	for i, v := range in[0].F32 {
		if v != before[i] {
			d.changed.Store(true) // an error would not be seen where the call has been left behind
		}
	}
	switch dice {
	case 3:
		return errkind.New(errkind.Transient, "reset")
	case 4:
		return RetryAfterError(errkind.New(errkind.Throttled, "429"), wait)
	case 5:
		if n := in[0].Rows(); n > 1 {
			in = []Tensor{{Type: Float32, Shape: []int{n - 1, 1}, F32: in[0].F32[:n-1]}} // a row too few
		}
	case 6:
		panic("wild")
	}
	return (&plusOne{}).Infer(ctx, in, out)
}

func TestWhateverTheDriverDoesNoRowGetsAnothersAnswer(t *testing.T) {
	for name, cfg := range map[string]Config{
		"plain":      {MaxBatch: 8, Timeout: 5 * time.Millisecond},
		"hedged":     {MaxBatch: 8, Timeout: 5 * time.Millisecond, Hedge: 0.5, RetryBudget: 1, Adaptive: true},
		"cached":     {MaxBatch: 8, Timeout: 5 * time.Millisecond, Cache: Cache{Rows: 300, TTL: time.Second}, Buckets: []int{2, 8}},
		"throughput": {MaxBatch: 8, Timeout: 5 * time.Millisecond, Prefer: Throughput, Cache: Cache{Rows: 50, TTL: time.Millisecond}, Queue: 10},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &wild{random: rand.New(rand.NewPCG(1, 2))}
				d.instances = 4
				cfg.Breaker = Breaker{Failures: 1} // else most rows fail at once, which is soon over
				m := New(d, cfg)
				var tasks sync.WaitGroup
				var right, failed, expired atomic.Int64
				for task := range 6 {
					tasks.Go(func() {
						random := rand.New(rand.NewPCG(uint64(task), 9))
						r := &Request{In: []Tensor{{Type: Float32}}}
						for range 300 {
							n := 1 + random.IntN(8)
							r.In[0].Shape, r.In[0].F32 = append(r.In[0].Shape[:0], n, 1), r.In[0].F32[:0]
							for range n {
								v := float32(random.IntN(400) - 3) // a few are refused
								r.In[0].F32 = append(r.In[0].F32, v)
							}
							r.Deadline, r.Expires = time.Now().Add(3*time.Millisecond), time.Time{}
							if random.IntN(2) == 0 {
								r.Expires = time.Now().Add(time.Duration(random.IntN(10000)) * time.Microsecond)
							}
							if err := m.Submit(context.Background(), r); err != nil {
								t.Error(err)
								return
							}
							_ = r.Wait(context.Background())
							if r.Err != nil {
								failed.Add(int64(n))
								if errors.Is(r.Err, ErrExpired) {
									expired.Add(int64(n))
								}
								continue
							}
							if !r.Expires.IsZero() && r.Answered.After(r.Expires) {
								t.Errorf("answered %v after it had expired", r.Answered.Sub(r.Expires))
							}
							bad := map[int]bool{}
							for _, f := range r.Failed {
								bad[f.Row] = true
							}
							for i, v := range r.In[0].F32 {
								if got := r.Out[0].F32[i]; !bad[i] && (v < 0 || got != v+1) {
									t.Errorf("%v is answered by %v", v, got)
								}
							}
							right.Add(int64(n - len(bad)))
						}
					})
				}
				tasks.Wait()
				time.Sleep(time.Second)
				if h := m.Health(); h.Outstanding != 0 || h.Behind != 0 || h.Live != 0 || h.Waiting != 0 {
					t.Errorf("in the end %+v", h)
				}
				if d.changed.Load() {
					t.Error("the input of a call changed while it ran")
				}
				if err := m.Close(); err != nil {
					t.Error(err)
				}
				if right.Load() < 1000 || failed.Load() == 0 {
					t.Errorf("%d right, %d failed", right.Load(), failed.Load())
				}
				t.Logf("%d right, %d failed of which %d expired, %d retries, %d hedges, opened %d times, %d timeouts, %d hits",
					right.Load(), failed.Load(), expired.Load(), m.Stats().Retries.Load(), m.Stats().Hedges.Load(), m.Stats().Opened.Load(),
					m.Stats().Timeouts.Load(), m.Stats().CacheHits.Load())
			})
		})
	}
}

func TestARequestThatFindsNoRoomExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &remote{do: func(ctx context.Context, _ int) error { return pass(ctx, time.Second) }}
		m := New(d, Config{MaxBatch: 1, Queue: 1})
		defer m.Close()
		a, b := rows(1), rows(2)
		submit(t, m, a)
		synctest.Wait()
		submit(t, m, b)
		began := time.Now()
		c := expiring(100*time.Millisecond, 3)
		submit(t, m, c)
		wait(t, c)
		if took := time.Since(began); took != 100*time.Millisecond || !errors.Is(c.Err, ErrExpired) {
			t.Errorf("after %v: %v", took, c.Err)
		}
		// A row that expires in the queue makes room.
		wait(t, a)
		synctest.Wait()
		q := expiring(100*time.Millisecond, 4)
		submit(t, m, q)
		began = time.Now()
		e := rows(5)
		submit(t, m, e)
		if took := time.Since(began); took != 100*time.Millisecond {
			t.Errorf("room came after %v", took)
		}
		wait(t, e)
		if e.Err != nil || !errors.Is(q.Err, ErrExpired) {
			t.Errorf("%v, %v", e.Err, q.Err)
		}
	})
}

func TestRowsAtFaultDoNotOpenTheBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &picky{}
		m := New(d, Config{})
		defer m.Close()
		for range 50 {
			vs := make([]float32, 200)
			vs[77] = -1
			r := rows(vs...)
			submit(t, m, r)
			wait(t, r)
			if r.Err != nil || len(r.Failed) != 1 || r.Failed[0].Row != 77 {
				t.Fatalf("%v, %d rows failed", r.Err, len(r.Failed))
			}
		}
		if m.Stats().Opened.Load() != 0 {
			t.Error("one row at fault a batch opened the breaker")
		}
	})
}

// picky does not say that a negative row is at fault.
type picky struct{ remote }

func (d *picky) Infer(ctx context.Context, in, out []Tensor) error {
	if err := d.remote.Infer(ctx, in, out); err != nil {
		return errors.New("cannot compute")
	}
	return nil
}
