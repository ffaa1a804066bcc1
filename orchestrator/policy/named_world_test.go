package policy

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/freshet-io/freshet/orchestrator"
	"github.com/freshet-io/freshet/orchestrator/simulate"
	"github.com/freshet-io/freshet/orchestrator/trace"
)

var begin = time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)

// wave is a day's wave squeezed into hours, with noise; its mean needs 10 workers.
func wave(hours int, each float64) *trace.Trace {
	r := rand.New(rand.NewPCG(1, 1))
	counts := make([]float64, hours*3600)
	for i := range counts {
		rate := 10 * each * (1 + 0.6*math.Sin(float64(i)/(6*3600)*2*math.Pi))
		counts[i] = math.Max(0, math.Round(rate+math.Sqrt(rate)*r.NormFloat64()*3))
	}
	return &trace.Trace{Start: begin, Step: time.Second, Counts: counts}
}

func waveWorld(hours int) simulate.World {
	c := orchestrator.Capacity{
		Overhead: 0.02, PerEvent: 0.002, Batch: 64, MaxBatch: 256,
		StartUp: time.Minute, Stop: 10 * time.Second, Rebalance: 2 * time.Second, Partitions: 240,
	}
	r := rand.New(rand.NewPCG(2, 2))
	for range c.Partitions {
		c.Shares = append(c.Shares, 0.5+r.Float64())
	}
	return simulate.World{
		Arrivals: wave(hours, c.Rate(0)), Capacity: c,
		Objective: orchestrator.Objective{Target: 30 * time.Second, Quantile: 0.99, Min: 1, Max: 200},
		Delay:     5 * time.Second, Jitter: 0.2, Seed: 7, Linger: time.Second,
	}
}

// runs returns what came of a policy in the world of the wave.
func runs(t *testing.T, w simulate.World, name string, settings map[string]any) *simulate.Result {
	t.Helper()
	all := map[string]any{}
	for k, v := range settings {
		all[k] = v
	}
	if name == "static" || name == "static-peak" || name == "foresight" {
		all[SettingArrivals] = w.Arrivals
	}
	p, err := Named(name, all)
	if err != nil {
		t.Fatal(err)
	}
	r, err := simulate.Run(w, orchestrator.Bare(p, w.Capacity, w.Objective))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestBaselinesBehaveAsTheyAreKnownTo(t *testing.T) {
	w := waveWorld(12)
	bound := Bound(w.Arrivals, w.Capacity, w.Objective).WorkerSeconds
	for _, c := range []struct {
		name     string
		settings map[string]any
		low, up  float64 // cost ÷ bound
		late     float64 // at most
	}{
		{"static-peak", nil, 1.8, 2.4, 0},
		{"hpa", map[string]any{"target": 0.5}, 2, 2.5, 0},          // twice the work, at twice the capacity
		{"keda", nil, 8, 25, 0},                                    // 10 events a worker: a call holds 64, so all there are
		{"keda", map[string]any{"lag_calls": 1.4}, 1.2, 1.8, 0.01}, // what a worker holds at about 0.9
		{"kpa", nil, 1.4, 1.9, 0},                                  // 1 ÷ 0.7, and the partitions' skew is no concern of its
		{"kpa", map[string]any{"utilization": 0.95}, 1.1, 1.4, 1},  // which makes it late here
		{"kpa", map[string]any{"utilization": 0.7, "large_calls": true}, 1.3, 1.6, 0},
		{"ds2", nil, 1.05, 1.4, 1}, // so is DS2 without a factor
		{"ds2", map[string]any{"factor": 0.2}, 1.2, 1.6, 0.01},
		{"flink", nil, 1.5, 3, 0.1}, // its hour before it lowers
		{"foresight", nil, 1, 1.3, 0.01},
	} {
		r := runs(t, w, c.name, c.settings)
		cost, late := r.WorkerSeconds/bound, r.Late/r.Events
		t.Logf("%-12s %v: cost %.3f of the bound, late %.4f, 99 %% within %v, busy %.2f, %d actions, peak %d", c.name, c.settings, cost, late, p99(r), r.Busy, r.Actions, r.Peak)
		if cost < c.low || cost > c.up || late > c.late {
			t.Errorf("%s %v: cost %.3f of the bound and late %.4f, want %v to %v and at most %v", c.name, c.settings, cost, late, c.low, c.up, c.late)
		}
	}
}

func p99(r *simulate.Result) time.Duration {
	s := r.Freshness.Snapshot()
	return time.Duration(s.Quantile(0.99)).Round(time.Millisecond)
}
