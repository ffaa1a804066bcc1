package live

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/orchestrator"
	"github.com/freshet-io/freshet/orchestrator/simulate"
	"github.com/freshet-io/freshet/orchestrator/trace"
)

var began = time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC)

// planned orders what is known in advance, and keeps the signals that it gets.
type planned struct {
	n    func(at time.Duration) int
	seen []orchestrator.Signals
}

func (*planned) Name() string          { return "planned" }
func (*planned) Period() time.Duration { return 15 * time.Second }
func (p *planned) Step(now time.Time, s *orchestrator.Signals, _ orchestrator.Orders) orchestrator.Decision {
	if s != nil {
		p.seen = append(p.seen, *s)
	}
	return orchestrator.Decision{Workers: p.n(now.Sub(began))}
}

// world is ten minutes with a constant rate of which four workers carry three quarters.
func world() simulate.World {
	counts := make([]float64, 600)
	for i := range counts {
		counts[i] = 20
	}
	return simulate.World{
		Arrivals:  &trace.Trace{Start: began, Step: time.Second, Counts: counts},
		Capacity:  orchestrator.Capacity{Overhead: 1, PerEvent: 0.1, Batch: 20, StartUp: time.Minute, Stop: 2 * time.Second},
		Objective: orchestrator.Objective{Target: 30 * time.Second, Quantile: 0.99, Min: 1, Max: 10}, Start: 4, Delay: 5 * time.Second,
	}
}

// What a run takes of time is the machine's: what is held here is what does not depend on it.
func TestEveryEventIsServedAndEveryWorkerPaid(t *testing.T) {
	w := world()
	w.Faults = []simulate.Fault{{Kind: simulate.WorkerLoss, At: 200 * time.Second, Size: 2}, {Kind: simulate.BrokerPause, At: 400 * time.Second, Duration: 20 * time.Second}}
	p := &planned{n: func(at time.Duration) int {
		if at >= 300*time.Second {
			return 6
		}
		return 4
	}}
	r, err := Run(t.Context(), Config{World: w, Speed: 120, Folder: t.TempDir()}, p)
	if err != nil {
		t.Fatal(err)
	}
	if r.Events < 11900 || r.Events > 12000 || r.Served+r.Unserved != r.Events || r.Served < r.Events/2 {
		t.Errorf("of 12,000 events %v were sent, %v served, %v left", r.Events, r.Served, r.Unserved)
	}
	// 4 workers for 300 s and 6 for 300 s; two are gone for a moment.
	if r.WorkerSeconds < 2700 || r.WorkerSeconds > 3100 {
		t.Errorf("%v worker-seconds were paid, and about 3,000 were ordered", r.WorkerSeconds)
	}
	if r.Actions != 1 || r.Started != 4 || r.Peak != 6 || len(r.Recovery) != 2 {
		t.Errorf("%d actions, %d starts, a peak of %d, recovery %v", r.Actions, r.Started, r.Peak, r.Recovery)
	}
	last := p.seen[len(p.seen)-1]
	if !last.Known.Has(orchestrator.KnownArrivals | orchestrator.KnownLag | orchestrator.KnownWorkers | orchestrator.KnownCalls) {
		t.Errorf("signals %+v", last)
	}
	sum, n := 0.0, 0.0
	for _, s := range p.seen {
		if s.Known.Has(orchestrator.KnownArrivals) {
			sum, n = sum+s.Arrivals*s.Window.Seconds(), n+s.Window.Seconds()
		}
	}
	if rate := sum / n; math.Abs(rate-20) > 2 {
		t.Errorf("%v events a second were seen to arrive, and 20 did", rate)
	}
}

func TestWorldsThatCannotBeLiveAreRefused(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"no partitions":     func(c *Config) { c.World.Capacity.Partitions = 4 },
		"a speed of 0":      func(c *Config) { c.Speed = 0 },
		"only be simulated": func(c *Config) { c.World.Faults = []simulate.Fault{{Kind: simulate.SlowWorker, Size: 1, Factor: 2}} },
	} {
		c := Config{World: world(), Speed: 100, Folder: t.TempDir()}
		change(&c)
		if _, err := Run(t.Context(), c, &planned{}); err == nil || !strings.Contains(err.Error(), want) || errkind.Of(err) == errkind.Unknown {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestRowsAreTables(t *testing.T) {
	r := Row{Policy: "keda", Setting: "lag=1", Live: &Result{Result: simulate.Result{Events: 100, Late: 1, WorkerSeconds: 7200, P99: time.Second, Recovery: []time.Duration{-1}}}, Simulated: &simulate.Result{Events: 100, Cost: 1, Recovery: []time.Duration{time.Minute}}}
	c := Config{World: world()}
	c.World.Faults = []simulate.Fault{{Kind: simulate.Spike}}
	var b strings.Builder
	if err := WriteTable(&b, &c, []Row{r}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"keda    live       2.0", "1.00 %", "never", "1m0s", "spike", "keda: lag=1"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, b.String())
		}
	}
	if text, err := json.Marshal([]Row{r}); err != nil || !strings.Contains(string(text), `"recovery_seconds":[-1]`) {
		t.Errorf("%s, %v", text, err)
	}
}
