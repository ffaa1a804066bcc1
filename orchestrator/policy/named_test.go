package policy

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/orchestrator"
	"github.com/freshet-io/freshet/orchestrator/trace"
)

// build makes a policy by its name, with arrivals where it needs them.
func build(t *testing.T, name string, settings map[string]any) orchestrator.Policy {
	t.Helper()
	all := map[string]any{}
	for k, v := range settings {
		all[k] = v
	}
	if name == "static" || name == "static-peak" || name == "foresight" {
		all[SettingArrivals] = &trace.Trace{Start: begin, Step: time.Second, Counts: []float64{100, 900, math.NaN(), 500}}
	}
	p, err := Named(name, all)
	if err != nil {
		t.Fatalf("%s with %v: %v", name, settings, err)
	}
	return p
}

func TestEveryNameIsAPolicyThatExplainsItself(t *testing.T) {
	for _, name := range Names() {
		p := build(t, name, nil)
		if p.Name() != name || p.Period() <= 0 {
			t.Errorf("%s is called %s and asked every %v", name, p.Name(), p.Period())
		}
		s := newSandbox(t, p, nil)
		s.in.Target = 2
		sig := s.at(10)
		sig.Ready, sig.Arrivals, sig.Served, sig.Busy, sig.Lag = 2, 150, 150, 0.7, 40
		s.order()
	}
}

func TestSettingsReachTheirFields(t *testing.T) {
	p := build(t, "hpa", map[string]any{
		"target": 0.6, "sync": "30s", "stabilization_down": 60, "tolerance": float32(0.25), "legacy": true,
		"cpu_initialization": 2 * time.Minute, "busy": "work", "select_up": "Min",
	}).(*hpa).config
	want := DefaultHPA()
	want.Target, want.Sync, want.Behavior.Down.Stabilization, want.ToleranceUp = 0.6, 30*time.Second, time.Minute, 0.25
	want.Behavior.Legacy, want.CPUInitialization, want.Busy, want.Behavior.Up.Select = true, 2*time.Minute, BusyWork, "Min"
	if diff := cmp.Diff(want, p); diff != "" {
		t.Errorf("settings differ (-want +got):\n%s", diff)
	}
}

func TestBadSettingsAreRefusedWithAHint(t *testing.T) {
	for _, c := range []struct {
		name     string
		settings map[string]any
		want     string
	}{
		{"kead", nil, `did you mean "keda"?`},
		{"zebra", nil, "there are static, static-peak, hpa"},
		{"keda", map[string]any{"lag_treshold": 5}, `did you mean "lag_threshold"?`},
		{"static-peak", map[string]any{"workers": 5}, "setting of static-peak"},
		{"hpa", map[string]any{"target": "high"}, "a number is expected"},
		{"hpa", map[string]any{"target": math.NaN()}, "a number is expected"},
		{"hpa", map[string]any{"target": 0}, "target is 0: it has to be 0.01 to 10"},
		{"hpa", map[string]any{"sync": "soon"}, "no duration"},
		{"hpa", map[string]any{"sync": -1}, "sync is -1s: it has to be above 0"},
		{"hpa", map[string]any{"metric": "memory"}, "cpu or rate"},
		{"hpa", map[string]any{"busy": "lazy"}, `"calls" or "work"`},
		{"hpa", map[string]any{"select_down": "Least"}, "Max, Min or Disabled"},
		{"hpa", map[string]any{"policies_up": []HPAPolicy{}}, "no policies"},
		{"hpa", map[string]any{"policies_up": []HPAPolicy{{Type: "Nodes", Value: 1, Period: time.Second}}}, "Pods or Percent"},
		{"hpa", map[string]any{"stabilization_down": "2h"}, "0 to 1h"},
		{"keda", map[string]any{"lag_threshold": 0}, "lag_threshold is 0"},
		{"keda", map[string]any{"lag_calls": 1, "lag_seconds": 1}, "give one of them"},
		{"kpa", map[string]any{"utilization": 1.5}, "utilization is 1.5"},
		{"kpa", map[string]any{"max_down": 1}, "max_down is 1"},
		{"kpa", map[string]any{"stable": "1s"}, "6s to 1h"},
		{"ds2", map[string]any{"warm_up": 1.5}, "a whole number is expected"},
		{"flink", map[string]any{"window": 0}, "window is 0s"},
		{"foresight", nil, "arrivals is missing"},
		{"static", nil, "workers is 0"},
		{"static", map[string]any{"workers": "many"}, "a whole number is expected"},
	} {
		p, err := Named(c.name, c.settings)
		if err == nil || errkind.Of(err) != errkind.Config || !strings.Contains(err.Error(), c.want) || p != nil {
			t.Errorf("%s with %v: %v (kind %v), want %q", c.name, c.settings, err, errkind.Of(err), c.want)
		}
	}
}

