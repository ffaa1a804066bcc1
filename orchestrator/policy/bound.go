package policy

import (
	"math"
	"time"

	"github.com/freshet-io/freshet/orchestrator"
	"github.com/freshet-io/freshet/orchestrator/trace"
)

// BoundResult is the least that keeping an objective can cost.
type BoundResult struct {
	// Step is the length of a tick; Workers are the workers of each.
	Step    time.Duration
	Workers []int
	// WorkerSeconds is their sum, and Cost its price. No schedule of whole workers that changes at ticks and
	// is never late costs less.
	WorkerSeconds, Cost float64
	// Fluid is the work that is due ÷ the rate of a worker, in worker-seconds: no schedule at all costs less,
	// whole or not, whenever it changes, late or not, that has served in the end what was due.
	Fluid float64
	// Peak is the largest number of workers.
	Peak int
}

// Bound returns the cheapest schedule of whole workers that is never late, by one who knows all
// arrivals, has workers at once and pays for them only while they are wanted, whose
// partitions never stand in the way, and who makes full calls of the largest batch
// that the target leaves time for. Objective.Min is kept, Objective.Max is not. Events that are due
// after the trace's end need not be served. A hole counts as nothing.
//
// It is exact: with A the arrivals up to a time, D the target and c the work of a worker in a
// tick, never late means N(t) - N(s) ≥ ceil((A(t-D) - A(s)) ÷ c) for all s < t, N being worker-ticks up to a
// time. Such differences have a pointwise least whole solution, and taking in each tick
// only the workers that what is then due needs, and nothing before, is that solution. So it takes
// one pass. Capacity.Exponent above 1 is not bounded.
func Bound(arrivals *trace.Trace, c orchestrator.Capacity, o orchestrator.Objective) BoundResult {
	var r BoundResult
	if arrivals == nil || arrivals.Step <= 0 {
		return r
	}
	rate := c.Rate(largestCall(&c, o.Target))
	r.Step, r.Workers = arrivals.Step, make([]int, len(arrivals.Counts))
	a := newArrived(arrivals)
	seconds := arrivals.Step.Seconds()
	work := rate * seconds
	if !(work > 0) {
		work = math.Inf(1)
	}
	delay := max(o.Target, 0).Seconds() / seconds
	least := max(o.Min, 0)
	served := 0.0
	for t := range r.Workers {
		n := least
		if missing := a.at(float64(t+1)-delay) - served; missing > 0 && !math.IsInf(work, 1) {
			n = max(n, roundUp(missing/work))
		}
		r.Workers[t] = n
		r.WorkerSeconds += float64(n) * seconds
		r.Peak = max(r.Peak, n)
		if served += work * float64(n); !(served <= a.at(float64(t+1))) { // also where it is NaN: 0 workers of infinite work
			served = a.at(float64(t + 1))
		}
	}
	r.Cost = r.WorkerSeconds * c.Price()
	r.Fluid = a.at(float64(len(r.Workers))-delay) / work * seconds
	return r
}

// arrived are cumulative arrivals.
type arrived struct {
	sum []float64 // sum[i] is what came in the first i ticks
}

func newArrived(t *trace.Trace) arrived {
	sum := make([]float64, len(t.Counts)+1)
	for i, n := range t.Counts {
		if !usable(n) {
			n = 0
		}
		sum[i+1] = sum[i] + n
	}
	return arrived{sum}
}

// at is what came up to a time in ticks; within a tick events come evenly.
func (a arrived) at(x float64) float64 {
	last := len(a.sum) - 1
	switch {
	case !(x > 0):
		return 0
	case x >= float64(last):
		return a.sum[last]
	}
	i := int(x)
	return a.sum[i] + (x-float64(i))*(a.sum[i+1]-a.sum[i])
}

// largestCall is the most events of a call that takes no longer than limit; at least 1.
func largestCall(c *orchestrator.Capacity, limit time.Duration) int {
	most := max(c.Batch, c.MaxBatch, 1)
	if c.PerEvent > 0 {
		if fit := (limit.Seconds() - c.Overhead) / c.PerEvent; fit < float64(most) {
			most = max(1, int(fit))
		}
	}
	return most
}
