package simulate

import (
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/orchestrator"
)

var nan, inf = math.NaN(), math.Inf(1)

func TestOddArrivalsAreTakenAsTheyAre(t *testing.T) {
	for name, counts := range map[string][]float64{
		"one tick":      {100},
		"zeros":         constant(100, 0),
		"holes":         {nan, 10, nan, nan, 20, nan},
		"only holes":    {nan, nan},
		"absurd":        {1e15, 0, 1e15, 1e-300, 5e-324},
		"tiny":          constant(50, 1e-9),
		"one in a week": append(constant(600, 0), 1),
	} {
		for _, partitions := range []int{0, 5} {
			for _, n := range []int{0, 1, 3} {
				w := plain(counts...)
				w.Capacity.Partitions, w.Objective.Min, w.Points = partitions, 0, 7
				want := 0.0
				for _, c := range counts {
					if c > 0 {
						want += c
					}
				}
				r := run(t, w, workers(n))
				near(t, name, r.Events, want, 1e-9*want)
			}
		}
	}
}

func TestAHoleLeavesArrivalsUnknown(t *testing.T) {
	w := plain(append(append(constant(20, 10), nan, nan), constant(28, 10)...)...)
	known := map[time.Duration]bool{}
	p := workers(1)
	p.period = 5 * time.Second
	p.step = func(at time.Duration, s *orchestrator.Signals, _ orchestrator.Orders) orchestrator.Decision {
		known[at] = s.Known.Has(orchestrator.KnownArrivals)
		if !s.Known.Has(orchestrator.KnownLag | orchestrator.KnownServed) {
			t.Errorf("at %v lag and served are unknown too", at)
		}
		return orchestrator.Decision{Workers: 1}
	}
	run(t, w, p)
	if !known[15*time.Second] || known[25*time.Second] || !known[30*time.Second] {
		t.Errorf("arrivals are known: %v", known)
	}
}

func TestAbsurdOrdersAreHeldWithinTheBounds(t *testing.T) {
	w := plain(constant(600, 100)...)
	w.Capacity.Partitions, w.Capacity.StartUp, w.Capacity.Stop = 6, 5*time.Second, 5*time.Second
	w.Objective.Min, w.Objective.Max = 2, 9
	w.Tiers = []orchestrator.Tier{{Name: "a"}}
	absurd := []orchestrator.Decision{
		{Workers: 0}, {Workers: 1_000_000}, {Workers: -5}, {Workers: math.MaxInt}, {Workers: math.MinInt, Batch: math.MinInt},
		{Workers: 3, Batch: math.MaxInt, Route: orchestrator.Route{To: "a", Share: inf}},
		{Workers: 3, Route: orchestrator.Route{To: "a", Share: nan}},
		{Workers: 3, Route: orchestrator.Route{To: "b", Share: 0.5}},
	}
	p := workers(0)
	i := 0
	p.period = time.Second
	p.step = func(_ time.Duration, s *orchestrator.Signals, o orchestrator.Orders) orchestrator.Decision {
		if o.Workers < 2 || o.Workers > 9 || o.Batch != 10 || s.Ready+s.Starting > 9 {
			t.Fatalf("in force are %+v, %d are ready", o, s.Ready)
		}
		i++
		return absurd[i%len(absurd)]
	}
	run(t, w, p)
}

func TestNothingIsServedWithoutWorkersAndAllIsLaterOn(t *testing.T) {
	for _, partitions := range []int{0, 4} {
		w := plain(constant(100, 10)...)
		w.Objective.Min, w.Capacity.Partitions = 0, partitions
		p := workers(0)
		p.step = func(at time.Duration, _ *orchestrator.Signals, _ orchestrator.Orders) orchestrator.Decision {
			if at < 50*time.Second {
				return orchestrator.Decision{}
			}
			return orchestrator.Decision{Workers: 1}
		}
		r := run(t, w, p)
		near(t, "worker seconds", r.WorkerSeconds, 10+50, 1e-9)
		near(t, "served", r.Served, 1000, 1e-6)
	}
}