func TestGridsAreSmallAndAllOfTheirPointsWork(t *testing.T) {
	for _, name := range append(Names(), "zebra") {
		grid := Grid(name)
		seen := map[string]bool{}
		for _, settings := range grid {
			if name != "zebra" {
				build(t, name, settings)
			}
			seen[fmt.Sprint(settings)] = true
		}
		if len(grid) == 0 || len(grid) > 25 || len(seen) != len(grid) {
			t.Errorf("the grid of %s has %d points, %d of them different", name, len(grid), len(seen))
		}
	}
}

// nonsense is signals as a broken monitor could give them.
func nonsense(r *rand.Rand, now time.Time) *orchestrator.Signals {
	x := func() float64 {
		return []float64{0, 1, 0.5, 100, 1e6, 1e300, -1, math.NaN(), math.Inf(1), math.Inf(-1)}[r.IntN(10)]
	}
	n := func() int { return []int{0, 1, 3, 50, -7, math.MaxInt32, math.MinInt32}[r.IntN(7)] }
	s := &orchestrator.Signals{
		Time: now.Add(time.Duration(r.IntN(120)-60) * time.Second), Window: time.Duration(r.IntN(40)-10) * time.Second,
		Known: orchestrator.KnownAll, Arrivals: x(), Served: x(), Lag: x(), InFlight: x(), Ready: n(), Starting: n(), Stopping: n(),
		Busy: x(), Batch: x(), Late: x(), Partitions: []orchestrator.PartitionSignals{{Arrivals: x(), Lag: x()}},
	}
	if r.IntN(4) == 0 {
		s.Known = orchestrator.Known(r.IntN(1 << 11))
	}
	return s
}

func TestNonsenseNeverGivesAbsurdOrders(t *testing.T) {
	for _, name := range Names() {
		settings := append(Grid(name), map[string]any{})
		if name == "keda" {
			settings = append(settings, map[string]any{"limit_to_lagging": true}, map[string]any{"even": true})
		}
		if name == "kpa" {
			settings = append(settings, map[string]any{"metric": "concurrency"})
		}
		for i, set := range settings {
			one, two := build(t, name, set), build(t, name, set)
			r := rand.New(rand.NewPCG(uint64(i), 9))
			capacities := []*orchestrator.Capacity{
				{Overhead: 0.02, PerEvent: 0.002, Batch: 64, MaxBatch: 256, StartUp: time.Minute, Partitions: 24},
				{}, {Overhead: math.NaN()}, {PerEvent: -1, Batch: -5, Partitions: -3}, {Overhead: 1e300, Partitions: 1},
			}
			objective := &orchestrator.Objective{Target: 30 * time.Second, Quantile: 0.99, Min: r.IntN(3), Max: 40}
			now, target := begin, 3
			for range 400 {
				now = now.Add(time.Duration(r.IntN(100)-10) * time.Second)
				in := orchestrator.Input{
					Now: now, Signals: nonsense(r, now), Capacity: capacities[0], Objective: objective,
					Target: target, Changed: now.Add(-time.Duration(r.IntN(100)) * time.Second), Explain: r.IntN(2) == 0,
				}
				if r.IntN(10) == 0 {
					in.Capacity = capacities[r.IntN(len(capacities))]
				}
				d := one.Decide(&in)
				if d.Hold && d.Workers != target {
					t.Fatalf("%s %v holds and orders %d instead of %d", name, set, d.Workers, target)
				}
				if !d.Hold && (d.Workers < objective.Min || d.Workers > objective.Max) {
					t.Fatalf("%s %v orders %d workers on %+v", name, set, d.Workers, in.Signals)
				}
				if in.Explain && d.Reason == "" {
					t.Fatalf("%s %v gives no reason for %+v", name, set, d)
				}
				if diff := cmp.Diff(d, two.Decide(&in)); diff != "" {
					t.Fatalf("%s %v decides in two ways:\n%s", name, set, diff)
				}
				target = d.Workers
				if r.IntN(20) == 0 {
					target = r.IntN(60)
				}
			}
		}
	}
}

func TestADecisionAllocatesNothing(t *testing.T) {
	for _, name := range Names() {
		p := build(t, name, nil)
		s := newSandbox(t, p, nil)
		s.in.Explain, s.in.Target = false, 3
		i := 0.0
		step := func() {
			i++
			sig := s.at(i * p.Period().Seconds())
			sig.Ready, sig.Arrivals, sig.Served, sig.Busy, sig.Lag = 3, 210, 210, 0.7, 40
			p.Decide(&s.in)
		}
		for range 3000 {
			step()
		}
		if n := testing.AllocsPerRun(500, step); n != 0 {
			t.Errorf("%s: %v allocations a decision", name, n)
		}
	}
}
