package simulate

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/freshet-io/freshet/orchestrator"
)

// FuzzWorld runs worlds of all shapes: whatever is taken ends, and loses no event.
func FuzzWorld(f *testing.F) {
	for seed := range uint64(30) {
		f.Add(seed, 0.02, 0.002, 100.0, int64(10*time.Second), int64(5*time.Second), 3.0, 10, 64)
	}
	f.Add(uint64(1), 1e-12, 0.0, 1e15, int64(1), int64(0), 1e6, 0, 1<<30)
	f.Add(uint64(2), 1e9, 1e3, 1e-300, int64(1)<<60, int64(1)<<50, 1e-3, 100, 0)
	f.Add(uint64(3), 0.0, 1e-9, 1.0, int64(3), int64(7), 1.5, 3, 1)
	f.Fuzz(func(t *testing.T, seed uint64, over, per, rate float64, a, b int64, x float64, partitions, batch int) {
		r := rand.New(rand.NewPCG(seed, 1))
		any := func() time.Duration { return time.Duration([]int64{0, a, b, a / 2, b / 3}[r.IntN(5)]) }
		w := World{
			Arrivals: ticks(),
			Capacity: orchestrator.Capacity{
				Overhead: over, PerEvent: per, Batch: batch, MaxBatch: batch * r.IntN(3), StartUp: any(), Stop: any(), Rebalance: any(),
				Partitions: min(partitions, 300), Cost: x, Exponent: []float64{0, 1, 0.8, 1.2}[r.IntN(4)],
			},
			Objective: orchestrator.Objective{Target: 1 + any(), Quantile: 0.99, Min: r.IntN(3), Max: 1 + r.IntN(20)},
			Start:     r.IntN(5), Delay: any() % (1000 * time.Second), Linger: any(), Jitter: r.Float64(), Seed: seed, Points: r.IntN(20),
			Tiers: []orchestrator.Tier{{Name: "t", Rate: x, Cost: rate, Latency: any()}},
		}
		w.Arrivals.Step = []time.Duration{time.Second, time.Millisecond, 30 * time.Minute, 1 + any()%time.Hour}[r.IntN(4)]
		if r.IntN(2) == 0 && w.Capacity.Partitions > 0 {
			for range w.Capacity.Partitions {
				w.Capacity.Shares = append(w.Capacity.Shares, r.Float64()*rate)
			}
		}
		for range r.IntN(200) {
			w.Arrivals.Counts = append(w.Arrivals.Counts, []float64{0, nan, rate, rate * x, rate * r.Float64()}[r.IntN(5)])
		}
		for range r.IntN(5) {
			w.Faults = append(w.Faults, Fault{
				Kind: []FaultKind{WorkerLoss, SlowWorker, BrokerPause, Spike, BlindSpot}[r.IntN(5)],
				At:   time.Duration(r.Float64() * float64(w.Arrivals.Duration())), Duration: any(), Size: x * r.Float64(), Factor: 1 + x,
			})
		}
		// At most ten thousand decisions.
		p := workers(0)
		p.period = max(time.Duration(1+r.IntN(20))*time.Second, w.Arrivals.Duration()/10_000)
		p.step = func(time.Duration, *orchestrator.Signals, orchestrator.Orders) orchestrator.Decision {
			return orchestrator.Decision{
				Workers: r.IntN(25) - 2, Batch: r.IntN(3) * r.IntN(1000), Hold: r.IntN(4) == 0,
				Route: orchestrator.Route{To: []string{"", "t"}[r.IntN(2)], Share: []float64{0, 0.5, 1, nan, x}[r.IntN(5)]},
			}
		}
		res, err := Run(w, watcher{p})
		if err != nil {
			return
		}
		conserved(t, res)
		for _, v := range []float64{res.WorkerSeconds, res.Cost, res.Penalty, res.Busy, res.WorstMinute, res.Unit} {
			if !finite(v) {
				t.Errorf("%+v", res)
			}
		}
		if res.Busy > 1 || res.WorstMinute > 1 || float64(res.Peak)*res.Seconds*(1+1e-9) < res.WorkerSeconds {
			t.Errorf("%+v", res)
		}
	})
}
