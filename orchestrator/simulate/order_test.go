package simulate

import (
	"math"
	"testing"
	"time"

	"github.com/freshet-io/freshet/orchestrator"
)

// watcher is a script that wants partitions.
type watcher struct{ *script }

func (watcher) WantsPartitions() bool { return true }

func TestOnlyPartitionsThatMoveStandStill(t *testing.T) {
	w := plain(constant(40, 60)...)
	w.Capacity.Partitions, w.Capacity.Rebalance = 2, 5*time.Second
	seen := 0
	p := workers(1)
	p.period = time.Second
	p.step = func(at time.Duration, s *orchestrator.Signals, _ orchestrator.Orders) orchestrator.Decision {
		lags, ages := 0.0, time.Duration(0)
		for _, x := range s.Partitions {
			near(t, "arrivals of a partition", x.Arrivals, 30, 1e-9)
			if x.Lag > 0 {
				seen++
				lags += x.Lag
				ages += x.Oldest
			}
		}
		switch at {
		case 10 * time.Second:
			return orchestrator.Decision{Workers: 2}
		case 14 * time.Second:
			if seen != 4 {
				t.Errorf("partitions with a lag were seen %d times until 14 s, not from 11 s to 14 s one", seen)
			}
			near(t, "lag", lags, 4*30, 1e-6)
			near(t, "age", ages.Seconds(), 4, 1e-6)
		case 17 * time.Second: // 150 left behind, 70 a second caught up since 15 s
			near(t, "lag", lags, 150-2*70, 1e-6)
		case 18 * time.Second:
			near(t, "lag", lags, 0, 1e-6)
		}
		return orchestrator.Decision{Hold: true}
	}
	r := run(t, w, watcher{p})
	near(t, "worker seconds", r.WorkerSeconds, 40+30, 1e-9)
	// Freshness is 5.1 s at 15 s and falls by 7/3 s a second while 100 a second are served.
	near(t, "late", r.Late, 100*0.1/(7.0/3), 1e-6)
}

func TestWorkersThatStartAreCancelledBeforeReadyOnesStop(t *testing.T) {
	w := plain(constant(100, 10)...)
	w.Capacity.StartUp, w.Capacity.Stop, w.Capacity.Cost = 30*time.Second, 10*time.Second, 2
	w.Start = 3
	p := workers(0)
	var most orchestrator.Signals
	p.step = func(at time.Duration, s *orchestrator.Signals, _ orchestrator.Orders) orchestrator.Decision {
		n := map[time.Duration]int{10 * time.Second: 5, 20 * time.Second: 2, 30 * time.Second: 2}[at]
		if at == 20*time.Second && (s.Ready != 3 || s.Starting != 2 || s.Stopping != 0) {
			t.Errorf("at 20 s %d are ready, %d start, %d stop", s.Ready, s.Starting, s.Stopping)
		}
		most.Stopping = max(most.Stopping, s.Stopping)
		if n == 0 {
			return orchestrator.Decision{Hold: true, Workers: 17}
		}
		return orchestrator.Decision{Workers: n}
	}
	r := run(t, w, p)
	// 3 for 10 s, 5 for 10 s, then 2 and one that stops for 10 s.
	near(t, "worker seconds", r.WorkerSeconds, 30+50+2*80+10, 1e-9)
	near(t, "cost", r.Cost, 2*r.WorkerSeconds, 1e-9)
	if r.Actions != 2 || r.Started != 2 || r.Stopped != 3 || r.Peak != 5 {
		t.Errorf("%d actions, %d started, %d stopped, peak %d", r.Actions, r.Started, r.Stopped, r.Peak)
	}
}

func TestAShareOfArrivalsGoesToATierUpToItsRate(t *testing.T) {
	w := plain(constant(100, 200)...)
	w.Tiers = []orchestrator.Tier{
		{Name: "small", Rate: 60, Cost: 0.01, Penalty: 0.1, Latency: 200 * time.Millisecond},
		{Name: "slow", Latency: time.Minute},
	}
	w.Start = 2
	p := workers(2)
	p.step = func(at time.Duration, s *orchestrator.Signals, o orchestrator.Orders) orchestrator.Decision {
		near(t, "arrivals", s.Arrivals, 200, 1e-9)
		d := orchestrator.Decision{Workers: 2}
		switch {
		case at < 40*time.Second:
			d.Route = orchestrator.Route{To: "small", Share: 0.5} // 100 a second are 40 too many
		case at < 50*time.Second:
			d.Route = orchestrator.Route{To: "slow", Share: 7} // all
		case at < 60*time.Second:
			d.Route = orchestrator.Route{To: "nowhere", Share: 1}
		case at < 70*time.Second:
			d.Route = orchestrator.Route{To: "small", Share: math.NaN()}
		default:
			d.Route = orchestrator.Route{To: "small", Share: -1}
		}
		if at == 50*time.Second && o.Route != (orchestrator.Route{To: "slow", Share: 1}) {
			t.Errorf("in force is %+v", o.Route)
		}
		if at > 60*time.Second && o.Route != (orchestrator.Route{}) {
			t.Errorf("in force is %+v", o.Route)
		}
		return d
	}
	r := run(t, w, p)
	near(t, "routed", r.Routed, 30*60+10*200, 1e-6)
	near(t, "cost of routes", r.RouteCost, 30*60*0.01, 1e-9)
	near(t, "penalty", r.Penalty, 30*60*0.1, 1e-9)
	near(t, "cost", r.Cost, r.WorkerSeconds+r.RouteCost, 1e-9)
	near(t, "late", r.Late, 10*200, 1e-6)
}