func TestTheSameWorldAndSeedGiveTheSameResult(t *testing.T) {
	w, p := bigWorld(1)
	w.Faults = []Fault{
		{Kind: WorkerLoss, At: time.Hour, Size: 3},
		{Kind: SlowWorker, At: 2 * time.Hour, Duration: time.Hour, Size: 2, Factor: 3},
		{Kind: Spike, At: 5 * time.Hour, Duration: 5 * time.Minute, Size: 10},
		{Kind: BrokerPause, At: 9 * time.Hour, Duration: time.Minute},
		{Kind: BlindSpot, At: 11 * time.Hour, Duration: time.Minute},
	}
	// NaN forecasts are not equal to themselves.
	plainSeries := func(r *Result) *Result {
		for i := range r.Series {
			r.Series[i].Forecast, r.Series[i].ForecastLow, r.Series[i].ForecastUp = 0, 0, 0
		}
		return r
	}
	a, b := plainSeries(run(t, w, p)), plainSeries(run(t, w, p))
	if !reflect.DeepEqual(a, b) {
		t.Errorf("%+v\nis not\n%+v", a, b)
	}
	for i, d := range a.Recovery {
		if d < 0 {
			t.Errorf("no recovery from fault %d", i)
		}
	}
	w.Seed++
	if c := plainSeries(run(t, w, p)); reflect.DeepEqual(a, c) {
		t.Error("another seed gives the same result")
	}
}

func TestTicksNeedNoMemoryOfTheirOwn(t *testing.T) {
	allocs := func(hours int) float64 {
		w, p := bigWorld(1)
		w.Arrivals.Counts = w.Arrivals.Counts[:hours*3600]
		w.Points = 10
		return testing.AllocsPerRun(1, func() {
			if _, err := Run(w, p); err != nil {
				t.Fatal(err)
			}
		})
	}
	if a, b := allocs(2), allocs(12); b > a+200 { // 36000 ticks more
		t.Errorf("%v allocations in 2 hours, %v in 12", a, b)
	}
}

func TestBadWorldsAreRefused(t *testing.T) {
	for name, spoil := range map[string]func(w *World){
		"no trace":           func(w *World) { w.Arrivals = nil },
		"no ticks":           func(w *World) { w.Arrivals.Counts = nil },
		"no step":            func(w *World) { w.Arrivals.Step = 0 },
		"too long":           func(w *World) { w.Arrivals.Step = math.MaxInt64 / 2 },
		"negative tick":      func(w *World) { w.Arrivals.Counts[3] = -1 },
		"infinite tick":      func(w *World) { w.Arrivals.Counts[3] = inf },
		"no service time":    func(w *World) { w.Capacity.Overhead, w.Capacity.PerEvent = 0, 0 },
		"negative service":   func(w *World) { w.Capacity.PerEvent = -1 },
		"NaN service":        func(w *World) { w.Capacity.Overhead = nan },
		"negative batch":     func(w *World) { w.Capacity.Batch = -1 },
		"NaN exponent":       func(w *World) { w.Capacity.Exponent = nan },
		"negative start-up":  func(w *World) { w.Capacity.StartUp = -1 },
		"infinite cost":      func(w *World) { w.Capacity.Cost = inf },
		"negative partition": func(w *World) { w.Capacity.Partitions = -1 },
		"few shares":         func(w *World) { w.Capacity.Partitions, w.Capacity.Shares = 2, []float64{1} },
		"NaN share":          func(w *World) { w.Capacity.Partitions, w.Capacity.Shares = 1, []float64{nan} },
		"no share":           func(w *World) { w.Capacity.Partitions, w.Capacity.Shares = 1, []float64{0} },
		"no target":          func(w *World) { w.Objective.Target = 0 },
		"quantile":           func(w *World) { w.Objective.Quantile = 99 },
		"no workers":         func(w *World) { w.Objective.Max = 0 },
		"min over max":       func(w *World) { w.Objective.Min = 60 },
		"negative start":     func(w *World) { w.Start = -1 },
		"negative delay":     func(w *World) { w.Delay = -1 },
		"negative linger":    func(w *World) { w.Linger = -1 },
		"much delay":         func(w *World) { w.Delay = maxSpan },
		"jitter":             func(w *World) { w.Jitter = 2 },
		"points":             func(w *World) { w.Points = -1 },
		"tier":               func(w *World) { w.Tiers = []orchestrator.Tier{{Rate: nan}} },
		"fault":              func(w *World) { w.Faults = []Fault{{Kind: "flood"}} },
		"fault before":       func(w *World) { w.Faults = []Fault{{Kind: Spike, At: -1}} },
		"fault size":         func(w *World) { w.Faults = []Fault{{Kind: Spike, Size: nan}} },
		"fault factor":       func(w *World) { w.Faults = []Fault{{Kind: SlowWorker, Size: 1}} },
	} {
		t.Run(name, func(t *testing.T) {
			w := plain(constant(10, 1)...)
			spoil(&w)
			if r, err := Run(w, workers(1)); errkind.Of(err) != errkind.Config || r != nil {
				t.Errorf("got %v, %v", r, err)
			}
		})
	}
	p := workers(1)
	p.period = 0
	if _, err := Run(plain(1), p); errkind.Of(err) != errkind.Config {
		t.Errorf("a period of 0: %v", err)
	}
}

