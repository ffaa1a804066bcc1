package policy

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/freshet-io/freshet/orchestrator"
	"github.com/freshet-io/freshet/orchestrator/trace"
)

// cheapest tries all schedules of up to most workers a tick; -1 where none is never late.
func cheapest(counts []float64, work, delay float64, least, most int) int {
	a := newArrived(&trace.Trace{Step: time.Second, Counts: counts})
	var try func(t int, served float64) int
	try = func(t int, served float64) int {
		if t == len(counts) {
			return 0
		}
		best := -1
		for n := least; n <= most; n++ {
			s := min(served+work*float64(n), a.at(float64(t+1)))
			if s < a.at(float64(t+1)-delay)-1e-9 {
				continue
			}
			if rest := try(t+1, s); rest >= 0 && (best < 0 || n+rest < best) {
				best = n + rest
			}
		}
		return best
	}
	return try(0, 0)
}

func TestBoundIsTheCheapestOfAllSchedules(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 600 {
		counts := make([]float64, 1+r.IntN(6))
		for i := range counts {
			if r.IntN(3) > 0 {
				counts[i] = float64(r.IntN(9)) * []float64{1, 0.5, 0.7}[r.IntN(3)]
			}
		}
		work := []float64{1, 2, 2.5, 3}[r.IntN(4)]
		delay := []float64{0, 1, 1.5, 2, 3}[r.IntN(5)]
		least := r.IntN(2)
		want := cheapest(counts, work, delay, least, 8)
		got := Bound(&trace.Trace{Step: time.Second, Counts: counts},
			orchestrator.Capacity{Overhead: 0, PerEvent: 1 / work, Batch: 1},
			orchestrator.Objective{Target: time.Duration(delay * float64(time.Second)), Min: least, Max: 1})
		if int(got.WorkerSeconds) != want {
			t.Fatalf("%v at %v a tick, %v ticks of time, at least %d: the bound is %v and the cheapest schedule %d (%v)",
				counts, work, delay, least, got.WorkerSeconds, want, got.Workers)
		}
		if got.Fluid > got.WorkerSeconds+1e-9 {
			t.Fatalf("%v: the fluid bound %v is above %v", counts, got.Fluid, got.WorkerSeconds)
		}
	}
}

func TestBoundPricesAndChoosesTheLargestCall(t *testing.T) {
	arrivals := &trace.Trace{Step: 10 * time.Second, Counts: []float64{1000, 0, math.NaN(), 0, 0, 0}}
	c := orchestrator.Capacity{Overhead: 1, PerEvent: 0.01, Batch: 10, MaxBatch: 10000, Cost: 2}
	// A call within 11 s has 1000 events: 90.9/s. 1000 events are due within 11 s after they came.
	r := Bound(arrivals, c, orchestrator.Objective{Target: 11 * time.Second})
	if r.WorkerSeconds != 20 || r.Cost != 40 || r.Peak != 1 || math.Abs(r.Fluid-11) > 1e-9 {
		t.Errorf("got %+v, want two ticks of one worker, 40 in price, 11 s of work", r)
	}
}

func TestBoundTakesAnything(t *testing.T) {
	for _, arrivals := range []*trace.Trace{
		nil, {}, {Step: time.Second}, {Step: -time.Second, Counts: []float64{1}},
		{Step: time.Second, Counts: []float64{math.Inf(1), -5, math.NaN(), 1e300}},
	} {
		for _, c := range []orchestrator.Capacity{{}, {PerEvent: -1}, {Overhead: math.NaN()}, {Overhead: 1e300}} {
			r := Bound(arrivals, c, orchestrator.Objective{Target: -time.Second, Min: -3})
			if r.Fluid < 0 || r.WorkerSeconds < 0 || r.Peak < 0 {
				t.Errorf("%+v of %+v: %+v", arrivals, c, r)
			}
		}
	}
}

func TestTheLevelPlanIsNeverLateNorBelowTheBound(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	c := orchestrator.Capacity{PerEvent: 0.1, Batch: 1}
	for range 200 {
		arrivals := &trace.Trace{Step: time.Second, Counts: make([]float64, 40)}
		for i := range arrivals.Counts {
			if r.IntN(3) == 0 {
				arrivals.Counts[i] = float64(r.IntN(100))
			}
		}
		slack := time.Duration(r.IntN(8)) * time.Second
		var workers fleet
		workers.update(&c, 100)
		plan := levelPlan(arrivals, &workers, 10, slack, 0)
		a, served, sum := newArrived(arrivals), 0.0, 0.0
		for i, n := range plan {
			served = min(served+10*float64(n), a.at(float64(i+1)))
			sum += float64(n)
			if due := a.at(float64(i+1) - slack.Seconds()); served < due-1e-6 {
				t.Fatalf("tick %d: %v served of %v due", i, served, due)
			}
		}
		if b := Bound(arrivals, c, orchestrator.Objective{Target: slack}); sum < b.WorkerSeconds {
			t.Fatalf("the plan takes %v worker-seconds, the bound is %v", sum, b.WorkerSeconds)
		}
	}
}

func TestOrdersAreEarlyAndKeptOverGaps(t *testing.T) {
	got := early([]int{0, 0, 0, 5, 0, 0, 2, 0, 0, 0, 1}, 2)
	want := []int{0, 5, 5, 5, 2, 2, 2, 0, 1, 1, 1}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("got %v, want %v", got, want)
		}
	}
}

func TestWorkersAreReadyOnceTheirStartUpHasPassed(t *testing.T) {
	plan := []int{3, 3, 1, 5, 0, 0, 2, 0, 0, 0, 1}
	orders := early(plan, 2)
	for i, n := range readied(orders, 2) {
		if n < plan[i] {
			t.Errorf("tick %d: %d are surely ready of %d planned", i, n, plan[i])
		}
	}
	if got := readied([]int{1, 5, 5, 2, 5}, 1); got[1] != 1 || got[2] != 5 || got[4] != 2 {
		t.Errorf("got %v, want the fewest of each tick and the one before", got)
	}
}

func TestLateShareCountsWhatIsServedAfterItIsDue(t *testing.T) {
	// 10 events, one served a tick from the first on, each due 3 ticks after it came: 4 are in time (the tick of arrival counts).
	arrivals := &trace.Trace{Step: time.Second, Counts: []float64{10, 0, 0, 0, 0, 0, 0, 0, 0, 0}}
	c := orchestrator.Capacity{PerEvent: 1, Batch: 1}
	var workers fleet
	workers.update(&c, 10)
	ready := []int{1, 1, 1, 1, 1, 1, 1, 1, 1, 1}
	if got := lateShare(arrivals, &workers, 1, 3*time.Second, ready); math.Abs(got-0.6) > 1e-9 {
		t.Errorf("%v are late, want 0.6", got)
	}
	if got := lateShare(arrivals, &workers, 10, 3*time.Second, ready); got != 0 {
		t.Errorf("%v are late of what is served at once", got)
	}
}

func BenchmarkBoundOfAYear(b *testing.B) {
	arrivals := wave(365*24/5, 400) // as many ticks of 5 s as a year has
	arrivals.Step = 5 * time.Second
	w := waveWorld(1)
	for b.Loop() {
		Bound(arrivals, w.Capacity, w.Objective)
	}
}