func TestABatchOrderTakesEffectAtOnceWithinItsBound(t *testing.T) {
	w := plain(constant(60, 1000)...)
	w.Capacity.MaxBatch = 40
	p := workers(1)
	p.step = func(at time.Duration, _ *orchestrator.Signals, o orchestrator.Orders) orchestrator.Decision {
		switch at {
		case 10 * time.Second:
			return orchestrator.Decision{Workers: 1, Batch: 20}
		case 20 * time.Second:
			if o.Batch != 20 {
				t.Errorf("batch %d is in force", o.Batch)
			}
			return orchestrator.Decision{Workers: 1, Batch: 1 << 40}
		case 40 * time.Second:
			if o.Batch != 40 {
				t.Errorf("batch %d is in force", o.Batch)
			}
			return orchestrator.Decision{Workers: 1, Batch: 1}
		}
		return orchestrator.Decision{Workers: 1, Batch: -3}
	}
	r := run(t, w, p)
	near(t, "served", r.Served, 10*10/0.1+10*20/0.15+20*40/0.25+20*1/0.055, 1e-6)
}

func TestWorkersGetIntoEachOthersWayByTheExponent(t *testing.T) {
	w := plain(constant(60, 1000)...)
	w.Capacity.Exponent, w.Start = 0.5, 4
	near(t, "served", run(t, w, workers(4)).Served, 60*100*2, 1e-6)
}

func TestALingeringWorkerFillsItsCalls(t *testing.T) {
	w := plain(constant(1000, 40)...)
	w.Linger = 200 * time.Millisecond
	p := workers(1)
	p.step = func(_ time.Duration, s *orchestrator.Signals, _ orchestrator.Orders) orchestrator.Decision {
		near(t, "batch", s.Batch, 8, 1e-9)
		near(t, "busy", s.Busy, 0.09/0.2, 1e-9)
		near(t, "in flight", s.InFlight, 40*0.09, 1e-9)
		return orchestrator.Decision{Workers: 1}
	}
	r := run(t, w, p)
	near(t, "mean", r.Mean.Seconds(), 0.09+0.1, 1e-3)
	w.Linger = 0
	near(t, "busy without", run(t, w, workers(1)).Busy, 1, 1e-9) // calls of 2.5 events, one after the other
}

func TestStartUpsVaryByTheSeed(t *testing.T) {
	w := plain(constant(300, 200)...)
	w.Capacity.StartUp, w.Jitter = 100*time.Second, 0.2
	var served []float64
	for seed := range uint64(20) {
		w.Seed = seed
		r := run(t, w, workers(2))
		ready := 300 - (r.Served-300*100)/100 // 100 a second more since
		if ready < 10+80 || ready > 10+120 {
			t.Errorf("seed %d: ready after %v s", seed, ready-10)
		}
		served = append(served, r.Served)
	}
	if served[0] == served[1] && served[1] == served[2] {
		t.Error("seeds make no difference")
	}
}

func TestAnOwnStartIsWhatTheFirstMinuteNeeds(t *testing.T) {
	w := plain(append(constant(60, 250), constant(60, 2500)...)...)
	w.Start = 0
	near(t, "worker seconds", run(t, w, hold{}).WorkerSeconds, 3*120, 1e-9)
	w.Objective.Max = 2
	near(t, "worker seconds", run(t, w, hold{}).WorkerSeconds, 2*120, 1e-9)
}

// hold decides nothing.
type hold struct{}

func (hold) Name() string          { return "hold" }
func (hold) Period() time.Duration { return time.Second }
func (hold) Step(time.Time, *orchestrator.Signals, orchestrator.Orders) orchestrator.Decision {
	return orchestrator.Decision{Hold: true}
}
