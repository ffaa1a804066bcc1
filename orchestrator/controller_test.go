package orchestrator

import (
	"math"
	"strings"
	"testing"
	"time"
)

var midday = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

// wish is a policy that wants what it is told to.
type wish struct {
	workers int
	hold    bool
	saw     *Input
	asked   int
}

func (w *wish) Name() string          { return "wish" }
func (w *wish) Period() time.Duration { return 10 * time.Second }
func (w *wish) Decide(in *Input) Decision {
	w.saw, w.asked = in, w.asked+1
	return Decision{Workers: w.workers, Hold: w.hold, Reason: "As wished."}
}

// oracle is a forecaster that says one thing.
type oracle struct {
	row  []float64
	seen []float64
}

func (o *oracle) Observe(_ time.Time, _ time.Duration, rate float64) { o.seen = append(o.seen, rate) }
func (o *oracle) Forecast(d *Demand, leads int) {
	d.Rates = d.Rates[:0]
	for range leads {
		d.Rates = append(d.Rates, o.row)
	}
}

func testCapacity() Capacity {
	return Capacity{Overhead: 0.02, PerEvent: 0.002, Batch: 64, MaxBatch: 256, StartUp: time.Minute}
}

func testObjective() Objective {
	return Objective{Target: 30 * time.Second, Quantile: 0.99, Min: 1, Max: 100}
}

func good(at time.Time) *Signals {
	return &Signals{
		Time: at, Window: 10 * time.Second, Known: KnownAll &^ KnownPartitions,
		Arrivals: 1000, Served: 1000, Lag: 100, Oldest: time.Second, Ready: 10, Busy: 0.5, Batch: 32,
	}
}

func TestRailsBoundWhatAnyPolicyWants(t *testing.T) {
	for _, x := range []struct {
		name         string
		rails        Rails
		have, want   int
		get          int
		rail         string
		change       func(*Signals, *Capacity, *Objective)
		changesSoFar int
	}{
		{name: "nothing bites", have: 10, want: 12, get: 12},
		{name: "fewer than Min", have: 3, want: 0, get: 1, rail: RailBounds},
		{name: "more than Max", have: 90, want: 400, get: 100, rail: RailBounds},
		{name: "a negative count", have: 7, want: -5, get: 7, rail: RailAbsurd},
		{name: "too many at once", rails: Rails{UpStep: 4, UpFactor: 2}, have: 10, want: 60, get: 20, rail: RailStepUp},
		{name: "too many at once from few", rails: Rails{UpStep: 4, UpFactor: 2}, have: 1, want: 60, get: 5, rail: RailStepUp},
		{name: "too few at once", rails: Rails{DownStep: 2, DownShare: 0.5}, have: 40, want: 1, get: 20, rail: RailStepDown},
		{name: "too few at once from few", rails: Rails{DownStep: 2, DownShare: 0.1}, have: 8, want: 1, get: 6, rail: RailStepDown},
		{name: "an old backlog", rails: Rails{OldShare: 0.5}, have: 10, want: 5, get: 10, rail: RailBacklog,
			change: func(s *Signals, _ *Capacity, _ *Objective) { s.Oldest = 16 * time.Second }},
		{name: "an old backlog on the way up", rails: Rails{OldShare: 0.5}, have: 10, want: 15, get: 15,
			change: func(s *Signals, _ *Capacity, _ *Objective) { s.Oldest = 16 * time.Second }},
		{name: "more than partitions", have: 10, want: 15, get: 12, rail: RailPartitions,
			change: func(_ *Signals, c *Capacity, _ *Objective) { c.Partitions = 12 }},
		{name: "the cost ceiling", have: 10, want: 15, get: 12, rail: RailCeiling,
			change: func(_ *Signals, c *Capacity, o *Objective) { c.Cost = 0.01; o.Ceiling = 12 * 36 }},
		{name: "a ceiling under Min", have: 3, want: 15, get: 2, rail: RailCeiling,
			change: func(_ *Signals, c *Capacity, o *Objective) { c.Cost, o.Ceiling, o.Min = 1, 1, 2 }},
		{name: "actions used up on the way up", rails: Rails{Actions: 8}, have: 10, want: 15, get: 10, rail: RailActions, changesSoFar: 8},
		{name: "actions used up on the way down", rails: Rails{Actions: 8}, have: 10, want: 5, get: 10, rail: RailActions, changesSoFar: 6},
		{name: "actions kept for the way up", rails: Rails{Actions: 8}, have: 10, want: 15, get: 15, changesSoFar: 6},
	} {
		t.Run(x.name, func(t *testing.T) {
			p := &wish{workers: x.want}
			set := Settings{Policy: p, Rails: x.rails, Capacity: testCapacity(), Objective: testObjective(), Explain: true}
			at := midday.Add(30 * time.Minute)
			s := good(at)
			if x.change != nil {
				x.change(s, &set.Capacity, &set.Objective)
			}
			c := NewController(set)
			for i := range x.changesSoFar + 1 {
				n := x.have + (x.changesSoFar-i)%2
				c.rails.see(midday.Add(time.Duration(i)*time.Minute), Orders{Workers: n})
			}
			d := c.Step(at, s, Orders{Workers: x.have})
			if d.Workers != x.get {
				t.Errorf("%d are ordered, expected %d", d.Workers, x.get)
			}
			bites := c.Last().Rails
			if x.rail == "" {
				if len(bites) > 0 {
					t.Errorf("rails bit: %+v", bites)
				}
				return
			}
			if len(bites) != 1 || bites[0].Rail != x.rail || bites[0].Why == "" {
				t.Fatalf("rails that bit: %+v, expected %q", bites, x.rail)
			}
			if d.Workers != c.Last().Decided.Workers && !strings.Contains(d.Reason, x.rail) {
				t.Errorf("the reason is %q", d.Reason)
			}
		})
	}
}

