package learn

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/orchestrator"
)

var noon = time.Date(2026, 1, 5, 12, 0, 0, 0, time.UTC)

// likes is a Net that always likes one action.
type likes int

func (l likes) Infer(_, out []float32) error {
	clear(out)
	out[l] = 1
	return nil
}

type broken struct {
	err   error
	value float32
}

func (b broken) Infer(_, out []float32) error {
	for i := range out {
		out[i] = b.value
	}
	return b.err
}

func TestGarbageNetworksAreRefused(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	spoilt := newNetwork(rng, 1, Observations, 8, 8, Actions)
	spoilt.params[len(spoilt.params)-1] = math.NaN()
	for name, net := range map[string]Net{
		"fails":          broken{err: errors.New("no model")},
		"not a number":   broken{value: float32(math.NaN())},
		"infinite":       broken{value: float32(math.Inf(1))},
		"other inputs":   newNetwork(rng, 1, Observations+1, 8, 8, Actions),
		"other outputs":  newNetwork(rng, 1, Observations, 8, 8, Actions-1),
		"spoilt weights": spoilt,
	} {
		if _, err := NewPPO(net); !errkind.Is(err, errkind.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// usual is an input as in good times: 10 workers' load and 12 workers.
func usual() *orchestrator.Input {
	c := &orchestrator.Capacity{Overhead: 0.02, PerEvent: 0.002, Batch: 64, MaxBatch: 256, StartUp: time.Minute, Stop: 10 * time.Second}
	return &orchestrator.Input{
		Now: noon, Capacity: c,
		Signals: &orchestrator.Signals{Time: noon.Add(-5 * time.Second), Window: Period, Known: orchestrator.KnownAll,
			Arrivals: 10 * c.Rate(256), Served: 10 * c.Rate(256), Lag: 700, InFlight: 600, Oldest: time.Second, Ready: 12, Busy: 0.8},
		Objective: &orchestrator.Objective{Target: 30 * time.Second, Quantile: 0.99, Min: 1, Max: 200},
		Target:    12, Changed: noon.Add(-time.Hour),
	}
}

func policyOf(t *testing.T, net Net) *PPO {
	t.Helper()
	p, err := NewPPO(net)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestActionsMultiplyTheFluidNeed(t *testing.T) {
	for action := range Actions {
		in := usual()
		got := policyOf(t, likes(action)).Decide(in)
		want := 12
		if action > 0 {
			// 100 events behind add a little to the 10.
			want = int(math.Ceil((10 + 100.0/90/in.Capacity.Rate(256)) * Multipliers()[action-1]))
		}
		if got.Workers != want || got.Batch != 256 || got.Hold {
			t.Errorf("action %d: %+v, expected %d workers", action, got, want)
		}
	}
}

func TestOrdersStayWithinTheObjectivesBounds(t *testing.T) {
	in := usual()
	in.Objective.Min, in.Objective.Max = 14, 16
	if got := policyOf(t, likes(1)).Decide(in); got.Workers != 14 {
		t.Errorf("%d workers, the least is 14", got.Workers)
	}
	if got := policyOf(t, likes(Actions-1)).Decide(in); got.Workers != 16 {
		t.Errorf("%d workers, the most is 16", got.Workers)
	}
}

func TestSignalsThatAreNoNumbersHold(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	for name, spoil := range map[string]func(*orchestrator.Input){
		"none":             func(in *orchestrator.Input) { in.Signals = nil },
		"nothing known":    func(in *orchestrator.Input) { in.Signals.Known = 0 },
		"no arrivals":      func(in *orchestrator.Input) { in.Signals.Known &^= orchestrator.KnownArrivals },
		"NaN arrivals":     func(in *orchestrator.Input) { in.Signals.Arrivals = nan },
		"inf arrivals":     func(in *orchestrator.Input) { in.Signals.Arrivals = inf },
		"negative":         func(in *orchestrator.Input) { in.Signals.Arrivals = -1 },
		"NaN lag":          func(in *orchestrator.Input) { in.Signals.Lag = nan },
		"NaN busy":         func(in *orchestrator.Input) { in.Signals.Busy = nan },
		"negative workers": func(in *orchestrator.Input) { in.Signals.Ready = -3 },
		"negative age":     func(in *orchestrator.Input) { in.Signals.Oldest = -time.Second },
	} {
		in := usual()
		in.Explain = true
		spoil(in)
		got := policyOf(t, likes(5)).Decide(in)
		if !got.Hold || got.Workers != in.Target || got.Reason == "" {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// flaky answers well when tried, and not later.
type flaky struct{ calls int }

func (f *flaky) Infer(_, out []float32) error {
	clear(out)
	if f.calls++; f.calls > 4 {
		out[3] = float32(math.NaN())
	}
	return nil
}

func TestNetworkThatFailsLaterHolds(t *testing.T) {
	if got := policyOf(t, &flaky{}).Decide(usual()); !got.Hold {
		t.Errorf("%+v", got)
	}
}

func TestObservationsAreBoundedWhateverComes(t *testing.T) {
	values := []float64{0, 1e-300, 1, 1e3, 1e17, math.MaxFloat64, math.NaN(), math.Inf(1), math.Inf(-1), -5}
	rng := rand.New(rand.NewPCG(4, 4))
	draw := func() float64 { return values[rng.IntN(len(values))] }
	span := func() time.Duration { return time.Duration(rng.Int64() >> rng.IntN(64) * int64(1-2*rng.IntN(2))) }
	p := policyOf(t, likes(Actions-1))
	for range 4000 {
		in := usual()
		s, c := in.Signals, in.Capacity
		in.Now, s.Time, in.Changed = in.Now.Add(span()), s.Time.Add(span()), in.Changed.Add(span())
		s.Arrivals, s.Lag, s.InFlight, s.Busy, s.Late = draw(), draw(), draw(), draw(), draw()
		s.Oldest, s.Window = span(), span()
		s.Ready, in.Target = int(span()), int(span())>>20
		c.Overhead, c.PerEvent, c.Exponent = draw(), draw(), draw()
		c.StartUp, in.Objective.Target = span(), span()
		if rng.IntN(2) == 0 {
			in.Demand = &orchestrator.Demand{Time: in.Now.Add(span()), Step: span(), Levels: []float64{0.5, 0.9}, Rates: [][]float64{{draw(), draw()}, {draw(), draw()}}}
		}
		got := p.Decide(in)
		for i, v := range p.obs {
			if !(v >= -3 && v <= 4) {
				t.Fatalf("observation %d is %v", i, v)
			}
		}
		if !got.Hold && (got.Workers < in.Objective.Min || got.Workers > in.Objective.Max || got.Batch < 1 || got.Batch > 256) {
			t.Fatalf("%+v", got)
		}
	}
}

func TestSameInputsGiveTheSameDecisions(t *testing.T) {
	net := newNetwork(rand.New(rand.NewPCG(2, 2)), 3, Observations, 16, 16, Actions)
	run := func() (all []int) {
		p := policyOf(t, net)
		rng := rand.New(rand.NewPCG(3, 3))
		for i := range 300 {
			in := usual()
			in.Now = in.Now.Add(time.Duration(i) * Period)
			in.Signals.Time = in.Signals.Time.Add(time.Duration(i) * Period)
			in.Signals.Arrivals *= math.Exp(0.3 * rng.NormFloat64())
			all = append(all, p.Decide(in).Workers)
		}
		return all
	}
	a, b := run(), run()
	for i := range a {
		if a[i] != b[i] {
			t.Fatalf("round %d: %d, then %d", i, a[i], b[i])
		}
	}
}

func TestExplainedDecisionsNameWhatElseWasWeighed(t *testing.T) {
	in := usual()
	in.Explain = true
	got := policyOf(t, likes(5)).Decide(in)
	if got.Reason == "" || len(got.Candidates) != Actions {
		t.Fatalf("%+v", got)
	}
	chosen := 0
	for _, c := range got.Candidates {
		if c.Why == "" {
			chosen++
		}
	}
	if chosen != 1 {
		t.Errorf("%d candidates were chosen", chosen)
	}
	t.Log(got.Reason)
}

func TestDecideAllocatesNothing(t *testing.T) {
	p, in := policyOf(t, newNetwork(rand.New(rand.NewPCG(2, 2)), 1, Observations, 32, 32, Actions)), usual()
	if n := testing.AllocsPerRun(100, func() {
		in.Signals.Time = in.Signals.Time.Add(Period)
		p.Decide(in)
	}); n > 0 {
		t.Errorf("%v allocations a decision", n)
	}
}
