package inference

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshet-io/freshet/errkind"
)

func TestRowsAnsweredByTheCacheDoNotTravel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &remote{}
		m := New(d, Config{Cache: Cache{Rows: 10, TTL: time.Minute}})
		defer m.Close()
		one := func(vs ...float32) *Request {
			r := rows(vs...)
			submit(t, m, r)
			wait(t, r)
			return r
		}
		if r := one(1, 2); r.Err != nil || len(r.Cached) != 0 {
			t.Errorf("%+v", r)
		}
		r := one(2, 5, 1, 7)
		if r.Err != nil || !slices.Equal(r.Out[0].F32, []float32{3, 6, 2, 8}) || !slices.Equal(r.Cached, []bool{true, false, true, false}) || r.BatchRows != 2 {
			t.Errorf("%v %v %v", r.Err, r.Out, r.Cached)
		}
		r = one(7, 5)
		if r.Err != nil || !slices.Equal(r.Out[0].F32, []float32{8, 6}) || r.Attempts != 0 || d.calls.Load() != 2 || r.Answered.IsZero() {
			t.Errorf("%v %v, %d calls", r.Err, r.Out, d.calls.Load())
		}
		if !slices.Equal(d.sizes, []int{2, 2}) || m.Health().Cached != 4 {
			t.Errorf("calls of %v rows, %d kept", d.sizes, m.Health().Cached)
		}
		// A request that is used again knows nothing of its last answers.
		r.In[0].F32[0], r.In[0].F32[1] = 20, 21
		submit(t, m, r)
		wait(t, r)
		if len(r.Cached) != 0 || !slices.Equal(r.Out[0].F32, []float32{21, 22}) {
			t.Errorf("%+v", r)
		}
		time.Sleep(time.Minute)
		if r := one(1); len(r.Cached) != 0 {
			t.Error("an answer older than its time serves")
		}
		if s := m.Stats(); s.CacheHits.Load() != 4 || s.CacheMisses.Load() != 7 {
			t.Errorf("%d hits, %d misses", s.CacheHits.Load(), s.CacheMisses.Load())
		}
	})
}

func TestRowsThatDifferInABitShareNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &remote{}
		m := New(d, Config{Cache: Cache{Rows: 100, TTL: time.Minute}})
		defer m.Close()
		nan := float32(math.NaN())
		zero := float32(0)
		r := rows(nan, zero, -zero, float32(math.Copysign(0, -1)), math.Float32frombits(math.Float32bits(nan)^1))
		submit(t, m, r)
		wait(t, r)
		r = rows(float32(math.Copysign(0, -1)), nan, 1)
		submit(t, m, r)
		wait(t, r)
		if !slices.Equal(r.Cached, []bool{true, true, false}) || !math.IsNaN(float64(r.Out[0].F32[1])) || m.Health().Cached != 5 {
			t.Errorf("%v, %d kept", r.Cached, m.Health().Cached)
		}
	})
}

func TestRefusedRowsBesideCachedOnesAreNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := false
		d := &remote{do: func(context.Context, int) error {
			if down {
				return errkind.New(errkind.Permanent, "broken")
			}
			return nil
		}}
		m := New(d, Config{Cache: Cache{Rows: 100, TTL: time.Minute}})
		defer m.Close()
		warm := rows(1, 2)
		submit(t, m, warm)
		wait(t, warm)
		r := rows(-5, 1, 9, -6, 2)
		submit(t, m, r)
		wait(t, r)
		if r.Err != nil || len(r.Failed) != 2 || r.Failed[0].Row != 0 || r.Failed[1].Row != 3 || !slices.Equal(r.Out[0].F32, []float32{0, 2, 10, 0, 3}) {
			t.Errorf("%v %v %v", r.Err, r.Failed, r.Out)
		}
		down = true
		r = rows(9, -5)
		submit(t, m, r)
		wait(t, r)
		if r.Err != nil || len(r.Failed) != 1 || r.Failed[0].Row != 1 || r.Out[0].F32[0] != 10 {
			t.Errorf("a refused row was kept: %v %v", r.Err, r.Failed)
		}
	})
}

func TestStaleAnswersServeWhereTheModelFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := New(&remote{}, Config{Cache: Cache{Rows: 10, TTL: time.Second, Stale: time.Hour}})
		defer m.Close()
		r := rows(4)
		submit(t, m, r)
		wait(t, r)
		time.Sleep(time.Minute)
		out := make([]Tensor, 1)
		if !m.Stale(rows(3, 4).In, 1, out) || !slices.Equal(out[0].F32, []float32{5}) || !slices.Equal(out[0].Shape, []int{1, 1}) {
			t.Errorf("%+v", out)
		}
		if m.Stale(rows(3, 4).In, 0, out) || m.Stale(rows(4).In, 1, out) || m.Stale(nil, 0, out) {
			t.Error("an answer from nowhere")
		}
		time.Sleep(time.Hour)
		if m.Stale(rows(4).In, 0, out) {
			t.Error("an answer older than it may be")
		}
	})
}

func TestTheCacheHoldsNoMoreThanItsRowsAndKeepsThoseAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := New(&remote{}, Config{Cache: Cache{Rows: 50, TTL: time.Hour}})
		defer m.Close()
		for i := range 1000 {
			r := rows(-0.5+1e6, float32(i))
			submit(t, m, r)
			wait(t, r)
			if i > 0 && (len(r.Cached) != 2 || !r.Cached[0]) {
				t.Fatalf("row %d: one that was asked for each time is gone", i)
			}
			if n := m.Health().Cached; n > 50 {
				t.Fatalf("%d rows kept", n)
			}
		}
	})
}