// prophet knows what comes.
type prophet struct{ *script }

func (prophet) Expected(time.Duration) (low, mid, high float64) { return 90, 100, 110 }

func TestPointsAreMeansOfTheirStretch(t *testing.T) {
	w := plain(append(constant(50, 100), constant(50, 200)...)...)
	w.Points = 4
	w.Capacity.StartUp = 10 * time.Second
	r := run(t, w, prophet{workers(1)})
	for i, want := range []Point{
		{At: 0, Arrivals: 100, Ready: 1, Paid: 1},
		{At: 25 * time.Second, Arrivals: 100, Ready: 1, Paid: 1},
		{At: 50 * time.Second, Arrivals: 200, Ready: 1, Paid: 1, Lag: 1250, Late: 1 - 9.8/25},
		{At: 75 * time.Second, Arrivals: 200, Ready: 1, Paid: 1, Lag: 3750, Late: 1},
	} {
		got := r.Series[i]
		if got.At != want.At || got.Forecast != 100 || got.ForecastLow != 90 || got.ForecastUp != 110 {
			t.Errorf("point %d: %+v", i, got)
		}
		near(t, "arrivals", got.Arrivals, want.Arrivals, 1e-9)
		near(t, "ready", got.Ready, want.Ready, 1e-9)
		near(t, "lag", got.Lag, want.Lag, 100) // its mean within a tick is taken at the end
		near(t, "late", got.Late, want.Late, 1e-6)
	}
	near(t, "oldest", r.Series[3].Oldest.Seconds(), 25, 1e-6)
	if r.WorstMinute < 0.5 || r.WorstMinuteAt != time.Minute {
		t.Errorf("worst minute %v at %v", r.WorstMinute, r.WorstMinuteAt)
	}
	w.Points = 3
	if r := run(t, w, workers(1)); !math.IsNaN(r.Series[0].Forecast) || len(r.Series) != 3 {
		t.Errorf("%+v", r.Series)
	}
}

func TestSignalsAreAsOldAsTheDelay(t *testing.T) {
	counts := make([]float64, 100)
	for i := range counts {
		counts[i] = float64(i)
	}
	w := plain(counts...)
	w.Delay = 25 * time.Second
	p := workers(1)
	p.step = func(at time.Duration, s *orchestrator.Signals, _ orchestrator.Orders) orchestrator.Decision {
		of := at - w.Delay
		if of <= 0 {
			if s.Known != 0 || !s.Time.Equal(begin) {
				t.Errorf("at %v %b is known of %v", at, s.Known, s.Time)
			}
			return orchestrator.Decision{Hold: true}
		}
		from := max(0, of-p.period)
		if !s.Time.Equal(begin.Add(of)) || s.Window != of-from {
			t.Errorf("at %v: %v of %v", at, s.Window, s.Time)
		}
		near(t, "arrivals", s.Arrivals, ((of+from).Seconds()-1)/2, 1e-6)
		return orchestrator.Decision{Hold: true}
	}
	run(t, w, p)
}

func TestMeansOverNothingAreUnknown(t *testing.T) {
	w := plain(append(constant(50, 10), constant(50, 0)...)...)
	w.Objective.Min = 0
	p := workers(0)
	p.step = func(at time.Duration, s *orchestrator.Signals, _ orchestrator.Orders) orchestrator.Decision {
		const published = orchestrator.KnownLate | orchestrator.KnownBatch
		switch {
		case at == 10*time.Second:
			if !s.Known.Has(published | orchestrator.KnownBusy) {
				t.Errorf("known: %b", s.Known)
			}
		case s.Known&published != 0 || s.Known.Has(orchestrator.KnownBusy):
			t.Errorf("at %v, without workers, %b are known", at, s.Known)
		case !s.Known.Has(orchestrator.KnownLag | orchestrator.KnownOldest | orchestrator.KnownWorkers):
			t.Errorf("at %v lag is not known: %b", at, s.Known)
		}
		return orchestrator.Decision{}
	}
	run(t, w, p)
}
