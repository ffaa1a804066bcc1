package simulate

import (
	"math"
	"testing"
	"time"

	"github.com/freshet-io/freshet/orchestrator"
	"github.com/freshet-io/freshet/orchestrator/trace"
)

// script is a pilot that orders what a function says.
type script struct {
	period time.Duration
	step   func(at time.Duration, s *orchestrator.Signals, o orchestrator.Orders) orchestrator.Decision
	start  time.Time
}

func (p *script) Name() string          { return "script" }
func (p *script) Period() time.Duration { return p.period }
func (p *script) Step(now time.Time, s *orchestrator.Signals, o orchestrator.Orders) orchestrator.Decision {
	return p.step(now.Sub(p.start), s, o)
}

var begin = time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC)

// workers is a pilot that orders the same number at all times.
func workers(n int) *script {
	return &script{period: 10 * time.Second, start: begin,
		step: func(time.Duration, *orchestrator.Signals, orchestrator.Orders) orchestrator.Decision {
			return orchestrator.Decision{Workers: n}
		}}
}

// ticks is a trace of one-second ticks.
func ticks(counts ...float64) *trace.Trace {
	return &trace.Trace{Name: "test", Start: begin, Step: time.Second, Counts: counts}
}

// constant is n ticks of c events.
func constant(n int, c float64) []float64 {
	out := make([]float64, n)
	for i := range out {
		out[i] = c
	}
	return out
}

// plain is a world where a worker does 100 events a second in calls of 10.
func plain(counts ...float64) World {
	return World{
		Arrivals:  ticks(counts...),
		Capacity:  orchestrator.Capacity{Overhead: 0.05, PerEvent: 0.005, Batch: 10},
		Objective: orchestrator.Objective{Target: 5 * time.Second, Quantile: 0.99, Min: 1, Max: 50},
		Start:     1,
	}
}

func run(t *testing.T, w World, p orchestrator.Pilot) *Result {
	t.Helper()
	r, err := Run(w, p)
	if err != nil {
		t.Fatal(err)
	}
	conserved(t, r)
	if s := r.Freshness.Snapshot(); r.Routed == 0 && r.Unserved == 0 {
		// Of a call's 6 % wide bucket.
		if n := s.AtMost(int64(0.93 * w.Capacity.Service(1) * 1e9)); n > 0 {
			t.Errorf("%v events are fresher than a call takes", float64(n)*r.Unit)
		}
	}
	return r
}

func conserved(t *testing.T, r *Result) {
	t.Helper()
	if d := r.Events - r.Served - r.Routed - r.Unserved; math.Abs(d) > 1e-6*(r.Events+1) {
		t.Errorf("of %v events %v were served, %v routed, %v left: %v are missing", r.Events, r.Served, r.Routed, r.Unserved, d)
	}
	s := r.Freshness.Snapshot()
	if d := float64(s.Count)*r.Unit - r.Events; math.Abs(d) > 2*r.Unit+1e-6*r.Events {
		t.Errorf("freshness holds %v of %v events", float64(s.Count)*r.Unit, r.Events)
	}
	if r.Late > r.Events*(1+1e-9) || r.Late < 0 {
		t.Errorf("%v of %v events are late", r.Late, r.Events)
	}
}

func near(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tolerance) {
		t.Errorf("%s: got %v, want %v ± %v", what, got, want, tolerance)
	}
}

func TestABacklogOfOneWorkerIsServedInOrderAtItsRate(t *testing.T) {
	// 1000 events in the first second, 100 a second served: the last waits 9 s, plus its call.
	for _, partitions := range []int{0, 1, 7} {
		w := plain(append([]float64{1000}, constant(19, 0)...)...)
		w.Capacity.Partitions = partitions
		r := run(t, w, workers(1))
		near(t, "seconds", r.Seconds, 20, 0)
		near(t, "cost", r.Cost, 20, 1e-9)
		near(t, "served", r.Served, 1000, 1e-6)
		// Event x (0..1000) arrives at x/1000 and is served at x/100, and takes another 0.1 s: late from
		// x/100 - x/1000 + 0.1 > 5, so x > 544.4.
		near(t, "late", r.Late, 1000-4.9/0.009, 1e-6)
		near(t, "busy", r.Busy, 0.5, 1e-9)
		near(t, "median", r.P50.Seconds(), 0.009*500+0.1, 0.1)
		near(t, "p99", r.P99.Seconds(), 0.009*990+0.1, 0.1)
		near(t, "worst minute", r.WorstMinute, r.Late/1000, 1e-9)
	}
}

func TestAnOrderedWorkerIsPaidAtOnceAndServesAfterItsStartUp(t *testing.T) {
	w := plain(constant(60, 200)...)
	w.Capacity.StartUp = 10 * time.Second
	r := run(t, w, workers(2))
	// Ordered at 10 s, ready at 20 s: 100 a second until then, 200 from then on, 2000 wait to the end.
	near(t, "worker seconds", r.WorkerSeconds, 60+50, 1e-9)
	near(t, "served", r.Served, 20*100+40*200, 1e-6)
	near(t, "left", r.Unserved, 2000, 1e-6)
	if r.Actions != 1 || r.Started != 1 || r.Stopped != 0 || r.Peak != 2 {
		t.Errorf("%d actions, %d started, %d stopped, peak %d", r.Actions, r.Started, r.Stopped, r.Peak)
	}
}
