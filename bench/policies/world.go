package policies

import (
	"fmt"
	"math"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/orchestrator"
	"github.com/freshet-io/freshet/orchestrator/simulate"
	"github.com/freshet-io/freshet/orchestrator/trace"
)

// World is what all policies are judged in.
type World struct {
	Capacity  orchestrator.Capacity
	Objective orchestrator.Objective
	// Delay is the age of signals, Jitter that of start-ups, Linger how long a call waits to be filled (see simulate.World).
	Delay  time.Duration
	Jitter float64
	Linger time.Duration
	// Busy is how many workers the mean of a trace keeps busy all the time, in calls of
	// Capacity.Batch: traces are scaled to that.
	Busy float64
}

// DefaultWorld is a model of moderate size on workers that take a minute to start.
func DefaultWorld() World {
	return World{
		Capacity: orchestrator.Capacity{
			Overhead: 0.020, PerEvent: 0.002, Batch: 64, MaxBatch: 256,
			StartUp: time.Minute, Stop: 10 * time.Second, Rebalance: 2 * time.Second,
			Cost: 1, Partitions: 240, Shares: skewed(240, 0.15),
		},
		Objective: orchestrator.Objective{Target: 30 * time.Second, Quantile: 0.99, Min: 1, Max: 200},
		Delay:     5 * time.Second, Jitter: 0.2, Linger: 500 * time.Millisecond, Busy: 10,
	}
}

// skewed are shares of n partitions after Zipf's law with an exponent: mild ones are those of keys hashed
// onto partitions. The order is mixed, so that neighbours are not alike.
func skewed(n int, exponent float64) []float64 {
	shares := make([]float64, n)
	sum := 0.0
	for i := range shares {
		// 97 has no factor in common with the counts of partitions in use.
		shares[i*97%n] = math.Pow(float64(i+1), -exponent)
	}
	for _, s := range shares {
		sum += s
	}
	for i := range shares {
		shares[i] /= sum
	}
	return shares
}

// Mean is the rate that traces are scaled to, events a second.
func (w *World) Mean() float64 { return w.Busy * w.Capacity.Rate(w.Capacity.Batch) }

func (w *World) validate() error {
	if !(w.Busy > 0) || math.IsInf(w.Mean(), 0) || w.Mean() <= 0 {
		return errkind.Errorf(errkind.Config, "check world: %g workers that are busy on the mean, expected more than 0", w.Busy)
	}
	s := w.simulated(&trace.Trace{Step: time.Second, Counts: []float64{1}}, 1)
	return s.Validate()
}

// simulated is the world with arrivals.
func (w *World) simulated(arrivals *trace.Trace, seed uint64) simulate.World {
	return simulate.World{
		Arrivals: arrivals, Capacity: w.Capacity, Objective: w.Objective,
		Delay: w.Delay, Jitter: w.Jitter, Linger: w.Linger, Seed: seed,
	}
}

func (w *World) stated() Stated {
	c, o := &w.Capacity, &w.Objective
	largest := 1.0
	for _, s := range c.Shares {
		largest = max(largest, s*float64(len(c.Shares)))
	}
	return Stated{
		Objective: fmt.Sprintf("%gs@%g", o.Target.Seconds(), o.Quantile), Target: o.Target.Seconds(), Allowed: allowed(o),
		Overhead: c.Overhead, PerEvent: c.PerEvent, Batch: c.Batch, MaxBatch: c.MaxBatch, Linger: w.Linger.Seconds(),
		StartUp: c.StartUp.Seconds(), Jitter: w.Jitter, Stop: c.Stop.Seconds(), Rebalance: c.Rebalance.Seconds(), Delay: w.Delay.Seconds(),
		Partitions: c.Partitions, LargestShare: largest, Min: o.Min, Max: o.Max, Mean: w.Mean(), Busy: w.Busy,
	}
}

// allowed is the late share that keeps an objective, without the noise of 1 - 0.99.
func allowed(o *orchestrator.Objective) float64 { return math.Round((1-o.Quantile)*1e9) / 1e9 }
