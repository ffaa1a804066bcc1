package pipeline_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet-io/freshet/broker/journal"
	"github.com/freshet-io/freshet/internal/builtin"
	"github.com/freshet-io/freshet/pipeline"
)

// TestStateThatDoesNotFitIntoMemoryGivesTheSameFeatures runs the chain with room
// for a few keys, in pieces, so that state is moved out, brought in, written to
// the changelog from the store and restored from it; with either store.
func TestStateThatDoesNotFitIntoMemoryGivesTheSameFeatures(t *testing.T) {
	vs := visits(3000, 6)
	want := features(vs)
	for _, kind := range []string{"map", "pebble"} {
		t.Run(kind, func(t *testing.T) {
			s := newSetup(t, chain)
			createVisits(t, s.b)
			for from := 0; from < len(vs); from += 600 {
				publish(t, s.b, "visits", records(vs[from:from+600])...)
				spec, faults := pipeline.Load(chain, nil)
				if faults != nil {
					t.Fatal(pipeline.Error(faults))
				}
				spec.State.Store, spec.State.Memory = kind, 16<<10
				plan, faults := pipeline.MakePlan(spec, pipeline.Files(s.open))
				if faults != nil {
					t.Fatal(pipeline.Error(faults))
				}
				deps := builtin.PipelineDeps(s.b, nil, t.TempDir())
				if kind == "map" {
					deps.OpenStore = openMap
				}
				p, err := pipeline.New(plan, deps)
				if err != nil {
					t.Fatal(err)
				}
				p.Shrink(16, 2<<10)
				if err := p.Run(t.Context(), pipeline.RunOptions{UntilIdle: true}); err != nil {
					t.Fatal(err)
				}
				s.reopen(journal.Options{MaxRecordBytes: 64 << 10})
			}
			if diff := cmp.Diff(want, s.computed("visited")); diff != "" {
				t.Errorf("(-want +got)\n%s", shortened(diff))
			}
		})
	}
}

// TestAChangedPipelineKeepsTheStateThatFits changes the chain's windows between
// two runs: what the kept rows suffice for goes on exactly, and what would have
// to begin empty is refused until it is allowed.
func TestAChangedPipelineKeepsTheStateThatFits(t *testing.T) {
	vs := visits(1200, 7)
	s := newSetup(t, chain)
	createVisits(t, s.b)
	publish(t, s.b, "visits", records(vs[:800])...)
	run := func(change func(*pipeline.Features), o pipeline.RunOptions) error {
		t.Helper()
		spec, faults := pipeline.Load(chain, nil)
		if faults != nil {
			t.Fatal(pipeline.Error(faults))
		}
		change(spec.Steps[0].(*pipeline.Features))
		plan, faults := pipeline.MakePlan(spec, pipeline.Files(s.open))
		if faults != nil {
			t.Fatal(pipeline.Error(faults))
		}
		p, err := pipeline.New(plan, pipeline.Deps{Broker: s.b})
		if err != nil {
			t.Fatal(err)
		}
		p.Shrink(64, 8<<10)
		o.UntilIdle = true
		err = p.Run(t.Context(), o)
		return err
	}
	over := func(name string, d time.Duration) func(*pipeline.Features) {
		return func(f *pipeline.Features) {
			for i := range f.Items {
				if f.Items[i].Name == name {
					f.Items[i].Window.Over = d
				}
			}
		}
	}
	if err := run(func(*pipeline.Features) {}, pipeline.RunOptions{}); err != nil {
		t.Fatal(err)
	}
	// Shorter: the rows are there.
	publish(t, s.b, "visits", records(vs[800:1000])...)
	if err := run(over("merchant_1h", 20*time.Minute), pipeline.RunOptions{}); err != nil {
		t.Fatal(err)
	}
	got := s.computed("visited")
	wrong := 0
	for i := 800; i < 1000; i++ {
		n := 0.0
		for j := i; j >= 0; j-- {
			if vs[j].merchant == vs[i].merchant && vs[i].at-vs[j].at < 20*time.Minute {
				n++
			}
		}
		if got["v"+itoa(i)]["merchant_1h"] != n {
			wrong++
		}
	}
	if wrong > 0 {
		t.Errorf("%d of 200 counts are wrong after the window was shortened", wrong)
	}
	// Longer: they are not.
	publish(t, s.b, "visits", records(vs[1000:])...)
	err := run(over("customer_1h", 3*time.Hour), pipeline.RunOptions{})
	if err == nil {
		t.Fatal("a window longer than what was kept went on without a word")
	}
	t.Log(err)
	if err := run(over("customer_1h", 3*time.Hour), pipeline.RunOptions{NewWindowsEmpty: true}); err != nil {
		t.Fatal(err)
	}
	// And back again: the log now holds three definitions.
	publish(t, s.b, "visits", records(visits(1300, 7)[1200:])...)
	if err := run(func(*pipeline.Features) {}, pipeline.RunOptions{}); err != nil {
		t.Fatal(err)
	}
	vs = visits(1300, 7)
	if n := len(s.computed("visited")); n != len(vs) {
		t.Errorf("%d results of %d visits", n, len(vs))
	}
}
