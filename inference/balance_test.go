package inference

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshet-io/freshet/errkind"
)

// other is a remote with metadata of its own.
type other struct {
	remote
	change func(*Metadata)
	closed atomic.Bool
}

func (d *other) Close() error { d.closed.Store(true); return nil }
func (d *other) Metadata() Metadata {
	m := d.remote.Metadata()
	if d.change != nil {
		d.change(&m)
	}
	return m
}

func TestCallsGoWhereFewestAreUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		quick := &remote{instances: 4, do: func(ctx context.Context, _ int) error { return pass(ctx, 10*time.Millisecond) }}
		slow := &remote{instances: 4, do: func(ctx context.Context, _ int) error { return pass(ctx, 100*time.Millisecond) }}
		d, err := Balance([]Driver{quick, slow})
		if err != nil || d.Concurrency() != 8 {
			t.Fatal(err)
		}
		m := New(d, Config{MaxBatch: 1})
		defer m.Close()
		var rs []*Request
		for range 440 {
			r := rows(1)
			rs = append(rs, r)
			submit(t, m, r)
		}
		for _, r := range rs {
			wait(t, r)
		}
		if q, s := quick.calls.Load(), slow.calls.Load(); q < 8*s || s < 20 || quick.most.Load() > 8 {
			t.Errorf("%d calls to the quick one, %d to the slow one", q, s)
		}
	})
}

func TestAnEndpointInTroubleIsTriedNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool
		down.Store(true)
		good := &remote{instances: 2, do: func(ctx context.Context, _ int) error { return pass(ctx, 10*time.Millisecond) }}
		bad := &remote{instances: 2, do: func(context.Context, int) error {
			if down.Load() {
				return errkind.New(errkind.Transient, "connection refused")
			}
			return nil
		}}
		d, err := Balance([]Driver{bad, good})
		if err != nil {
			t.Fatal(err)
		}
		m := New(d, Config{MaxBatch: 1})
		defer m.Close()
		send := func(d time.Duration) {
			for end := time.Now().Add(d); time.Now().Before(end); {
				r := rows(1)
				submit(t, m, r)
				wait(t, r)
				if r.Err != nil {
					t.Fatal(r.Err)
				}
			}
		}
		send(10 * time.Second)
		if n := bad.calls.Load(); n < 3 || n > 5 {
			t.Errorf("%d calls to one in trouble within 10 s", n)
		}
		down.Store(false)
		send(20 * time.Second)
		if n := bad.calls.Load(); n < 100 {
			t.Errorf("%d calls to one that is well again", n)
		}
		// Many calls that fail together are one trouble.
		e := d.(*balanced).endpoints[0]
		now := time.Now()
		for range 10 {
			e.calls++
			d.(*balanced).settle(e, errkind.New(errkind.Transient, "reset"), now, now.Add(time.Millisecond))
		}
		if e.trouble != troubleMin {
			t.Errorf("no call for %v", e.trouble)
		}
	})
}

func TestEndpointsMustServeTheSameModel(t *testing.T) {
	for name, change := range map[string]func(*Metadata){
		"version": func(m *Metadata) { m.Version = "2" },
		"inputs":  func(m *Metadata) { m.Inputs = []Signature{{Name: "x", Type: Float64, Shape: []int{1}}} },
		"outputs": func(m *Metadata) { m.Outputs = append(m.Outputs, m.Outputs[0]) },
		"digest":  func(m *Metadata) { m.Digest = "ab" },
	} {
		a, b := &other{}, &other{change: change}
		_, err := Balance([]Driver{a, b})
		if !errkind.Is(err, errkind.Config) || !strings.Contains(err.Error(), name) || !a.closed.Load() || !b.closed.Load() {
			t.Errorf("%s: %v", name, err)
		}
	}
	a := &other{change: func(m *Metadata) { m.MaxBatch = 64 }}
	b := &other{change: func(m *Metadata) { m.MaxBatch = 32 }}
	d, err := Balance([]Driver{a, b, &other{}})
	if err != nil || d.Metadata().MaxBatch != 32 {
		t.Errorf("%+v %v", d, err)
	}
	var all sync.WaitGroup
	for range 30 {
		all.Go(func() {
			if err := d.Infer(t.Context(), rows(1).In, make([]Tensor, 1)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if err := d.Close(); err != nil || !a.closed.Load() {
		t.Error(err)
	}
	if _, err := Balance(nil); !errkind.Is(err, errkind.Config) {
		t.Error(err)
	}
	if d, err := Balance([]Driver{a}); err != nil || d != Driver(a) {
		t.Error(err)
	}
}
