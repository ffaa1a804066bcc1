package policy

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/freshet-io/freshet/orchestrator"
)

var noon = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

// usual is the capacity and objective of the tests: 481 events/s a worker, a minute to start.
func usual() (orchestrator.Capacity, orchestrator.Objective) {
	return orchestrator.Capacity{
			Overhead: 0.02, PerEvent: 0.002, Batch: 64, MaxBatch: 256, StartUp: time.Minute,
			Stop: 10 * time.Second, Rebalance: 2 * time.Second, Partitions: 240,
		}, orchestrator.Objective{
			Target: 30 * time.Second, Quantile: 0.99, Min: 1, Max: 200,
		}
}

// flat is a forecast of one rate.
func flat(now time.Time, rate float64) *orchestrator.Demand {
	d := &orchestrator.Demand{Time: now, Step: 30 * time.Second, Levels: orchestrator.DefaultLevels()}
	for range 20 {
		row := make([]float64, len(d.Levels))
		for j := range row {
			row[j] = rate * (1 + 0.02*float64(j-1))
		}
		d.Rates = append(d.Rates, row)
	}
	return d
}

// once asks a new planner what it would order, after a minute of arrivals at one rate.
func once(p orchestrator.Policy, rate, lag float64, workers int, demand *orchestrator.Demand, explain bool) orchestrator.Decision {
	c, o := usual()
	var d orchestrator.Decision
	for i := range 12 {
		now := noon.Add(time.Duration(i-11) * 5 * time.Second)
		s := &orchestrator.Signals{
			Time: now, Window: 5 * time.Second, Known: orchestrator.KnownAll &^ orchestrator.KnownPartitions,
			Arrivals: rate, Served: rate, Lag: lag, Ready: workers, Batch: 64,
			Oldest: time.Duration(lag / max(rate, 1) * float64(time.Second)),
		}
		in := &orchestrator.Input{Now: now, Signals: s, Demand: demand, Capacity: &c, Objective: &o, Target: workers, Explain: explain}
		d = p.Decide(in)
	}
	return d
}

// What is ordered at once may be fewer for a little more demand, since the target lets an order
// wait and a larger one may be cheaper later. What it costs may not, nor may much more demand order fewer.
func TestMoreDemandNeverCostsLessNorOrdersFewerWorkers(t *testing.T) {
	for _, now := range []int{1, 10, 40} {
		cost := 0.0
		ordered := map[float64]int{}
		for load := 1.0; load <= 64; load += 4.5 {
			h := NewHorizon(HorizonConfig{})
			ordered[load] = once(h, 4000, 0, now, flat(noon, load*481), false).Workers
			p := &h.best
			c := p.at(0, p.alive, p.backlog)
			if c < cost*0.97 { // counts are whole, and the grid rounds
				t.Errorf("with %d workers: a load of %.1f costs %.1f, less costs %.1f", now, load, c, cost)
			}
			cost = c
			for half, less := range ordered {
				if half <= load/2 && ordered[load] < less {
					t.Errorf("with %d workers: %d ordered for a load of %.1f, %d for one of %.1f", now, ordered[load], load, less, half)
				}
			}
		}
		if n := ordered[64]; n < 60 {
			t.Errorf("with %d workers: %d ordered for a load of 64 workers", now, n)
		}
	}
}

func TestMoreBacklogNeverOrdersFewerWorkers(t *testing.T) {
	last := 0
	for lag := 0.0; lag < 500_000; lag += 20_000 {
		d := once(NewHorizon(HorizonConfig{}), 4000, lag, 9, flat(noon, 4000), false)
		if d.Workers < last {
			t.Errorf("%d ordered for a backlog of %.0f, %d for less", d.Workers, lag, last)
		}
		last = d.Workers
	}
	if last <= 9 {
		t.Errorf("%d workers for a backlog of two minutes", last)
	}
}

func TestWorkersAreKeptOverAShortGapAndGivenUpBeforeALongOne(t *testing.T) {
	gap := func(steps int) int {
		d := flat(noon, 481*9)
		for i := range steps {
			for j := range d.Rates[i] {
				d.Rates[i][j] = 481 * 4
			}
		}
		return once(NewHorizon(HorizonConfig{}), 481*4, 0, 10, d, false).Workers
	}
	if n := gap(2); n < 9 {
		t.Errorf("%d workers are left before a gap of a minute, which is their start-up", n)
	}
	if n := gap(20); n > 6 {
		t.Errorf("%d workers stay for a load of 4", n)
	}
}