func TestFewerWorkersWaitUntilTheyWereWantedLongEnough(t *testing.T) {
	p := &wish{workers: 10}
	c := NewController(Settings{Policy: p, Rails: Rails{Hold: time.Minute}, Capacity: testCapacity(), Objective: testObjective()})
	have := 10
	for i := range 12 {
		at := midday.Add(time.Duration(i) * 10 * time.Second)
		if i == 2 {
			p.workers = 4
		}
		have = c.Step(at, good(at), Orders{Workers: have}).Workers
		if want := 10; i < 8 && have != want {
			t.Fatalf("round %d: %d workers, expected %d", i, have, want)
		}
	}
	if have != 4 {
		t.Errorf("%d workers after the hold, expected 4", have)
	}
}

func TestOrdersStayWhileSignalsAreStaleAndFallToTheSafeCountAfterLongBlindness(t *testing.T) {
	for name, signals := range map[string]func(now time.Time) *Signals{
		"none":                 func(time.Time) *Signals { return nil },
		"old":                  func(time.Time) *Signals { return good(midday.Add(-2 * time.Minute)) },
		"from the future":      func(now time.Time) *Signals { return good(now.Add(time.Hour)) },
		"without any measured": func(now time.Time) *Signals { return &Signals{Time: now} },
	} {
		t.Run(name, func(t *testing.T) {
			p := &wish{workers: 3}
			c := NewController(Settings{Policy: p, Capacity: testCapacity(), Objective: testObjective(), Explain: true})
			c.Step(midday.Add(-20*time.Minute), good(midday.Add(-20*time.Minute)), Orders{Workers: 25})
			asked := p.asked
			for i := range 58 {
				now := midday.Add(time.Duration(i) * 10 * time.Second)
				d := c.Step(now, signals(now), Orders{Workers: 7})
				if i < 40 {
					if !d.Hold || d.Workers != 7 {
						t.Fatalf("after %d rounds: %+v, expected a hold", i, d)
					}
					if b := c.Last().Rails; len(b) != 1 || b[0].Rail != RailStale || b[0].Why == "" {
						t.Fatalf("rails: %+v", b)
					}
				}
			}
			now := midday.Add(11 * time.Minute)
			if d := c.Step(now, signals(now), Orders{Workers: 7}); d.Workers != 25 || d.Hold || d.Reason == "" {
				t.Errorf("after 11 minutes %+v, expected the 25 that were there within the hour", d)
			}
			if p.asked != asked {
				t.Error("the policy was asked without signals")
			}
			if d := c.Step(now.Add(10*time.Second), good(now.Add(10*time.Second)), Orders{Workers: 25}); d.Workers != 3 {
				t.Errorf("with signals again: %+v", d)
			}
		})
	}
}

