package learn

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/freshet-io/freshet/orchestrator"
	"github.com/freshet-io/freshet/orchestrator/forecast"
	"github.com/freshet-io/freshet/orchestrator/simulate"
	"github.com/freshet-io/freshet/orchestrator/trace"
)

func TestEmbeddedPolicyIsSmallAndRunsInOurRuntime(t *testing.T) {
	file := Policy()
	if len(file) > 100_000 {
		t.Errorf("%d bytes", len(file))
	}
	s := newSession(t, file)
	policyOf(t, s)
	if names := s.model.Metadata().FeatureNames; len(names) != Observations || names[obsOldest] != "oldest" || names[Observations-1] != "batch_seconds" {
		t.Errorf("the file names its values %v", names)
	}
}

// TestRecipeIsReproducible trains by the recipe, but for a short time, twice.
func TestRecipeIsReproducible(t *testing.T) {
	_, how := Recipe()
	how.Iterations, how.Episodes = 2, how.Siblings
	var files [2][]byte
	for i := range files {
		got, err := Train(Practice{Length: 20 * time.Minute}, how)
		if err != nil {
			t.Fatal(err)
		}
		files[i] = got.ONNX()
	}
	if !bytes.Equal(files[0], files[1]) {
		t.Error("the same training gave another file")
	}
}

// railed is a controller whose orders are held against the rails that it should have.
type railed struct {
	*orchestrator.Controller
	t      *testing.T
	rails  orchestrator.Rails
	target time.Duration
	bites  int
}

func (r *railed) Step(now time.Time, s *orchestrator.Signals, o orchestrator.Orders) orchestrator.Decision {
	d := r.Controller.Step(now, s, o)
	n := d.Workers
	if d.Hold {
		n = o.Workers
	}
	if n > max(o.Workers+r.rails.UpStep, int(float64(o.Workers)*r.rails.UpFactor)) {
		r.t.Errorf("%s: from %d to %d workers at once", now, o.Workers, n)
	}
	if s != nil && n < o.Workers && s.Known.Has(orchestrator.KnownOldest) && s.Oldest > time.Duration(r.rails.OldShare*float64(r.target)) {
		r.t.Errorf("%s: from %d down to %d workers while the oldest event waits for %s", now, o.Workers, n, s.Oldest)
	}
	r.bites += len(r.Last().Rails)
	return d
}

// worldOf is that of the comparisons, with arrivals for so many busy workers.
func worldOf(busy float64, length time.Duration, rate func(at float64) float64) simulate.World {
	c := orchestrator.Capacity{Overhead: 0.02, PerEvent: 0.002, Batch: 64, MaxBatch: 256, StartUp: time.Minute,
		Stop: 10 * time.Second, Rebalance: 2 * time.Second, Cost: 1, Partitions: 240}
	rng := rand.New(rand.NewPCG(8, 8))
	tr := &trace.Trace{Start: noon, Step: time.Second}
	for i := range int(length / time.Second) {
		r := busy * c.Rate(0) * rate(float64(i))
		tr.Counts = append(tr.Counts, max(0, r+math.Sqrt(r)*rng.NormFloat64()))
	}
	return simulate.World{Arrivals: tr, Capacity: c, Objective: orchestrator.Objective{Target: 30 * time.Second, Quantile: 0.99, Min: 1, Max: 200},
		Delay: 5 * time.Second, Jitter: 0.2, Seed: 3}
}

func swell(at float64) float64 { return 1 + 0.5*math.Sin(2*math.Pi*at/7200) }

func TestPolicyWithinRailsServesInTimeAndAtLessThanThePeak(t *testing.T) {
	w := worldOf(10, 4*time.Hour, swell)
	for _, with := range []string{"no forecast", "an ensemble with the LSTM in it"} {
		set := orchestrator.Settings{Policy: policyOf(t, newSession(t, Policy())), Rails: orchestrator.DefaultRails(),
			Capacity: w.Capacity, Objective: w.Objective}
		if with != "no forecast" {
			set.Forecaster = forecast.New(forecast.Config{Extra: []func(forecast.Grid) forecast.Member{
				func(g forecast.Grid) forecast.Member { return NewForecaster(g, 1) },
			}})
		}
		r, err := simulate.Run(w, &railed{Controller: orchestrator.NewController(set), t: t, rails: set.Rails, target: w.Objective.Target})
		if err != nil {
			t.Fatal(err)
		}
		cost, late := r.WorkerSeconds/(r.Events/w.Capacity.Rate(w.Capacity.MaxBatch)), r.Late/r.Events
		t.Logf("with %s: %.2f times the fluid cost, %.2f %% late, %d actions", with, cost, 100*late, r.Actions)
		if late > 0.01 {
			t.Errorf("with %s: %.2f %% late", with, 100*late)
		}
		if cost > 1.5 { // which is the peak's
			t.Errorf("with %s: %.2f times the fluid cost", with, cost)
		}
	}
}

func TestPolicyWithinRailsSurvivesFaults(t *testing.T) {
	w := worldOf(10, 2*time.Hour, swell)
	w.Faults = []simulate.Fault{
		{Kind: simulate.BlindSpot, At: 10 * time.Minute, Duration: 5 * time.Minute},
		{Kind: simulate.Spike, At: 30 * time.Minute, Duration: 2 * time.Minute, Size: 10},
		{Kind: simulate.WorkerLoss, At: 60 * time.Minute, Duration: time.Minute, Size: 3},
		{Kind: simulate.BrokerPause, At: 80 * time.Minute, Duration: time.Minute},
		{Kind: simulate.SlowWorker, At: 100 * time.Minute, Duration: 5 * time.Minute, Size: 3, Factor: 3},
	}
	for i := 900; i < 960; i++ {
		w.Arrivals.Counts[i] = math.NaN()
	}
	set := orchestrator.Settings{Policy: policyOf(t, newSession(t, Policy())), Rails: orchestrator.DefaultRails(),
		Capacity: w.Capacity, Objective: w.Objective, Forecaster: forecast.New(forecast.Config{})}
	pilot := &railed{Controller: orchestrator.NewController(set), t: t, rails: set.Rails, target: w.Objective.Target}
	r, err := simulate.Run(w, pilot)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("recoveries %v, %d rails bit, peak %d", r.Recovery, pilot.bites, r.Peak)
	if pilot.bites == 0 {
		t.Error("no rail was ever needed")
	}
	for i, d := range r.Recovery {
		if d < 0 || d > 20*time.Minute {
			t.Errorf("fault %d: recovered after %v", i, d)
		}
	}
}