func TestABurstThatTheTargetAbsorbsOrdersNothing(t *testing.T) {
	d := flat(noon, 481*8)
	for j := range d.Rates[2] {
		d.Rates[2][j] = 481 * 11 // 30 s at 11: what waits is 10 s of it
	}
	if n := once(NewHorizon(HorizonConfig{}), 481*8, 0, 9, d, false).Workers; n > 9 {
		t.Errorf("%d workers for a burst that may wait", n)
	}
}

func TestWithoutAForecastTheFloorDecidesAndSaysSo(t *testing.T) {
	for name, d := range map[string]*orchestrator.Demand{"none": nil, "empty": {Time: noon, Step: time.Second}} {
		got := once(NewHorizon(HorizonConfig{}), 481*8, 0, 2, d, true)
		want := once(NewFloor(DefaultFloor()), 481*8, 0, 2, d, true)
		if got.Workers != want.Workers || got.Workers < 8 {
			t.Errorf("%s: %d workers, the floor has %d", name, got.Workers, want.Workers)
		}
		if !strings.Contains(got.Reason, "floor") {
			t.Errorf("%s: the reason is %q", name, got.Reason)
		}
	}
}

func TestTheFloorHoldsAgainstAForecastThatIsFarTooLow(t *testing.T) {
	d := once(NewHorizon(HorizonConfig{}), 481*40, 100_000, 10, flat(noon, 10), true)
	if d.Workers < 30 {
		t.Errorf("%d workers for a load of 40: %s", d.Workers, d.Reason)
	}
}

func TestReasonsAndCandidatesTellWhatWasWeighed(t *testing.T) {
	d := once(NewHorizon(HorizonConfig{}), 481*8, 0, 8, flat(noon, 481*12), true)
	if d.Workers <= 8 || !strings.Contains(d.Reason, "are ordered") {
		t.Fatalf("%d workers: %s", d.Workers, d.Reason)
	}
	if len(d.Candidates) < 3 {
		t.Fatalf("%d candidates", len(d.Candidates))
	}
	for _, c := range d.Candidates {
		if (c.Why == "") != (c.Workers == d.Workers) {
			t.Errorf("candidate %+v of %d", c, d.Workers)
		}
	}
	if d := once(NewHorizon(HorizonConfig{}), 481*8, 0, 8, flat(noon, 481*12), false); d.Reason != "" || d.Candidates != nil {
		t.Errorf("not asked, and told %q", d.Reason)
	}
}

func TestAShareIsSentElsewhereOnlyWhileCapacityCannotBeThere(t *testing.T) {
	c, o := usual()
	tiers := []orchestrator.Tier{
		{Name: "slow", Latency: time.Minute},
		{Name: "dear", Cost: 1},
		{Name: "small", Cost: 0.001, Penalty: 0.01, Latency: time.Second},
	}
	ask := func(lag, rate float64) orchestrator.Decision {
		s := &orchestrator.Signals{
			Time: noon, Window: 5 * time.Second, Known: orchestrator.KnownAll &^ orchestrator.KnownPartitions,
			Arrivals: rate, Served: 481, Lag: lag, Ready: 4, Oldest: time.Duration(lag / rate * float64(time.Second)), Batch: 256,
		}
		return NewHorizon(HorizonConfig{}).Decide(&orchestrator.Input{
			Now: noon, Signals: s, Demand: flat(noon, rate), Capacity: &c, Objective: &o, Target: 4, Tiers: tiers, Explain: true,
		})
	}
	d := ask(10_000, 481*10)
	if d.Route.To != "small" || d.Route.Share < 0.1 || d.Route.Share > 0.95 {
		t.Errorf("route %+v, expected a share to the small one", d.Route)
	}
	if d := ask(0, 481*3); d.Route.Share != 0 {
		t.Errorf("route %+v without need", d.Route)
	}
}