func TestAForecastThatMakesNoSenseIsNotUsedAndSaidSo(t *testing.T) {
	n := len(DefaultLevels())
	row := func(v float64) []float64 {
		r := make([]float64, n)
		for i := range r {
			r[i] = v
		}
		return r
	}
	for name, x := range map[string]struct {
		row  []float64
		used bool
	}{
		"plain":                {row(1200), true},
		"not a number":         {row(math.NaN()), false},
		"infinite":             {row(math.Inf(1)), false},
		"negative":             {row(-1), false},
		"diverging":            {row(1e9), false},
		"too few quantiles":    {row(1000)[:2], false},
		"upper end far beyond": {append(row(1000)[:n-1], 1e9), true},
	} {
		t.Run(name, func(t *testing.T) {
			p := &wish{workers: 3}
			c := NewController(Settings{Policy: p, Forecaster: &oracle{row: x.row}, Capacity: testCapacity(), Objective: testObjective(), Explain: true})
			c.Step(midday, good(midday), Orders{Workers: 3})
			used := len(p.saw.Demand.Rates) > 0
			if used != x.used {
				t.Fatalf("used: %v", used)
			}
			if !used && c.Last().Note == "" {
				t.Error("nothing is noted")
			}
			if used && p.saw.Demand.At(0, 0.99) > diverged*1000 {
				t.Errorf("the upper quantile is %v", p.saw.Demand.At(0, 0.99))
			}
		})
	}
}

func TestValuesThatCannotBeAreTakenAsUnknown(t *testing.T) {
	for name, change := range map[string]func(*Signals){
		"negative rate":  func(s *Signals) { s.Arrivals = -1 },
		"no number":      func(s *Signals) { s.Arrivals = math.NaN() },
		"infinite rate":  func(s *Signals) { s.Arrivals = math.Inf(1) },
		"absurd rate":    func(s *Signals) { s.Arrivals = 1e15 },
		"negative lag":   func(s *Signals) { s.Lag = -5 },
		"absurd lag":     func(s *Signals) { s.Lag = 1e30 },
		"negative age":   func(s *Signals) { s.Oldest = -time.Second },
		"negative count": func(s *Signals) { s.Ready = -1 },
		"late share":     func(s *Signals) { s.Late = math.NaN() },
	} {
		t.Run(name, func(t *testing.T) {
			p, o := &wish{workers: 3}, &oracle{row: DefaultLevels()}
			c := NewController(Settings{Policy: p, Forecaster: o, Capacity: testCapacity(), Objective: testObjective(), Explain: true})
			s := good(midday)
			change(s)
			c.Step(midday, s, Orders{Workers: 3})
			if c.Last().Note == "" || p.saw.Signals.Known == s.Known {
				t.Errorf("note %q, known %b", c.Last().Note, p.saw.Signals.Known)
			}
			if !p.saw.Signals.Known.Has(KnownArrivals) && !math.IsNaN(o.seen[0]) {
				t.Errorf("the forecaster saw %v", o.seen)
			}
		})
	}
}

func TestSignalsThatComeTwiceAreLearnedOnceAndAClockThatGoesBackIsFollowed(t *testing.T) {
	o := &oracle{row: DefaultLevels()}
	c := NewController(Settings{Policy: &wish{workers: 3}, Forecaster: o, Capacity: testCapacity(), Objective: testObjective(), Fit: true})
	for range 3 {
		c.Step(midday, good(midday), Orders{Workers: 3})
	}
	if len(o.seen) != 1 {
		t.Errorf("learned %d times", len(o.seen))
	}
	back := midday.Add(-3 * time.Hour)
	c.Step(back, good(back), Orders{Workers: 3})
	if d := c.Step(back.Add(10*time.Second), good(back.Add(10*time.Second)), Orders{Workers: 3}); d.Hold || len(o.seen) != 2 {
		t.Errorf("after the clock went back: %+v, learned %d times", d, len(o.seen))
	}
}

func TestBareRunsAPolicyWithinMinAndMaxAlone(t *testing.T) {
	p := &wish{workers: 500}
	b := Bare(p, testCapacity(), testObjective())
	if d := b.Step(midday, nil, Orders{Workers: 4}); d.Workers != 100 {
		t.Errorf("%+v", d)
	}
	p.hold = true
	if d := b.Step(midday, good(midday), Orders{Workers: 4}); d.Workers != 4 {
		t.Errorf("%+v", d)
	}
}

func TestRoundsThatAreKeptDoNotChange(t *testing.T) {
	c := NewController(Settings{Policy: &wish{workers: 3}, Forecaster: &oracle{row: []float64{1, 2, 3, 4, 5, 6, 7}}, Capacity: testCapacity(), Objective: testObjective()})
	if c.Last() != nil {
		t.Error("a round before the first")
	}
	c.Step(midday, good(midday), Orders{Workers: 3})
	kept := c.Last().Clone()
	c.Last().Demand.Rates[0][0] = 99
	if kept.Demand.Rates[0][0] != 1 || kept.Final.Workers != 3 {
		t.Errorf("%+v", kept)
	}
}