// mixed echoes its inputs: strings and numbers of sizes left open.
type mixed struct{ remote }

func (*mixed) Metadata() Metadata {
	return Metadata{
		Name: "mixed",
		Inputs: []Signature{
			{Name: "s", Type: String}, {Name: "i", Type: Int64, Shape: []int{-1}}, {Name: "b", Type: Bool, Shape: []int{2}},
		},
		Outputs: []Signature{
			{Name: "s", Type: String}, {Name: "i", Type: Int64, Shape: []int{-1}}, {Name: "b", Type: Bool, Shape: []int{2}},
		},
	}
}
func (d *mixed) Infer(_ context.Context, in, out []Tensor) error {
	d.calls.Add(1)
	for i := range in {
		out[i].set(&in[i], 0, in[i].Rows())
	}
	return nil
}

func TestAnswersOfAnyTypeAndShapeComeBackFromTheCache(t *testing.T) {
	m := New(&mixed{}, Config{Cache: Cache{Rows: 4096, TTL: time.Hour}, MaxBatch: 16})
	defer m.Close()
	var tasks sync.WaitGroup
	for task := range 4 {
		tasks.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(task), 1))
			r := &Request{}
			for range 300 {
				n, w := 1+rnd.IntN(8), rnd.IntN(3)
				r.In = []Tensor{
					{Type: String, Shape: []int{n}}, {Type: Int64, Shape: []int{n, w}}, {Type: Bool, Shape: []int{n, 2}},
				}
				for range n {
					v := rnd.IntN(12)
					r.In[0].Str = append(r.In[0].Str, fmt.Sprint("v", v))
					for range w {
						r.In[1].I64 = append(r.In[1].I64, int64(v))
					}
					r.In[2].Bool = append(r.In[2].Bool, v%2 == 0, v%3 == 0)
				}
				if err := m.Submit(context.Background(), r); err != nil {
					t.Error(err)
					return
				}
				_ = r.Wait(context.Background())
				if r.Err != nil || len(r.Failed) > 0 || !slices.Equal(r.Out[0].Str, r.In[0].Str) || !slices.Equal(r.Out[1].I64, r.In[1].I64) ||
					!slices.Equal(r.Out[2].Bool, r.In[2].Bool) || !slices.Equal(r.Out[1].Shape, r.In[1].Shape) {
					t.Errorf("%v %v: %+v is answered by %+v", r.Err, r.Failed, r.In, r.Out)
					return
				}
			}
		})
	}
	tasks.Wait()
	if m.Stats().CacheHits.Load() == 0 {
		t.Error("nothing was kept")
	}
}

// fickle answers rows in a width that changes.
type fickle struct{ mixed }

func (d *fickle) Metadata() Metadata {
	meta := d.mixed.Metadata()
	meta.Inputs, meta.Outputs = meta.Inputs[:1], meta.Outputs[1:2]
	return meta
}

func (d *fickle) Infer(_ context.Context, in, out []Tensor) error {
	out[0].shape(Int64, []int{int(d.calls.Add(1))}, in[0].Rows())
	return nil
}

func TestKeptAnswersOfAnotherShapeAreAskedForAnew(t *testing.T) {
	m := New(&fickle{}, Config{Cache: Cache{Rows: 10, TTL: time.Hour}})
	defer m.Close()
	for i, names := range [][]string{{"a"}, {"a", "b"}} {
		r := &Request{In: []Tensor{{Type: String, Shape: []int{len(names)}, Str: names}}}
		submit(t, m, r)
		wait(t, r)
		// The call for b gives two columns, which do not fit a's one; the third call is for both.
		if want := []int{len(names), 1 + 2*i}; r.Err != nil || !slices.Equal(r.Out[0].Shape, want) || len(r.Cached) != 0 {
			t.Errorf("%v %v %v, expected %v", r.Err, r.Out, r.Cached, want)
		}
	}
}

func TestInferTakesMoreThanABatch(t *testing.T) {
	d := &remote{}
	m := New(d, Config{MaxBatch: 4, Cache: Cache{Rows: 100, TTL: time.Hour}})
	defer m.Close()
	in := rows(1, 2, 3, 4, 5, 6, 7, 8, 9).In
	for range 2 {
		out := make([]Tensor, 1)
		if err := m.Infer(t.Context(), in, out); err != nil || !slices.Equal(out[0].F32, []float32{2, 3, 4, 5, 6, 7, 8, 9, 10}) {
			t.Errorf("%v %v", err, out)
		}
	}
	if d.calls.Load() != 6 || m.Health().Cached != 0 {
		t.Errorf("%d calls, %d kept", d.calls.Load(), m.Health().Cached)
	}
	if err := m.Infer(t.Context(), rows(1, 2, 3, 4, 5, -6).In, make([]Tensor, 1)); !errkind.Is(err, errkind.Invalid) {
		t.Errorf("a refused row: %v", err)
	}
}

func BenchmarkCachedRow(b *testing.B) {
	m := New(ensemble{}, Config{Cache: Cache{Rows: 1000, TTL: time.Hour}})
	defer m.Close()
	r := &Request{In: []Tensor{{Type: Float32, Shape: []int{256, 30}, F32: make([]float32, 256*30)}}}
	for b.Loop() {
		_ = m.Submit(context.Background(), r)
		_ = r.Wait(context.Background())
	}
	b.ReportMetric(256*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}