func TestNothingMakesThePlannerPanicOrOrderTheAbsurd(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	odd := []float64{0, -1, 1e-300, 1, 4000, 1e6, 1e12, 1e300, math.Inf(1), math.NaN()}
	pick := func() float64 { return odd[rng.IntN(len(odd))] }
	for range 40 {
		p, f := NewHorizon(HorizonConfig{}), NewFloor(DefaultFloor())
		c, o := usual()
		now := noon
		for range 40 {
			now = now.Add(time.Duration(rng.IntN(40)-8) * 5 * time.Second)
			s := &orchestrator.Signals{
				Time: now.Add(time.Duration(rng.IntN(200)-150) * time.Second), Window: time.Duration(rng.IntN(20)-2) * time.Second,
				Known: orchestrator.Known(rng.Uint32()), Arrivals: pick(), Served: pick(), Lag: pick(), InFlight: pick(),
				Oldest: time.Duration(rng.Int64N(1e15) - 1e12), Ready: rng.IntN(50) - 5, Batch: pick(), Late: pick(),
			}
			if rng.IntN(2) == 0 {
				s.Known = orchestrator.KnownAll
			}
			d := flat(now, 1)
			for _, row := range d.Rates {
				v := pick()
				for j := range row {
					row[j] = v
				}
			}
			c.StartUp = time.Duration(rng.IntN(5)) * 30 * time.Second
			in := &orchestrator.Input{Now: now, Signals: s, Demand: d, Capacity: &c, Objective: &o, Target: rng.IntN(210), Changed: s.Time, Explain: true}
			for _, q := range []orchestrator.Policy{p, f} {
				if got := q.Decide(in); got.Workers < 0 || got.Workers > 240 || math.IsNaN(got.Route.Share) {
					t.Fatalf("%s orders %+v", q.Name(), got)
				}
			}
		}
	}
}

func TestTheSameInputsGiveTheSameDecisions(t *testing.T) {
	run := func() []int {
		var out []int
		rng := rand.New(rand.NewPCG(5, 6))
		p := NewHorizon(HorizonConfig{})
		c, o := usual()
		n := 5
		for i := range 300 {
			now := noon.Add(time.Duration(i) * 5 * time.Second)
			rate := 481 * (6 + 4*math.Sin(float64(i)/30) + rng.Float64())
			s := &orchestrator.Signals{Time: now, Window: 5 * time.Second, Known: orchestrator.KnownAll, Arrivals: rate, Served: rate, Ready: n}
			n = p.Decide(&orchestrator.Input{Now: now, Signals: s, Demand: flat(now, rate), Capacity: &c, Objective: &o, Target: n}).Workers
			out = append(out, n)
		}
		return out
	}
	a, b := run(), run()
	for i := range a {
		if a[i] != b[i] {
			t.Fatalf("round %d: %d and %d", i, a[i], b[i])
		}
	}
}

func TestSmallTargetsTakeSmallBatches(t *testing.T) {
	c, o := usual()
	for _, x := range []struct {
		target time.Duration
		most   int
	}{{30 * time.Second, 256}, {time.Second, 190}, {100 * time.Millisecond, 10}, {10 * time.Millisecond, 1}} {
		o.Target = x.target
		if b := steadyBatch(&c, &o); b != x.most {
			t.Errorf("target %s: batches of %d, expected %d", x.target, b, x.most)
		}
	}
}

func TestFrontHasOnlyWhatNothingBeats(t *testing.T) {
	costs := map[float64][2]float64{0.5: {10, 0.03}, 0.7: {11, 0.02}, 0.8: {12, 0.025}, 0.9: {15, 0.001}, 0.99: {15, 0.002}}
	front := Front([]float64{0.99, 0.5, 0.7, 0.8, 0.9}, func(r float64) (float64, float64) { return costs[r][0], costs[r][1] })
	var risks []float64
	for _, f := range front {
		risks = append(risks, f.Risk)
	}
	if len(risks) != 3 || risks[0] != 0.5 || risks[1] != 0.7 || risks[2] != 0.9 {
		t.Errorf("front %+v", front)
	}
}

func BenchmarkDecide(b *testing.B) {
	for _, size := range []struct {
		name string
		load float64
	}{{"10", 9}, {"40", 35}, {"200", 180}} {
		b.Run(size.name, func(b *testing.B) {
			c, o := usual()
			o.Max = 240
			p := NewHorizon(HorizonConfig{})
			n := int(size.load * 1.1)
			d := flat(noon, size.load*481)
			// Wide, so that many counts are weighed.
			for i, row := range d.Rates {
				for j := range row {
					row[j] *= 0.5 + 0.15*float64(j) + 0.01*float64(i)
				}
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				now := noon.Add(time.Duration(i) * 5 * time.Second)
				d.Time = now
				s := &orchestrator.Signals{
					Time: now, Window: 5 * time.Second, Known: orchestrator.KnownAll, Arrivals: size.load * 481, Served: size.load * 481,
					Lag: size.load * 481 * 5, Oldest: 5 * time.Second, Ready: n, Batch: 256,
				}
				p.Decide(&orchestrator.Input{Now: now, Signals: s, Demand: d, Capacity: &c, Objective: &o, Target: n})
				i++
			}
		})
	}
}
