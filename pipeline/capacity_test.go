package pipeline_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/pipeline"
)

// crowd is a model of eight instances that remembers how it was used.
type crowd struct {
	refuser
	inside, most, rows *atomic.Int32
}

func (crowd) Concurrency() int { return 8 }

func (c crowd) Infer(ctx context.Context, in, out []inference.Tensor) error {
	c.most.Store(max(c.most.Load(), c.inside.Add(1)))
	defer c.inside.Add(-1)
	c.rows.Store(max(c.rows.Load(), int32(in[0].Rows())))
	time.Sleep(time.Millisecond) // so that calls could overlap
	return c.refuser.Infer(ctx, in, out)
}

func TestOrderedCapacityIsUsedAndTheShareOfTheFallbackStaysTheSameEvents(t *testing.T) {
	text, err := os.ReadFile(payments)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "pipeline.yaml")
	here, _ := filepath.Abs("testdata")
	changed := strings.ReplaceAll(strings.Replace(string(text), "batch: {max: 64}", `fallback: {expr: "amount > 220.0 ? 0.9 : 0.1"}`, 1), "../", here+"/")
	if err := os.WriteFile(file, []byte(changed), 0o644); err != nil {
		t.Fatal(err)
	}
	fallbacks := func(c pipeline.Capacity) (paths map[string]uint64, m crowd) {
		s := newSetup(t, file)
		m = crowd{inside: new(atomic.Int32), most: new(atomic.Int32), rows: new(atomic.Int32)}
		s.open = func(string) (inference.Driver, error) { return m, nil }
		var events []string
		for i := range 400 {
			events = append(events, payment(i, fmt.Sprint("c", i%7), 1, time.Duration(i), ""))
		}
		s.send(events...)
		p, err := s.pipeline()
		if err != nil {
			t.Fatal(err)
		}
		if now, most := p.Capacity(); now.Calls != 8 || most.Calls != 8 || most.Batch != 256 || most.Fallback != 1 {
			t.Errorf("capacity is %+v of %+v", now, most)
		}
		if err := p.SetCapacity(c); err != nil {
			t.Fatal(err)
		}
		if now, _ := p.Capacity(); now != c {
			t.Errorf("ordered %+v, in force %+v", c, now)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		if err := p.Run(ctx, pipeline.RunOptions{UntilIdle: true}); err != nil {
			t.Fatal(err)
		}
		st := p.Stats()
		if st.Predictions != 400 || st.Letters() != 0 {
			t.Errorf("%d predictions, dead letters %v", st.Predictions, st.DeadLetters)
		}
		return st.Steps[0].Paths, m
	}
	paths, m := fallbacks(pipeline.Capacity{Calls: 1, Batch: 16, Fallback: 0.25})
	if m.most.Load() != 1 || m.rows.Load() > 16 {
		t.Errorf("one call of 16 rows was ordered; there were %d at once, of %d rows", m.most.Load(), m.rows.Load())
	}
	if n := paths["fallback_rule"]; n < 60 || n > 140 || paths["scored"] != 400-n {
		t.Errorf("a quarter of 400 is to go to the fallback: %v", paths)
	}
	again, _ := fallbacks(pipeline.Capacity{Calls: 3, Batch: 64, Fallback: 0.25})
	if again["fallback_rule"] != paths["fallback_rule"] {
		t.Errorf("the share is not the same events: %v, then %v", paths, again)
	}
}

func TestCapacityThatMakesNoSenseIsRefused(t *testing.T) {
	s := newSetup(t, payments)
	p, err := s.pipeline()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for _, c := range []pipeline.Capacity{{Calls: -1}, {Batch: -1}, {Fallback: 1.5}, {Fallback: -0.1}} {
		if err := p.SetCapacity(c); !errkind.Is(err, errkind.Invalid) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	if err := p.SetCapacity(pipeline.Capacity{Fallback: 0.5}); !errkind.Is(err, errkind.Unsupported) || !strings.Contains(err.Error(), "no fallback") {
		t.Errorf("a share to a fallback that is not there: %v", err)
	}
}
